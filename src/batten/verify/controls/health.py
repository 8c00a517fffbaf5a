"""Health checks: there, as planned, and passing now."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from batten.verify.catalogue import control
from batten.verify.model import LiveContainer, Verdict, fails, holds, not_applicable

if TYPE_CHECKING:
    from batten.plan.model import Healthcheck, ServicePlan


SLACK_SECONDS = 30


@control("health.check", "The service has a health check", cis="5.27")
def present(expected: ServicePlan, live: LiveContainer) -> Verdict:
    if expected.one_shot:
        return not_applicable("runs once and ends")
    test = (live.config.get("Healthcheck") or {}).get("Test") or []
    if not test or test == ["NONE"]:
        return fails("no health check: the engine cannot tell whether it works")
    return holds(f"there is one, {test[0]}")


@control("health.check-planned", "The health check is the planned one", cis="5.27")
def planned(expected: ServicePlan, live: LiveContainer) -> Verdict:
    if expected.healthcheck is None:
        return not_applicable("the plan leaves the base's own health check")
    want = in_engine_words(expected.healthcheck)
    have = live.config.get("Healthcheck") or {}
    different = [  # of the test, that it differs is all: people write passwords into it
        "Test is another" if key == "Test" else f"{key} is {have.get(key)}, planned {value}"
        for key, value in want.items()
        if have.get(key) != value
    ]
    return fails("; ".join(different)) if different else holds("test, times and retries are the planned ones")


@control("health.healthy", "The service is healthy now", cis="5.27", needs_process=True)
def healthy(expected: ServicePlan, live: LiveContainer) -> Verdict:
    if expected.one_shot:
        return not_applicable("runs once and ends")
    health = live.state.get("Health")
    if not health:
        return fails("no health check has run")
    log = health.get("Log") or []
    if health.get("Status") == "healthy":
        return holds(f"healthy, {len(log)} probes on record")
    last = " ".join(str(log[-1].get("Output", "")).split())[:200] if log else "no probe has ended yet"
    return fails(f"{health.get('Status')}, {health.get('FailingStreak', 0)} failed in a row: {last}")


@control("health.fresh", "The engine goes on probing", cis="5.27", needs_process=True)
def fresh(expected: ServicePlan, live: LiveContainer) -> Verdict:
    """A health that was found long ago says nothing: an engine that was restarted badly has stopped looking."""
    log = (live.state.get("Health") or {}).get("Log") or []
    if expected.one_shot or not log:
        return not_applicable("runs once and ends" if expected.one_shot else "health.healthy judges that")
    check = live.config.get("Healthcheck") or {}
    allowed = 3 * (check.get("Interval", 30e9) + check.get("Timeout", 30e9)) / 1e9 + SLACK_SECONDS
    age = int(live.host.facts["now"]) - moment(str(log[-1]["End"]))
    said = f"the last probe ended {max(age, 0):.0f} s ago"
    return holds(said) if age <= allowed else fails(f"{said}, at most {allowed:.0f} s are planned")


def moment(text: str) -> float:
    """Seconds since the epoch of a time in the engine's JSON: RFC 3339 with nanoseconds, in any zone."""
    return datetime.fromisoformat(re.sub(r"\.\d+", "", text)).timestamp()


def in_engine_words(check: Healthcheck) -> dict[str, Any]:
    """The plan's health check as ``docker inspect`` shows it: durations in nanoseconds."""

    def nanoseconds(seconds: float) -> int:
        return round(seconds * 1e9)

    return {
        "Test": list(check.test),
        "Interval": nanoseconds(check.interval_seconds),
        "Timeout": nanoseconds(check.timeout_seconds),
        "Retries": check.retries,
        "StartPeriod": nanoseconds(check.start_period_seconds),
        "StartInterval": nanoseconds(check.start_interval_seconds),
    }
