"""What a plan says of its services, also one that an earlier batten recorded on this host."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

_T = TypeVar("_T")
_COMPLETED = "service_completed_successfully"
COMES_BACK = ("always", "unless-stopped")
"""Restart policies by which the engine starts also what ended well."""


def one_shots(plan: Mapping[str, Any]) -> frozenset[str]:
    """Return the services that run once and end, as the planner decided.

    An earlier batten wrote no ``one_shot``: there it follows from the class, and from who waits for whose end.
    """
    services = plan["services"]
    awaited = {
        other
        for one in services.values()
        for other, condition in (one.get("depends_on") or {}).items()
        if condition == _COMPLETED
    }

    def ends(name: str, one: Mapping[str, Any]) -> bool:
        if "one_shot" in one:
            return bool(one["one_shot"])
        return name in awaited or (one.get("service_class") == "batch" and one.get("restart") not in COMES_BACK)

    return frozenset(name for name, one in services.items() if ends(name, one))


def in_order(plan: Mapping[str, Any], things: Iterable[_T], service: Callable[[_T], str]) -> list[list[_T]]:
    """Return things of services in groups of the plan's start order; those of services not named there come last.

    ``service`` says whose a thing is.
    """
    order = plan["start_order"]
    rank = {name: place for place, group in enumerate(order) for name in group}
    groups: list[list[_T]] = [[] for _ in range(len(order) + 1)]
    for thing in sorted(things, key=service):
        groups[rank.get(service(thing), len(order))].append(thing)
    return [group for group in groups if group]
