"""One run at a time for a stack. flock dies with its process, so a killed run leaves no lock behind."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .errors import BattenError

BRIEF_SECONDS = 120.0
"""How long a run waits for one that is said to be brief: a timer's, which nobody has called for."""
_PAUSE_SECONDS = 0.2


class Busy(BattenError):  # noqa: N818 - what happened, as a person says it
    """Another process holds the lock."""


@contextmanager
def held(path: Path, brief: bool = False, what: str = "this stack", patience: float = BRIEF_SECONDS) -> Iterator[None]:
    """Hold the lock ``path`` of ``what`` for the block. Raises :class:`Busy` naming the holder when it is taken.

    ``brief`` is for what runs by itself: others wait for its end, at most ``patience`` seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _planted(path, error.strerror or str(error)) from None
    try:
        # Everyone may make files in /run/lock: one that is not ours could be held for ever, or be a link to any file.
        status = os.fstat(handle)
        if status.st_uid != os.geteuid() or not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            raise _planted(path, f"it belongs to uid {status.st_uid}, or is no plain file")
        deadline = time.monotonic() + patience
        while not _taken(handle):
            holder = _record(path)
            if not holder.get("brief") or time.monotonic() >= deadline:
                who = f"pid {holder['pid']} since {holder['since']}" if holder else "its process is just starting"
                fix = "wait until it ends, then run the same command again"
                raise Busy(f"another run holds {what} ({who})", str(path), fix)
            time.sleep(_PAUSE_SECONDS)
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"pid": os.getpid(), "since": now(), "brief": brief}).encode(), 0)
        yield
    finally:
        os.close(handle)


def is_held_by_another(path: Path, root: str = "/") -> bool:
    """Return whether another process holds ``path``, without touching it."""
    return bool(_holders(path, root) - {os.getpid()})


def is_ours(path: Path) -> bool:
    """Return whether this very process holds ``path``."""
    return os.getpid() in _holders(path)


def _holders(path: Path, root: str = "/") -> set[int]:
    """Return the processes that hold ``path`` (proc_locks(5)): one, or none."""
    try:
        status = path.stat()
        lines = (Path(root) / "proc/locks").read_text().splitlines()
    except OSError:
        return set()
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    held = (line.split() for line in lines if " FLOCK " in line and "->" not in line)
    return {int(words[4]) for words in held if words[5] == place}


def now() -> str:
    """Return the time as in all of batten's records: UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _planted(path: Path, why: str) -> BattenError:
    return BattenError(f"the lock cannot be taken: {why}", str(path), f"see who made it: ls -l {path}; then: rm {path}")


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _record(path: Path) -> dict[str, Any]:
    """Return what the holder wrote; nothing while it is just starting."""
    try:
        holder = json.loads(path.read_text())
        return {"pid": holder["pid"], "since": holder["since"], "brief": holder.get("brief", False)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
