"""Mounts: what the service can write, and what of the host it can see."""

from __future__ import annotations

import posixpath
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from batten.verify.catalogue import control
from batten.verify.model import LiveContainer, LiveHost, Verdict, all_of, equal, fails, holds, not_applicable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batten.plan.model import ServicePlan, StackPlan

# CIS 5.6 names these; a bind of what lies above them is worse than any of them.
SENSITIVE = (
    *("/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr", "/root", "/var/lib/docker", "/run"),
    *("/home", "/var/lib/batten", "/var/run", "/opt/batten"),
)


@control("mounts.writable", "Only the planned paths can be written", cis="5.13")
def writable(expected: ServicePlan, live: LiveContainer) -> Verdict:
    planned = set(expected.volumes.values()) | {one.path for one in expected.tmpfs} | set(_writable_extras(expected))
    found = {mount["Destination"] for mount in _mounts(live) if mount.get("RW", True)} | set(_tmpfs(live))
    planned |= found & _own_tmpfs(expected, live)
    unplanned, missing = sorted(found - planned), sorted(planned - found)
    if unplanned or missing:
        return fails("; ".join(filter(None, [_list("writable but not planned", unplanned), _list("missing", missing)])))
    return holds(", ".join(sorted(found)) or "none")


@control("mounts.volumes", "Data lies in the planned volumes, none anonymous")
def volumes(expected: ServicePlan, live: LiveContainer) -> Verdict:
    """An anonymous volume is lost when its container is recreated."""
    names = {
        volume["Name"]: (volume.get("Labels") or {}).get("com.docker.compose.volume") for volume in live.host.volumes
    }
    found = {m["Destination"]: names.get(m["Name"]) or m["Name"] for m in _mounts(live) if m["Type"] == "volume"}
    planned = {path: name for name, path in expected.volumes.items()}
    if not planned and not found:
        return not_applicable("the service keeps no data")
    return equal("volumes", dict(sorted(planned.items())), dict(sorted(found.items())))


@control("mounts.volume-places", "Volumes lie where the plan says", scope="stack")
def volume_places(expected: StackPlan, live: LiveHost) -> Verdict:
    found = {str(volume["Name"]): volume for volume in live.volumes}
    problems, said = [], []
    for volume in expected.volumes.values():
        one = found.get(volume.name)
        if one is None:
            problems.append(f"{volume.name} does not exist")
            continue
        options = one.get("Options") or {}
        device = str(options.get("device") or "")
        said.append(f"{volume.name} {device or one.get('Driver')}")
        if one.get("Driver") != "local":
            problems.append(f"{volume.name} has driver {one.get('Driver')}, planned local")
        if volume.device and device != volume.device:
            problems.append(f"{volume.name} lies at {device or 'the engine'}, planned {volume.device}")
        elif not volume.device and "bind" in _options(str(options.get("o") or "")) and is_sensitive(device):
            problems.append(f"{volume.name} is {device} of the host")
    if problems:
        return fails("; ".join(problems))
    return holds("; ".join(said)) if said else not_applicable("the stack keeps no data")


@control("mounts.tmpfs", "Memory-only paths have the planned size and options")
def tmpfs(expected: ServicePlan, live: LiveContainer) -> Verdict:
    if not expected.tmpfs:
        return not_applicable("none planned")
    verdicts = []
    for one in expected.tmpfs:
        options = _tmpfs(live).get(one.path)
        if options is None:
            verdicts.append(fails(f"{one.path} is not a tmpfs"))
            continue
        size = _size(options.get("size", "0"))
        verdicts.append(equal(f"{one.path} size", one.size_bytes, size))
        verdicts.append(equal(f"{one.path} mode", one.mode.lstrip("0"), options.get("mode", "1777").lstrip("0")))
        # The engine adds noexec, nosuid and nodev by itself; their opposites take them away.
        if loose := sorted({"exec", "suid", "dev"} & options.keys()):
            verdicts.append(fails(f"{one.path} is mounted {', '.join(loose)}"))
    return all_of(*verdicts)


@control("mounts.docker-socket", "The service does not reach the engine's socket", cis="5.32")
def docker_socket(expected: ServicePlan, live: LiveContainer) -> Verdict:
    sockets = ("docker.sock", "containerd.sock", "podman.sock")
    found = [mount["Source"] for mount in _mounts(live) if str(mount.get("Source", "")).endswith(sockets)]
    parents = [
        m["Source"] for m in _mounts(live) if m["Type"] == "bind" and m["Source"] in ("/", "/run", "/var/run", "/var")
    ]
    return fails(f"mounts {', '.join(found + parents)}") if found or parents else holds("not mounted")


@control(
    "mounts.sensitive", "No system directory of the host is writable, and only planned ones can be read", cis="5.6"
)
def sensitive(expected: ServicePlan, live: LiveContainer) -> Verdict:
    found = [m for m in _mounts(live) if m["Type"] == "bind" and _is_foreign(m["Source"], live)]
    planned = {tuple(entry.split(":")[:2]) for entry in expected.extra_volumes}
    writable = [m["Source"] for m in found if m.get("RW")]
    readable = [m["Source"] for m in found if not m.get("RW") and (m["Source"], m["Destination"]) not in planned]
    if writable or readable:
        return fails("; ".join(filter(None, [_list("writable", writable), _list("readable, not planned", readable)])))
    return holds("none")


@control("mounts.propagation", "No mount is shared back to the host", cis="5.20")
def propagation(expected: ServicePlan, live: LiveContainer) -> Verdict:
    found = [mount["Destination"] for mount in _mounts(live) if mount.get("Propagation") in ("shared", "rshared")]
    return fails(f"shared: {', '.join(found)}") if found else holds("none")


@control("mounts.files", "Configuration is mounted read-only from the planned content")
def files(expected: ServicePlan, live: LiveContainer) -> Verdict:
    if expected.files is None:
        return not_applicable("the service has no rendered files")
    mount = next((m for m in _mounts(live) if m["Destination"] == expected.files.mount), None)
    if mount is None:
        return fails(f"nothing is mounted at {expected.files.mount}")
    planned = f"/{live.service}/{expected.files.digest}"
    if expected.files.digest and not str(mount["Source"]).endswith(planned):
        return fails(f"{expected.files.mount} comes from {mount['Source']}, planned …{planned}")
    return fails(f"{expected.files.mount} is writable") if mount.get("RW") else holds(str(mount["Source"]))


def _mounts(live: LiveContainer) -> list[dict[str, Any]]:
    return [mount for mount in live.inspect.get("Mounts") or () if mount["Type"] != "tmpfs"]


def _tmpfs(live: LiveContainer) -> dict[str, dict[str, str]]:
    """Path to options, from both ways in which Compose asks for a tmpfs (``tmpfs:`` and ``volumes: type: tmpfs``)."""
    found = {path: _options(text) for path, text in (live.host_config.get("Tmpfs") or {}).items()}
    for mount in live.host_config.get("Mounts") or ():
        if mount.get("Type") == "tmpfs":
            options = mount.get("TmpfsOptions") or {}
            found[mount["Target"]] = {
                "size": str(options.get("SizeBytes", 0)),
                "mode": f"{options.get('Mode', 0o1777):o}",
            }
    return found


def _own_tmpfs(expected: ServicePlan, live: LiveContainer) -> set[str]:
    """Paths in memory that the stack's own files may have asked for: they are added to the plan's where it keeps them.

    Compose makes ``tmpfs:`` to ``HostConfig.Tmpfs`` and ``volumes: type: tmpfs`` to ``HostConfig.Mounts``.
    """
    listed = set(live.host_config.get("Tmpfs") or {}) if "tmpfs" in expected.kept else set()
    if "volumes" in expected.kept:
        listed |= {one["Target"] for one in live.host_config.get("Mounts") or () if one.get("Type") == "tmpfs"}
    return listed


def _options(text: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in text.split(",") if part)
    return {key: value for key, _, value in pairs}


def _size(text: str) -> int:
    """Bytes of a tmpfs ``size=`` option; tmpfs(5): suffixes k, m, g are powers of 1024."""
    factor = {"k": 1024, "m": 1024**2, "g": 1024**3}.get(text[-1:].lower())
    return int(text[:-1]) * factor if factor else int(text or 0)


def _writable_extras(expected: ServicePlan) -> Iterator[str]:
    """Targets of the plan's further mounts (SOURCE:TARGET[:OPTIONS], as Compose has it) that are not read-only."""
    for entry in expected.extra_volumes:
        _, _, rest = entry.partition(":")
        target, _, options = rest.partition(":")
        if "ro" not in options.split(","):
            yield target


def is_sensitive(path: str) -> bool:
    """True for a system directory of the host, what lies below one, and what has one below itself."""
    one = PurePosixPath(posixpath.normpath(path))
    return any(one.is_relative_to(other) or PurePosixPath(other).is_relative_to(one) for other in SENSITIVE)


def _is_foreign(path: str, live: LiveContainer) -> bool:
    """True for a system directory of the host, unless batten itself mounts it from what it keeps of the service."""
    top = f"/opt/batten/{live.stack}"
    own = (f"{top}/base", f"{top}/files/{live.service}", f"{top}/secrets/{live.service}")
    return is_sensitive(path) and not any(PurePosixPath(path).is_relative_to(one) for one in own)


def _list(what: str, names: list[str]) -> str:
    return f"{what}: {', '.join(names)}" if names else ""
