"""How long programs take: wall seconds, as medians."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
DEMO = ROOT / "inventories" / "demo"


@dataclass(frozen=True)
class Timed:
    """One finished program: wall seconds and what it printed."""

    seconds: float
    output: str


def timed(*words: str) -> Timed:
    """Run a program of this environment in the checkout; SystemExit with its output if it fails."""
    started = time.monotonic()
    done = subprocess.run(words, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(words)} ended with {done.returncode}:\n{done.stdout[-4000:]}")
    return Timed(seconds, done.stdout)


def medians(rounds: int, *measures: Callable[[], Timed]) -> list[float]:
    """Return each measure's median seconds over `rounds`, taken in turn so that a slow minute hits all of them."""
    taken = [[measure().seconds for measure in measures] for _ in range(rounds)]
    return [round(statistics.median(column), 2) for column in zip(*taken, strict=True)]
