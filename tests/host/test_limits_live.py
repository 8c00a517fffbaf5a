"""Limits follow the host while services run; what only a new container takes waits for one. One host, one story."""

from __future__ import annotations

from typing import Any

import pytest

from tests.host.shop import Run, Shop

DB: dict[str, Any] = {"limits": {"memory": {"floor": "384M", "weight": 4}}}
SMALL: dict[str, Any] = {"stack_services": {"db": DB}, "stack_capacity": {"memory": "4G", "cpus": 2}}
LARGE: dict[str, Any] = {**SMALL, "stack_capacity": {"memory": "6G", "cpus": 2}}


@pytest.fixture(scope="module", autouse=True)
def deployed(shop: Shop) -> None:
    shop.up(**SMALL)


def buffers(shop: Shop) -> str:
    return shop.sql("show shared_buffers")


def limit(shop: Shop) -> int:
    return int(shop.host.run("docker inspect -f '{{.HostConfig.Memory}}' shop-db-1").stdout)


def waits(run: Run) -> dict[str, str]:
    return {one["service"]: one["why"] for one in run.result["deferred"]}


def test_a_larger_host_raises_a_limit_live_and_restart_only_tunables_wait(shop: Shop) -> None:
    before, tuned, memory = shop.containers(), buffers(shop), limit(shop)
    predicted = shop.run("--check", **LARGE)
    assert [(one["service"], one["action"]) for one in predicted.result["pending"]] == [("db", "update")]
    run = shop.up(**LARGE)
    assert run.done == [("db", "update")]
    assert "shared_buffers=" in waits(run)["db"]
    assert run.result["deferred"][0]["seconds"] > 0
    assert shop.touched_since(before) == set()
    assert (buffers(shop), limit(shop) > memory) == (tuned, True)
    again = shop.up(**LARGE)
    assert not again.changed
    assert waits(again) == waits(run)


def test_asked_for_it_the_tunables_are_applied(shop: Shop) -> None:
    tuned, before = buffers(shop), shop.containers()
    run = shop.up(**LARGE, stack_apply_tunables=True)
    assert run.done == [("db", "recreate")]
    assert run.result["deferred"] == []
    assert shop.touched_since(before) == {"db"}
    assert buffers(shop) != tuned
    assert not shop.up(**LARGE).changed


def test_a_database_keeps_its_limit_when_the_host_shrinks_until_somebody_asks(shop: Shop) -> None:
    before, memory = shop.containers(), limit(shop)
    run = shop.up(**SMALL)
    assert run.done == []
    assert "memory " in waits(run)["db"]
    assert (shop.touched_since(before), limit(shop)) == (set(), memory)
    assert not shop.up(**SMALL).changed
    assert shop.up(**SMALL, stack_apply_tunables=True).done == [("db", "recreate")]
    assert limit(shop) < memory
    assert shop.up(**SMALL).result["deferred"] == []


def test_services_with_data_are_left_for_later_and_nobody_forgets_it(shop: Shop) -> None:
    before = shop.containers()
    other = {**SMALL, "stack_services": {"db": {**DB, "stop_grace": "50s"}, "proxy": {"stop_grace": "11s"}}}
    run = shop.up(**other, stack_defer_stateful=True)
    assert run.done == [("proxy", "recreate")]
    assert waits(run) == {"db": "stop_grace"}
    assert shop.touched_since(before) == {"proxy"}
    predicted = shop.run("--check", **other)
    assert [one["service"] for one in predicted.result["pending"]] == ["db"]
    assert predicted.result["pending"][0]["seconds"] > 0
    run = shop.up(**other)
    assert run.done == [("db", "recreate")]
    assert "db will be made anew, which took" in " ".join(run.output.split())
    assert not shop.up(**other).changed


def test_a_check_whose_program_the_image_has_not_is_refused_before_anything_stops(shop: Shop) -> None:
    before = shop.containers()
    wrong = {"healthcheck": {"test": ["CMD", "curl-of-another-image", "x"]}}
    run = shop.refused(**{**SMALL, "stack_services": {"db": DB, "api": wrong}})
    assert "its health check runs curl-of-another-image" in run.message
    assert shop.touched_since(before) == set()
    assert shop.host.run("docker ps -aq --filter name=batten-look").stdout == ""
