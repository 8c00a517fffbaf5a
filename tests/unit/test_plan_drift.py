"""Rules of drift, as an inventory says them."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import facets, kernel
from batten.errors import BattenError
from batten.plan import drift
from batten.plan.model import DriftRule
from batten.plan.schema import At

AT = At("web1", "stack_drift")
FULL = {"facet": "memory", "service": "api", "policy": "ignore", "reason": "load test", "until": "2027-01-31"}


def test_a_rule_says_what_until_when_and_why() -> None:
    assert drift.stack_rules([FULL], AT) == (DriftRule("memory", "api", "ignore", "load test", "2027-01-31"),)


def test_left_out_means_all_and_yaml_reads_a_day_by_itself() -> None:
    rule = {"policy": "report", "reason": "tuned by hand", "until": dt.date(2027, 1, 31)}
    assert drift.stack_rules([rule], AT) == (DriftRule("*", "*", "report", "tuned by hand", "2027-01-31"),)
    assert drift.host_rules([rule], AT) == (DriftRule("*", "*", "report", "tuned by hand", "2027-01-31"),)
    assert drift.stack_rules([{"facet": "cpus", "policy": "repair"}], AT) == (
        DriftRule("cpus", "*", "repair", None, None),
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"facet": "memroy"}, "memory"),
        ({"policy": "never"}, "ignore"),
        ({"reason": None}, "needs 'reason'"),
        ({"until": None}, "needs 'until'"),
        ({"until": "soon"}, "2027-01-31"),
        ({"service": "a b"}, "a service's name"),
        ({"serivce": "api"}, "did you mean 'service'?"),
    ],
)
def test_what_is_wrong_with_a_rule_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BattenError) as error:
        drift.stack_rules([{**FULL, **change}], AT)
    assert said in str(error.value)
    assert "web1: stack_drift[0]" in str(error.value)


def test_a_rule_of_the_host_names_what_the_facet_is_about() -> None:
    rule = {**FULL, "facet": "sysctl", "name": "net.ipv4.tcp_syncookies"}
    with pytest.raises(BattenError, match="service"):
        drift.host_rules([rule], AT)
    del rule["service"]
    assert [one.service for one in drift.host_rules([rule], AT)] == ["net.ipv4.tcp_syncookies"]
    with pytest.raises(BattenError, match="sysctl"):
        drift.host_rules([{**rule, "facet": "sysctls"}], AT)


def test_the_names_are_those_of_the_comparison() -> None:
    table = {one.name for one in facets.FACETS}
    privileges = {"capabilities_live", "seccomp_live", "no_new_privileges_live", "apparmor_live", "oom_score_adj_live"}
    doing = {"presence", "state", "health", "files", "loaded", "processes", "image_files", "orphan"}
    networks = {"internal", "driver", "options", "subnets", "ipv6", "members"}
    assert set(drift.STACK_FACETS) == {*table, *kernel.LIMITS, *privileges, *doing, *networks}
