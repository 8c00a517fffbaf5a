"""The audit file: one JSON object a line for each thing that a run did to a host. Never holds a secret value."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .lock import now


def of(row: Mapping[str, Any], result: str) -> dict[str, Any]:
    """Return the line of a difference (``row``, compare.Difference as JSON): what it was, what it is now, what was done
    for it, and with which ``result``, which is another where it was only told."""
    return {
        "stack": row["stack"],
        "scope": row["scope"],
        "service": row["name"],
        "facet": row["facet"],
        "before": row["actual"],
        "after": row["desired"],
        "action": row["action"],
        "result": "told" if row["action"] == "none" else result,
    }


def append(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Append ``records``, each with the time and who ran, in one durable write."""
    who = os.environ.get("SUDO_USER") or os.environ.get("USER") or str(os.getuid())
    lines = [json.dumps({"time": now(), "who": who, **record}, sort_keys=True) + "\n" for record in records]
    if not lines:
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    try:
        os.write(handle, "".join(lines).encode())
        os.fsync(handle)
    finally:
        os.close(handle)
