"""Sizes, durations and addresses as Compose writes them and as the engine reports them."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

EVERY_ADDRESS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - compared with, not bound to
_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_PART = re.compile(r"([0-9.]+)(h|ms|us|µs|ns|m|s)")


def size(value: Any) -> int:
    """Return bytes for ``67108864``, ``"64m"``, ``"1.5G"`` or ``"64mb"``; None is 0.

    Compose's byte units are powers of two (https://docs.docker.com/reference/compose-file/extension/#specifying-byte-values).
    """
    if value is None:
        return 0
    if isinstance(value, (int, float)):
        return int(value)
    match = re.fullmatch(r"\s*(-?[0-9.]+)\s*([bkmgt]?)i?b?\s*", str(value).lower())
    if match is None:
        raise ValueError(f"not a size: {value!r}")
    return int(float(match.group(1)) * _UNITS[match.group(2)])


def address(value: Any) -> str:
    """Return an IP address or a network in its canonical form: an engine need not write back what it was given, such as
    ``FD00:0::1``. What is neither stays as it is."""
    text = str(value or "")
    try:
        return str(ipaddress.ip_network(text, strict=False) if "/" in text else ipaddress.ip_address(text))
    except ValueError:
        return text


def seconds(value: Any) -> float:
    """Return seconds for Go's ``"1m30s"``, ``"500ms"`` or a bare number of seconds; None is 0."""
    if value is None:
        return 0.0
    if isinstance(value, (int, float)):
        return float(value)
    parts = _PART.findall(value)
    if "".join(number + unit for number, unit in parts) != value:
        if re.fullmatch(r"[0-9.]+", value):
            return float(value)
        raise ValueError(f"not a duration: {value!r}")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def nanoseconds(value: Any) -> int:
    """Return a duration as the engine keeps it: whole nanoseconds."""
    return round(seconds(value) * 1e9)
