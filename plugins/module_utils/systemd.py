"""systemctl(1): what it says of units, any number of them in one call, and what it is told to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import command
from .errors import BattenError

STATE = "LoadState,UnitFileState,ActiveState"
"""The properties that :func:`state` reads."""


def show(units: Sequence[str], properties: str, must: bool = False) -> list[dict[str, str]]:
    """Return ``properties``, separated by commas, of each of ``units``, in their order.

    Of a unit that systemd does not know, properties are empty or left out. Where systemd does not answer at all, so are
    all; with ``must`` that raises BattenError.
    """
    done = command.run(["systemctl", "show", f"--property={properties}", "--", *units])
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


def restart(unit: str) -> None:
    """Start a unit anew, however often it was started of late (systemd.unit(5), StartLimitBurst=)."""
    systemctl("reset-failed", unit)
    systemctl("restart", unit)


def systemctl(*words: str) -> None:
    """Have systemctl do something. Raises BattenError with the end of the journal of the unit that is the last word."""
    done = command.run(["systemctl", *words])
    if not done.returncode:
        return
    said, journal = [done.stderr.strip()], ["journalctl", "-b"]
    if "." in words[-1]:
        journal += ["-u", words[-1]]
        said.append(command.run([*journal, "-n", "8", "--no-pager", "-o", "cat"]).stdout.strip())
    raise BattenError("\n".join(said), " ".join(["systemctl", *words]), " ".join(journal))
