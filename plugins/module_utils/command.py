"""Programs of this host, run without a shell. What needs a stream, a pipe or a secret has a caller of its own."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence

from .errors import BattenError


def run(words: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program and return it finished, whatever its exit status, 127 where there is none. It speaks English."""
    try:
        return subprocess.run(
            list(words),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C.UTF-8", **(environment or {})},
            check=False,
        )
    except FileNotFoundError as error:
        return subprocess.CompletedProcess(list(words), 127, "", str(error))


def must(words: Sequence[str], fix: str, environment: Mapping[str, str] | None = None) -> str:
    """Run a program that has to succeed and return what it printed. Raises BattenError with its last lines."""
    done = run(words, environment)
    if done.returncode != 0:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
        raise BattenError(f"exit status {done.returncode}: {last}", shlex.join(words), fix)
    return done.stdout
