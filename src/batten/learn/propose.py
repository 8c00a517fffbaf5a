"""From what was seen to a profile, and from a failed try to the next: pure."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, Literal

from batten.plan.profile import COMMON_CAPABILITIES

MIB = 1024**2
MOST_TRIES = 12
# Volatile by the Filesystem Hierarchy Standard 3.0 (3.15, 3.18, 5.15): what an image has there may be masked.
_VOLATILE = ("/tmp", "/run", "/var/run", "/var/tmp", "/var/lock", "/run/lock")  # noqa: S108 - names, not used here
_READ_ONLY = re.compile(r"read-only file ?system|EROFS|errno 30\b", re.IGNORECASE)
_QUOTED = re.compile(r"(/[A-Za-z0-9._@+/-]+)")
# Linux capability numbers (include/uapi/linux/capability.h), in order.
CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
    "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON",
    "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip


@dataclass(frozen=True)
class Process:
    """One process of the container. ``capabilities`` are its effective ones, None where they could not be read."""

    uid: int
    gid: int
    name: str
    capabilities: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Directory:
    """A directory that was written to, so many ``bytes``. ``empty`` says whether the image has nothing there."""

    path: str
    uid: int
    gid: int
    mode: str
    empty: bool
    bytes: int


@dataclass(frozen=True)
class Listener:
    """A socket that accepts. ``loopback`` if nobody outside the container can reach it."""

    port: int
    protocol: Literal["tcp", "udp"]
    loopback: bool


@dataclass(frozen=True)
class Observation:
    """All that was seen of a service. Sizes in bytes, times in seconds; None means that it could not be seen."""

    image: str
    ended: bool
    processes: tuple[Process, ...]
    directories: tuple[Directory, ...]
    volumes: Mapping[str, bool]
    listening: tuple[Listener, ...] | None
    programs: tuple[str, ...]
    probe: tuple[str, ...] | None
    has_healthcheck: bool
    log_is_json: bool | None
    memory_bytes: int
    pids: int
    start_seconds: float
    stop_seconds: float


@dataclass(frozen=True)
class Shape:
    """What a try changes from one to the next; the rest of a proposal stays."""

    user: str | None
    cap_add: tuple[str, ...]
    read_only: bool
    writable: tuple[Directory, ...]


@dataclass(frozen=True)
class Outcome:
    """What came of a try: ``said`` is the engine's word and the end of the log."""

    ok: bool
    said: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Plan:
    """The tries that are left: ``rungs`` are (user, capabilities), from the least privilege up."""

    shape: Shape
    rungs: tuple[tuple[str | None, tuple[str, ...]], ...] = ()


def first(seen: Observation) -> Plan:
    """Return the least that may do, and what comes after it.

    An image that starts as root and becomes another user mostly runs as that user from the start; where it does not,
    it gets the capabilities with which root changes owners and becomes somebody.
    """
    user = main_user(seen.processes)
    held = tuple(sorted({cap for one in seen.processes if one.uid for cap in one.capabilities or ()}))
    caps = [(), held, ("NET_BIND_SERVICE",)] if held else [(), ("NET_BIND_SERVICE",)]
    users: list[str | None] = [user, None] if user else [None]
    rungs = [(one, tuple(cap)) for one in users for cap in caps] + [(None, COMMON_CAPABILITIES)]
    mountable = all(one.empty or one.path in _VOLATILE for one in seen.directories)
    shape = Shape(*rungs[0], read_only=mountable, writable=tuple(seen.directories) if mountable else ())
    return Plan(shape, tuple(dict.fromkeys(rungs[1:])))


def after(plan: Plan, outcome: Outcome) -> Plan | None:
    """Return what to try after a failure, None when there is nothing left.

    A path that could not be written is made writable; a root that stays unwritable is given up before privileges are.
    """
    shape = plan.shape
    if shape.read_only and _READ_ONLY.search(outcome.said):
        path = _unwritable(outcome.said)
        known = {one.path for one in shape.writable}
        if path and path not in known and path not in ("/", "/etc", "/usr", "/bin", "/lib", "/opt", "/var"):
            uid, gid = (int(part) for part in (shape.user or "0:0").split(":"))
            more = Directory(path, uid, gid, "0755", empty=True, bytes=0)
            return replace(plan, shape=replace(shape, writable=(*shape.writable, more)))
        return replace(plan, shape=replace(shape, read_only=False, writable=()))
    if plan.rungs:
        user, caps = plan.rungs[0]
        return Plan(replace(shape, user=user, cap_add=caps), plan.rungs[1:])
    if shape.read_only:
        return Plan(replace(shape, read_only=False, writable=()), ())
    return None


def without(shape: Shape, capability: str) -> Shape:
    """Return the same shape with one capability less."""
    return replace(shape, cap_add=tuple(other for other in shape.cap_add if other != capability))


def main_user(processes: Iterable[Process]) -> str | None:
    """Return ``uid:gid`` of most processes that are not root's; None if root's are all there are."""
    counted = Counter((one.uid, one.gid) for one in processes if one.uid)
    return "{}:{}".format(*counted.most_common(1)[0][0]) if counted else None


def _unwritable(said: str) -> str | None:
    """Return the directory of the last path that a line about a read-only file system names."""
    for line in reversed(said.splitlines()):
        if _READ_ONLY.search(line):
            paths = [path.rstrip(".:") for path in _QUOTED.findall(line) if path.count("/") > 1]
            if paths:
                return str(PurePosixPath(paths[-1]).parent)
    return None


def profile(seen: Observation, shape: Shape, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return a profile in the schema of ``compose/profiles``. ``known`` is batten's own of this family, if any."""
    kept = {key: known[key] for key in ("class", "stateful") if key in known} if known else {}
    listening = sorted({one.port for one in seen.listening or () if one.protocol == "tcp" and not one.loopback})
    made: dict[str, Any] = {
        "images": [_repository(seen.image)],
        "confidence": "observed",
        "sources": [f"batten learn, {seen.image}"],
        "class": "batch" if seen.ended else kept.get("class", "application"),
        "memory": {"floor": _size(_rounded(2 * seen.memory_bytes, 16 * MIB, least=32 * MIB))},
        "pids": _rounded(4 * seen.pids, 32, least=64),
        "read_only": shape.read_only,
    }
    if listening:
        made["match"] = {"ports": listening}
    if shape.user:
        made["user"] = shape.user
    if shape.cap_add:
        made["cap_add"] = list(shape.cap_add)
    if writable := [*_writable(shape), *({"path": path, "volume": True} for path in sorted(seen.volumes))]:
        made["writable"] = writable
    if seen.probe and not seen.has_healthcheck:
        made["healthcheck"] = {
            "test": list(seen.probe),
            "interval": "10s",
            "timeout": "5s",
            "retries": 5,
            "start_period": f"{max(15, round(4 * seen.start_seconds))}s",
            "start_interval": "2s",
        }
    if seen.log_is_json is not None:
        made["log"] = {"format": "json" if seen.log_is_json else "text"}
    if seen.stop_seconds > 5 and not seen.ended:
        made["stop_grace"] = f"{max(10, round(3 * seen.stop_seconds))}s"
    if kept.get("stateful"):
        made["stateful"] = True
    return made


def _writable(shape: Shape) -> list[dict[str, Any]]:
    """Memory for what is written; a temporary directory in any case, for software may want it at another time."""
    if not shape.read_only:
        return []
    found: list[dict[str, Any]] = []
    paths = {one.path for one in shape.writable}
    for one in sorted(shape.writable, key=lambda item: item.path):
        size = _rounded(4 * one.bytes, MIB, least=16 * MIB if one.path in _VOLATILE else 4 * MIB)
        entry: dict[str, Any] = {"path": one.path, "tmpfs": _size(size)}
        if one.mode != "1777":
            owner = shape.user or f"{one.uid}:{one.gid}"
            entry |= {"mode": one.mode, "owner": owner}
        found.append(entry)
    if "/tmp" not in paths:  # noqa: S108 - the container's
        found.insert(0, {"path": "/tmp", "tmpfs": "16M"})  # noqa: S108
    return found


def remarks(seen: Observation, shape: Shape, left_out: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Return what was observed, what follows from it, and what could not be seen: sentences for a reviewer."""
    users = sorted({f"{one.uid}:{one.gid} ({one.name})" for one in seen.processes})
    observed = [f"processes ran as {', '.join(users) or 'nobody: it had ended'}"]
    observed.append(
        f"it wrote to {', '.join(sorted(one.path for one in seen.directories)) or 'no place'} outside its volumes"
    )
    observed += [f"its volume {path} was {'written' if used else 'left empty'}" for path, used in seen.volumes.items()]
    if seen.listening is not None:
        observed.append(f"it listened on {', '.join(_spoken(seen.listening)) or 'no port'}")
    observed.append(f"the image has {', '.join(seen.programs) or 'none of the usual probe programs'}")
    if seen.probe and not seen.has_healthcheck:
        observed.append(f"in it, {' '.join(seen.probe[1:])} ended with 0")
    observed.append(f"it used at most {seen.memory_bytes // MIB} MiB and {seen.pids} processes and threads")
    inferred = [
        "capabilities: by trying; it held with these, and with none less that was tried",
        "memory floor: twice the most that was seen, with nobody using it",
        "pids: four times the most that was seen",
    ]
    if shape.read_only:
        inferred.append("/tmp: given in any case" if all(one.path != "/tmp" for one in seen.directories) else "")  # noqa: S108
    else:
        inferred.append("a writable root: it writes where the image has files of its own")
    unseen = [
        "what it needs under load, over days, and in what it did not do here: weight and cap of memory, open files"
    ]
    unseen.append("how it takes secrets, and how it reloads them")
    if lost := [one.path for one in shape.writable if not any(_within(one.path, place) for place in _VOLATILE)]:
        unseen.append(
            f"whether what it writes to {', '.join(lost)} must outlive it: it is in memory here, else a volume"
        )
    if seen.listening is None:
        unseen.append("what it listens on: its network namespace could not be read from here")
    if all(one.capabilities is None for one in seen.processes):
        unseen.append("the capabilities that its processes hold: /proc could not be read from here")
    if not seen.probe and not seen.has_healthcheck and not seen.ended:
        unseen.append("whether it is healthy: nothing in the image could ask it; it ran and did not end")
    if seen.log_is_json is None:
        unseen.append("what its log looks like: it wrote none")
    unseen += [f"what it does with {what}, which it was not given here" for what in left_out]
    return observed, [line for line in inferred if line], unseen


def text(made: Mapping[str, Any], said: tuple[list[str], list[str], list[str]], source: str) -> str:
    """Return a profile as a file: what was observed, inferred and not seen as comments above it."""
    import yaml

    head = [f"# Written by batten learn: {source}"]
    for title, lines in zip(("observed", "inferred", "not seen"), said, strict=True):
        head += [f"# {title}:", *(f"#   {line}" for line in lines)]
    return "\n".join(head) + "\n" + yaml.safe_dump(dict(made), sort_keys=False, width=120, default_flow_style=None)


def is_json(lines: Iterable[str]) -> bool | None:
    """Say whether a log is JSON: at least four of five lines are JSON objects. None without lines."""
    every = [line for line in lines if line.strip()]
    if not every:
        return None
    good = 0
    for line in every:
        try:
            good += isinstance(json.loads(line), dict)
        except ValueError:
            continue
    return good * 5 >= len(every) * 4


def capability_names(mask: int) -> tuple[str, ...]:
    """Return the names of the bits of a capability set of /proc/PID/status (proc(5))."""
    return tuple(name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1)


def listeners(table: str, protocol: Literal["tcp", "udp"]) -> list[Listener]:
    """Read /proc/net/tcp, tcp6, udp or udp6 (proc(5)): state 0A is LISTEN, 07 an unconnected UDP socket.

    Docker's resolver on 127.0.0.11 is not the service's.
    """
    found = []
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) < 4 or words[3] != ("0A" if protocol == "tcp" else "07"):
            continue
        address, _, port = words[1].partition(":")
        if address == "0B00007F":
            continue
        loopback = address[-2:] == "7F" if len(address) == 8 else address == "0" * 24 + "01000000"
        found.append(Listener(int(port, 16), protocol, loopback))
    return found


def leaves(changes: Iterable[tuple[int, str]], mounted: Iterable[str]) -> tuple[tuple[int, str], ...]:
    """Return of what ``docker diff`` shows the paths that really changed: not what is mounted, nor what is above them.

    The engine shows a directory as changed (kind 0) when something below it was, and mount points as added (kind 1).
    """
    mounts = tuple(mounted)
    own = [
        (kind, path)
        for kind, path in changes
        if not any(_within(path, mount) or _within(mount, path) for mount in mounts)
    ]
    paths = sorted(path for _, path in own)
    above = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    return tuple((kind, path) for kind, path in own if path not in above)


def written_directories(
    changes: Iterable[tuple[int, str]], mounted: Iterable[str], directories: Iterable[str]
) -> tuple[str, ...]:
    """Return the least set of directories that holds all that ``docker diff`` shows, without what is mounted.

    ``directories`` are those of the changed paths that are directories. What the image does not have at all is mounted
    at its own top, so that nothing beside it is masked.
    """
    every, known = tuple(changes), set(directories)
    added = {path for kind, path in every if kind == 1}
    places = set()
    for _, path in leaves(every, mounted):
        place = PurePosixPath(path) if path in known else PurePosixPath(path).parent
        while str(place.parent) in added:
            place = place.parent
        places.add(str(place))
    return tuple(sorted(one for one in places if not any(other != one and _within(one, other) for other in places)))


def _within(path: str, directory: str) -> bool:
    return path == directory or path.startswith(f"{directory.rstrip('/')}/")


def _spoken(found: Iterable[Listener]) -> list[str]:
    return sorted({f"{one.port}/{one.protocol}{' (loopback)' if one.loopback else ''}" for one in found})


def _repository(image: str) -> str:
    from batten.plan.profile import split_image

    return split_image(image)[0]


def _rounded(value: int, step: int, least: int) -> int:
    return max(least, -(-value // step) * step)


def _size(count: int) -> str:
    return f"{count // MIB}M"
