"""What the task `stack` says before it interrupts a service with data."""

from __future__ import annotations

from typing import Any

from ansible_collections.batten.core.plugins.plugin_utils.deployment import costly, moves_data
from batten.plan import Capacity, StackSettings, plan_stack, stack_from_json, to_json
from batten.plan.limits import GIB

SETTINGS = StackSettings.from_variables({"stack_name": "app", "stack_build": "host"})


def planned() -> dict[str, Any]:
    made: dict[str, Any] = to_json(plan_stack(SETTINGS, Capacity(8 * GIB, 4))[0])
    return made


def test_it_looks_first_only_where_the_plan_of_data_has_changed() -> None:
    plan = planned()
    before = stack_from_json(planned())
    assert not moves_data(plan, before)
    assert not moves_data(plan, None)  # a first run interrupts nobody
    plan["services"]["api"]["image"] = "other:1"
    assert not moves_data(plan, before)
    plan["services"]["postgres"]["image"] = "postgres:18"
    assert moves_data(plan, before)


def test_every_recreation_of_data_is_told_with_what_it_took() -> None:
    pending = [
        {"service": "postgres", "action": "recreate", "why": "image", "seconds": 7.5},
        {"service": "api", "action": "recreate", "why": "image"},
        {"service": "postgres", "action": "update", "why": "memory"},
    ]
    (line,) = costly({"pending": pending}, planned())
    assert line.startswith("postgres will be made anew, which took 7.5 s last time: image (--defer-stateful")
    (unknown,) = costly({"pending": [{"service": "postgres", "action": "recreate", "why": "image"}]}, planned())
    assert unknown.startswith("postgres will be made anew: image")
    assert costly({"failed": True}, planned()) == []
