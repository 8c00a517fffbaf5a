"""Networks of a stack, on what a real engine said of them (tests/unit/data)."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import actions, desired, observed
from ansible_collections.batten.core.plugins.module_utils.compare import Difference
from ansible_collections.batten.core.plugins.module_utils.compare_networks import (
    compare_guests,
    compare_networks,
    foreign,
    ours,
)
from tests.unit.recorded import CONTAINERS, STACK, container

PROJECT = "com.docker.compose.project"


def look(networks: list[Any] | None = None, containers: list[Any] | None = None) -> list[Difference]:
    found = STACK["networks"] if networks is None else networks
    return compare_networks("stk", "stk", STACK["model"], found, CONTAINERS if containers is None else containers)


def changed(**values: Any) -> list[Any]:
    networks = copy.deepcopy(STACK["networks"])
    data = next(one for one in networks if one["Name"] == "stk_data")
    data.update(values)
    return networks


def stranger(**labels: str) -> dict[str, Any]:
    other = copy.deepcopy(container("db"))
    return {**other, "Name": "/evil", "Id": "evil", "Config": {**other["Config"], "Labels": labels or None}}


def test_what_compose_made_does_not_differ() -> None:
    assert look() == []


@pytest.mark.parametrize(
    ("key", "value", "facet"),
    [
        ("Internal", False, "internal"),
        ("Driver", "macvlan", "driver"),
        ("EnableIPv6", True, "ipv6"),
        ("Labels", {}, "presence"),
        ("Id", "made anew", "presence"),
    ],
)
def test_each_change_of_a_network_is_one_difference_and_its_users_are_made_anew(
    key: str, value: Any, facet: str
) -> None:
    found = look(changed(**{key: value}))
    assert [(one.scope, one.name, one.facet, one.action) for one in found] == [
        ("network", "stk_data", facet, "recreate")
    ]
    wanted = desired.services("stk", STACK["model"], {}, desired.Engine())
    there = observed.by_service(CONTAINERS)
    assert {name: one.action for name, one in actions.decide(found, wanted, there).items()} == dict.fromkeys(
        ["api", "db", "once"], "recreate"
    )
    assert actions.interrupted(found[0], wanted, there) == ("api", "db", "once")


def test_a_network_that_is_gone_is_missed_by_its_containers_alone() -> None:
    networks = [one for one in STACK["networks"] if one["Name"] != "stk_data"]
    assert [(one.name, one.facet, one.actual) for one in look(networks)] == [("stk_data", "presence", "absent")]
    assert look(networks, []) == []


def test_a_network_of_another_project_is_left_to_a_person() -> None:
    found = look(changed(Labels={PROJECT: "theirs"}))
    assert [(one.facet, one.action) for one in found if one.facet == "presence"] == [("presence", "none")]
    assert "rename" in str(found[0].reason)
    assert actions.decide(found, {}, {}) == {}


@pytest.mark.parametrize("labels", [{}, {PROJECT: "theirs", "com.docker.compose.service": "x"}, {PROJECT: "stk"}])
def test_a_container_that_is_not_ours_is_taken_off_and_nobody_is_interrupted(labels: dict[str, str]) -> None:
    containers = [*CONTAINERS, stranger(**labels)]
    found = look(containers=containers)
    assert [(one.name, one.facet, one.actual, one.action) for one in found] == [
        ("stk_data", "members", ["evil"], "update")
    ]
    wanted = desired.services("stk", STACK["model"], {}, desired.Engine())
    assert actions.decide(found, wanted, observed.by_service(CONTAINERS)) == {}
    assert [one["Id"] for one in foreign(STACK["networks"][0], "stk", containers)] == ["evil"]


def test_a_stranger_on_a_network_that_is_not_ours_is_not_our_business() -> None:
    other = stranger()
    other["NetworkSettings"] = {"Networks": {"bridge": {"NetworkID": "x"}}}
    assert look(containers=[*CONTAINERS, other]) == []


def test_also_a_network_without_labels_is_ours_by_its_name() -> None:
    networks = [*changed(Labels={}), {"Name": "bridge", "Labels": {}}]
    assert {one["Name"] for one in ours(STACK["model"], "stk", networks)} == {"stk_data", "stk_edge"}


def test_a_subnet_is_compared_only_with_those_of_its_family() -> None:
    """The plan names the IPv6 subnet of a network and leaves the IPv4 one to the engine."""
    model = {"networks": {"edge": {"name": "app_edge", "ipam": {"config": [{"subnet": "fd00::/64"}]}}}}
    labels = {"Labels": {PROJECT: "app"}, "Id": "1"}
    live = {"Name": "app_edge", "Driver": "bridge", "IPAM": {"Config": [{"Subnet": "172.30.0.0/24"}]}, **labels}
    mixed = {**live, "IPAM": {"Config": [{"Subnet": "fd00::/64"}, {"Subnet": "172.30.0.0/24"}]}}
    assert compare_networks("app", "app", model, [mixed], []) == []
    found = compare_networks("app", "app", model, [live], [])
    assert [(one.facet, one.desired, one.actual) for one in found] == [("subnets", ["fd00::/64"], [])]


def test_an_option_that_the_model_names_and_its_number() -> None:
    option = "com.docker.network.driver.mtu"
    model = {"networks": {"edge": {"name": "app_edge", "driver_opts": {option: 1400}}}}
    live = {"Name": "app_edge", "Driver": "bridge", "Labels": {PROJECT: "app"}, "Id": "1"}
    assert compare_networks("app", "app", model, [{**live, "Options": {option: "1400", "other": "x"}}], []) == []
    found = compare_networks("app", "app", model, [{**live, "Options": {option: "1500"}}], [])
    assert [one.facet for one in found] == ["options"]


@pytest.mark.parametrize("key", ["NetworkMode", "PidMode", "IpcMode"])
def test_who_shares_the_namespaces_of_a_service_is_told_and_left_to_a_person(key: str) -> None:
    assert compare_guests("stk", "stk", CONTAINERS) == []
    db = container("db")
    guest = stranger()
    guest["HostConfig"] = {**guest["HostConfig"], key: f"container:{db['Id']}"}
    found = compare_guests("stk", "stk", [*CONTAINERS, guest])
    assert [(one.name, one.facet, one.actual, one.action) for one in found] == [("db", "members", ["evil"], "none")]
    assert "docker stop evil" in str(found[0].reason)
    assert actions.decide(found, {}, {}) == {}


def test_a_service_of_another_stack_of_ours_is_that_stack_s_to_judge() -> None:
    """It may join our network as an external one of its own."""
    other = stranger(**{PROJECT: "other", "com.docker.compose.service": "proxy"})
    found = compare_networks("stk", "stk", STACK["model"], STACK["networks"], [*CONTAINERS, other], {"other"})
    assert found == []
    forged = stranger(**{PROJECT: "other"})
    found = compare_networks("stk", "stk", STACK["model"], STACK["networks"], [*CONTAINERS, forged], {"other"})
    assert [one.facet for one in found] == ["members"]


def test_what_compose_run_left_on_a_network_of_before_is_no_reason_to_make_it_anew() -> None:
    left = stranger(**{PROJECT: "stk", "com.docker.compose.service": "db", "com.docker.compose.oneoff": "True"})
    ends = copy.deepcopy(left["NetworkSettings"])
    ends["Networks"]["stk_data"]["NetworkID"] = "of before"
    assert look(containers=[*CONTAINERS, {**left, "NetworkSettings": ends}]) == []


def test_a_subnet_in_another_spelling_is_the_same() -> None:
    model = {"networks": {"edge": {"name": "app_edge", "ipam": {"config": [{"subnet": "FD00:0::/64"}]}}}}
    labels = {"Labels": {PROJECT: "app"}, "Id": "1"}
    live = {"Name": "app_edge", "Driver": "bridge", "IPAM": {"Config": [{"Subnet": "fd00::/64"}]}, **labels}
    assert compare_networks("app", "app", model, [live], []) == []


def test_what_compose_run_started_lets_go_of_a_network_that_is_made_anew_and_is_else_left_alone() -> None:
    """The engine removes no network that something is on, and by then its services are gone."""
    once = stranger(**{PROJECT: "stk", "com.docker.compose.service": "db", "com.docker.compose.oneoff": "True"})
    assert look(containers=[*CONTAINERS, once]) == []
    data = next(one for one in STACK["networks"] if one["Name"] == "stk_data")
    assert [one["Id"] for one in foreign(data, "stk", [*CONTAINERS, once])] == ["evil"]
