"""What a stack's secrets are doing, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from . import atomic, exposition
from .paths import StackPaths
from .sync import Result


def text(stack: str, found: Result, waiting: Mapping[str, int], at: float) -> str:
    """Return the metrics of one look at Infisical; ``waiting`` are login roles with sessions, ``at`` is Unix time."""
    refused: dict[str, Any] = {f'stack="{stack}",name="{name}"': 1 for name in sorted(found.refused)}
    sessions: dict[str, Any] = {f'stack="{stack}",role="{role}"': count for role, count in sorted(waiting.items())}
    families = (
        ("batten_secrets_checked_timestamp_seconds", "When the secrets were last looked at.", {f'stack="{stack}"': at}),
        (
            "batten_secrets_stale",
            "Whether Infisical gave no answer then.",
            {f'stack="{stack}"': int(bool(found.stale))},
        ),
        ("batten_secret_refused", "Values of Infisical that did not work and are not used.", refused),
        ("batten_rotation_waiting_sessions", "Sessions of login roles that a rotation retires.", sessions),
    )
    return exposition.text(families)


def write(paths: StackPaths, found: Result, waiting: Mapping[str, int]) -> None:
    """Write the metrics of a stack, for everyone to read."""
    for place in (paths.metrics.parent.parent, paths.metrics.parent):  # whatever the umask of the timer's unit
        atomic.make_directory(place, 0o755)
    atomic.write(paths.metrics, text(paths.stack, found, waiting, round(time.time())).encode(), 0o644)
