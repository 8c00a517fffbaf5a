"""Units and spellings: the two sides of a facet write the same thing differently."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.batten.core.plugins.module_utils import desired, facets, observed, quantities


@pytest.mark.parametrize(
    ("text", "count"),
    [("64m", 2**26), ("1.5G", 3 * 2**29), ("64mb", 2**26), ("67108864", 2**26), (None, 0), ("1KiB", 1024), (5, 5)],
)
def test_sizes(text: object, count: int) -> None:
    assert quantities.size(text) == count


@pytest.mark.parametrize(
    ("text", "count"), [("1m30s", 90), ("500ms", 0.5), ("1h0m0s", 3600), ("10", 10), (None, 0), ("1m0s", 60)]
)
def test_durations(text: object, count: float) -> None:
    assert quantities.seconds(text) == pytest.approx(count)


@pytest.mark.parametrize("text", ["soon", "1x", "-"])
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        quantities.size(text)
    with pytest.raises(ValueError, match="not a"):
        quantities.seconds(text)


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_go_durations_of_any_shape(hours: int, minutes: int, seconds: int, millis: int) -> None:
    text = f"{hours}h{minutes}m{seconds}.{millis:03d}s"
    assert quantities.nanoseconds(text) == ((hours * 60 + minutes) * 60 + seconds) * 10**9 + millis * 10**6


def test_each_facet_stands_once_in_the_table() -> None:
    names = [facet.name for facet in facets.FACETS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "wanted", "action"),
    [
        ("memory", 2**30, "update"),
        ("memory", 0, "recreate"),
        ("cpu_shares", 0, "recreate"),
        ("pids", 0, "update"),
        ("cpuset", [], "update"),
        ("cpu_quota", [0, 0], "update"),
        ("restart", "no", "update"),
        ("user", "1000", "recreate"),
    ],
)
def test_what_the_engine_reads_as_keep_needs_a_new_container(name: str, wanted: Any, action: str) -> None:
    facet = next(one for one in facets.FACETS if one.name == name)
    assert facet.action(wanted, "other") == action


def test_surplus_networks_are_left_live_and_missing_ones_are_not() -> None:
    facet = next(one for one in facets.FACETS if one.name == "networks")
    ours = {"a": {"aliases": ["x"], "address": ""}}
    assert facet.action(ours, {**ours, "b": {}}) == "update"
    assert facet.action(ours, {"b": {}}) == "recreate"
    assert facet.action(ours, {"a": {"aliases": [], "address": ""}, "b": {}}) == "recreate"


def test_a_limit_of_zero_which_compose_leaves_out_is_one() -> None:
    ulimits = next(facet for facet in facets.FACETS if facet.name == "ulimits")
    engine = SimpleNamespace(ulimits=frozenset({"nproc"}))
    desired: Any = SimpleNamespace(service={"ulimits": {"core": {}, "nofile": {"soft": 5, "hard": 6}}}, engine=engine)
    given = [{"Name": name, "Soft": 0, "Hard": 0} for name in ("core", "nproc", "stack")]
    observed: Any = SimpleNamespace(host={"Ulimits": given})
    wanted, actual = ulimits.read(desired, observed)
    assert wanted == {"core": [0, 0], "nofile": [5, 6]}
    assert actual == {"core": [0, 0], "nofile": None, "stack": [0, 0]}


def test_a_planned_hardware_address_and_both_fixed_addresses() -> None:
    ends = {"app_edge": {"MacAddress": "02:42:AC:11:00:02", "IPAMConfig": {"IPv4Address": "10.1.2.3"}}}
    live = observed.Observed({"NetworkSettings": {"Networks": ends}, "HostConfig": {}})
    networks = {"edge": {"mac_address": "02:42:ac:11:00:02", "ipv4_address": "10.1.2.3", "ipv6_address": "fd00::3"}}
    wanted = desired.Desired("app", "web", {"networks": networks}, {})
    table = {one.name: one for one in facets.FACETS}
    assert len(set(map(str, table["mac_address"].read(wanted, live)))) == 1
    planned, actual = table["networks"].read(wanted, live)
    assert (planned["app_edge"]["address"], actual["app_edge"]["address"]) == ("10.1.2.3 fd00::3", "10.1.2.3")
    ends["app_edge"]["MacAddress"] = "02:42:ac:11:00:03"
    assert len(set(map(str, table["mac_address"].read(wanted, live)))) == 2


@pytest.mark.parametrize(
    ("given", "canonical"),
    [
        ("FD00:0::1", "fd00::1"),
        ("fd00:0:0::/64", "fd00::/64"),
        ("172.28.1.1/16", "172.28.0.0/16"),
        ("10.1.2.3", "10.1.2.3"),
        ("host-gateway", "host-gateway"),
        ("ns/a", "ns/a"),
        (None, ""),
    ],
)
def test_addresses_in_another_spelling_are_the_same(given: str | None, canonical: str) -> None:
    assert quantities.address(given) == canonical


def test_what_an_engine_writes_back_in_its_own_spelling_is_no_difference() -> None:
    service = {
        "ports": [{"host_ip": "FD00:0::1", "target": 80, "published": "80"}],
        "extra_hosts": {"db": "FD00:0::2"},
        "dns": ["FD00:0::3"],
        "networks": {"edge": {"mac_address": "02-42-AC-11-00-02", "ipv6_address": "FD00:0::4"}},
    }
    end = {"MacAddress": "02:42:ac:11:00:02", "Aliases": ["web"], "IPAMConfig": {"IPv6Address": "fd00::4"}}
    host = {
        "PortBindings": {"80/tcp": [{"HostIp": "fd00::1", "HostPort": "80"}]},
        "ExtraHosts": ["db:fd00::2"],
        "Dns": ["fd00::3"],
    }
    live = observed.Observed({"NetworkSettings": {"Networks": {"app_edge": end}}, "HostConfig": host})
    wanted = desired.Desired("app", "web", service, {})
    for name in ("ports", "extra_hosts", "dns", "networks", "mac_address"):
        ours, theirs = next(one for one in facets.FACETS if one.name == name).read(wanted, live)
        assert ours == theirs, name
        assert ours, name


@pytest.mark.parametrize(
    ("name", "service", "host", "info"),
    [
        ("swappiness", {"mem_swappiness": 0}, {"MemorySwappiness": None}, {"CgroupVersion": "2"}),
        ("oom_kill_disable", {"oom_kill_disable": True}, {"OomKillDisable": None}, {"OomKillDisable": False}),
    ],
)
def test_what_the_kernel_cannot_do_and_the_engine_forgot_is_no_difference(
    name: str, service: dict[str, Any], host: dict[str, Any], info: dict[str, Any]
) -> None:
    """A new container would not have it either, so it would be made anew by every run."""
    facet = next(one for one in facets.FACETS if one.name == name)
    live = observed.Observed({"HostConfig": host})
    ours, theirs = facet.read(desired.Desired("app", "web", service, {}, {}, desired.Engine.of(info, {})), live)
    assert ours == theirs
    ours, theirs = facet.read(desired.Desired("app", "web", service, {}, {}, desired.Engine.of({}, {})), live)
    assert ours != theirs


def test_of_an_environment_only_what_differs_is_told_and_nobody_can_try_values_against_it() -> None:
    facet = next(one for one in facets.FACETS if one.name == "environment")
    wanted = desired.Desired("app", "web", {"environment": {"SAME": "1", "PASSWORD": "1234", "GONE": "x"}}, {})
    live = observed.Observed({"Config": {"Env": ["SAME=1", "PASSWORD=4321"]}, "HostConfig": {}})
    ours, theirs = facet.read(wanted, live)
    assert (set(ours), set(theirs)) == ({"PASSWORD", "GONE"}, {"PASSWORD"})
    assert facet.read(wanted, live) == (ours, theirs)
    plain = {hashlib.sha256(f"{number:04}".encode()).hexdigest()[:16] for number in range(10000)}
    assert not {value.partition(":")[2] for value in (*ours.values(), *theirs.values())} & plain


@pytest.mark.parametrize(
    ("wanted", "host", "there", "differs"),
    [
        (None, {"NetworkMode": "app_edge"}, "0123456789ab", False),
        (None, {"NetworkMode": "app_edge"}, "db", True),
        (None, {"NetworkMode": "host"}, "server1", False),
        (None, {"NetworkMode": "app_edge", "UTSMode": "host"}, "server1", False),
        (None, {"NetworkMode": "container:x"}, "", False),
        ("web", {"NetworkMode": "app_edge"}, "web", False),
        ("web", {"NetworkMode": "app_edge"}, "0123456789ab", True),
    ],
)
def test_a_host_name_that_nobody_chose_is_the_beginning_of_the_id(
    wanted: str | None, host: dict[str, str], there: str, differs: bool
) -> None:
    live = observed.Observed({"Id": "0123456789abcdef", "Config": {"Hostname": there}, "HostConfig": host})
    service = {"hostname": wanted} if wanted else {}
    hostname = next(one for one in facets.FACETS if one.name == "hostname")
    ours, theirs = hostname.read(desired.Desired("app", "web", service, {}), live)
    assert (ours != theirs) == differs
