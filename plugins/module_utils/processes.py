"""Who runs in a container besides what it was started for. Reads only, but for :func:`end`.

Processes are told apart by their pid namespace, so that also what entered by ``nsenter`` is seen, and not only what
``docker exec`` put into the control group.
"""

from __future__ import annotations

import errno
import os
import signal
import stat
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .compare import Difference
from .desired import Desired
from .docker_api import Exec
from .facet import UPDATE
from .gate import probe
from .observed import Observed

Execs = Callable[[str], Mapping[int, Exec]]
"""Takes a container's ID, returns what was started in it by exec and runs, by pid."""

_GRACE_SECONDS = 2.0
_LONGEST = 2**20  # bytes read of a container's list of users


@dataclass(frozen=True)
class Process:
    """One process. ``uid`` is as seen in its own user namespace."""

    pid: int
    parent: int
    uid: int
    name: str


def by_namespace(root: str = "/") -> dict[str, list[Process]]:
    """Return the host's processes by pid namespace, in one pass; those that end meanwhile are left out."""
    found: dict[str, list[Process]] = {}
    for entry in (Path(root) / "proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError, IndexError):
                found.setdefault(os.readlink(entry / "ns/pid"), []).append(_process(entry))
    return found


def compare_service(
    stack: str,
    desired: Desired,
    observed: Observed,
    everyone: Mapping[str, Sequence[Process]],
    firsts: Iterable[int],
    execs: Execs,
    root: str = "/",
) -> list[Difference]:
    """Return what differs. ``firsts`` are the first processes of all containers on the host.

    What is no descendant of them was put there later: it is ended, and the service goes on. What somebody waits for at
    the other end of ``docker exec``, such as a dump of a database, is told and left to them. A process of another uid
    than planned is part of the service: that is restarted. Names of programs are shown, never their arguments.
    """
    there = _of(observed, everyone, root)
    strays, sessions = _strays(observed, there, firsts, execs, root)
    wanted = _planned_uid(desired, observed, root)
    if there and str(observed.config.get("User") or "") != _user(desired):
        wanted = None  # that is a facet of the container
    own = _under({observed.pid}, there)
    others = [
        one for one in there if wanted is not None and one.uid != wanted and one.pid in own and _runs(one.pid, root)
    ]
    planned = "only its own" if wanted is None else f"only its own, as uid {wanted}"
    found = []
    if strays or others:
        shown = sorted({f"{one.name} (uid {one.uid})" for one in others} | {f"{one.name} (entered)" for one in strays})
        action = "restart" if others else UPDATE
        found.append(Difference(stack, "service", desired.name, "processes", planned, shown, action))
    if sessions:
        shown = sorted({f"{one.name} (docker exec)" for one in sessions})
        pids = " ".join(str(one.pid) for one in sessions)
        why = f"somebody may be at work; if it does not end by itself: kill {pids}"
        found.append(Difference(stack, "service", desired.name, "processes", planned, shown, "none", reason=why))
    return found


def end(observed: Observed, firsts: Iterable[int], execs: Execs, root: str = "/") -> list[str]:
    """End what entered a container, politely first. Returns the names of what was ended."""
    strays, _sessions = _strays(observed, _of(observed, by_namespace(root), root), firsts, execs, root)
    home = _namespace(observed.pid, root)
    for kind in (signal.SIGTERM, signal.SIGKILL):
        # Looked at again: the number of one that ended may be somebody else's by now.
        left = [one.pid for one in strays if home and _namespace(one.pid, root) == home]
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, kind)
        deadline = time.monotonic() + _GRACE_SECONDS
        while any(_runs(pid, root) for pid in left) and time.monotonic() < deadline:
            time.sleep(0.02)
    return sorted(one.name for one in strays)


_RUNC = ("runc", "runc:[0:PARENT]", "runc:[1:CHILD]", "runc:[2:INIT]")  # an exec that is just being set up
_SET_UP_SECONDS = 60.0  # no exec takes that long; a program may call itself what it likes


def _strays(
    observed: Observed, there: Sequence[Process], firsts: Iterable[int], execs: Execs, root: str
) -> tuple[list[Process], list[Process]]:
    """Return who is in a container and does not belong there, and who works there by an attached ``docker exec``."""
    own = _under({observed.pid, *firsts}, there)
    alone = [one for one in there if one.pid not in own and not _is_being_set_up(one, root)]
    if not alone:
        return [], []
    running = execs(observed.id)
    checks = _under({pid for pid, one in running.items() if _is_check(observed, one.command)}, there)
    attached = _under({pid for pid, one in running.items() if one.attached}, there)
    # Whatever has ended since may have been a check that the engine could not tell of any more.
    left = [one for one in alone if _runs(one.pid, root) and one.pid not in checks]
    return [one for one in left if one.pid not in attached], [one for one in left if one.pid in attached]


def _is_being_set_up(one: Process, root: str) -> bool:
    """Whether a process is the runtime's own, on its way to a command (proc_pid_stat(5), starttime)."""
    if one.name not in _RUNC:
        return False
    try:
        begun = int((Path(root) / f"proc/{one.pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19])
        now = float((Path(root) / "proc/uptime").read_text().split()[0])
    except (OSError, IndexError):
        return True
    return now - begun / os.sysconf("SC_CLK_TCK") < _SET_UP_SECONDS


def _is_check(observed: Observed, command: Sequence[str]) -> bool:
    """Whether a command is the container's own health check; the shell may be the image's (``SHELL``)."""
    check = probe(observed.healthcheck)
    shell = bool(check) and observed.healthcheck[0][0] == "CMD-SHELL"
    return bool(check) and (list(command) == check or (shell and list(command[-1:]) == check[-1:]))


def _of(observed: Observed, everyone: Mapping[str, Sequence[Process]], root: str) -> Sequence[Process]:
    """Return the processes in a container's own pid namespace; none where it shares the host's, or another's."""
    mode = str(observed.host.get("PidMode") or "")
    if not observed.pid or mode == "host":
        return []
    return everyone.get(_namespace(observed.pid, root), [])


def _namespace(pid: int, root: str) -> str:
    """Return the pid namespace that a process is in, empty where it is gone."""
    try:
        return os.readlink(Path(root) / f"proc/{pid}/ns/pid")
    except OSError:
        return ""


def _under(tops: Collection[int], there: Sequence[Process]) -> set[int]:
    """Return the processes of ``there`` that are one of ``tops``, or descend from one."""
    children: dict[int, list[int]] = {}
    for one in there:
        children.setdefault(one.parent, []).append(one.pid)
    found: set[int] = set()
    left = [one.pid for one in there if one.pid in tops]
    while left:
        pid = left.pop()
        if pid not in found:
            found.add(pid)
            left += children.get(pid, [])
    return found


def _user(desired: Desired) -> str:
    return str(desired.service.get("user") or desired.image_config.get("User") or "")


def _planned_uid(desired: Desired, observed: Observed, root: str) -> int | None:
    """Return the uid that a service is planned to run as. None where it starts as root: many then change to another."""
    user = _user(desired).partition(":")[0]
    if user.isdigit():
        return int(user) or None
    try:
        lines = _inner_text(Path(root) / f"proc/{observed.pid}/root", "etc", "passwd").splitlines()
    except OSError:
        return None
    words = next((line.split(":") for line in lines if user and line.startswith(f"{user}:")), [])
    return (int(words[2]) or None) if len(words) > 2 and words[2].isdigit() else None


def _inner_text(top: Path, directory: str, name: str) -> str:
    """Return the beginning of a container's file. What is no plain file raises OSError: who runs in it may put a link
    out of it there, a pipe that never ends, or a device."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    outer = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        inner = os.open(directory, flags | os.O_DIRECTORY, dir_fd=outer)
    finally:
        os.close(outer)
    try:
        handle = os.open(name, flags, dir_fd=inner)
    finally:
        os.close(inner)
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "no plain file", name)
        return stream.read(_LONGEST).decode(errors="replace")


def _process(entry: Path) -> Process:
    status = dict(line.partition(":")[::2] for line in (entry / "status").read_text(errors="replace").splitlines())
    outside = int(status["Uid"].split()[1])
    return Process(int(entry.name), int(status["PPid"]), _inside(entry, outside), status["Name"].strip())


def _inside(entry: Path, uid: int) -> int:
    """Return a uid as the process's own user namespace has it (user_namespaces(7), uid_map)."""
    for line in (entry / "uid_map").read_text().splitlines():
        inner, outer, count = map(int, line.split())
        if outer <= uid < outer + count:
            return inner + uid - outer
    return uid


def _runs(pid: int, root: str) -> bool:
    """Whether a process is there and no zombie, which nobody but its parent can take away."""
    try:
        return (Path(root) / f"proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
