"""Rules of drift: who decides, what is told, what ends."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import policy
from ansible_collections.batten.core.plugins.module_utils.compare import Difference

TODAY = date(2026, 11, 23)
MEMORY = Difference("shop", "service", "api", "memory", 2, 1, "update")


def rule(facet: str, service: str, what: str, until: Any = "2027-01-31") -> dict[str, Any]:
    return {"facet": facet, "service": service, "policy": what, "reason": "load test", "until": until}


@pytest.mark.parametrize(
    ("rules", "where"),
    [
        ([], "repair"),
        ([rule("memory", "api", "ignore")], "ignored"),
        ([rule("memory", "*", "report")], "report"),
        ([rule("memory", "db", "ignore")], "repair"),
        ([rule("cpus", "api", "ignore")], "repair"),
        ([rule("memory", "api", "ignore", "2026-11-22")], "repair"),
        ([rule("memory", "api", "ignore", "2026-11-23")], "ignored"),
        ([rule("memory", "api", "ignore", date(2026, 11, 22))], "repair"),
        ([rule("*", "*", "ignore"), rule("*", "api", "report")], "report"),
        ([rule("*", "api", "report"), rule("*", "*", "ignore")], "report"),
        ([rule("memory", "*", "ignore"), rule("*", "api", "report")], "ignored"),
        ([rule("*", "*", "ignore"), rule("memory", "api", "repair", None)], "repair"),
        ([rule("memory", "api", "ignore"), rule("memory", "api", "report")], "report"),
    ],
)
def test_the_rule_that_names_more_decides(rules: list[dict[str, Any]], where: str) -> None:
    found = policy.divide([MEMORY], rules, TODAY)
    assert {name: len(getattr(found, name)) for name in ("repair", "report", "ignored")} == {
        name: int(name == where) for name in ("repair", "report", "ignored")
    }


def test_what_is_not_repaired_says_why_and_until_when() -> None:
    row = policy.divide([MEMORY], [rule("memory", "api", "ignore")], TODAY).ignored[0].to_json()
    assert (row["reason"], row["until"]) == ("load test", "2027-01-31")
    assert set(MEMORY.to_json()) == {"stack", "scope", "name", "facet", "desired", "actual", "action"}


def test_a_rule_that_ended_is_told() -> None:
    rules = [rule("memory", "api", "ignore", "2026-11-22"), rule("cpus", "api", "report")]
    assert policy.expired(rules, TODAY) == [
        (
            "drift policy ignore of memory at api ended on 2026-11-22: it is repaired again (was: load test); "
            "take it out of the inventory, or give it a later until"
        )
    ]
