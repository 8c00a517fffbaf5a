"""One line a step, with its time, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say what begins, and when it ends how many seconds it took."""
    started = time.monotonic()
    print(f"rig: {title} …", file=sys.stderr, flush=True)
    yield
    print(f"rig: {title}: {time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)
