"""Memory is shared out the same way every time, within the budget, and never less on a larger host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from batten.errors import BattenError
from batten.plan import limits
from batten.plan.limits import GIB, MIB, Request


@st.composite
def services(draw: st.DrawFn) -> dict[str, Request]:
    names = draw(st.lists(st.text("abcdefgh-", min_size=1, max_size=6), min_size=1, max_size=15, unique=True))
    made = {}
    for name in names:
        floor = draw(st.integers(1, 512)) * MIB
        cap = draw(st.none() | st.integers(floor, 8 * GIB))
        made[name] = Request(floor, draw(st.floats(0.01, 20)), cap)
    return made


budgets = st.integers(64 * MIB, 64 * GIB)


def fits(requests: dict[str, Request], available: int) -> bool:
    return sum(request.floor for request in requests.values()) <= available


@given(services(), budgets)
def test_the_sum_never_exceeds_the_budget_and_floors_and_caps_hold(
    requests: dict[str, Request], available: int
) -> None:
    assume(fits(requests, available))
    granted = limits.allocate(requests, available)
    assert sum(granted.values()) <= available
    for name, request in requests.items():
        assert granted[name] >= request.floor
        assert request.cap is None or granted[name] <= request.cap


@given(services(), budgets, st.integers(0, 8 * GIB))
def test_no_service_shrinks_when_the_budget_grows(requests: dict[str, Request], available: int, more: int) -> None:
    assume(fits(requests, available))
    small, large = limits.allocate(requests, available), limits.allocate(requests, available + more)
    assert all(large[name] >= small[name] for name in requests)


@given(services(), budgets, st.randoms())
def test_the_order_of_names_does_not_matter(requests: dict[str, Request], available: int, random: object) -> None:
    assume(fits(requests, available))
    names = list(requests)
    random.shuffle(names)  # type: ignore[attr-defined]
    assert limits.allocate({name: requests[name] for name in names}, available) == limits.allocate(requests, available)


@given(services(), budgets)
def test_results_are_steps_of_16_mib_or_the_floor(requests: dict[str, Request], available: int) -> None:
    assume(fits(requests, available))
    for name, size in limits.allocate(requests, available).items():
        assert size % (16 * MIB) == 0 or size == requests[name].floor


@given(st.integers(512 * MIB, 256 * GIB), st.floats(-0.02, 0.02))
def test_two_percent_of_what_the_kernel_reports_changes_nothing(previous: int, change: float) -> None:
    now = int(previous * (1 + change))
    assume(abs(now - previous) <= 0.02 * previous)
    assert limits.settle(now, previous) == previous


def test_more_than_two_percent_counts() -> None:
    assert limits.settle(1030, 1000) == 1030
    assert limits.settle(970, 1000) == 970
    assert limits.settle(970, None) == 970


@given(st.integers(256 * MIB, 256 * GIB), st.integers(0, 64 * GIB))
def test_the_budget_grows_with_the_host(memory: int, more: int) -> None:
    def budget(size: int) -> int:
        return limits.budget(size, limits.reserve(limits.rounded(size)))

    assert 0 < budget(memory) <= budget(memory + more)


@pytest.mark.parametrize(("gib", "reserved"), [(1, 0.2), (2, 0.4), (4, 0.6), (6, 0.75), (8, 0.9), (16, 1.5), (32, 2.7)])
def test_the_reserve_by_host_size(gib: float, reserved: float) -> None:
    assert limits.reserve(round(gib * GIB)) == pytest.approx(reserved * GIB, abs=1)


def test_weights_share_what_floors_leave() -> None:
    granted = limits.allocate({"db": Request(64 * MIB, 3), "app": Request(64 * MIB, 1)}, 800 * MIB)
    assert granted == {"db": 592 * MIB, "app": 192 * MIB}


def test_a_cap_passes_the_rest_on() -> None:
    granted = limits.allocate({"a": Request(16 * MIB, 5, 128 * MIB), "b": Request(16 * MIB)}, 640 * MIB)
    assert granted == {"a": 128 * MIB, "b": 512 * MIB}


def test_floors_that_do_not_fit_are_refused_with_a_table() -> None:
    with pytest.raises(BattenError) as caught:
        limits.allocate({"db": Request(384 * MIB), "cache": Request(640 * MIB)}, 512 * MIB, "app on host1")
    text = str(caught.value)
    for part in ("cache", "640 MiB", "384 MiB", "1024 MiB", "512 MiB", "missing", "app on host1", "stack_profiles"):
        assert part in text


@pytest.mark.parametrize(
    ("host", "weight", "cap", "cpus"),
    [(4, 4, None, 4), (4, 1, None, 1), (4, 4, 1, 1), (1, 0.1, None, 0.25), (0.2, 4, None, 0.2), (8, 8, None, 8)],
)
def test_cpus(host: float, weight: float, cap: float | None, cpus: float) -> None:
    assert limits.cpus(host, weight, cap) == cpus


@given(st.integers(-999, 1000), st.integers(-999, 1000), st.sampled_from([-1000, -500, -1, 0, 200]))
def test_oom_scores_are_allowed_and_keep_their_order(one: int, two: int, lowest: int) -> None:
    first, second = limits.oom_score_adj(one, lowest), limits.oom_score_adj(two, lowest)
    assert lowest <= first <= 1000
    assert (first <= second) or one > two


def test_without_negative_scores_the_database_still_goes_last() -> None:
    assert limits.oom_score_adj(-500, 0) < limits.oom_score_adj(0, 0) < limits.oom_score_adj(600, 0)
    assert limits.oom_score_adj(-500, -1000) == -500


# Against the previous plan


@st.composite
def planned(draw: st.DrawFn, short: bool = False) -> tuple[dict[str, Request], int, dict[str, int]]:
    """Services, a budget that holds their floors, and the limits of an earlier plan for some of them.

    ``short`` makes it a budget that does not hold both those limits and the newcomers' floors, where one can be.
    """
    requests = draw(services())
    for name in requests:
        requests[name] = replace(
            requests[name], overcommit=draw(st.sampled_from([1.0, 1.0, 1.5, 3])), stateful=draw(st.booleans())
        )
    least = sum(limits.cost(request, request.floor) for request in requests.values())
    before = draw(st.integers(least, least + 16 * GIB))
    known = draw(st.sets(st.sampled_from(sorted(requests))))
    previous = limits.allocate({name: requests[name] for name in known}, before)
    most = least + 20 * GIB
    if short:
        most = max(least, spent(requests, {**{name: one.floor for name, one in requests.items()}, **previous}) - 1)
    return requests, draw(st.integers(least, most)), previous


def spent(requests: dict[str, Request], granted: dict[str, int]) -> int:
    return sum(limits.cost(requests[name], size) for name, size in granted.items())


@settings(max_examples=40)
@given(planned(), st.booleans())
def test_changes_keep_the_budget_floors_and_caps(case: tuple[Any, int, Any], grown: bool) -> None:
    requests, available, previous = case
    granted = limits.reallocate(requests, available, previous, grown=grown)
    assert spent(requests, granted) <= available
    for name, request in requests.items():
        assert granted[name] >= request.floor
        assert request.cap is None or granted[name] <= request.cap


@settings(max_examples=40)
@given(planned())
def test_planning_again_changes_nothing(case: tuple[Any, int, Any]) -> None:
    requests, available, previous = case
    once = limits.reallocate(requests, available, previous)
    assert limits.reallocate(requests, available, once) == once


@settings(max_examples=40)
@given(planned())
def test_who_has_a_limit_keeps_it_while_all_floors_fit_beside(case: tuple[Any, int, Any]) -> None:
    requests, available, previous = case
    granted = limits.reallocate(requests, available, previous)
    newcomers = {name: request.floor for name, request in requests.items() if name not in previous}
    if spent(requests, {**previous, **newcomers}) <= available:
        assert {name: granted[name] for name in previous} == previous


@settings(max_examples=40)
@given(planned(short=True))
def test_what_is_taken_is_no_more_than_is_missing_and_stateful_services_give_last(case: tuple[Any, int, Any]) -> None:
    requests, available, previous = case
    granted = limits.reallocate(requests, available, previous)
    newcomers = {name: request.floor for name, request in requests.items() if name not in previous}
    missing = spent(requests, {**previous, **newcomers}) - available
    assume(missing > 0)
    lost = {name: size - granted[name] for name, size in previous.items() if size != granted[name]}
    assert all(size > 0 for size in lost.values())
    assert {name: granted[name] for name in newcomers} == newcomers
    if any(requests[name].stateful for name in lost):
        assert all(granted[name] == requests[name].floor for name in previous if not requests[name].stateful)
    # Without the one that gave least it would not have been enough, to the rounding of the steps.
    assert spent(requests, granted) + max(lost.values()) > available - 16 * MIB


@settings(max_examples=40)
@given(planned(), st.integers(0, 8 * GIB))
def test_a_grown_host_gives_more_and_takes_nothing(case: tuple[Any, int, Any], more: int) -> None:
    requests, available, previous = case
    before = limits.reallocate(requests, available, previous)
    after = limits.reallocate(requests, available + more, before, grown=True)
    larger = limits.reallocate(requests, available + more + GIB, before, grown=True)
    assert all(after[name] >= before[name] for name in requests)
    assert all(larger[name] >= after[name] for name in requests)


@settings(max_examples=40)
@given(planned(), st.data())
def test_who_leaves_disturbs_nobody(case: tuple[Any, int, Any], data: st.DataObject) -> None:
    requests, available, previous = case
    before = limits.reallocate(requests, available, previous)
    gone = data.draw(st.sampled_from(sorted(requests)))
    rest = {name: request for name, request in requests.items() if name != gone}
    assert limits.reallocate(rest, available, before) == {name: before[name] for name in rest}


@settings(max_examples=40)
@given(planned(), st.randoms(), st.booleans())
def test_the_order_of_names_does_not_matter_then_either(case: tuple[Any, int, Any], random: Any, grown: bool) -> None:
    requests, available, previous = case
    names = list(requests)
    random.shuffle(names)
    shuffled = {name: requests[name] for name in names}
    assert limits.reallocate(shuffled, available, previous, grown=grown) == limits.reallocate(
        requests, available, previous, grown=grown
    )


def test_a_whole_stack_that_is_new_beside_another_gets_what_a_first_plan_gives() -> None:
    old = {"a": Request(GIB, 1, GIB), "b": Request(96 * MIB, 1, 96 * MIB)}
    new = {"db": Request(384 * MIB, 4), "api": Request(128 * MIB, 2, 2 * GIB), "proxy": Request(64 * MIB, 0.6)}
    together = limits.allocate({**old, **new}, 7 * GIB)
    assert limits.reallocate({**old, **new}, 7 * GIB, {name: together[name] for name in old}) == together


def test_a_newcomer_on_a_full_host_takes_its_floor_from_one_service() -> None:
    requests = {"db": Request(384 * MIB, 4, stateful=True), "api": Request(128 * MIB, 2), "web": Request(64 * MIB, 1)}
    before = limits.allocate(requests, 4 * GIB)
    after = limits.reallocate({**requests, "new": Request(48 * MIB, 1)}, 4 * GIB, before)
    assert after["new"] >= 48 * MIB
    assert {name for name in before if after[name] != before[name]} <= {"api"}


def test_overcommitted_memory_counts_for_less() -> None:
    requests = {"db": Request(GIB, 1, GIB), "loki": Request(256 * MIB, 1, overcommit=2)}
    assert limits.allocate(requests, 2 * GIB) == {"db": GIB, "loki": 2 * GIB}
