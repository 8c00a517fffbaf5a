"""What `batten drift` prints and ends with: a summary first, a line a host, details after."""

from __future__ import annotations

from typing import Any

import pytest

from batten.cli.drift import result_of
from batten.report.drift import drift_text, exit_code

ROW = {
    "stack": "shop",
    "scope": "service",
    "name": "api",
    "facet": "memory",
    "desired": 268435456,
    "actual": 536870912,
    "action": "update",
}


def host(**more: Any) -> dict[str, Any]:
    whole: dict[str, Any] = {"drift": [], "ignored": [], "deferred": [], "errors": [], "notes": [], "seconds": 0.4}
    return {**whole, "stacks": {"shop": {"release": "0123456789ab"}}, **more}


GONE = {"error": {"what": "no route to host", "fix": "switch it on"}}
BUSY = host(errors=[{"where": "stack shop", "what": "another run holds this stack (pid 7 since noon)", "fix": "wait"}])


@pytest.mark.parametrize(
    ("hosts", "code"),
    [
        ({"a": host()}, 0),
        ({"a": host(), "b": host(drift=[ROW])}, 2),
        ({"a": host(drift=[ROW]), "b": GONE}, 1),
        ({"a": host(drift=[ROW]), "b": BUSY}, 1),
        ({"a": host(ignored=[ROW])}, 0),
        ({}, 1),
    ],
)
def test_the_exit_code_says_the_worst(hosts: dict[str, Any], code: int) -> None:
    assert exit_code(hosts) == code


def test_the_summary_comes_first_then_a_line_a_host_then_details() -> None:
    text = drift_text({"b": GONE, "a": host(drift=[ROW, {**ROW, "name": "db"}]), "c": host(), "d": BUSY})
    lines = text.splitlines()
    assert lines[0] == "4 hosts: 1 drifted, 1 without drift, 1 not looked at in full, 1 gave no answer"
    assert [line.split()[0] for line in lines[1:5]] == ["a", "b", "c", "d"]
    assert "2 differences (shop 0123456789ab; 0.4 s)" in lines[1]
    assert "ERROR no route to host" in lines[2]
    assert lines[3].endswith("no drift (shop 0123456789ab; 0.4 s)")
    assert "pid 7" in lines[4]
    details = text.split("\n\n")[1:]
    assert [part.splitlines()[0] for part in details] == ["a", "b", "d"]
    assert "shop/api" in details[0]
    assert "fix: switch it on" in details[1]


def test_what_a_repair_costs_and_why_it_is_not_done_are_said() -> None:
    recreated = {**ROW, "facet": "user", "action": "recreate", "seconds": 4.5, "restarts": ["api", "proxy"]}
    told = {**ROW, "scope": "host", "stack": None, "name": "sshd", "action": "none", "reason": "not ours"}
    kept = {**ROW, "reason": "load test", "until": "2027-01-31"}
    text = drift_text({"a": host(drift=[recreated, told], ignored=[kept], notes=["a rule ended"])})
    assert "recreate, 4.5 s, interrupts proxy" in text
    assert "host sshd" in text
    assert "(not ours)" in text
    assert "ignored: shop/api memory (load test, until 2027-01-31)" in text
    assert "note: a rule ended" in text


def test_a_long_value_does_not_break_the_table() -> None:
    text = drift_text({"a": host(drift=[{**ROW, "actual": ["x" * 500]}])})
    assert max(map(len, text.splitlines())) < 200


def test_a_task_that_gave_no_report_is_an_error_with_its_fix() -> None:
    assert result_of({"msg": "it is off\n  fix: switch it on"}) == {
        "error": {"what": "it is off", "fix": "switch it on"}
    }
    assert "-m ping" in result_of({"unreachable": True, "msg": "no"})["error"]["fix"]
    assert set(result_of({**host(), "at": "now", "changed": False, "invocation": {}})) == {*host(), "at"}
