"""What Docker cannot tell: what the kernel enforces on a container's first process, beside what was planned.

A limit is compared here only where the engine itself says that it is as planned; else it is a facet of the container.
Of privileges only more than planned is a difference: a program may always give up what it has.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .cgroups import Groups
from .compare import Difference
from .desired import Desired
from .facet import RECREATE, UPDATE
from .facets_isolation import apparmor_profile
from .facets_limits import cpus, memory, memory_swap, pids
from .observed import Observed

RESTART = "restart"
LIMITS = ("cgroup_memory", "cgroup_memory_swap", "cgroup_cpus", "cgroup_cpu_shares", "cgroup_pids")
_CAPS = ("CapAdd", "CapDrop")
_NO_NEW = {"no-new-privileges:true"}
_PAGE = os.sysconf("SC_PAGE_SIZE")
_COMPLAINS = "its profile only complains, for a new container too; load it to enforce: aa-enforce(8), or reboot"
# Of others, such as kata, gVisor and sysbox, the first process is a machine's, or of a user namespace with all rights.
_RUNTIMES = ("runc", "io.containerd.runc.v2", "crun", "nvidia")
_HUNDREDTH = 0.011  # systemd keeps a quota in steps of 1 % of a processor (runc, libcontainer/cgroups/systemd)

# What a container has without a word (moby daemon/pkg/oci/caps/defaults.go), the same in engines 25 to 29.
_DEFAULT_TEXT = """
    CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL
    AUDIT_WRITE
"""
# In the order of their numbers in linux/capability.h.
_NAMES_TEXT = """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
"""
_DEFAULT, _NAMES = frozenset(_DEFAULT_TEXT.split()), tuple(_NAMES_TEXT.split())


def compare_service(stack: str, desired: Desired, observed: Observed, root: str = "/") -> list[Difference]:
    """Return the differences of one running container. One that ended meanwhile has none."""
    if not observed.pid:
        return []
    found = [*_limits(desired, observed, root), *_privileges(desired, observed, root)]
    return [
        Difference(stack, "service", desired.name, *one, reason=_COMPLAINS if one[3] == "none" else None)
        for one in found
    ]


def main_processes(observed: Observed, root: str = "/") -> list[int]:
    """Return a container's first process and, where an init starts it, the one that the init started first."""
    pid = observed.pid
    if not observed.host.get("Init"):
        return [pid]
    children = _read(root, f"{pid}/task/{pid}/children").split()
    return [pid, *map(int, children[:1])]


def _limits(desired: Desired, observed: Observed, root: str) -> Iterator[tuple[str, Any, Any, str]]:
    """A limit that is to be none goes with a restart, which makes the groups anew; any other is set again live."""
    groups = Groups(observed.pid, root)
    shares = int(desired.service.get("cpu_shares") or 0)
    there = int(observed.host.get("CpuShares") or 0)
    planned_pids, said_pids = pids(desired, observed)
    pairs: tuple[tuple[str, tuple[Any, Any], Any], ...] = (
        ("cgroup_memory", memory(desired, observed), groups.memory()),
        ("cgroup_memory_swap", memory_swap(desired, observed), groups.memory_swap()),
        ("cgroup_cpus", cpus(desired, observed), groups.cpus()),
        ("cgroup_cpu_shares", (shares, there) if shares else (None, None), groups.cpu_shares(shares)),
        # Where none is planned systemd gives a scope one of its own (systemd-system.conf(5), DefaultTasksMax=).
        ("cgroup_pids", (planned_pids, said_pids) if planned_pids else (None, None), groups.pids()),
    )
    quota = observed.host.get("CpuQuota") or 0
    for facet, (wanted, said), actual in pairs:
        if wanted is None or actual is None or wanted != said or (facet == "cgroup_cpus" and quota):
            continue
        expected = 0 if facet == "cgroup_memory_swap" and wanted == -1 else wanted
        if not _same(facet, expected, actual):
            yield facet, wanted, actual, UPDATE if wanted else RESTART


def _same(facet: str, wanted: Any, actual: Any) -> bool:
    """The kernel counts memory in whole pages; of memory and swap each is rounded by itself."""
    steps = {"cgroup_cpus": _HUNDREDTH, "cgroup_memory": _PAGE, "cgroup_memory_swap": 2 * _PAGE}
    if facet not in steps:
        return bool(wanted == actual)
    return bool(wanted) == bool(actual) and abs(wanted - actual) < steps[facet]


def _privileges(desired: Desired, observed: Observed, root: str) -> Iterator[tuple[str, Any, Any, str]]:
    """What a process has beyond the plan and beyond what the engine says: that is a facet of the container."""
    service, pid, host = desired.service, observed.pid, observed.host
    options, said = _options(service.get("security_opt")), _options(host.get("SecurityOpt"))
    score = int(service.get("oom_score_adj") or 0)
    if score == int(observed.host.get("OomScoreAdj") or 0):
        for process in main_processes(observed, root):
            live = _read(root, f"{process}/oom_score_adj").strip()
            if live and int(live) != score:
                yield "oom_score_adj_live", score, int(live), UPDATE
                break
    status = _status(_read(root, f"{pid}/status"))
    if str(service.get("runtime") or desired.engine.runtime) not in _RUNTIMES:
        return
    if not status or service.get("privileged") or host.get("Privileged"):
        return
    allowed, granted = _allowed(service.get("cap_add"), service.get("cap_drop")), _allowed(*map(host.get, _CAPS))
    if allowed is not None and granted is not None:
        surplus = int(status.get("CapBnd", "0"), 16) & ~(allowed | granted)
        if surplus:
            yield "capabilities_live", _named(allowed), _named(surplus | allowed), RECREATE
    if desired.engine.seccomp and "seccomp:unconfined" not in options | said and status.get("Seccomp") == "0":
        yield "seccomp_live", "filtered", "none", RECREATE
    asked = _NO_NEW & options & said
    refused = "no-new-privileges:false" in options | said
    default = desired.engine.no_new_privileges and not (_NO_NEW & options) and not refused
    if (asked or default) and status.get("NoNewPrivs") == "0":
        yield "no_new_privileges_live", True, False, RECREATE
    if desired.engine.apparmor:
        wanted = apparmor_profile(desired)
        actual = (_read(root, f"{pid}/attr/apparmor/current") or _read(root, f"{pid}/attr/current")).strip(" \n\0")
        as_planned = (observed.inspect.get("AppArmorProfile") or wanted) == wanted
        if as_planned and wanted != "unconfined" and actual and actual not in (wanted, f"{wanted} (enforce)"):
            yield "apparmor_live", wanted, actual, "none" if actual.startswith(f"{wanted} (") else RECREATE


def _options(listed: Any) -> set[str]:
    options = {str(one).replace("=", ":", 1) for one in listed or []}
    return {"no-new-privileges:true" if one == "no-new-privileges" else one for one in options}


def _allowed(add: Any, drop: Any) -> int | None:
    """Return the capabilities that a container may have which adds and drops these, as a mask; None for all."""
    added, dropped = ({str(one).upper().removeprefix("CAP_") for one in listed or []} for listed in (add, drop))
    if "ALL" in added:
        return None
    names = added if "ALL" in dropped else (_DEFAULT - dropped) | added
    return sum(1 << number for number, name in enumerate(_NAMES) if name in names)


def _named(mask: int) -> list[str]:
    known = [name for number, name in enumerate(_NAMES) if mask >> number & 1]
    return known + [str(number) for number in range(len(_NAMES), 64) if mask >> number & 1]


def _status(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {name: value.strip() for name, _, value in pairs}


def _read(root: str, path: str) -> str:
    try:
        return (Path(root) / "proc" / path).read_text(errors="replace")
    except OSError:
        return ""
