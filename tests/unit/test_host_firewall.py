"""The rules of the firewall, as text."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import host_live, host_wanted
from ansible_collections.batten.core.plugins.module_utils.host_facts import Facts
from ansible_collections.batten.core.plugins.module_utils.host_firewall import (
    Port,
    Rules,
    closed,
    opened,
    published,
    render,
)


def plan(*ports: dict[str, Any]) -> dict[str, Any]:
    return {"services": {"web": {"ports": list(ports)}, "db": {"ports": []}}}


def port(published: int, address: str | None = None, protocol: str = "tcp") -> dict[str, Any]:
    return {"target": 1, "published": published, "address": address, "protocol": protocol}


@pytest.mark.parametrize(
    ("ports", "found"),
    [
        ([port(443), port(443, protocol="udp")], [("", "tcp", 443), ("", "udp", 443)]),
        ([port(80, "0.0.0.0"), port(80, "::")], [("", "tcp", 80)]),
        ([port(8222, "127.0.0.1"), port(8222, "::1")], []),
        (
            [port(443, "198.51.100.7"), port(443, "2001:DB8::7")],
            [("198.51.100.7", "tcp", 443), ("2001:db8::7", "tcp", 443)],
        ),
    ],
)
def test_what_a_plan_publishes_to_the_outside(ports: list[dict[str, Any]], found: list[Port]) -> None:
    assert published([plan(*ports)]) == found


def test_what_runs_keeps_its_ports_until_the_run_has_deployed_what_is_new() -> None:
    recorded, planned = {"app": plan(port(80))}, {"app": [port(8080)]}
    assert opened(host_wanted.ports(recorded, planned)) == ["tcp 80", "tcp 8080"]


def test_a_port_that_is_recorded_on_one_address_is_not_opened_on_all() -> None:
    recorded = {"app": plan(port(443, "198.51.100.7"))}
    assert opened(host_wanted.ports(recorded, {"app": [port(443)]})) == ["tcp 198.51.100.7:443"]


def test_ports_on_one_address_are_open_on_that_address_alone() -> None:
    text = render(Rules(), [("198.51.100.7", "tcp", 443), ("2001:db8::7", "tcp", 443), ("", "tcp", 80)])
    assert "elements = { tcp . 80 }" in text
    assert "elements = { 198.51.100.7 . tcp . 443 }" in text
    assert "elements = { 2001:db8::7 . tcp . 443 }" in text


def test_what_is_allowed_from_a_network_is_open_to_no_other() -> None:
    allow = ({"port": 9100, "protocol": "tcp", "from": ["10.1.2.3/8", "fd00::/8"]}, {"port": 53, "protocol": "udp"})
    text = render(Rules(allow), [])
    assert "elements = { 10.0.0.0/8 . tcp . 9100 }" in text
    assert "elements = { fd00::/8 . tcp . 9100 }" in text
    assert "elements = { udp . 53 }" in text


def test_the_host_s_own_ports_are_closed_only_when_asked_and_never_ssh_s() -> None:
    assert "hook input" not in render(Rules(), [])
    text = render(Rules(ssh=(2222, 22)), [])
    assert "hook input priority filter - 5; policy drop" in text
    assert "tcp dport { 22, 2222 } accept" in text


def test_another_firewall_keeps_the_host_s_own_ports_and_that_is_told() -> None:
    options, facts = host_wanted.Options(firewall_input=True), Facts(others=("ufw",), ssh=(22,))
    assert host_wanted.rules(options, facts).ssh == ()
    assert host_wanted.rules(options, Facts(ssh=(22,))).ssh == (22,)
    assert "ufw is active: host_firewall_input is left to it" in host_wanted.notes(options, facts, [])[0]


def test_the_digest_in_the_comment_tells_rules_apart() -> None:
    first, second = render(Rules(), []), render(Rules(), [("", "tcp", 443)])
    assert render(Rules(), []) == first
    digests = {host_live.listing(text)["digest"] for text in (first, second)}
    assert len(digests) == 2
    assert "" not in digests


def test_loading_replaces_what_was_there_in_one_transaction() -> None:
    lines = [line for line in render(Rules(), []).splitlines() if line and not line.startswith("#")]
    assert lines[:3] == ["table inet batten", "delete table inet batten", "table inet batten {"]


def test_without_the_metadata_s_rule_nothing_else_changes() -> None:
    with_it, without = render(Rules(), []).splitlines(), render(Rules(metadata=False), []).splitlines()
    gone = [line for line in with_it if line not in without and "batten " not in line and "#" not in line]
    assert all("169.254.169.254" in line or "fd00:ec2::254" in line for line in gone)
    assert len(gone) == 2


def test_a_record_s_rules_are_the_same_rules() -> None:
    rules = Rules(({"port": 1, "protocol": "tcp", "from": []},), False, (22,), ("br-lan",), ("shop0",))
    assert Rules.from_json(rules.to_json()) == rules


def test_what_containers_publish_beyond_the_plans_is_told() -> None:
    containers = [
        {
            "Names": ["/old"],
            "Ports": [{"IP": "0.0.0.0", "PublicPort": 8080, "Type": "tcp"}, {"PrivatePort": 1, "Type": "tcp"}],
        },
        {"Names": ["/web"], "Ports": [{"IP": "::", "PublicPort": 443, "Type": "tcp"}]},
        {"Names": ["/console"], "Ports": [{"IP": "127.0.0.1", "PublicPort": 9000, "Type": "tcp"}]},
        {"Names": ["/exporter"], "Ports": [{"IP": "0.0.0.0", "PublicPort": 9100, "Type": "tcp"}]},
    ]
    rules = Rules(({"port": 9100, "protocol": "tcp", "from": ["10.0.0.0/8"]},))
    assert closed(rules, [("", "tcp", 443)], containers) == ["old publishes tcp 8080"]


def test_of_networks_that_overlap_the_larger_stands_alone() -> None:
    """nft refuses a set with both."""
    allow = [
        {"port": 9100, "protocol": "tcp", "from": ["10.0.0.0/8", "10.1.0.0/16", "fd00::/8", "fd00:1::/32"]},
        {"port": 9100, "protocol": "tcp", "from": ["10.2.0.0/16"]},
        {"port": 9101, "protocol": "tcp", "from": ["10.1.0.0/16"]},
    ]
    text = render(Rules(allow=tuple(allow)), [])
    assert "elements = { 10.0.0.0/8 . tcp . 9100, 10.1.0.0/16 . tcp . 9101 }" in text
    assert "elements = { fd00::/8 . tcp . 9100 }" in text
