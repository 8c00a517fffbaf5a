"""What daemon.json shall hold, and what a change of it costs. Pure.

A *setting* is addressed by a path: ``("icc",)``, or ``("default-ulimits", "nofile")`` for keys whose value is a mapping
of independent members, so that a user's other members survive. ``log-opts`` is one setting: its members belong to one
log driver, and a foreign member (``max-size`` under journald) makes every container creation fail.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import BattenError

Path = tuple[str, ...]
Settings = dict[Path, Any]

STATES = ("present", "absent", "ignore")

# Keys that SIGHUP applies: daemon/reload.go and daemon/reload_unix.go of moby v25.0.0 and of 2026-08.
RELOADABLE = frozenset(
    {
        "debug",
        "default-runtime",
        "default-shm-size",
        "default-cgroupns-mode",
        "default-ipc-mode",
        "features",
        "insecure-registries",
        "labels",
        "live-restore",
        "max-concurrent-downloads",
        "max-concurrent-uploads",
        "max-download-attempts",
        "network-diagnostic-port",
        "registry-mirrors",
        "runtimes",
        "shutdown-timeout",
    }
)
# The others keep their old value when the key has gone from the file (``if conf.IsValueSet(...)`` there).
RELOADABLE_AWAY = frozenset(
    {
        "features",
        "max-concurrent-downloads",
        "max-concurrent-uploads",
        "max-download-attempts",
        "network-diagnostic-port",
    }
)
# Changing one of these hides every container, image and volume that the engine holds.
HOLDING = (("data-root",), ("storage-driver",), ("userns-remap",), ("features", "containerd-snapshotter"))

# Flags whose name in daemon.json differs: NamedOption in moby's daemon/command/config*.go; short ones in options.go.
FLAG_KEYS = {
    "add-runtime": "runtimes",
    "authorization-plugin": "authorization-plugins",
    "b": "bridge",
    "cdi-spec-dir": "cdi-spec-dirs",
    "D": "debug",
    "default-address-pool": "default-address-pools",
    "default-network-opt": "default-network-opts",
    "default-ulimit": "default-ulimits",
    "dns-opt": "dns-opts",
    "exec-opt": "exec-opts",
    "feature": "features",
    "G": "group",
    "H": "hosts",
    "host": "hosts",
    "insecure-registry": "insecure-registries",
    "l": "log-level",
    "label": "labels",
    "log-opt": "log-opts",
    "p": "pidfile",
    "registry-mirror": "registry-mirrors",
    "s": "storage-driver",
    "storage-opt": "storage-opts",
}


@dataclass(frozen=True)
class Merge:
    """A merged daemon.json: ``file`` is the whole document, ``ours`` what batten set in it, ``replaced`` user values
    that ours stand in for and that :func:`withdraw` puts back."""

    file: dict[str, Any]
    ours: Settings
    replaced: Settings


@dataclass(frozen=True)
class Change:
    """One setting that differs; ``None`` means that it is not set."""

    path: Path
    before: Any
    after: Any

    @property
    def name(self) -> str:
        return ".".join(self.path)

    @property
    def reloadable(self) -> bool:
        """Whether SIGHUP is enough. The image store of ``features`` is read at start only."""
        if self.path == ("features", "containerd-snapshotter"):
            return False
        return self.path[0] in (RELOADABLE if self.after is not None else RELOADABLE_AWAY)


def effective(entries: Iterable[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the entries by name, a later one in place of an earlier one (debops' idea of layered lists).

    An entry is ``{"name": KEY, "value": ANY, "state": "present"|"absent"|"ignore"}``. Raises BattenError for any other.
    """
    result: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        name, state = entry.get("name"), entry.get("state", "present")
        where = f"docker_daemon* entry {name or dict(entry)!r}"
        if not isinstance(name, str) or not name:
            raise BattenError("an entry has no name", where, "write it as {name: KEY, value: VALUE}")
        unknown = sorted(set(entry) - {"name", "value", "state"})
        if unknown:
            raise BattenError(f"unknown key {unknown[0]}", where, "use only name, value and state")
        if state not in STATES:
            raise BattenError(f"unknown state {state!r}", where, "use one of: " + ", ".join(STATES))
        if state == "present" and entry.get("value") is None:
            raise BattenError("an entry that is present needs a value", where, "add value:, or state: absent")
        result[name] = entry
    return result


def flatten(document: Mapping[str, Any]) -> Settings:
    """Return ``document`` by setting. An empty mapping is a setting of its own."""
    settings: Settings = {}
    for key, value in document.items():
        if isinstance(value, Mapping) and value and key != "log-opts":
            settings.update({(key, member): inner for member, inner in value.items()})
        else:
            settings[(key,)] = value
    return settings


def nest(settings: Mapping[Path, Any]) -> dict[str, Any]:
    """Undo :func:`flatten`."""
    document: dict[str, Any] = {}
    for path, value in settings.items():
        if len(path) == 1:
            document[path[0]] = value
        else:
            members = document.get(path[0])
            document[path[0]] = {**(members if isinstance(members, dict) else {}), path[1]: value}
    return document


def withdraw(current: Mapping[str, Any], ours: Mapping[Path, Any], replaced: Mapping[Path, Any]) -> dict[str, Any]:
    """Return ``current`` without what batten set. A value changed since is the user's by now and stays."""
    settings = flatten(current)
    for path, value in ours.items():
        if path in settings and settings[path] == value:
            del settings[path]
            if path in replaced:
                settings[path] = replaced[path]
    return nest(settings)


def merge(
    current: Mapping[str, Any],
    entries: Iterable[Mapping[str, Any]],
    ours: Mapping[Path, Any],
    replaced: Mapping[Path, Any],
) -> Merge:
    """Merge ``entries`` into the document ``current``, given what an earlier run set (``ours``) and stood in for.

    What was ours and is declared no more goes; what nobody declared stays as it is.
    """
    declared = effective(entries)
    wanted = flatten(
        {name: entry["value"] for name, entry in declared.items() if entry.get("state", "present") == "present"}
    )
    ignored = {name for name, entry in declared.items() if entry.get("state") == "ignore"}
    removed = {name for name, entry in declared.items() if entry.get("state") == "absent"}
    dropped = {path: value for path, value in ours.items() if path not in wanted and path[0] not in ignored}
    settings = flatten(withdraw(current, dropped, replaced))
    settings = {path: value for path, value in settings.items() if path[0] not in removed}
    kept: Settings = {}
    set_by_us: Settings = {}
    for path, value in wanted.items():
        whole = (path[0],)
        if len(path) == 2 and whole in settings:  # the file has `features: {}` or a value of another type
            del settings[whole]
        if path in ours:  # another value in the file now is drift, not something to give back
            kept.update({path: replaced[path]} if path in replaced else {})
        elif path in settings and settings[path] != value:
            kept[path] = settings[path]
        if path in ours or path not in settings or settings[path] != value:  # else it is the user's own
            set_by_us[path] = value
        settings[path] = value
    return Merge(nest(settings), set_by_us, kept)


def grantable(entries: Iterable[Mapping[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Return ``entries`` with open-file limits lowered to ``limit``: above it no container would start."""
    result = []
    for entry in entries:
        value = entry.get("value")
        nofile = value.get("nofile") if entry.get("name") == "default-ulimits" and isinstance(value, Mapping) else None
        if isinstance(nofile, Mapping):
            lowered = {**nofile, **{end: min(nofile[end], limit) for end in ("Soft", "Hard") if end in nofile}}
            result.append({**entry, "value": {**value, "nofile": lowered}})  # type: ignore[dict-item]
        else:
            result.append(dict(entry))
    return result


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """Return the settings in which two documents differ, by name."""
    old, new = flatten(before), flatten(after)
    return [
        Change(path, old.get(path), new.get(path))
        for path in sorted(set(old) | set(new))
        if old.get(path) != new.get(path)
    ]


def unheeded(document: Mapping[str, Any], info: Mapping[str, Any]) -> list[Change]:
    """Return the settings of ``document`` that the running engine does not have, as far as ``GET /info`` shows them."""
    live = live_settings(info)
    return [
        Change((key,), live[key], document[key])
        for key in sorted(set(document) & set(live))
        if _comparable(key, document[key]) != _comparable(key, live[key])
    ]


def live_settings(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return by daemon.json key what ``GET /info`` (API 1.44) says that the engine runs with."""
    security = [str(option).split(",")[0] for option in info.get("SecurityOptions") or []]
    registry = info.get("RegistryConfig") or {}
    return {
        "live-restore": info.get("LiveRestoreEnabled", False),
        "log-driver": info.get("LoggingDriver"),
        "debug": info.get("Debug", False),
        "no-new-privileges": "name=no-new-privileges" in security,
        "default-runtime": info.get("DefaultRuntime"),
        "labels": info.get("Labels") or [],
        "registry-mirrors": registry.get("Mirrors") or [],
        "default-address-pools": [
            {"base": pool.get("Base"), "size": pool.get("Size")} for pool in info.get("DefaultAddressPools") or []
        ],
    }


def _comparable(key: str, value: Any) -> Any:
    if key == "registry-mirrors" and isinstance(value, list):
        return sorted(str(item).rstrip("/") for item in value)
    if key == "labels" and isinstance(value, list):
        return sorted(value)
    return value


def flag_keys(arguments: Iterable[str]) -> dict[str, str]:
    """Return the daemon.json keys that a dockerd command line sets, each with the flag as it was written.

    ``-D`` style flags may carry their value in the same word; ``runtimes`` may be set in both places (moby's
    ``skipDuplicates``), so it is left out.
    """
    found = {}
    for word in arguments:
        if word.startswith("--"):
            name = word[2:].split("=", 1)[0]
        elif word.startswith("-") and len(word) > 1:
            name = word[1]
        else:
            continue
        key = FLAG_KEYS.get(name, name)
        if key != "runtimes":
            found[key] = word
    return found


def conflicts(document: Mapping[str, Any], arguments: Iterable[str]) -> list[tuple[str, str]]:
    """Return ``(key, flag)`` for what both ``document`` and dockerd's command line set: the daemon dies of one."""
    return [(key, flag) for key, flag in sorted(flag_keys(arguments).items()) if key in document]


def held(before: Mapping[str, Any], after: Mapping[str, Any], info: Mapping[str, Any]) -> list[Change]:
    """Return the changes that would hide what the engine holds; naming what it already uses is no change."""
    old, new = flatten(before), flatten(after)
    stores = [pair for pair in info.get("DriverStatus") or [] if len(pair) == 2]
    live: dict[Path, Any] = {
        ("data-root",): info.get("DockerRootDir"),
        ("storage-driver",): info.get("Driver"),
        ("features", "containerd-snapshotter"): ["driver-type", "io.containerd.snapshotter.v1"] in stores,
    }
    return [
        Change(path, old.get(path, live.get(path)), new.get(path))
        for path in HOLDING
        if old.get(path) != new.get(path) and (path not in new or new[path] != live.get(path))
    ]


def act_for(found: Iterable[Change]) -> str | None:
    """Return ``"restart"``, ``"reload"`` or None: the least that makes the engine heed ``found``."""
    listed = list(found)
    if not listed:
        return None
    return "reload" if all(change.reloadable for change in listed) else "restart"
