"""What a container finds mounted, and how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .desired import Desired
from .observed import Observed
from .quantities import size


def mounts(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Anonymous volumes that an image declares appear by themselves; they are no difference."""
    if desired.service.get("volumes_from"):
        return None, None
    wanted, actual = desired.mounts, observed.mounts
    targets = {mount[2] for mount in wanted}
    actual = {mount for mount in actual if mount[:2] != ("volume", "") or mount[2] in targets}
    return sorted(":".join(mount) for mount in wanted), sorted(":".join(mount) for mount in actual)


def tmpfs(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    wanted = desired.service.get("tmpfs") or []
    pairs = [entry.partition(":") for entry in ([wanted] if isinstance(wanted, str) else wanted)]
    actual = observed.host.get("Tmpfs") or {}
    return (
        {path: sorted(filter(None, options.split(","))) for path, _, options in pairs},
        {path: sorted(filter(None, options.split(","))) for path, options in actual.items()},
    )


def volumes_from(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Where some are planned they are known by IDs that come and go, so only surplus ones are told."""
    planned = desired.service.get("volumes_from")
    return (None, None) if planned else ([], sorted(map(str, observed.host.get("VolumesFrom") or [])))


def mount_options(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Propagation of binds, parts of volumes, sizes of memory: of mounts that both sides have."""
    if desired.service.get("volumes_from"):
        return None, None
    wanted = {mount["target"].rstrip("/") or "/": mount for mount in desired.service.get("volumes") or []}
    asked = {mount["Target"]: mount for mount in observed.host.get("Mounts") or []}
    ours: dict[str, Any] = {}
    theirs: dict[str, Any] = {}
    for live in observed.inspect.get("Mounts") or []:
        target = live["Destination"]
        if target in wanted and wanted[target]["type"] == live["Type"]:
            ours[target], theirs[target] = _options(wanted[target], live, asked.get(target) or {}, desired)
    return ours, theirs


def _options(
    wanted: Mapping[str, Any], live: Mapping[str, Any], asked: Mapping[str, Any], desired: Desired
) -> tuple[Any, Any]:
    bind, volume, memory = (wanted.get(kind) or {} for kind in ("bind", "volume", "tmpfs"))
    if live["Type"] == "bind":
        propagation, flat = str(live.get("Propagation") or "rprivate"), bind.get("recursive") == "disabled"
        # The engine makes a bind that holds its own directory rslave (moby daemon/volumes_unix.go,
        # validateBindDaemonRoot).
        holds = f"{desired.engine.root}/".startswith(f"{str(wanted.get('source', '')).rstrip('/')}/")
        by_itself = not bind.get("propagation") and holds and propagation == "rslave"
        return (
            {"propagation": propagation if by_itself else bind.get("propagation") or "rprivate", "recursive": not flat},
            {"propagation": propagation, "recursive": not (asked.get("BindOptions") or {}).get("NonRecursive")},
        )
    if live["Type"] == "volume":
        return volume.get("subpath") or "", (asked.get("VolumeOptions") or {}).get("Subpath") or ""
    there = asked.get("TmpfsOptions") or {}
    return (
        {"size": size(memory.get("size")), "mode": int(memory.get("mode") or 0)},
        {"size": int(there.get("SizeBytes") or 0), "mode": int(there.get("Mode") or 0)},
    )
