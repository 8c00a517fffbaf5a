"""What people change on purpose: which differences are repaired, only told, or left out. Pure.

A rule is ``{"facet", "service", "policy": "ignore|report|repair", "reason", "until"}`` as the plan has it, facet and
service also ``*``; ``until`` is the last day that it holds, ``YYYY-MM-DD``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, NamedTuple

from .compare import Difference

Rule = Mapping[str, Any]
ANY = "*"
IGNORE, REPORT, REPAIR = "ignore", "report", "repair"


class Division(NamedTuple):
    """Differences by what is done about them. ``report`` and ``ignored`` carry their rule's reason and last day."""

    repair: list[Difference]
    report: list[Difference]
    ignored: list[Difference]


def today() -> date:
    """Return the day that rules are judged by: one ends with its last day where the host is."""
    return date.today()  # noqa: DTZ011 - as said


def divide(differences: Iterable[Difference], rules: Sequence[Rule], today: date) -> Division:
    """Divide ``differences`` by the ``rules`` that hold on ``today``; what no rule names is repaired.

    Of several rules the one that names more decides, a facet more than a service; of two alike the later one.
    """
    holding = [rule for rule in rules if not _is_over(rule, today)]
    found = Division([], [], [])
    for one in differences:
        rule = _deciding(one, holding)
        policy = str(rule["policy"]) if rule else REPAIR
        if rule is None or policy == REPAIR:
            found.repair.append(one)
        else:
            told = replace(one, reason=str(rule.get("reason") or ""), until=_text(rule.get("until")))
            (found.report if policy == REPORT else found.ignored).append(told)
    return found


def expired(rules: Iterable[Rule], today: date) -> list[str]:
    """Return one line for each rule that holds no more."""
    return [
        f"drift policy {rule['policy']} of {rule.get('facet', ANY)} at {rule.get('service', ANY)} ended on "
        f"{_text(rule.get('until'))}: it is repaired again (was: {rule.get('reason') or 'no reason'}); take it out of "
        "the inventory, or give it a later until"
        for rule in rules
        if _is_over(rule, today)
    ]


def _is_over(rule: Rule, today: date) -> bool:
    until = rule.get("until")
    return bool(until) and date.fromisoformat(str(until)) < today


def _deciding(difference: Difference, rules: Iterable[Rule]) -> Rule | None:
    best: Rule | None = None
    for rule in rules:
        facet, service = rule.get("facet", ANY), rule.get("service", ANY)
        matches = facet in (ANY, difference.facet) and service in (ANY, difference.name)
        if matches and (best is None or _weight(rule) >= _weight(best)):
            best = rule
    return best


def _weight(rule: Rule) -> int:
    return 2 * int(rule.get("facet", ANY) != ANY) + int(rule.get("service", ANY) != ANY)


def _text(until: Any) -> str | None:
    return str(until) if until else None
