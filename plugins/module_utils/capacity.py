"""What one host has: the numbers that the plan is made from. Reads, never writes."""

from __future__ import annotations

import grp
import ipaddress
import os
import re
import shutil
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import atomic, compose
from .compose_labels import PROJECT, SERVICE
from .docker_api import Docker
from .errors import BattenError
from .lock import now
from .paths import HostPaths

CAP_SYS_RESOURCE = 24  # linux/capability.h
_V1_NO_LIMIT = 2**60  # cgroup v1 writes "no limit" as the largest multiple of the page size


def observe_host(
    docker: Docker, root: str = "/", projects: Iterable[str] = (), data: Iterable[str] = ()
) -> dict[str, Any]:
    """Return what ``plan.model.Capacity`` takes, as plain JSON, and ``plans``: the recorded plan of every stack here.

    ``projects`` names Compose projects that belong to the stack being planned though no plan is recorded yet; ``data``
    the directories that hold its data, by default the engine's.
    """
    plans = recorded_plans(root)
    found: dict[str, Any] = {
        "memory_bytes": memory_bytes(root),
        "cpus": cpus(root),
        "nofile_hard": nofile_hard(root),
        "pids_max": pids_max(root),
        "oom_score_adj_min": oom_score_adj_min(root),
        **disk(root, data),
        "addresses": addresses(root),
        "default_addresses": default_addresses(),
        "allocated": {stack: allocated(plan) for stack, plan in plans.items()},
        "groups": groups(),
        "engine_version": None,
        "compose_version": None,
        "foreign_bytes": 0,
        "project_bytes": {},
        "volumes": {},
        "projects": {},
        "source": "host",
        "observed_at": now(),
    }
    if docker.answers():
        ours = {*projects, *(str(plan.get("project", stack)) for stack, plan in plans.items())}
        found.update(_engine(docker, ours))
        found["compose_version"] = compose.version()
    return {"capacity": found, "plans": plans}


def groups() -> dict[str, int]:
    """Return the numbers of the system groups here: they differ by host, and containers know no names of ours."""
    return {group.gr_name: group.gr_gid for group in grp.getgrall() if group.gr_gid < 1000}


def recorded_plans(root: str = "/") -> dict[str, dict[str, Any]]:
    """Return ``{stack: plan}`` of every stack that batten runs on this host."""
    found = {}
    for path in HostPaths(root).plans:
        plan = atomic.read_json(path, None)
        if isinstance(plan, dict):
            found[path.parent.name] = plan
    return found


def allocated(plan: dict[str, Any]) -> int:
    """Return the bytes that a recorded plan's services may use together."""
    return sum(int(service.get("memory_bytes") or 0) for service in (plan.get("services") or {}).values())


def memory_bytes(root: str = "/") -> int:
    """Return MemTotal, or this container's own limit where that is smaller."""
    match = re.search(r"^MemTotal:\s+(\d+) kB", _read(root, "proc/meminfo"), re.MULTILINE)
    if match is None:
        raise BattenError("MemTotal is not there", "/proc/meminfo")
    total = int(match.group(1)) * 1024
    limits = [_read(root, "sys/fs/cgroup/memory.max"), _read(root, "sys/fs/cgroup/memory/memory.limit_in_bytes")]
    numbers = [int(text) for text in map(str.strip, limits) if text.isdigit()]
    return min([total, *(number for number in numbers if number < _V1_NO_LIMIT)])


def cpus(root: str = "/") -> float:
    """Return the processors this host may use, or its cgroup's quota where that is smaller."""
    count = float(len(os.sched_getaffinity(0)))
    words = _read(root, "sys/fs/cgroup/cpu.max").split()
    if not words:
        quota = _read(root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us").strip()
        words = [quota, _read(root, "sys/fs/cgroup/cpu/cpu.cfs_period_us").strip()]
    if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
        return min(count, round(int(words[0]) / int(words[1]), 2))
    return count


def nofile_hard(root: str = "/") -> int:
    """Return the highest open-files limit that a container can be granted.

    That is the hard limit of who starts containers, or ``fs.nr_open`` where it may raise it (setrlimit(2)).
    """
    return min(_nofile(root, process) for process in _starters(root))


def pids_max(root: str = "/") -> int:
    """Return the most processes and threads here: the kernel's (proc(5), pid_max), or this host's own limit."""
    files = ("proc/sys/kernel/pid_max", "sys/fs/cgroup/pids.max", "sys/fs/cgroup/pids/pids.max")
    return min([int(text) for text in (_read(root, file).strip() for file in files) if text.isdigit()] or [32768])


def disk(root: str = "/", data: Iterable[str] = ()) -> dict[str, int]:
    """Return the size and the free bytes of the smallest disk among those of ``data``, or of the engine's own."""
    found = []
    for directory in list(data) or ["/var/lib/docker"]:
        wished = _at(root, directory.lstrip("/"))
        usage = shutil.disk_usage(next(path for path in (wished, *wished.parents) if path.exists()))
        found.append((usage.total, usage.free))
    total, free = min(found)
    return {"disk_bytes": total, "disk_free_bytes": free}


def oom_score_adj_min(root: str = "/") -> int:
    """Return the lowest value that a container can be given: -1000 where who starts it may lower its own, else that."""
    return max(_oom_score_adj(root, process) for process in _starters(root))


def addresses(root: str = "/") -> list[str]:
    """Return every address this host owns, from the kernel's own tables, without loopback and link-local."""
    found = set(re.findall(r"\|-- (\S+)\n\s+/32 host LOCAL", _read(root, "proc/net/fib_trie")))
    for line in _read(root, "proc/net/if_inet6").splitlines():
        found.add(":".join(re.findall("....", line.split()[0])))
    parsed = (ipaddress.ip_address(text) for text in found)
    kept = (address for address in parsed if not address.is_loopback and not address.is_link_local)
    return [str(address) for address in sorted(kept, key=lambda address: (address.version, address))]


def default_addresses() -> list[str]:
    """Return the addresses from which this host reaches the outside, at most one of each family.

    Connecting a UDP socket sends nothing; the kernel only picks the route and with it the source address.
    """
    found = []
    for family, outside in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((outside, 9))
                found.append(str(probe.getsockname()[0]))
        except OSError:  # noqa: PERF203 - this family has no route
            continue
    return found


def _engine(docker: Docker, ours: set[str]) -> dict[str, Any]:
    projects: dict[str, set[str]] = {}
    foreign = 0
    by_project: dict[str, int] = {}
    for container in docker.list():
        labels = container.get("Labels") or {}
        project = labels.get(PROJECT)
        if container.get("State") != "running":
            continue
        if project:
            projects.setdefault(project, set()).add(labels.get(SERVICE, ""))
        if project not in ours:
            used = _used(docker, container["Id"])
            foreign += used
            if project:
                by_project[project] = by_project.get(project, 0) + used
    return {
        "engine_version": docker.version()["Version"],
        "foreign_bytes": foreign,
        "project_bytes": by_project,
        "volumes": {volume["Name"]: volume.get("Labels") or {} for volume in docker.volumes()},
        "projects": {name: sorted(services) for name, services in sorted(projects.items())},
    }


def _used(docker: Docker, identifier: str) -> int:
    """Memory that could not be reclaimed: usage without inactive file pages, as ``docker stats`` shows it."""
    try:
        memory = docker.stats(identifier).get("memory_stats") or {}
    except BattenError:
        return 0  # it ended meanwhile
    stats = memory.get("stats") or {}
    cache = stats.get("inactive_file", stats.get("total_inactive_file", 0))
    return max(int(memory.get("usage") or 0) - int(cache), 0)


def _starters(root: str) -> list[str]:
    """Return the processes that runc has its limits and capabilities from: containerd, of which there may be others in
    containers; dockerd, which starts a containerd of its own; this one, where there is no engine yet."""
    names: dict[str, list[str]] = {}
    for path in _at(root, "proc").glob("[0-9]*/comm"):
        names.setdefault(_read(root, f"proc/{path.parent.name}/comm").strip(), []).append(path.parent.name)
    return names.get("containerd") or names.get("dockerd") or ["self"]


def _nofile(root: str, process: str) -> int:
    most = int(_read(root, "proc/sys/fs/nr_open").strip() or 1048576)
    hard = re.search(r"^Max open files\s+\S+\s+(\d+|unlimited)", _read(root, f"proc/{process}/limits"), re.MULTILINE)
    if _has_sys_resource(root, process) or (hard and hard[1] == "unlimited"):
        return most
    return min(int(hard[1]), most) if hard else 1024


def _oom_score_adj(root: str, process: str) -> int:
    if _has_sys_resource(root, process):
        return -1000
    return max(0, int(_read(root, f"proc/{process}/oom_score_adj").strip() or 0))


def _has_sys_resource(root: str, process: str) -> bool:
    """Whether a process may raise its hard limits (setrlimit(2)) and lower its score (proc_pid_oom_score_adj(5))."""
    found = re.search(r"^CapEff:\s+([0-9a-f]+)", _read(root, f"proc/{process}/status"), re.MULTILINE)
    return bool(found and int(found[1], 16) >> CAP_SYS_RESOURCE & 1)


def _at(root: str, path: str) -> Path:
    return Path(root) / path


def _read(root: str, path: str) -> str:
    try:
        return _at(root, path).read_text()
    except OSError:
        return ""
