"""Images find their profile by name, under whatever registry; by fork; and by what they run and listen on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batten import resources
from batten.plan.profile import Profiles, load_profiles

PROFILES = load_profiles(resources.compose() / "profiles")
OFFICIAL = sorted(
    (image, name) for name, record in PROFILES.records.items() for image in record["images"] if "/" not in image
)
SCOPED = sorted(
    (image, name) for name, record in PROFILES.records.items() for image in record["images"] if "/" in image
)


@pytest.mark.parametrize(
    ("image", "profile", "confidence"),
    [
        ("postgres", "postgres", "tried"),
        ("postgres:17.6-alpine@sha256:ab", "postgres", "tried"),
        ("docker.io/library/postgres:17", "postgres", "tried"),
        ("public.ecr.aws/docker/library/redis:7", "redis", "tried"),
        ("mirror.example:5000/hub/library/redis:7", "redis", "tried"),
        ("mirror.example/hub/grafana/loki:3", "loki", "documented"),
        ("mirror.example/postgres:17", "postgres", "tried"),
        ("timescale/timescaledb:2-pg17", "postgres", "documented"),
        ("bitnami/postgresql:17", "postgres", "assumed"),
        ("mirror.example/hub/bitnami/postgresql:17", "postgres", "assumed"),
        ("example/postgres:17", "postgres", "assumed"),
        ("example/redis-commander", None, None),
        ("oliver006/unheard-of", None, None),
        ("", None, None),
    ],
)
def test_a_name_finds_its_profile(image: str, profile: str | None, confidence: str | None) -> None:
    found = PROFILES.match(image)
    assert (found and found.profile.name, found and found.confidence) == (profile, confidence)


@pytest.mark.parametrize(
    ("image", "entrypoint", "ports", "profile", "whole"),
    [
        ("example/db:1", ["docker-entrypoint.sh", "postgres"], (5432,), "postgres", True),
        ("example/db:1", ["/usr/local/bin/docker-entrypoint.sh", "postgres", "-c", "a=b"], (), "postgres", False),
        ("example/db:1", ["sh", "-c", "exec redis-server /etc/redis.conf"], (6379,), "redis", True),
        ("example/db:1", ["/app/start"], (5432,), None, False),  # anyone may listen there
        ("example/redis:1", None, (), "redis", False),
        ("example/redis:1", ["/srv/dashboard"], (8081,), None, False),  # called so, and is none
        ("example/web:1", None, (6379,), None, False),
    ],
)
def test_evidence_finds_a_renamed_image(
    image: str, entrypoint: list[str] | None, ports: tuple[int, ...], profile: str | None, whole: bool
) -> None:
    found = PROFILES.match(image, entrypoint, ports)
    assert (found and found.profile.name) == profile
    if found:
        assert found.confidence == "assumed"
        assert found.why
        assert (found.profile.user is not None) == whole
        assert found.profile.read_only == whole


@pytest.mark.parametrize(
    ("command", "profile"),
    [
        (["docker-entrypoint.sh", "npm", "run", "start"], "node"),
        (["sh", "-c", "python manage.py migrate && gunicorn app.wsgi"], "python"),
        (["java", "-jar", "/app.jar"], "java"),
        (["bundle", "exec", "puma"], "ruby"),
        (["docker-php-entrypoint", "php-fpm"], "php"),
        (["/docker-entrypoint.sh", "apache2-foreground"], "php"),  # phpMyAdmin, Drupal and others, not only WordPress
        (["/mailpit"], "mailpit"),
        (["entrypoint.sh", "docker-php-entrypoint", "php", "-S", "[::]:8080"], "adminer"),
        (["/usr/bin/dumb-init", "--", "node", "server/server.js"], "uptime-kuma"),
    ],
)
def test_what_runs_on_a_language_is_known_by_its_interpreter(command: list[str], profile: str) -> None:
    found = PROFILES.match("example/shop:1", command)
    assert found
    assert found.profile.name == profile


def test_no_command_speaks_for_two_profiles() -> None:
    said = [one for record in PROFILES.records.values() for one in record.get("match", {}).get("entrypoints", ())]
    assert len(said) == len(set(said))


def test_of_a_fork_nothing_is_assumed_of_its_layout() -> None:
    found = PROFILES.match("bitnami/postgresql:17")
    assert found
    own = PROFILES.match("postgres:17")
    assert own
    assert (found.profile.user, found.profile.writable, found.profile.command_add) == (None, (), ())
    assert found.profile.tunables == {}
    assert not found.profile.read_only
    assert found.profile.memory == own.profile.memory
    assert found.profile.service_class == "database"
    assert found.profile.admin_ports == (5432,)
    assert {"CHOWN", "SETUID", "SETGID"} <= set(found.profile.cap_add)


def test_a_fork_that_its_profile_knows_is_taken_as_it_is() -> None:
    found = PROFILES.match("timescale/timescaledb:2-pg17")
    assert found
    assert found.profile.user == "70:70"
    assert PROFILES.family("timescale/timescaledb:2-pg17") == "postgres"
    assert PROFILES.family("bitnami/postgresql:17") is None


def test_the_file_variable_of_a_secret_variable() -> None:
    grafana, postgres = PROFILES.match("grafana/grafana:13"), PROFILES.match("postgres:17")
    assert grafana
    assert postgres
    assert grafana.profile.secret_file("GF_SECURITY_ADMIN_PASSWORD") == "GF_SECURITY_ADMIN_PASSWORD__FILE"
    assert postgres.profile.secret_file("POSTGRES_PASSWORD") == "POSTGRES_PASSWORD_FILE"
    assert postgres.profile.secret_file("PGUSER") is None


REGISTRIES = st.sampled_from(
    ["docker.io/library/", "localhost/library/", "reg.example:5000/library/", "r.example/a/b/library/", ""]
)
TAGS = st.sampled_from(["", ":latest", ":1.2.3-alpine", "@sha256:" + "0" * 64, ":1@sha256:" + "0" * 64])


@given(st.sampled_from(OFFICIAL), REGISTRIES, TAGS)
def test_neither_registry_nor_tag_changes_whose_image_it_is(known: tuple[str, str], registry: str, tag: str) -> None:
    image, name = known
    found = PROFILES.match(f"{registry}{image}{tag}")
    assert found
    assert found.profile.name == name
    assert found.confidence == PROFILES.records[name]["confidence"]


@given(st.sampled_from(SCOPED), st.sampled_from(["", "docker.io/", "quay.io/", "r.example/hub/"]), TAGS)
def test_a_mirror_with_a_prefix_keeps_the_profile(known: tuple[str, str], registry: str, tag: str) -> None:
    found = PROFILES.match(f"{registry}{known[0]}{tag}")
    assert found
    assert found.profile.name == known[1]


@given(
    st.text(max_size=40),
    st.none() | st.lists(st.text(max_size=20), max_size=4),
    st.lists(st.integers(1, 65535), max_size=4),
)
def test_any_image_has_an_answer_and_the_order_of_profiles_is_none_of_it(
    image: str, entrypoint: list[str] | None, ports: list[int]
) -> None:
    backwards = Profiles(dict(reversed(PROFILES.records.items())))
    assert PROFILES.match(image, entrypoint, ports) == backwards.match(image, entrypoint, ports)


@given(st.sampled_from(OFFICIAL), st.lists(st.text(max_size=20), max_size=4), st.lists(st.integers(1, 65535)))
def test_a_name_that_is_known_needs_no_evidence(
    known: tuple[str, str], entrypoint: list[str], ports: list[int]
) -> None:
    assert PROFILES.match(known[0], entrypoint, ports) == PROFILES.match(known[0])
