"""Volumes: what differs is told with the way by hand, and nothing acts on it."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import actions, compare_volumes, observed
from tests.unit.recorded import CONTAINERS, STACK

THERE = observed.by_service(CONTAINERS)
LIVE = {
    "Name": "stk_data",
    "Driver": "local",
    "Mountpoint": "/var/lib/docker/volumes/stk_data/_data",
    "Options": None,
    "Labels": {"com.docker.compose.project": "stk", "batten.rig": "true"},
}


def look(volumes: list[Any], there: Any = THERE, is_directory: bool = True, **wanted: Any) -> list[Any]:
    model = {"volumes": {"data": {**STACK["model"]["volumes"]["data"], **wanted}}}
    return compare_volumes.compare_volumes("stk", "stk", model, volumes, there, lambda _: is_directory)


def test_what_compose_made_does_not_differ() -> None:
    assert look([LIVE]) == []


@pytest.mark.parametrize(
    ("change", "facet"),
    [
        ({"Driver": "nfs"}, "driver"),
        ({"Options": {"device": "/elsewhere", "o": "bind", "type": "none"}}, "options"),
        ({"Labels": {"com.docker.compose.project": "stk"}}, "labels"),
    ],
)
def test_each_change_is_told_with_the_way_by_hand_and_nothing_is_done(change: dict[str, Any], facet: str) -> None:
    found = look([{**LIVE, **change}])
    assert [(one.scope, one.name, one.facet, one.action) for one in found] == [("volume", "stk_data", facet, "none")]
    assert "docker volume rm stk_data" in found[0].reason
    assert "docker rm stk-db-1" in found[0].reason
    assert actions.decide(found, {}, THERE) == {}


def test_labels_of_a_volume_that_was_there_before_are_its_own() -> None:
    assert look([{**LIVE, "Labels": {}}]) == []


def test_a_volume_or_its_directory_that_is_gone_is_missed_by_who_uses_it() -> None:
    assert [(one.facet, one.actual) for one in look([])] == [("presence", "absent")]
    gone = look([LIVE], is_directory=False)
    assert [one.actual for one in gone] == ["its directory /var/lib/docker/volumes/stk_data/_data is gone"]
    assert "batten restore" in gone[0].reason
    assert look([], there={}) == []
