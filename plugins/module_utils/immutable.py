"""Why a file of ours cannot be changed although we are root: somebody set its immutable flag. Reads only."""

from __future__ import annotations

import array
import fcntl
import os
import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from .errors import BattenError

_GET_FLAGS = 0x80086601  # FS_IOC_GETFLAGS of a 64-bit machine (ioctl_iflags(2))
_FLAGS = {"i": 0x10, "a": 0x20}  # FS_IMMUTABLE_FL, FS_APPEND_FL


def explained(error: OSError) -> BattenError | None:
    """Return what to type where ``error`` comes from a file or directory that may not be changed; else None."""
    if not isinstance(error, PermissionError):
        return None
    for path in _places(error):
        flags = _flags(path)
        if flags:
            what = "it is immutable" if "i" in flags else "it can only be added to"
            return BattenError(
                f"it cannot be put back: somebody made it so that {what} (chattr +{flags})",
                str(path),
                f"see who did and why; then: chattr -{flags} {shlex.quote(str(path))}, and run again",
            )
    return None


def _places(error: OSError) -> Iterable[Path]:
    """Both files of a rename, and the directory that each is in."""
    for name in (error.filename2, error.filename):
        if isinstance(name, (str, bytes)):
            path = Path(os.fsdecode(name))
            yield from (path, path.parent)


def _flags(path: Path) -> str:
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            found = array.array("L", [0])
            fcntl.ioctl(handle, _GET_FLAGS, found, True)
        finally:
            os.close(handle)
        return "".join(letter for letter, bit in _FLAGS.items() if found[0] & bit)
    return ""
