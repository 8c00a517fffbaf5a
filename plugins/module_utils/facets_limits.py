"""What a container may use: memory, processors, processes, files, and what becomes of it when it ends."""

from __future__ import annotations

from typing import Any

from .desired import Desired
from .observed import Observed
from .quantities import size


def memory(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    return size(desired.limit("memory", "mem_limit")), int(observed.host.get("Memory") or 0)


def memory_swap(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Unset with a memory limit means twice that limit (moby daemon/daemon_unix.go, adaptContainerSettings)."""
    if not desired.engine.swap_limit:
        return None, None
    memory, wanted = size(desired.limit("memory", "mem_limit")), desired.service.get("memswap_limit")
    actual = int(observed.host.get("MemorySwap") or 0)
    return (2 * memory if not size(wanted) else size(wanted)), actual


def reservation(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    return size(desired.reservation), int(observed.host.get("MemoryReservation") or 0)


def cpus(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    return float(desired.limit("cpus", "cpus") or 0), int(observed.host.get("NanoCpus") or 0) / 1e9


def cpu_quota(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Another spelling of a quota, in microseconds of a period; -1 is none. ``cpus`` sets neither."""
    wanted = _quota(desired.service.get("cpu_quota"), desired.service.get("cpu_period"))
    return wanted, _quota(observed.host.get("CpuQuota"), observed.host.get("CpuPeriod"))


def cpuset(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """All processors are the same as none named: that is how a set is taken back live."""
    count = desired.engine.cpus
    wanted, actual = numbers(desired.service.get("cpuset")), numbers(observed.host.get("CpusetCpus"))
    every = list(range(count))
    return [] if wanted == every else wanted, [] if actual == every else actual


def cpu_realtime(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    wanted = [int(desired.service.get(key) or 0) for key in ("cpu_rt_period", "cpu_rt_runtime")]
    return wanted, [int(observed.host.get(key) or 0) for key in ("CpuRealtimePeriod", "CpuRealtimeRuntime")]


def pids(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    wanted, actual = int(desired.limit("pids", "pids_limit") or 0), int(observed.host.get("PidsLimit") or 0)
    return max(wanted, 0), max(actual, 0)


def restart(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    return desired.restart, observed.restart


def ulimits(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Those that the model names, and any that neither it nor the daemon gives."""
    wanted = {}
    for name, value in (desired.service.get("ulimits") or {}).items():
        # Compose leaves a limit of zero out of what it prints (compose-go, types.UlimitsConfig, omitempty).
        soft, hard = (value.get("soft", 0), value.get("hard", 0)) if isinstance(value, dict) else (value, value)
        wanted[name] = [int(soft), int(hard)]
    actual = {limit["Name"]: [limit["Soft"], limit["Hard"]] for limit in observed.host.get("Ulimits") or []}
    strange = set(actual) - set(wanted) - desired.engine.ulimits
    return wanted, {name: actual.get(name) for name in sorted({*wanted, *strange})}


def shm_size(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """The daemon's default is 64 MiB (dockerd(8), ``--default-shm-size``). Not there where memory is shared anyway."""
    wanted, actual = size(desired.service.get("shm_size")), int(observed.host.get("ShmSize") or 0)
    if not wanted and (not actual or actual == 2**26):
        return None, None
    return wanted or desired.engine.shm_bytes, actual


def swappiness(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """The engine says null or -1 where nobody set it (Docker API, ``HostConfig.MemorySwappiness``), and forgets, with a
    warning, what the kernel cannot do (moby daemon/daemon_unix.go, verifyPlatformContainerResources)."""
    if not desired.engine.swappiness:
        return None, None
    wanted, actual = desired.service.get("mem_swappiness"), observed.host.get("MemorySwappiness")
    return -1 if wanted is None else int(wanted), -1 if actual is None else int(actual)


def oom_kill_disable(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """As :func:`swappiness`: control groups v2 cannot do it."""
    if not desired.engine.oom_kill_disable:
        return None, None
    return bool(desired.service.get("oom_kill_disable")), bool(observed.host.get("OomKillDisable"))


def block_io(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Weight and rates of disks, each ``path:value``."""
    wanted = desired.service.get("blkio_config") or {}
    found: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    found[0]["weight"], found[1]["weight"] = int(wanted.get("weight") or 0), int(observed.host.get("BlkioWeight") or 0)
    for ours, theirs, what in _DISKS:
        found[0][ours] = sorted(f"{one['path']}:{size(one.get(what))}" for one in wanted.get(ours) or [])
        found[1][ours] = sorted(
            f"{one['Path']}:{one.get('Weight') or one.get('Rate') or 0}" for one in observed.host.get(theirs) or []
        )
    return tuple({name: value for name, value in side.items() if value} for side in found)  # type: ignore[return-value]


_DISKS = (
    ("weight_device", "BlkioWeightDevice", "weight"),
    ("device_read_bps", "BlkioDeviceReadBps", "rate"),
    ("device_write_bps", "BlkioDeviceWriteBps", "rate"),
    ("device_read_iops", "BlkioDeviceReadIOps", "rate"),
    ("device_write_iops", "BlkioDeviceWriteIOps", "rate"),
)


def numbers(text: Any) -> list[int]:
    """Return the processors of ``0-2,4``."""
    found: set[int] = set()
    for part in filter(None, str(text or "").split(",")):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return sorted(found)


def _quota(quota: Any, period: Any) -> list[int]:
    return [max(int(quota or 0), 0), int(period or 0) if int(quota or 0) > 0 else 0]
