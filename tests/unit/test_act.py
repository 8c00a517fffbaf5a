"""What is done to containers and networks, against an engine that only writes down what it was asked."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import (
    act,
    compare,
    compare_networks,
    desired,
    observed,
    survey,
)
from ansible_collections.batten.core.plugins.module_utils.actions import Action, decide
from ansible_collections.batten.core.plugins.module_utils.docker_api import DockerError
from tests.unit.recorded import CONTAINERS, STACK, changed, container


class Engine:
    """Takes every request; ``refuses`` those of one kind."""

    def __init__(self, refuses: str = "") -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.refuses = refuses

    def __getattr__(self, name: str) -> Any:
        def take(*arguments: Any) -> Any:
            if name == self.refuses:
                raise DockerError(500, "device or resource busy")
            self.asked.append((name, *arguments))
            return []

        return take


class Compose:
    def __init__(self) -> None:
        self.made: list[str] = []

    def up(self, services: list[str]) -> None:
        self.made += services


def repaired(
    service: str,
    change: Mapping[str, Any],
    engine: Engine | None = None,
    networks: list[Any] | None = None,
    more: list[Any] | None = None,
) -> tuple[list[tuple[Any, ...]], list[str], list[tuple[str, str]]]:
    """Change the recorded container of a service, act, and return what the engine and Compose were asked."""
    engine, compose = engine or Engine(), Compose()
    containers = changed(service, change)
    model, networks = STACK["model"], STACK["networks"] if networks is None else networks
    wanted = desired.services("stk", model, {"stk-busybox:1": STACK["image"]}, desired.Engine(cpus=2))
    there = observed.by_service(containers)
    everyone = [*containers, *(more or [])]
    found = compare.compare("stk", wanted, there, {"once"})
    found += compare_networks.compare_networks("stk", "stk", model, networks, everyone)
    mine = compare_networks.ours(model, "stk", networks)
    seen: Any = SimpleNamespace(
        model=model,
        desired=wanted,
        observed=there,
        networks=mine,
        differences=found,
        actions=decide(found, wanted, there),
        ends={"once"},
        strangers={each["Name"]: [c["Id"] for c in compare_networks.foreign(each, "stk", everyone)] for each in mine},
    )
    paths: Any = SimpleNamespace(loaded=Path("/nowhere"), filling=Path("/nowhere"), root="/nowhere")
    actor = act.Actor(engine, paths, {"project": "stk", "plan": {}}, seen, compose, {}, 1, print)  # type: ignore[arg-type]
    actor._clear()
    actor._settle(list(seen.actions.values()))
    done = [(each["service"], each["action"]) for each in actor.done]
    return [each for each in engine.asked if each[0] not in ("list", "inspect_all", "volumes")], compose.made, done


def test_memory_and_swap_go_back_in_one_request_so_that_neither_is_above_the_other() -> None:
    asked, made, done = repaired("db", {"HostConfig/Memory": 2**27, "HostConfig/MemorySwap": 2**28})
    assert [request[0] for request in asked] == ["update"]
    assert (asked[0][2]["Memory"], asked[0][2]["MemorySwap"]) == (67108864, 67108864)
    assert (made, done) == ([], [("db", "update")])


def test_a_set_of_processors_is_taken_back_live_and_a_limit_that_none_is_planned_for_is_not() -> None:
    asked, made, _ = repaired("db", {"HostConfig/CpusetCpus": "0"})
    assert asked[0][2]["CpusetCpus"] == "0-1"
    assert made == []
    asked, made, _ = repaired("db", {"HostConfig/CpuShares": 77})
    assert ([one for one in asked if one[0] == "update"], made) == ([], ["db"])


def test_other_updates_leave_alone_what_they_are_not_about() -> None:
    body = repaired("db", {"HostConfig/PidsLimit": 51})[0][0][2]
    assert body["PidsLimit"] == 50
    assert not {"CpusetCpus", "CpuQuota", "CpuPeriod"} & set(body)


def test_what_the_engine_refuses_live_is_made_anew() -> None:
    _, made, done = repaired("db", {"HostConfig/Memory": 2**27, "HostConfig/MemorySwap": 2**27}, Engine("update"))
    assert made == ["db"]
    assert ("db", "recreate") in done


def test_a_network_too_many_is_left_live() -> None:
    end = {"Aliases": [], "NetworkID": "x"}
    ours = container("db")["NetworkSettings"]["Networks"]
    asked, made, done = repaired("db", {"NetworkSettings/Networks": {**ours, "extra": end}})
    assert [request[:2] for request in asked] == [("disconnect", "extra")]
    assert (made, done) == ([], [("db", "update")])


@pytest.mark.parametrize("internal", [True, False])
def test_a_stranger_leaves_our_network_and_only_one_that_differs_is_made_anew(internal: bool) -> None:
    networks = copy.deepcopy(STACK["networks"])
    data = next(one for one in networks if one["Name"] == "stk_data")
    data["Internal"] = internal
    evil = copy.deepcopy(container("db"))
    evil.update(Id="evil", Name="/evil")
    evil["Config"]["Labels"] = {}
    asked, made, _ = repaired("db", {}, networks=networks, more=[evil])
    assert asked[0] == ("disconnect", data["Id"], "evil")
    assert ("remove", "evil") not in asked
    assert [request for request in asked if request[0] == "remove_network"] == (
        [] if internal else [("remove_network", data["Id"])]
    )
    assert sorted(made) == ([] if internal else ["api", "db", "once"])


def test_a_paused_container_goes_on_and_a_stopped_one_starts() -> None:
    assert [one[0] for one in repaired("db", {"State/Status": "paused"})[0]] == ["unpause"]
    assert [one[0] for one in repaired("db", {"State/Status": "exited"})[0]] == ["start"]


@pytest.mark.parametrize("more", [False, True])
def test_a_service_reloads_what_it_has_not_loaded_also_where_a_limit_differs(tmp_path: Path, more: bool) -> None:
    payload: Any = {"stack": "stk", "project": "stk", "plan": {"services": {"db": {"reload": ["SIGNAL", "SIGHUP"]}}}}
    wanted = desired.services("stk", STACK["model"], {"stk-busybox:1": STACK["image"]}, desired.Engine(cpus=2))
    there = observed.by_service(CONTAINERS)
    paths: Any = SimpleNamespace(loaded=tmp_path / "loaded.json")
    found = survey._unloaded("stk", paths, payload, there, {"db": "new"})
    if more:
        found += [compare.Difference("stk", "service", "db", "memory", 1, 2, "update")]
    seen: Any = SimpleNamespace(desired=wanted, observed=there, ends=set(), actions=decide(found, wanted, there))
    engine = Engine()
    actor = act.Actor(engine, paths, payload, seen, Compose(), {}, 1, print)  # type: ignore[arg-type]
    actor._settle(list(seen.actions.values()))
    assert [one[0] for one in engine.asked if one[0] in ("update", "kill")] == ["update", "kill"][not more :]
    assert ("kill", there["db"][0].id, "SIGHUP") in engine.asked


def test_processes_are_known_by_the_numbers_that_they_have_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """The container was restarted since the look, and a guest in its namespace too: neither number of then is used."""
    ended: list[tuple[int, list[int]]] = []
    monkeypatch.setattr(act.processes, "end", lambda one, firsts, _execs: ended.append((one.pid, list(firsts))))
    recorded = container("db")
    now = [{**recorded, "State": {**recorded["State"], "Pid": 4711}}, {"Id": "guest", "State": {"Pid": 4712}}]

    class Restarted(Engine):
        def inspect_all(self, identifiers: Any) -> list[Any]:
            return now

    at_work = [False]
    monkeypatch.setattr(act.survey, "at_work", lambda _: at_work[0])
    actor: Any = act.Actor(Restarted(), None, {}, None, None, {}, 1, print)  # type: ignore[arg-type]
    actor._live(SimpleNamespace(service={}), observed.Observed(recorded), {"processes"})
    assert ended == [(4711, [4711, 4712])]
    at_work[0] = True  # a backup that began since is not ended
    actor._live(SimpleNamespace(service={}), observed.Observed(recorded), {"processes"})
    at_work[0] = False
    now.clear()
    actor._live(SimpleNamespace(service={}), observed.Observed(recorded), {"processes", "oom_score_adj_live"})
    assert len(ended) == 1


def test_services_are_made_in_the_plans_order_and_those_that_it_does_not_name_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wanted = desired.services("stk", STACK["model"], {}, desired.Engine(cpus=2))
    actions = {name: Action(name, "create", "presence") for name in wanted}
    seen: Any = SimpleNamespace(desired=wanted, observed={}, differences=[], networks=[], strangers={}, actions=actions)
    plan = {"start_order": [["gone"], ["db"], ["once"]]}
    compose, waited = Compose(), []
    monkeypatch.setattr(act.Actor, "wait", lambda _, names: waited.append(sorted(names)))
    monkeypatch.setattr(act.Actor, "_record", lambda _: None)
    payload: Any = {"stack": "stk", "project": "stk", "plan": plan}
    healthy: list[int] = []
    once = {"db": lambda: healthy.append(len(compose.made))}
    actor = act.Actor(Engine(), SimpleNamespace(root="/"), payload, seen, compose, {}, 1, print, once)  # type: ignore[arg-type]
    actor.run()
    assert compose.made == ["db", "once", "api"]
    assert healthy == [1]  # before who comes after it is made
    assert waited == [[], ["db"], ["db"], ["db", "once"]]
