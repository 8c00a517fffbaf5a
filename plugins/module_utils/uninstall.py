"""Taking a stack off a host. Data stays.

Gone are: units, containers and networks of the project, the memory mount, layers, and what batten knew of the release.
Kept are: volumes and data directories; the encrypted credentials and dumps in ``/var/lib/batten/STACK``, without which
the data could be worthless; the audit log; the engine.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from . import atomic, boot, host_ports, lock, mounts, scopes, units
from .docker_api import Docker
from .errors import BattenError
from .paths import StackPaths


def remove(paths: StackPaths, docker: Docker, check: bool) -> list[str]:
    """Remove the stack and return what changed, in words; nothing in ``check``. A second call changes nothing.

    Raises BattenError when data lies where layers do, or the engine does not answer although it holds the stack.
    """
    plan = atomic.read_json(paths.plan, {})
    _data_is_elsewhere(paths, plan)
    if check:
        return _remove(paths, docker, plan, check)
    with lock.held(paths.lock):
        changes = _remove(paths, docker, plan, check)
    paths.lock.unlink()
    return changes


def _remove(paths: StackPaths, docker: Docker, plan: Mapping[str, Any], check: bool) -> list[str]:
    if not docker.answers() and Path(docker.path).exists():
        raise BattenError("the engine does not answer, and holds the stack", docker.path, "systemctl start docker")
    present = docker.answers()
    project = plan.get("project", paths.stack)
    if present and plan and not check:
        boot.shutdown(paths, _silent, docker)
    changes = units.remove(paths, check)
    if present and (plan or paths.top.exists()):  # else a project of that name is somebody else's
        changes += _objects(docker, project, check)
        if not check:
            scopes.keep_swap_off(docker, (), paths.root)
    if mounts.remove(paths.secrets, check):
        changes.append(f"{paths.secrets}: unmounted")
    kept = {paths.credentials, paths.dumps}
    state = [path for path in paths.state.iterdir() if path not in kept] if paths.state.is_dir() else []
    for path in sorted(state) + [path for path in (paths.top, paths.metrics) if path.exists()]:
        changes.append(f"{path}: removed")
        _delete(path, check)
    # Its ports are closed; what is left of the firewall goes by batten.core.host.
    closed = host_ports.follow(paths.root, {paths.stack: {}} if check else {}, check)
    changes += [f"{one.name}: open is {', '.join(one.desired) or 'nothing'}" for one in closed]
    others = [path for path in paths.stacks.iterdir() if path != paths.top] if paths.stacks.is_dir() else []
    for program in (paths.program, paths.program_record):
        if program.exists() and not others:
            changes.append(f"{program}: removed")
            _delete(program, check)
    return changes


def _objects(docker: Docker, project: str, check: bool) -> list[str]:
    """Remove containers and networks of ``project``; never a volume."""
    changes = []
    kinds: list[tuple[str, list[Any], Callable[[str], None]]] = [
        ("container", docker.list(project), docker.remove),
        ("network", docker.networks(project), docker.remove_network),
    ]
    for kind, found, delete in kinds:
        for item in found:
            name = item["Name"] if kind == "network" else item["Names"][0].lstrip("/")
            changes.append(f"{kind} {name}: removed")
            if not check:
                delete(item["Id"])
    return changes


def _data_is_elsewhere(paths: StackPaths, plan: Mapping[str, Any]) -> None:
    volumes = (plan.get("volumes") or {}).values()
    places = [plan.get("data_directory"), *(volume.get("device") for volume in volumes)]
    for place in filter(None, places):
        if os.path.commonpath([str(paths.top), place]) == str(paths.top):
            raise BattenError("data lies among the layers, and would be removed", place, f"move it out of {paths.top}")


def _delete(path: Path, check: bool) -> None:
    if check:
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _silent(_: str) -> None:
    pass
