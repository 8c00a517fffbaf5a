"""What runs once and ends: the planner decides it, and the comparison, the gate and the boot read it from the plan."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.batten.core.plugins.module_utils import boot, compare, desired, gate, observed, planned
from batten.plan import Capacity, StackPlan, StackSettings, plan_stack, to_json
from batten.plan.limits import GIB
from batten.plan.model import ServicePlan
from batten.plan.service import ending
from tests.unit.fake_engine import Engine
from tests.unit.recorded import CONTAINERS, STACK, container

COMPLETED = {"once": {"condition": "service_completed_successfully"}}
BATCH = {
    "images": ["example.org/job"],
    "class": "batch",
    "memory": {"floor": "64M"},
    "confidence": "tried",
    "sources": ["-"],
}


def service(**changes: Any) -> ServicePlan:
    plan = ServicePlan("x", None, "application", "x:1", memory_bytes=1, cpus=1, pids=1)
    return replace(plan, **changes)


@pytest.mark.parametrize(
    ("given", "awaited", "ends", "restart"),
    [
        ({}, False, False, "unless-stopped"),
        ({"service_class": "batch", "restart": "no"}, False, True, "no"),
        ({"service_class": "batch", "restart": "on-failure:3"}, False, True, "on-failure:3"),
        ({"service_class": "batch", "restart": "always", "kept": ("restart",)}, False, False, "always"),
        ({"one_shot": True, "restart": "no"}, False, True, "no"),  # harden's evidence
        ({"one_shot": True, "restart": "always"}, False, False, "always"),
        ({}, True, True, "no"),  # others wait for its end
        ({"service_class": "database"}, True, True, "no"),  # a migration in the database's own image
        ({"restart": "on-failure", "kept": ("restart",)}, True, True, "on-failure"),
        ({"restart": "always", "kept": ("restart",)}, True, True, "always"),
    ],
)
def test_who_ends_and_what_starts_it_again(given: dict[str, Any], awaited: bool, ends: bool, restart: str) -> None:
    made = ending(service(**given), awaited)
    assert (made.one_shot, made.restart) == (ends, restart)


@pytest.mark.parametrize(
    ("one", "waits", "ends"),
    [
        ({"service_class": "application", "restart": "unless-stopped"}, False, False),
        ({"service_class": "application", "restart": "unless-stopped"}, True, True),
        ({"service_class": "batch", "restart": "no"}, False, True),
        ({"service_class": "batch", "restart": "always"}, False, False),
        ({"service_class": "batch", "restart": "no", "one_shot": False}, True, False),
        ({"service_class": "application", "one_shot": True}, False, True),
        ({}, False, False),
    ],
)
def test_a_plan_of_an_earlier_batten_is_understood(one: dict[str, Any], waits: bool, ends: bool) -> None:
    web = {"depends_on": {"x": "service_completed_successfully" if waits else "service_healthy"}}
    assert planned.one_shots({"services": {"x": one, "web": web}}) == ({"x"} if ends else set())


def plan_of(directory: Path, once: dict[str, Any], waits: bool) -> StackPlan:
    """Plan a stack of the recorded one's services, in which ``api`` waits for the end of ``once``, or nobody does."""
    services = {"db": {"image": "odd/db:1"}, "api": {"image": "odd/api:1"}, "once": once}
    if waits:
        services["api"]["depends_on"] = COMPLETED
    (directory / "compose.yaml").write_text(yaml.safe_dump({"services": services}))
    (directory / "profiles").mkdir(exist_ok=True)
    (directory / "profiles" / "job.yaml").write_text(yaml.safe_dump(BATCH))
    variables = {"stack_name": "stk", "stack_base": str(directory / "compose.yaml")}
    settings = StackSettings.from_variables(variables, source="host1")
    settings = replace(settings, profiles_directory=directory / "profiles")
    return plan_stack(settings, Capacity(8 * GIB, 4))[0]


@pytest.mark.parametrize(
    ("once", "waits", "ends"),
    [
        ({"image": "example.org/job:1"}, False, True),
        ({"image": "example.org/job:1"}, True, True),
        ({"image": "odd/thing:1"}, True, True),
        ({"image": "odd/thing:1", "restart": "no"}, False, False),
    ],
)
def test_the_planner_decides(tmp_path: Path, once: dict[str, Any], waits: bool, ends: bool) -> None:
    made = plan_of(tmp_path, once, waits)
    assert {name for name, one in made.services.items() if one.one_shot} == ({"once"} if ends else set())
    assert made.services["once"].restart == ("no" if ends else "unless-stopped")
    old = copy.deepcopy(to_json(made))
    for one in old["services"].values():
        del one["one_shot"]
    assert planned.one_shots(old) == planned.one_shots(to_json(made)) == ({"once"} if ends else set())


def state(status: str, code: int = 0) -> dict[str, Any]:
    return {**container("once")["State"], "Status": status, "ExitCode": code}


def once(status: str, code: int = 0) -> observed.Observed:
    return observed.Observed({**container("once"), "State": state(status, code)})


def test_a_batch_service_that_nobody_waits_for_is_done_when_it_ended_well(tmp_path: Path) -> None:
    """From the plan to the gate: no drift, so no run starts it again, and neither does a boot."""
    ends = planned.one_shots(to_json(plan_of(tmp_path, {"image": "example.org/job:1"}, waits=False)))
    model = copy.deepcopy(STACK["model"])
    del model["services"]["api"]["depends_on"]["once"]
    wanted = desired.services("stk", model, {"stk-busybox:1": STACK["image"]}, desired.Engine())

    def facets(live: dict[str, Any]) -> list[tuple[str, str]]:
        others = [one for one in CONTAINERS if one["Id"] != live["Id"]]
        there = observed.by_service([*others, live])
        return [(one.name, one.facet) for one in compare.compare("stk", wanted, there, ends)]

    for status, code, drift in (("exited", 0, []), ("running", 0, []), ("exited", 3, [("once", "state")])):
        live = {**container("once"), "State": state(status, code)}
        assert facets(live) == drift
        assert not boot.live(live, ends).down
    well: Any = Engine(once("running"), once("exited"))
    assert gate.wait(well, "stk", ["once"], ends, 60)["once"]["status"] == "completed"
    badly: Any = Engine(once("running"), once("exited", 3))
    with pytest.raises(gate.GateFailure, match="it ended with exit code 3"):
        gate.wait(badly, "stk", ["once"], ends, 60)
    ticks = iter(range(0, 1000, 5))
    never: Any = Engine(once("running"))
    with pytest.raises(gate.GateFailure, match="still running, and is planned to end, after"):
        gate.wait(never, "stk", ["once"], ends, 60, clock=lambda: next(ticks))


@pytest.mark.parametrize(
    ("status", "restart", "down"),
    [("exited", "always", False), ("dead", "unless-stopped", False), ("created", "no", True)],
)
def test_a_boot_starts_what_never_ran_and_not_what_has_ended(status: str, restart: str, down: bool) -> None:
    live = {**container("once"), "State": state(status), "HostConfig": {"RestartPolicy": {"Name": restart}}}
    assert boot.live(live, {"once"}).down is down
