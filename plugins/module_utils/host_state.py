"""How the host and its engine differ from what the last runs of roles docker and host left. Reads only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from . import atomic, capacity, engine_host, host_items, host_live, systemd
from .compare import Difference
from .engine_config import Change, act_for, changes, flatten, nest, unheeded
from .engine_packages import satisfies
from .host_items import Item
from .paths import HostPaths
from .policy import Rule

CONFIG, RUNNING, PACKAGES = "daemon_config", "daemon_running", "packages"
_ENGINE = "docker.service"


def of_host(root: str = "/") -> list[Difference]:
    """Return what is not as role host left it, nothing where it never ran, and disks of stacks that are not mounted.

    Raises BattenError where this process may not see what it should.
    """
    items = host_items.from_json(_record(root).get("items", ()))
    return [*host_items.compare(items, host_live.read(items, root)), *_mounts(root)]


def rules(root: str = "/") -> list[Rule]:
    """Return what the inventory says of drift of this host (``host_drift``), for :func:`of_host`."""
    return list(_record(root).get("drift", ()))


def _record(root: str) -> dict[str, Any]:
    return dict(atomic.read_json(HostPaths(root).host, {}))


def _mounts(root: str) -> list[Difference]:
    """Return the disks of stacks that are not mounted: what is written then lands on the system's own."""
    places = sorted({str(place) for plan in capacity.recorded_plans(root).values() for place in _disks(plan)})
    items = [Item("mount", "mount", place, "mounted", "none") for place in places]
    return host_items.compare(items, host_live.read(items, root))


def _disks(plan: Mapping[str, Any]) -> Iterable[str]:
    return plan.get("requires_mounts_for") or ()


def of_engine(root: str = "/", info: Mapping[str, Any] | None = None) -> list[Difference]:
    """Return what is not as role docker left it, nothing where it never ran. ``info`` is ``GET /info``, None where the
    caller has not asked yet."""
    kept = atomic.read_json(HostPaths(root).engine, {})
    if not kept:
        return []
    asked = engine_host.engine_info() if info is None else info
    unit = engine_host.unit()
    daemon = engine_host.read_daemon(host_live.at(str(engine_host.DAEMON), root))
    command = engine_host.running_command(unit)
    return [
        *configured(kept["daemon"], daemon),
        *([] if asked is None else heeded(kept["daemon"], daemon, asked)),
        *_one(RUNNING, _ENGINE, "enabled, active", systemd.state(unit), "start"),
        *(_one(RUNNING, "dockerd", kept["command"], command, "restart") if command and kept["command"] else []),
        *_texts(kept["drop_ins"], root),
        *packages(kept, str((asked or {}).get("ServerVersion", "")), kept["held"] and engine_host.installed()),
    ]


def configured(ours: Mapping[str, Any], daemon: Mapping[str, Any]) -> list[Difference]:
    """Return how our keys of daemon.json stand there now. Other keys are their owner's. Pure."""
    found = _ours(ours, daemon)
    return [_settings("daemon.json", CONFIG, found)] if found else []


def heeded(ours: Mapping[str, Any], daemon: Mapping[str, Any], info: Mapping[str, Any]) -> list[Difference]:
    """Return our keys that the engine runs without, although daemon.json is right. Pure."""
    edited = {change.path[0] for change in _ours(ours, daemon)}
    found = [change for change in unheeded(ours, info) if change.path[0] not in edited]
    return [_settings("dockerd", RUNNING, found)] if found else []


def _ours(ours: Mapping[str, Any], daemon: Mapping[str, Any]) -> list[Change]:
    wanted = flatten(ours)
    there = {path: value for path, value in flatten(daemon).items() if path in wanted}
    return changes(nest(there), ours)


def _settings(name: str, facet: str, found: Iterable[Change]) -> Difference:
    listed = list(found)
    wanted = {change.name: change.after for change in listed}
    actual = {change.name: change.before for change in listed}
    return Difference(None, "host", name, facet, wanted, actual, act_for(listed) or "rewrite")


def packages(kept: Mapping[str, Any], engine_version: str, installed: Mapping[str, Any] | None) -> list[Difference]:
    """Return what of the engine's packages is not held, or not of the version that was asked for. Pure."""
    found = []
    for name in kept["held"]:
        package = (installed or {}).get(name)
        actual = "missing" if package is None else "held" if package.held else "not held"
        found += _one(PACKAGES, name, "held", actual, "update")
    if engine_version and not satisfies(engine_version, kept["version"]):
        found += _one(PACKAGES, "docker engine", kept["version"], engine_version, "update")
    return found


def _texts(drop_ins: Mapping[str, str], root: str) -> list[Difference]:
    facets = {str(engine_host.JOURNAL): "journald", str(engine_host.UNIT): "drop_in"}
    items = [Item("file", facets[path], path, text) for path, text in sorted(drop_ins.items())]
    return host_items.compare(items, host_live.read(items, root))


def _one(facet: str, name: str, wanted: Any, actual: Any, action: str) -> list[Difference]:
    return [] if wanted == actual else [Difference(None, "host", name, facet, wanted, actual, action)]
