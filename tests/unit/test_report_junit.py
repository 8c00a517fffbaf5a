"""JUnit XML out of verify reports."""

from __future__ import annotations

import dataclasses
from xml.etree import ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st

from batten.report.junit import junit
from batten.verify.model import Control, Report, Status

NOWHERE = {"host": "web9", "what": "cannot be reached", "fix": "ansible web9 -m ping"}


def control(status: Status, **changes: str | None) -> Control:
    made = Control("limits.memory", "The limit", "web1", "shop", "api", status, f"why {status}", "5.11")
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def suites(report: Report) -> dict[str, ET.Element]:
    root = ET.fromstring(junit(report, inventory="my inventory"))
    return {suite.attrib["name"]: suite for suite in root}


def test_one_case_a_control_with_its_reason() -> None:
    statuses: tuple[Status, ...] = ("pass", "fail", "waived", "not_applicable")
    (suite,) = suites(Report(tuple(map(control, statuses)), at="2026-11-23T09:30:00Z")).values()
    counted = {name: suite.attrib[name] for name in ("tests", "failures", "errors", "skipped", "timestamp")}
    assert counted == {
        "tests": "4",
        "failures": "1",
        "errors": "0",
        "skipped": "2",
        "timestamp": "2026-11-23T09:30:00",
    }
    told = [[(child.tag, child.attrib["message"]) for child in case] for case in suite]
    assert told == [[], [("failure", "why fail")], [("skipped", "why waived")], [("skipped", "why not_applicable")]]
    assert {case.attrib["classname"] for case in suite} == {"web1.shop.api"}
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert "batten up -i 'my inventory'" in (failure.text or "")
    assert "CIS Docker Benchmark 1.6, 5.11" in (failure.text or "")


def test_a_host_that_was_not_judged_is_an_error_of_its_own_suite() -> None:
    found = suites(Report((control("pass"),), (NOWHERE,)))
    assert [(name, suite.attrib["errors"]) for name, suite in found.items()] == [("web1", "0"), ("web9", "1")]
    error = found["web9"].find("testcase/error")
    assert error is not None
    assert (error.attrib["message"], error.text) == ("cannot be reached", "ansible web9 -m ping")


def test_no_control_at_all_is_a_document() -> None:
    assert ET.fromstring(junit(Report(()))).attrib["tests"] == "0"


@settings(deadline=None)
@given(st.text(st.characters()), st.text(st.characters(), min_size=1))
def test_any_text_of_a_host_stays_text(evidence: str, service: str) -> None:
    made = junit(Report((control("fail", evidence=evidence, service=service),)))
    (case,) = ET.fromstring(made.encode("utf-8", "strict")).iter("testcase")
    assert [child.tag for child in case] == ["failure"]
