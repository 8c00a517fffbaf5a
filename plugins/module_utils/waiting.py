"""What need not happen now: settings that only a new container takes, limits that cannot fall live, what was put off.

Pure. The planner says what a running container may keep (``accepted``, ``accepted_limits`` of a service's plan); here
it is held against what runs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from .actions import users
from .compare import PRESENCE, Difference
from .desired import Desired
from .facet import RECREATE
from .observed import Observed
from .quantities import size

LIMITS = ("memory", "memory_swap", "memory_reservation")
LIVE_BELOW = 0.8  # of the new limit: above it the kernel would have to reclaim or kill at once; our own margin
_MIB = 2**20


@dataclass(frozen=True)
class Wait:
    """Something that waits for the next time a service is made anew. ``seconds`` is what that took last time."""

    service: str
    action: str
    why: str
    seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def falls(desired: Desired, observed: Observed) -> bool:
    """Return whether a running container's memory limit would be lowered."""
    wanted, live = size(desired.limit("memory", "mem_limit")), int(observed.host.get("Memory") or 0)
    return bool(observed.pid and wanted and (live == 0 or wanted < live))


def may_fall_live(desired: Desired, peak: int | None) -> bool:
    """Return whether a limit may be lowered under a container that has used ``peak`` bytes; None is not known."""
    return peak is not None and peak < LIVE_BELOW * size(desired.limit("memory", "mem_limit"))


def hold(
    desired: Mapping[str, Desired],
    observed: Mapping[str, Sequence[Observed]],
    planned: Mapping[str, Mapping[str, Any]],
    peaks: Mapping[str, int | None],
    seconds: Mapping[str, float],
) -> tuple[dict[str, Desired], list[Wait]]:
    """Return what to compare with, and what waits.

    A container that runs with accepted tunables is compared with those. A database whose limit would fall, and cannot
    live or not with its tunables, is compared with the limit that it has. ``peaks`` are bytes, None where not known;
    ``seconds`` is how long each service took when it was made last.
    """
    held, waits = dict(desired), []
    for name, wanted in desired.items():
        containers = observed.get(name)
        if containers and name in planned:
            held[name], reasons = _hold(wanted, containers[0], planned[name], peaks.get(name))
            if reasons:
                waits.append(Wait(name, RECREATE, ", ".join(reasons), seconds.get(name)))
    return held, waits


def _hold(wanted: Desired, live: Observed, plan: Mapping[str, Any], peak: int | None) -> tuple[Desired, list[str]]:
    held, reasons = wanted, []
    tuning = _running_with(plan.get("accepted") or (), wanted, live)
    if tuning is not None:
        held = _with_tuning(held, tuning)
        reasons.append(_changes(plan.get("tunables") or {}, tuning["tunables"]))
    large = tuning is not None and tuning["memory_bytes"] > plan["memory_bytes"]
    now = int(live.host.get("Memory") or 0)
    keeps = now in (plan.get("accepted_limits") or ()) and falls(wanted, live)
    if keeps and (large or not may_fall_live(wanted, peak)):
        held = _with_limits(held, live)
        limit = size(wanted.limit("memory", "mem_limit"))
        reasons.append(f"memory {limit // _MIB} MiB (now {now // _MIB} MiB)")
    return held, reasons


def put_off(
    differences: Iterable[Difference],
    desired: Mapping[str, Desired],
    observed: Mapping[str, Sequence[Observed]],
    peaks: Mapping[str, int | None],
    services: Collection[str],
    seconds: Mapping[str, float],
) -> tuple[list[Difference], list[Wait]]:
    """Return the differences to act on now, and what waits.

    A limit that cannot fall live needs a new container. Differences that would make one of ``services`` anew are put
    off, a network's too if one of them is on it.
    """
    kept: list[Difference] = []
    why: dict[str, list[str]] = {}
    for difference in differences:
        one = _as_far_as_live(difference, desired, peaks)
        late = sorted(set(services) & _users(one, desired, observed))
        if one.action == RECREATE and one.facet != PRESENCE and late:
            for name in late:
                facet = f"network {one.name}: {one.facet}" if one.scope == "network" else one.facet
                why.setdefault(name, []).append(facet)
        else:
            kept.append(one)
    return kept, [Wait(name, RECREATE, ", ".join(facets), seconds.get(name)) for name, facets in sorted(why.items())]


def _as_far_as_live(
    difference: Difference, desired: Mapping[str, Desired], peaks: Mapping[str, int | None]
) -> Difference:
    name = difference.name
    if difference.scope != "service" or difference.facet not in LIMITS or name not in peaks:
        return difference
    return difference if may_fall_live(desired[name], peaks[name]) else replace(difference, action=RECREATE)


def _users(
    difference: Difference, desired: Mapping[str, Desired], observed: Mapping[str, Sequence[Observed]]
) -> set[str]:
    if difference.scope != "network":
        return {difference.name}
    return set(users(difference.name, desired, observed))


def _running_with(accepted: Iterable[Mapping[str, Any]], desired: Desired, live: Observed) -> Mapping[str, Any] | None:
    """Return the accepted tuning that a container was made with; None if it has the planned one, or any other."""
    if _has(desired.environment, desired.command, live):
        return None
    for tuning in accepted:
        environment = {name: value for name, value in tuning["environment"].items() if name in desired.environment}
        command = desired.command if tuning["command"] is None else list(tuning["command"])
        if _has({**desired.environment, **environment}, command, live):
            return tuning
    return None


def _has(environment: Mapping[str, str], command: Sequence[str], live: Observed) -> bool:
    there = live.environment
    return list(live.config.get("Cmd") or []) == list(command) and all(
        there.get(name) == value for name, value in environment.items()
    )


def _with_tuning(desired: Desired, tuning: Mapping[str, Any]) -> Desired:
    environment = {**desired.environment, **tuning["environment"]}
    command = {} if tuning["command"] is None else {"command": list(tuning["command"])}
    return replace(desired, service={**desired.service, "environment": environment, **command})


def _with_limits(desired: Desired, live: Observed) -> Desired:
    """The limits that the container has, in the spelling that the layers use."""
    limits = {
        "mem_limit": int(live.host.get("Memory") or 0),
        "memswap_limit": int(live.host.get("MemorySwap") or 0),
        "mem_reservation": int(live.host.get("MemoryReservation") or 0),
    }
    return replace(desired, service={**desired.service, **limits})


def _changes(wanted: Mapping[str, str], now: Mapping[str, str]) -> str:
    return ", ".join(
        f"{name}={value} (now {now.get(name, 'unset')})"
        for name, value in sorted(wanted.items())
        if now.get(name) != value
    )
