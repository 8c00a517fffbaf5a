"""A base is understood as far as planning needs it; interpolation is Compose's."""

from __future__ import annotations

from typing import Any

import pytest

from batten.errors import BattenError
from batten.plan.base import Base, parse_base
from batten.plan.interpolate import interpolate
from batten.plan.model import Port
from batten.plan.schema import At

AT = At("compose.yaml", "image")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("$$HOME", "$HOME"),
        ("$A-b", "1-b"),
        ("${A}", "1"),
        ("${NONE}", ""),
        ("${A:-d}", "1"),
        ("${NONE:-d}", "d"),
        ("${NONE-d}", "d"),
        ("${EMPTY:-d}", "d"),
        ("${EMPTY-d}", ""),
        ("${NONE:-${A:-x}}/y", "1/y"),
        ("${A:+yes}${NONE:+no}", "yes"),
        ("${A:?needed}", "1"),
        ("plain", "plain"),
        ("${NONE:-a:b}", "a:b"),
    ],
)
def test_interpolation(text: str, result: str) -> None:
    assert interpolate(text, {"A": "1", "EMPTY": ""}, AT) == result


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("${NONE:?give it}", "NONE is not set: give it"),
        ("${EMPTY:?x}", "EMPTY"),
        ("${", "not closed"),
        ("a $ b", "lone"),
    ],
)
def test_interpolation_refuses(text: str, says: str) -> None:
    with pytest.raises(BattenError, match=says) as caught:
        interpolate(text, {"EMPTY": ""}, AT)
    assert caught.value.where == "compose.yaml: image"


def base(profiles: tuple[str, ...] = (), **services: Any) -> Base:
    return parse_base(
        {"services": {name: {"image": "x", **value} for name, value in services.items()}}, "c", {}, profiles
    )


def test_profiles_enable_services() -> None:
    services = {"a": {}, "b": {"profiles": ["auth"]}}
    assert list(base(**services).services) == ["a"]
    assert list(base(("auth",), **services).services) == ["a", "b"]
    assert base(**services).all_services == ("a", "b")


def test_an_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(BattenError, match="did you mean 'auth'"):
        base(("outh",), a={"profiles": ["auth"]})


@pytest.mark.parametrize(
    ("written", "ports"),
    [
        ("80", [Port(80, 80)]),
        ("8080:80", [Port(80, 8080)]),
        ("127.0.0.1:8080:80/udp", [Port(80, 8080, "127.0.0.1", "udp")]),
        ("[::1]:8080:80", [Port(80, 8080, "::1")]),
        ("8000-8001:9000-9001", [Port(9000, 8000), Port(9001, 8001)]),
        (3000, [Port(3000, 3000)]),
        ({"target": 80, "published": "8080", "host_ip": "::1", "protocol": "udp"}, [Port(80, 8080, "::1", "udp")]),
    ],
)
def test_ports(written: object, ports: list[Port]) -> None:
    assert base(a={"ports": [written]}).services["a"].ports == tuple(ports)


@pytest.mark.parametrize("written", ["http", "1-2:3", "70000", {"published": 1}])
def test_what_is_no_port_is_refused(written: object) -> None:
    with pytest.raises(BattenError, match="is not a port") as caught:
        base(a={"ports": [written]})
    assert caught.value.where == "c: services.a.ports[0]"


def test_volumes_and_binds() -> None:
    volumes = [
        "data:/var/lib",
        "./conf:/etc/app:ro",
        "/anonymous",
        {"type": "volume", "source": "more", "target": "/more"},
        {"type": "bind", "source": "/srv/x", "target": "/x", "read_only": True},
        {"type": "tmpfs", "target": "/tmp"},
    ]
    service = base(a={"volumes": volumes}).services["a"]
    assert service.volumes == {"data": "/var/lib", "more": "/more"}
    assert service.binds == ("./conf:/etc/app:ro", "/srv/x:/x:ro")


def test_dependencies_in_both_forms() -> None:
    made = base(a={"depends_on": ["b"]}, b={}, c={"depends_on": {"b": {"condition": "service_healthy"}}})
    assert made.services["a"].depends_on == {"b": "service_started"}
    assert made.services["c"].depends_on == {"b": "service_healthy"}


def test_environment_and_commands_in_both_forms() -> None:
    made = base(
        a={"environment": ["A=1=2", "B"], "command": "run 'a b'"}, b={"environment": {"A": 1}, "command": ["x", 1]}
    )
    assert made.services["a"].environment == {"A": "1=2", "B": None}
    assert made.services["a"].command == ("run", "a b")
    assert made.services["b"].environment == {"A": "1"}
    assert made.services["b"].command == ("x", "1")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ([], "not a Compose file"),
        ({"services": {"a": {}}}, "neither an image nor a build"),
        ({"services": {"a": []}}, "expected a mapping"),
        ({"services": {}, "include": ["x"]}, "`include` is not followed"),
        ({"services": {"a": {"extends": {"service": "b"}}}}, "`extends` is not followed"),
    ],
)
def test_what_is_not_understood_is_refused(raw: object, says: str) -> None:
    with pytest.raises(BattenError, match=says):
        parse_base(raw, "c", {})


@pytest.mark.parametrize("name", ["../x", "a/b", "..", ".hidden", "a b", "$x", "a\n", ""])
def test_a_service_name_is_a_directory_name(name: str) -> None:
    with pytest.raises(BattenError, match="cannot be a service's name"):
        parse_base({"services": {name: {"image": "a"}}}, "compose.yaml", {})
