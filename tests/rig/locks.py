"""Locks between processes that use the rig at the same time."""

from __future__ import annotations

import fcntl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(what: str) -> Iterator[None]:
    """Wait until no other process on this machine is inside the block of the same name. Do not nest one name."""
    with (Path(tempfile.gettempdir()) / f"batten-rig-{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
