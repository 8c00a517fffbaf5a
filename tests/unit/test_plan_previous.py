"""A plan against the one that a host runs: who keeps what, which tunables move, and what waits for a recreation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batten.plan import Capacity, Finding, HostPlan, StackPlan, StackSettings, plan_host, stack_from_json, to_json
from batten.plan.limits import GIB, MIB
from batten.plan.model import Plan
from batten.report import plan_text
from tests.unit.conftest import CERTIFICATE

HOST = Capacity(8 * GIB, 4, default_addresses=("203.0.113.5",))


def app(profiles: tuple[str, ...] = (), **variables: Any) -> StackSettings:
    given = {"stack_name": "app", "stack_build": "host", "stack_profiles": list(profiles), **variables}
    return StackSettings.from_variables(given, source="host1")


def planned(
    memory: int, previous: StackPlan | None = None, one: StackSettings | None = None
) -> tuple[StackPlan, tuple[Finding, ...], HostPlan]:
    host, findings = plan_host(
        [one or app()], replace(HOST, memory_bytes=memory), {"app": previous} if previous else None
    )
    return host.stacks["app"], findings, host


def sizes(plan: StackPlan) -> dict[str, int]:
    return {name: one.memory_bytes for name, one in plan.services.items()}


def test_an_unchanged_host_changes_nothing_not_even_the_plan() -> None:
    first, _, _ = planned(8 * GIB)
    assert planned(8 * GIB, first)[0] == first
    assert planned(8 * GIB, stack_from_json(to_json(first)))[0] == first


@settings(deadline=None, max_examples=8)
@given(st.integers(3 * GIB, 32 * GIB), st.integers(0, 16 * GIB))
def test_a_larger_host_takes_from_nobody_and_then_is_stable(memory: int, more: int) -> None:
    first, _, _ = planned(memory)
    second, _, _ = planned(memory + more, first)
    assert all(second.services[name].memory_bytes >= size for name, size in sizes(first).items())
    assert planned(memory + more, second)[0] == second


def test_a_compose_profile_that_is_switched_on_moves_few_limits_and_off_none() -> None:
    first, _, _ = planned(8 * GIB)
    more, findings, host = planned(8 * GIB, first, app(("observability",)))
    assert more.services["postgres"].memory_bytes == first.services["postgres"].memory_bytes
    changed = {name for name, size in sizes(first).items() if more.services[name].memory_bytes != size}
    assert changed <= {"api", "caddy"}
    assert host.allocated_bytes <= host.memory_bytes - host.reserved_bytes
    assert any("sharing out anew would give more" in one.what for one in findings)
    assert sizes(planned(8 * GIB, more)[0]) == {name: sizes(more)[name] for name in first.services}


def test_asked_for_it_memory_is_shared_out_anew() -> None:
    first, _, _ = planned(8 * GIB)
    anew, findings, _ = planned(8 * GIB, first, app(("observability",), stack_rebalance=True))
    assert sizes(anew) == sizes(planned(8 * GIB, None, app(("observability",)))[0])
    assert not any("sharing out anew" in one.what for one in findings)


def test_an_override_that_is_taken_back_releases_its_service() -> None:
    first, _, _ = planned(8 * GIB)
    fixed, _, _ = planned(8 * GIB, first, app(stack_services={"postgres": {"limits": {"memory": "1G"}}}))
    assert fixed.services["postgres"].memory_bytes == GIB
    assert sizes(planned(8 * GIB, fixed)[0]) == sizes(first)


def test_tunables_stay_while_the_limit_moves_little() -> None:
    first, _, _ = planned(8 * GIB)
    second, _, _ = planned(round(8 * GIB * 1.1), first)
    before, after = first.services["postgres"], second.services["postgres"]
    assert before.memory_bytes < after.memory_bytes <= 1.2 * before.memory_bytes
    assert (after.tunables, after.command, after.accepted) == (before.tunables, before.command, ())
    assert after.tuned_bytes == before.memory_bytes


def test_after_a_large_raise_the_old_tunables_are_accepted_until_asked() -> None:
    first, _, _ = planned(8 * GIB)
    second, _, _ = planned(16 * GIB, first)
    before, after = first.services["postgres"], second.services["postgres"]
    assert after.tunables["shared_buffers"] != before.tunables["shared_buffers"]
    assert [one.command for one in after.accepted] == [before.command]
    third, _, _ = planned(32 * GIB, second)
    assert [one.memory_bytes for one in third.services["postgres"].accepted] == [
        before.memory_bytes,
        after.memory_bytes,
    ]
    asked, _, _ = planned(16 * GIB, second, app(stack_apply_tunables=True))
    assert asked.services["postgres"].accepted == ()
    assert planned(16 * GIB, asked)[0].services["postgres"].accepted == ()
    assert "waits" in plan_text(Plan({"host1": planned(16 * GIB, first)[2]}))


def test_a_pool_fits_the_server_that_still_runs_with_fewer_connections() -> None:
    small, _, _ = planned(round(2.2 * GIB))
    large, _, _ = planned(16 * GIB, small)
    few = int(small.services["postgres"].tunables["max_connections"])
    assert few < int(large.services["postgres"].tunables["max_connections"])
    assert int(large.services["pgbouncer"].tunables["default_pool_size"]) + 23 <= max(few, 28)


def test_a_smaller_host_moves_tunables_of_applications_and_lets_databases_wait() -> None:
    first, _, _ = planned(16 * GIB, None, app(("auth",)))
    second, _, _ = planned(6 * GIB, first, app(("auth",)))
    database, application = second.services["postgres"], second.services["stack-auth"]
    assert database.memory_bytes < first.services["postgres"].memory_bytes
    assert database.accepted_limits == (first.services["postgres"].memory_bytes,)
    assert [one.memory_bytes for one in database.accepted] == [first.services["postgres"].memory_bytes]
    assert application.memory_bytes < 0.8 * first.services["stack-auth"].memory_bytes
    assert (application.accepted, application.accepted_limits) == ((), ())


def test_a_go_heap_never_stays_above_its_lower_limit() -> None:
    one = app(("observability",))
    first, _, _ = planned(16 * GIB, None, one)
    for share in (0.98, 0.95, 0.9, 0.85, 0.75):
        second, _, _ = planned(round(16 * GIB * share), first, one)
        for service in second.services.values():
            if "GOMEMLIMIT" in service.tunables:
                assert int(service.tunables["GOMEMLIMIT"].removesuffix("MiB")) * MIB <= 0.95 * service.memory_bytes


@pytest.mark.parametrize(("adj_min", "value"), [(-1000, "0"), (0, "500")])
def test_backends_go_before_the_postmaster_on_every_engine(adj_min: int, value: str) -> None:
    host, _ = plan_host([app()], replace(HOST, oom_score_adj_min=adj_min))
    server = host.stacks["app"].services["postgres"]
    assert server.environment["PG_OOM_ADJUST_VALUE"] == value
    assert int(value) > server.oom_score_adj


def test_who_dies_first_when_the_host_runs_out() -> None:
    for lowest in (-1000, 0):
        host, _ = plan_host([app(("auth", "observability"))], replace(HOST, oom_score_adj_min=lowest))
        scores: dict[str, list[int]] = {}
        for name, one in host.stacks["app"].services.items():
            if name != "stack-auth-cron":  # a loop that calls, and misses nothing: gone first on purpose
                scores.setdefault(one.service_class, []).append(one.oom_score_adj)
        assert max(scores["database"]) <= min(scores["proxy"])
        assert max(scores["proxy"]) < min(scores["application"])
        assert max(scores["application"]) < min(scores["observability"])


def test_databases_have_the_processors_and_the_larger_share() -> None:
    host, _ = plan_host([app(("auth", "observability"))], HOST)
    for one in host.stacks["app"].services.values():
        if one.service_class == "database":
            assert (one.cpus, one.cpu_shares) == (4, 4096)
        else:
            assert one.cpu_shares is not None
            assert one.cpu_shares < 4096


def test_overcommit_is_what_the_inventory_says_and_is_shown() -> None:
    one = app(("observability",), stack_overcommit={"observability": 2})
    host, findings = plan_host([one], replace(HOST, memory_bytes=4 * GIB))
    assert host.overcommitted_bytes > 0
    assert host.allocated_bytes - host.overcommitted_bytes <= host.memory_bytes - host.reserved_bytes
    assert [one.severity for one in findings if "promises memory of observability 2 times" in one.what] == ["note"]
    assert "overcommitted" in plan_text(Plan({"host1": host}))
    assert plan_host([app(("observability",))], replace(HOST, memory_bytes=4 * GIB))[0].overcommitted_bytes == 0
    _, findings = plan_host([app(stack_overcommit={"database": 1.5})], HOST)
    assert [one.severity for one in findings if "stack_overcommit" in one.what] == ["warning"]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"postgres": {"limits": {"memory": "64M"}}}, "its profile needs 384 MiB"),
        ({"postgres": {"oom_score_adj": 0}}, "lets the kernel kill a database"),
        ({"postgres": {"limits": {"cpus": 0.1}}}, "throttles a database"),
        ({"api": {"limits": {"cpus": 64}}}, "the host has 4"),
        ({"api": {"limits": {"nofile": 1_000_000}}}, "this host can grant 20000"),
        ({"api": {"limits": {"pids": 4_000_000}}}, "this host can grant 32768"),
        ({"postgres": {"health": "deep"}}, "no deep health check is known"),
    ],
)
def test_an_unsafe_override_is_a_finding_with_its_reason(override: dict[str, Any], words: str) -> None:
    one = app(stack_services=override)
    _, findings = plan_host([one], replace(HOST, nofile_hard=20000, pids_max=32768))
    assert [words in finding.what for finding in findings if finding.where == f"app/{next(iter(override))}"].count(True)


def observed(disk: int | None, previous: StackPlan | None = None, **more: Any) -> tuple[StackPlan, dict[str, str]]:
    """Plan with monitoring on a disk; return the plan and what is found of retention, by place."""
    known = {"app": previous} if previous else None
    host, findings = plan_host([app(("observability",), **more)], replace(HOST, disk_bytes=disk), known)
    about = ("disk of the stack", "days only")
    return host.stacks["app"], {one.where: one.what for one in findings if any(word in one.what for word in about)}


@pytest.mark.parametrize(
    ("disk", "size", "period"),
    [(None, "8GB", "720h"), (2 * GIB, "512MB", "48h"), (25 * GIB, "3GB", "576h"), (400 * GIB, "60GB", "720h")],
)
def test_what_is_kept_follows_from_the_disk(disk: int | None, size: str, period: str) -> None:
    plan, found = observed(disk)
    prometheus, loki = plan.services["prometheus"], plan.services["loki"]
    assert prometheus.tunables == {"storage.tsdb.retention.size": size}
    assert prometheus.command is not None
    assert prometheus.command.count(f"--storage.tsdb.retention.size={size}") == 1
    assert loki.command == ("-config.file=/etc/loki/loki.yaml", f"-store.retention={period}")
    assert list(found) == (["app/loki"] if period == "48h" else [])


def test_a_disk_that_changes_a_little_moves_nothing_and_a_larger_one_waits() -> None:
    first, _ = observed(100 * GIB)
    assert observed(115 * GIB, first)[0].services == observed(None, first)[0].services == first.services
    grown, _ = observed(200 * GIB, first)
    assert grown.services["prometheus"].tunables == {"storage.tsdb.retention.size": "30GB"}
    assert [one.tunables for one in grown.services["prometheus"].accepted] == [first.services["prometheus"].tunables]
    assert observed(200 * GIB, grown)[0].services == grown.services
    shrunk, _ = observed(50 * GIB, first)
    assert shrunk.services["prometheus"].tunables == {"storage.tsdb.retention.size": "7GB"}
    assert shrunk.services["prometheus"].accepted == ()  # the disk would be full before anybody asks


def test_a_size_that_a_person_chose_stays_and_is_held_against_the_disk() -> None:
    flag = "--storage.tsdb.retention.size=8GB"
    plan, found = observed(16 * GIB, stack_services={"prometheus": {"command_add": [flag]}})
    prometheus = plan.services["prometheus"]
    assert prometheus.command is not None
    assert [word for word in prometheus.command if "retention.size" in word] == [flag]
    assert found == {"app/prometheus": "it keeps up to 8 GiB, on the 16 GiB disk of the stack's data"}


@pytest.mark.parametrize(("granted", "size"), [(None, 10), (22, 10), (47, 27), (97, 40)])
def test_a_pool_fits_the_plan_of_a_managed_server(granted: int | None, size: int) -> None:
    managed = app(
        stack_target="digitalocean",
        digitalocean_managed_postgres=True,
        digitalocean_postgres_host="private-db.example",
        digitalocean_postgres_ca=str(CERTIFICATE),
        stack_public_addresses=["203.0.113.5"],
    )
    host, findings = plan_host([replace(managed, postgres_connections=granted)], HOST)
    assert host.stacks["app"].services["pgbouncer"].tunables["default_pool_size"] == str(size)
    told = [one.what for one in findings if "may open 75 connections together (app 40, exporter 5" in one.what]
    assert [what.rpartition(" ")[2] for what in told] == ([str(granted)] if granted and granted < 75 else [])
