"""What was written into the layers of an image after its container was well: programs, libraries, settings.

The kernel tells what differs from the image (overlay.py), else the engine (``/containers/ID/changes``). What did so
when the container had become healthy, in a run of ours, is kept as its own; a path that comes later, below a directory
of programs or settings, is a difference. A container that no run of ours has seen healthy is not judged.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from . import atomic, overlay
from .compare import Difference
from .docker_api import Docker
from .facet import RECREATE
from .observed import Observed
from .paths import StackPaths

_WATCHED = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/usr", "/etc", "/opt", "/app", "/srv")
# Programs write these as they run: bytecode, caches, what a mount point needs.
_OWN = (
    "*/__pycache__*",
    "*.pyc",
    "*/.cache*",
    "*/cache/*",
    "*/tmp/*",
    "*/log/*",
    "*/logs/*",
    "*.pid",
    "*.log",
    "*.lock",
)
_KINDS = {0: "changed", 1: "added", 2: "deleted"}  # Docker API, ContainerChanges
_SHOWN = 10


def compare_service(
    stack: str, name: str, observed: Observed, changes: Iterable[Mapping[str, Any]], own: Sequence[str], root: str = "/"
) -> list[Difference]:
    """Return at most one difference. ``changes`` is the engine's answer, ``own`` what :func:`remember` kept."""
    late = sorted(set(strange(observed, changes, root)) - set(own))
    if not late:
        return []
    shown = late[:_SHOWN] + ([f"and {len(late) - _SHOWN} more"] if len(late) > _SHOWN else [])
    return [Difference(stack, "service", name, "image_files", "as in the image", shown, RECREATE)]


def changes(docker: Docker, observed: Observed, root: str = "/") -> list[Mapping[str, Any]]:
    """Return what differs from the image of a container, below the directories that matter or in all of it."""
    found = overlay.changes(observed.pid, _WATCHED, root)
    return list(docker.changes(observed.id) if found is None else found)


def strange(observed: Observed, changes: Iterable[Mapping[str, Any]], root: str = "/") -> list[str]:
    """Return the paths that matter, each as ``added /usr/bin/x``."""
    entries = {str(one["Path"]): int(one["Kind"]) for one in changes}
    holding = {parent for path in entries for parent in _parents(path)}
    mounted = [mount[2] for mount in observed.mounts]
    found = []
    for path, kind in entries.items():
        if not _is_watched(path, kind) or any(fnmatch(path, own) for own in _OWN):
            continue
        if any(target == path or target.startswith(f"{path}/") for target in mounted):
            continue  # the engine makes the place that it mounts at
        if kind == 0 and (path in holding or _is_directory(observed.pid, path, root)):
            continue  # a directory differs when anything in it does, and when that is gone again
        found.append(f"{_KINDS.get(kind, 'changed')} {path}")
    return sorted(found)


def known(paths: StackPaths) -> dict[str, list[str]]:
    """Return what containers had of their own when they were well, by ID."""
    found: dict[str, list[str]] = atomic.read_json(paths.image_files, {})
    return found


def remember(docker: Docker, paths: StackPaths, containers: Iterable[Observed], root: str = "/") -> None:
    """Keep what healthy containers have of their own: of new ones what is there now, of those that are gone nothing."""
    before, now = known(paths), {}
    for one in containers:
        if one.id in before:
            now[one.id] = before[one.id]
        elif one.pid:
            now[one.id] = strange(one, changes(docker, one, root), root)
    if now != before:
        atomic.write_json(paths.image_files, now)


def _is_watched(path: str, kind: int) -> bool:
    """Of a watched directory itself only that it went, or that something else took its place."""
    return path.startswith(tuple(f"{one}/" for one in _WATCHED)) or (path in _WATCHED and kind != overlay.ADDED)


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _is_directory(pid: int, path: str, root: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(f"{Path(root) / 'proc' / str(pid)}/root{path}").st_mode)
    except OSError:
        return False
