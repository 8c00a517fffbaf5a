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

from .errors import BattenError


class Busy(BattenError):  # noqa: N818 - what happened, as a person says it
    """Another process holds the lock."""


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock ``path`` for the block. Raises :class:`Busy` naming the holder when it is taken."""
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
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Busy(
                f"another run holds this stack ({_holder(path)})",
                str(path),
                "wait until it ends, then run the same command again",
            ) from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps({"pid": os.getpid(), "since": now()}).encode(), 0)
        yield
    finally:
        os.close(handle)


def now() -> str:
    """Return the time as in all of batten's records: UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _planted(path: Path, why: str) -> BattenError:
    return BattenError(f"the lock cannot be taken: {why}", str(path), f"see who made it: ls -l {path}; then: rm {path}")


def _holder(path: Path) -> str:
    try:
        holder = json.loads(path.read_text())
        return f"pid {holder['pid']} since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "its process is just starting"
