"""What systemd says of units (systemctl(1), show), any number of them in one call. Reads only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from .errors import BattenError

STATE = "LoadState,UnitFileState,ActiveState"
"""The properties that :func:`state` reads."""


def show(units: Sequence[str], properties: str, must: bool = False) -> list[dict[str, str]]:
    """Return ``properties``, separated by commas, of each of ``units``, in their order.

    Of a unit that systemd does not know, properties are empty or left out. Where systemd does not answer at all, so are
    all; with ``must`` that raises BattenError.
    """
    words = ["systemctl", "show", f"--property={properties}", "--", *units]
    try:
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C.UTF-8"},
            check=False,
        )
    except FileNotFoundError as error:
        done = subprocess.CompletedProcess(words, 127, "", str(error))
    if must and done.returncode:
        raise BattenError(done.stderr.strip() or "systemctl failed", "systemctl show", "systemctl is-system-running")
    blocks = done.stdout.strip("\n").split("\n\n")
    shown = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]
    return [shown[position] if position < len(shown) else {} for position in range(len(units))]


def state(shown: Mapping[str, str]) -> str:
    """Return ``enabled, active`` in systemctl's words, of what :func:`show` said of a unit; ``masked`` and ``missing``
    stand alone, ``missing`` also for a unit of which it said nothing."""
    load = shown.get("LoadState", "not-found")
    if load in ("masked", "not-found"):
        return "masked" if load == "masked" else "missing"
    return f"{shown.get('UnitFileState') or 'static'}, {shown.get('ActiveState')}"
