"""What a plan says of its services, also one that an earlier batten recorded on this host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_COMPLETED = "service_completed_successfully"
_COMES_BACK = ("always", "unless-stopped")


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
        return name in awaited or (one.get("service_class") == "batch" and one.get("restart") not in _COMES_BACK)

    return frozenset(name for name, one in services.items() if ends(name, one))
