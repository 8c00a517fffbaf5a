"""Who runs in a container besides what it was started for. Reads only, but for :func:`end`.

Processes are told apart by their pid namespace, so that also what entered by ``nsenter`` is seen, and not only what
``docker exec`` put into the control group.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .compare import Difference
from .desired import Desired
from .facet import UPDATE
from .gate import probe
from .observed import Observed

Execs = Callable[[str], Mapping[int, Sequence[str]]]
"""Takes a container's ID, returns what was started in it by exec and runs: ``{pid: command}``."""

_GRACE_SECONDS = 2.0


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
    """Return at most one difference. ``firsts`` are the first processes of all containers on the host.

    What is no descendant of them was put there later: it is ended, and the service goes on. One of another uid than
    planned is part of the service: that is restarted. Names of programs are shown, never their arguments.
    """
    there = _of(observed, everyone, root)
    strays = _strays(observed, there, firsts, execs, root)
    outside = {one.pid for one in strays}
    wanted = _planned_uid(desired, observed, root)
    if there and str(observed.config.get("User") or "") != _user(desired):
        wanted = None  # that is a facet of the container
    inside = [one for one in there if one.pid not in outside and one.name not in _RUNC]
    others = [one for one in inside if wanted is not None and one.uid != wanted and _under(one, there, {observed.pid})]
    if not strays and not others:
        return []
    shown = sorted({f"{one.name} (uid {one.uid})" for one in others} | {f"{one.name} (entered)" for one in strays})
    planned = "only its own" if wanted is None else f"only its own, as uid {wanted}"
    return [
        Difference(stack, "service", desired.name, "processes", planned, shown, "restart" if others else UPDATE),
    ]


def end(observed: Observed, firsts: Iterable[int], execs: Execs, root: str = "/") -> list[str]:
    """End what entered a container, politely first. Returns the names of what was ended."""
    strays = _strays(observed, _of(observed, by_namespace(root), root), firsts, execs, root)
    for kind in (signal.SIGTERM, signal.SIGKILL):
        left = [one.pid for one in strays if (Path(root) / f"proc/{one.pid}").exists()]
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, kind)
        deadline = time.monotonic() + _GRACE_SECONDS
        while any(_runs(pid, root) for pid in left) and time.monotonic() < deadline:
            time.sleep(0.02)
    return sorted(one.name for one in strays)


_RUNC = ("runc", "runc:[0:PARENT]", "runc:[1:CHILD]", "runc:[2:INIT]")  # an exec that is just being set up


def _strays(
    observed: Observed, there: Sequence[Process], firsts: Iterable[int], execs: Execs, root: str
) -> list[Process]:
    first = {observed.pid, *firsts}
    alone = [one for one in there if not _under(one, there, first) and one.name not in _RUNC]
    if not alone:
        return []
    checks = {pid for pid, command in execs(observed.id).items() if _is_check(observed, command)}
    # Whatever has ended since may have been a check that the engine could not tell of any more.
    return [one for one in alone if _runs(one.pid, root) and not _under(one, there, checks)]


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
    try:
        return everyone.get(os.readlink(Path(root) / f"proc/{observed.pid}/ns/pid"), [])
    except OSError:
        return []


def _under(one: Process, there: Sequence[Process], tops: Iterable[int]) -> bool:
    """Return whether ``one`` is one of ``tops`` or descends from one."""
    parents = {each.pid: each.parent for each in there}
    wanted, pid = set(tops), one.pid
    for _ in range(len(parents) + 1):
        if pid in wanted:
            return True
        if pid not in parents:
            return False
        pid = parents[pid]
    return False


def _user(desired: Desired) -> str:
    return str(desired.service.get("user") or desired.image_config.get("User") or "")


def _planned_uid(desired: Desired, observed: Observed, root: str) -> int | None:
    """Return the uid that a service is planned to run as. None where it starts as root: many then change to another."""
    user = _user(desired).partition(":")[0]
    if user.isdigit():
        return int(user) or None
    try:
        lines = (Path(root) / f"proc/{observed.pid}/root/etc/passwd").read_text(errors="replace").splitlines()
    except OSError:
        return None
    words = next((line.split(":") for line in lines if user and line.startswith(f"{user}:")), [])
    return (int(words[2]) or None) if len(words) > 2 and words[2].isdigit() else None


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
