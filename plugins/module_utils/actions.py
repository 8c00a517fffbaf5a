"""Differences in, actions out: the least that brings each service to its plan, and why. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from .compare import HEALTH, PRESENCE, STATE, Difference
from .desired import Desired
from .observed import Observed

_ILL = (PRESENCE, STATE, HEALTH)
# From least to most; a service gets the strongest that any of its differences needs.
_STRENGTH = ("none", "reload", "update", "start", "restart", "recreate", "create", "remove")


@dataclass(frozen=True)
class Action:
    """One of reload, update, start, restart, recreate, create and remove, for one service."""

    service: str
    action: str
    why: str


def decide(
    differences: Iterable[Difference], desired: Mapping[str, Desired], observed: Mapping[str, Sequence[Observed]]
) -> dict[str, Action]:
    """Return at most one action a service.

    A container that only stands still is started. A service that shares another's namespace is recreated with it, and
    one whose ``depends_on`` says ``restart: true`` is restarted with it: Compose does both by itself on ``up``, but is
    called with ``--no-deps`` here. A service that is unhealthy while something it needs is down or unhealthy is left
    alone: its check tells of the other, and one sick database must not restart all its users.
    """
    found: dict[str, Action] = {}
    differences = list(differences)
    blameless = recovering(differences, desired)
    for difference in differences:
        if (difference.facet == HEALTH and difference.name in blameless) or difference.action == "none":
            continue
        if difference.scope == "network":
            if difference.action == "recreate":
                for name in users(difference.name, desired, observed):
                    _add(found, Action(name, "recreate", f"network {difference.name}: {difference.facet}"))
        elif difference.name in desired and difference.facet == PRESENCE and difference.actual != "absent":
            continue  # spare containers of a wanted service; removed before anything else
        else:
            _add(found, Action(difference.name, _verb(difference, observed), difference.facet))
    replaced = {name for name, action in found.items() if action.action in ("recreate", "create")}
    for follower in followers(replaced, desired, observed):
        if follower.action == "recreate" or follower.service not in found:
            _add(found, follower)
    return found


def users(network: str, desired: Mapping[str, Desired], observed: Mapping[str, Sequence[Observed]]) -> list[str]:
    """Return the services that are on a network, or should be."""
    return [
        name
        for name, containers in observed.items()
        if name in desired and network in {*desired[name].networks, *(containers[0].networks if containers else ())}
    ]


def followers(
    replaced: Collection[str], desired: Mapping[str, Desired], observed: Mapping[str, Sequence[Observed]]
) -> list[Action]:
    """Return what other services need because ``replaced`` ones get new containers."""
    found = []
    for name, service in desired.items():
        if name not in observed:
            continue
        for mode in ("network_mode", "pid", "ipc"):
            kind, _, other = str(service.service.get(mode) or "").partition(":")
            if kind == "service" and other in replaced:
                found.append(Action(name, "recreate", f"shares the {mode} of {other}"))
        for other, condition in service.dependencies.items():
            if condition.get("restart") and other in replaced:
                found.append(Action(name, "restart", f"{other} was replaced"))
    return found


def interrupted(
    difference: Difference, desired: Mapping[str, Desired], observed: Mapping[str, Sequence[Observed]]
) -> tuple[str, ...]:
    """Return the services that the repair of one difference interrupts."""
    if difference.action not in ("restart", "recreate"):
        return ()
    struck = users(difference.name, desired, observed) if difference.scope == "network" else [difference.name]
    struck = [name for name in struck if observed.get(name)]
    more = followers(struck, desired, observed) if difference.action == "recreate" else []
    return tuple(sorted({*struck, *(one.service for one in more)}))


def recovering(differences: Iterable[Difference], desired: Mapping[str, Desired]) -> set[str]:
    """Return the unhealthy services that need, if only through others, one that is down or unhealthy itself."""
    ill = {one.name: one.facet for one in differences if one.scope == "service" and one.facet in _ILL}
    return {name for name, facet in ill.items() if facet == HEALTH and _needs(name, desired) & (set(ill) - {name})}


def _needs(name: str, desired: Mapping[str, Desired]) -> set[str]:
    """Return everything that a service needs, directly or through others."""
    found: set[str] = set()
    left = [name]
    while left:
        one = desired.get(left.pop())
        more = set(one.dependencies) - found if one else set()
        left += more
        found |= more
    return found


def _verb(difference: Difference, observed: Mapping[str, Sequence[Observed]]) -> str:
    if difference.facet == PRESENCE:
        return "remove" if difference.desired == "absent" else "create"
    if difference.action == "restart" and difference.facet == "state":
        # A dead container cannot be started again (moby: "container is marked for removal").
        return "recreate" if observed[difference.name][0].state == "dead" else "start"
    return difference.action


def _add(found: dict[str, Action], new: Action) -> None:
    old = found.get(new.service)
    if old is None:
        found[new.service] = new
        return
    strongest = max(old.action, new.action, key=_STRENGTH.index)
    why = old.why if new.why in old.why.split(", ") else f"{old.why}, {new.why}"
    found[new.service] = Action(new.service, strongest, why)
