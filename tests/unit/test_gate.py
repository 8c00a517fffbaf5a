"""Verdicts on single containers, and the wait on a scripted engine."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import gate
from ansible_collections.batten.core.plugins.module_utils.observed import Observed, timestamp
from tests.unit.fake_engine import Engine
from tests.unit.recorded import CONTAINERS

STARTED = "2026-11-23T02:00:00.5Z"
NOW = timestamp(STARTED)


def container(status: str, health: str = "", streak: int = 3, **more: Any) -> Observed:
    one = copy.deepcopy(CONTAINERS[0])
    one["State"] = {"Status": status, "StartedAt": STARTED, "ExitCode": more.pop("code", 0), **more.pop("state", {})}
    if health:
        log = [{"Start": STARTED, "ExitCode": 1, "Output": "connection refused\n"}]
        one["State"]["Health"] = {"Status": health, "FailingStreak": streak, "Log": log}
    return Observed({**one, **more})


@pytest.mark.parametrize(
    ("one", "one_shot", "now", "status", "words"),
    [
        (container("running", "healthy"), False, NOW, "passed", ""),
        (container("running", "starting"), False, NOW, "waiting", "has not passed"),
        (container("running", "unhealthy"), False, NOW, "failed", "unhealthy"),
        (container("running", "unhealthy", streak=0), False, NOW, "waiting", "has not passed"),  # after a pause
        (container("running"), False, NOW + 1, "waiting", "just started"),
        (container("running"), False, NOW + 6, "passed", ""),
        (container("restarting"), False, NOW, "waiting", "restarting"),
        (container("running", "starting", RestartCount=5), False, NOW, "failed", "keeps restarting (3 times"),
        (container("running", "healthy", RestartCount=3), False, NOW, "passed", ""),
        (container("exited", code=1), False, NOW, "failed", "exit code 1"),
        (container("exited", code=137, state={"OOMKilled": True}), False, NOW, "failed", "want of memory"),
        (container("created", state={"Error": "no such device"}), False, NOW, "failed", "no such device"),
        (container("exited"), True, NOW, "passed", ""),
        (container("exited", code=3), True, NOW, "failed", "exit code 3"),
        (container("running"), True, NOW + 99, "waiting", "still running"),
        (None, False, NOW, "failed", "gone"),
    ],
)
def test_verdicts(one: Observed | None, one_shot: bool, now: float, status: str, words: str) -> None:
    verdict = gate.judge(one, one_shot, 2, now)
    assert verdict.status == status
    assert words in verdict.reason


def test_a_deadline_follows_the_health_check_and_never_passes_the_timeout() -> None:
    one = container("running", "starting")  # start period 20 s, 3 probes of 2 s and 1 s
    assert gate.deadline_seconds(one, False, 300) == 20 + 3 * 3 + gate.SLACK_SECONDS
    assert gate.deadline_seconds(one, False, 7) == 7


def test_the_wait_ends_with_health() -> None:
    engine: Any = Engine(container("running", "starting"), container("running", "healthy"))
    assert gate.wait(engine, "stk", ["db"], [], 60)["db"]["status"] == "healthy"


def test_a_failure_names_the_service_its_probes_and_its_log() -> None:
    engine: Any = Engine(container("running", "starting"), container("running", "unhealthy"))
    with pytest.raises(gate.GateFailure) as failure:
        gate.wait(engine, "stk", ["db"], [], 60)
    for words in ("service db", "unhealthy", "connection refused", "the last line"):
        assert words in str(failure.value)


@pytest.mark.parametrize(("codes", "passes"), [([0], True), ([1, 0], True), ([1, 1, 1, 0], False)])
def test_with_new_secrets_the_health_check_is_run_at_once(codes: list[int], passes: bool) -> None:
    engine: Any = Engine(container("running", "healthy"))
    engine.codes = list(codes)
    if passes:
        gate.prove(engine, "stk", ["db"], pause=0)
    else:
        with pytest.raises(gate.GateFailure, match="with its new secrets: password authentication failed"):
            gate.prove(engine, "stk", ["db"], pause=0)
    assert len(engine.ran) == min(len(codes), 3)


@pytest.mark.parametrize(
    ("test", "command"),
    [
        (("CMD", "pg_isready", "-q"), ["pg_isready", "-q"]),
        (("CMD-SHELL", "a | b"), ["/bin/sh", "-c", "a | b"]),
        (("NONE",), []),
    ],
)
def test_the_command_of_a_health_check(test: tuple[str, ...], command: list[str]) -> None:
    assert gate.probe((test, 0, 0, 0, 0, 3)) == command
    assert gate.probe(()) == []


@pytest.mark.parametrize("stays", [True, False])
def test_a_clock_that_was_set_back_fails_no_service_without_a_health_check(stays: bool) -> None:
    """It has to stay up from one look to the next: one that starts over and over does not pass."""
    ahead = [container("running", state={"StartedAt": f"2099-11-23T02:00:{second:02}Z"}) for second in range(40)]
    engine: Any = Engine(*(ahead[:1] if stays else ahead))
    ticks = iter(range(1000))
    if stays:
        assert gate.wait(engine, "stk", ["db"], [], 30, clock=lambda: next(ticks))["db"]["status"] == "healthy"
    else:
        with pytest.raises(gate.GateFailure, match="it has just started, after 3"):
            gate.wait(engine, "stk", ["db"], [], 30, clock=lambda: next(ticks))


def test_time_runs_out() -> None:
    ticks = iter(range(0, 1000, 5))
    engine: Any = Engine(container("running", "starting"))
    with pytest.raises(gate.GateFailure, match="has not passed yet, after"):
        gate.wait(engine, "stk", ["db"], [], 30, clock=lambda: next(ticks))
