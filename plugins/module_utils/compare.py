"""Desired and observed in, differences out. Nothing here reads or changes a host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .desired import Desired
from .facets import FACETS
from .observed import Observed

# A facet of what a container is doing, as opposed to what it was made of.
PRESENCE, STATE, HEALTH = "presence", "state", "health"
# Whether a service that takes changed secrets by a reload has taken those that are delivered.
LOADED = "loaded"


@dataclass(frozen=True)
class Difference:
    """One facet whose live value is not as planned; :meth:`to_json` is what ``batten drift --json`` prints.

    ``seconds`` is what the action took last time, ``restarts`` the services that it interrupts; ``reason`` says why it
    is told and not repaired, ``until`` the last day of that.
    """

    stack: str | None
    scope: str
    name: str
    facet: str
    desired: Any
    actual: Any
    action: str
    seconds: float | None = None
    restarts: tuple[str, ...] = ()
    reason: str | None = None
    until: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the row; what is only there at times is left out when it is not."""
        row = asdict(self)
        extra = {key: row.pop(key) for key in ("seconds", "restarts", "reason", "until")}
        row.update({key: list(value) if key == "restarts" else value for key, value in extra.items() if value})
        return row


def shown_as(name: str, before: str, after: str) -> dict[str, str]:
    """Return one part of a module's ``diff`` (ansible/plugins/callback, ``_get_diff``)."""
    return {"before_header": name, "after_header": name, "before": before, "after": after}


def compare(
    stack: str,
    desired: Mapping[str, Desired],
    observed: Mapping[str, Sequence[Observed]],
    one_shots: Iterable[str] = (),
) -> list[Difference]:
    """Return every difference, by service and then in the order of the facet table."""
    ends = set(one_shots)
    found: list[Difference] = []
    for name in sorted({*desired, *observed}):
        containers = observed.get(name) or []
        if name not in desired:
            found.append(Difference(stack, "service", name, PRESENCE, "absent", "present", "remove"))
        elif not containers:
            found.append(Difference(stack, "service", name, PRESENCE, "present", "absent", "recreate"))
        else:
            found += compare_service(stack, desired[name], containers[0], name in ends)
            if len(containers) > 1:
                found.append(
                    Difference(
                        stack, "service", name, PRESENCE, "1 container", f"{len(containers)} containers", "remove"
                    )
                )
    return found


def compare_service(stack: str, desired: Desired, observed: Observed, one_shot: bool = False) -> list[Difference]:
    """Return the differences between one service and its container."""
    found = []
    for facet in FACETS:
        wanted, actual = facet.read(desired, observed)
        if wanted != actual:
            action = facet.action(wanted, actual)
            found.append(Difference(stack, "service", desired.name, facet.name, wanted, actual, action))
    return [*found, *_doing(stack, desired.name, observed, one_shot)]


def _doing(stack: str, name: str, observed: Observed, one_shot: bool) -> list[Difference]:
    state = observed.state
    if one_shot and (state == "running" or (state == "exited" and observed.exit_code == 0)):
        return []
    if state not in ("running", "restarting"):
        actual = f"{state} ({observed.exit_code})" if state == "exited" else state
        return [Difference(stack, "service", name, STATE, "running", actual, "restart")]
    if observed.health == "unhealthy":
        return [Difference(stack, "service", name, HEALTH, "healthy", "unhealthy", "restart")]
    return []
