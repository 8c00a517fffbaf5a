"""Asking registries: logins, redirects, refusals and wrong answers, against a registry that the test writes down."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from batten.errors import BattenError
from batten.registry import (
    INDEXES,
    MANIFESTS,
    Reference,
    Registries,
    UnreachableError,
    docker_credentials,
)
from tests.unit.scripted_server import Asked, Drop, Say, serving

INDEX = {
    "schemaVersion": 2,
    "mediaType": INDEXES[0],
    "manifests": [
        {"digest": "sha256:" + "1" * 64, "platform": {"os": "linux", "architecture": "amd64"}},
        {"digest": "sha256:" + "2" * 64, "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
        {"digest": "sha256:" + "3" * 64, "platform": {"os": "unknown", "architecture": "unknown"}},
    ],
}
CONFIG = "sha256:" + "c" * 64
SINGLE = {"schemaVersion": 2, "mediaType": MANIFESTS[1], "config": {"digest": CONFIG}}


def digest_of(body: object) -> str:
    return "sha256:" + hashlib.sha256(json.dumps(body).encode()).hexdigest()


def manifest(body: object, kind: str, **headers: str) -> Say:
    return Say(200, body, {"Content-Type": kind, "Docker-Content-Digest": digest_of(body), **headers})


def resolve(answer: Callable[[Asked], Say | Drop], name: str = "team/app:1", **options: object) -> object:
    """Resolve a name of the written registry; its answers to HEAD have no body, as HTTP wants it."""
    with serving(answer) as (url, _):
        client = Registries(credentials=lambda _: None)
        for key, value in options.items():
            setattr(client, key, value)
        return client.resolve(f"{url.removeprefix('http://')}/{name}")


def index(_: Asked) -> Say:
    return manifest(INDEX, INDEXES[0])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("redis", ("docker.io", "library/redis", "latest")),
        ("redis:8", ("docker.io", "library/redis", "8")),
        ("docker.io/redis:8", ("docker.io", "library/redis", "8")),
        ("grafana/loki:3.7.6", ("docker.io", "grafana/loki", "3.7.6")),
        ("ghcr.io/a/b/c:v1", ("ghcr.io", "a/b/c", "v1")),
        ("localhost/app", ("localhost", "app", "latest")),
        ("registry.example:5000/app:1", ("registry.example:5000", "app", "1")),
    ],
)
def test_a_reference_is_read_as_docker_reads_it(text: str, parts: tuple[str, str, str]) -> None:
    reference = Reference.parse(text)
    assert (reference.registry, reference.repository, reference.tag) == parts


@pytest.mark.parametrize("text", ["", "UPPER:1", "a:b:c", "x/../y", "app:", "app: 1", "-app"])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(BattenError, match="is no image reference"):
        Reference.parse(text)


def test_an_index_gives_its_own_digest_and_its_platforms_without_attestations() -> None:
    found = resolve(index)
    assert (found.digest, found.platforms) == (digest_of(INDEX), ("linux/amd64", "linux/arm64/v8"))  # type: ignore[attr-defined]


def test_a_single_manifest_has_its_platform_in_its_config() -> None:
    def answer(asked: Asked) -> Say:
        if "/blobs/" in asked.path:
            assert asked.path.endswith(CONFIG)
            return Say(200, {"os": "linux", "architecture": "amd64"})
        return manifest(SINGLE, MANIFESTS[1])

    found = resolve(answer)
    assert (found.digest, found.platforms) == (digest_of(SINGLE), ("linux/amd64",))  # type: ignore[attr-defined]


def test_without_the_header_the_digest_is_that_of_the_bytes() -> None:
    found = resolve(lambda _: Say(200, INDEX, {"Content-Type": INDEXES[1]}))
    assert found.digest == digest_of(INDEX)  # type: ignore[attr-defined]


def test_bytes_that_are_not_those_of_the_digest_are_refused() -> None:
    with pytest.raises(BattenError, match="not those of sha256"):
        resolve(lambda _: manifest(INDEX, INDEXES[0], **{"Docker-Content-Digest": "sha256:" + "0" * 64}))


@pytest.mark.parametrize("body", [[], {}, {"manifests": 3}, {"manifests": [7]}, b"{"])
def test_a_manifest_that_is_none_is_an_error(body: object) -> None:
    with pytest.raises(BattenError, match="is not valid"):
        resolve(lambda _: Say(200, body, {"Content-Type": INDEXES[0]}))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (Say(404), "has no .*team/app:1"),
        (Say(403), "does not let us read"),
        (Say(401), "does not let us read"),
        (Say(429, headers={"Retry-After": "0"}), "too many requests"),
        (Say(500), "answers 500"),
        (Say(200, b"<html>", {"Content-Type": "text/html"}), "text/html, which is no manifest"),
        (Say(200, {}, {"Content-Type": "application/vnd.docker.distribution.manifest.v1+prettyjws"}), "no manifest"),
    ],
)
def test_refusals_say_why_and_what_to_type(said: Say, message: str) -> None:
    with pytest.raises(BattenError, match=message) as error:
        resolve(lambda _: said)
    assert error.value.fix


def test_too_many_requests_is_asked_once_more() -> None:
    count = iter(range(9))

    def answer(asked: Asked) -> Say:
        return Say(429, headers={"Retry-After": "0"}) if next(count) == 0 else index(asked)

    assert resolve(answer).digest == digest_of(INDEX)  # type: ignore[attr-defined]


def test_a_token_is_fetched_with_the_login_and_used() -> None:
    seen: list[str] = []

    def answer(asked: Asked) -> Say:
        host = asked.headers["Host"]
        if asked.path.startswith("/token"):
            seen.append(asked.path)
            assert asked.headers["Authorization"] == "Basic " + base64.b64encode(b"robot:pass word").decode()
            return Say(200, {"token": "t1"})
        if asked.headers.get("Authorization") != "Bearer t1":
            challenge = f'Bearer realm="http://{host}/token",service="reg",scope="repository:team/app:pull"'
            return Say(401, headers={"WWW-Authenticate": challenge})
        return index(asked)

    found = resolve(answer, credentials=lambda _: ("robot", "pass word"))
    assert found.digest == digest_of(INDEX)  # type: ignore[attr-defined]
    assert seen == ["/token?scope=repository%3Ateam%2Fapp%3Apull&service=reg"]


def test_basic_login() -> None:
    wanted = "Basic " + base64.b64encode(b"a:b").decode()

    def answer(asked: Asked) -> Say:
        if asked.headers.get("Authorization") != wanted:
            return Say(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        return index(asked)

    assert resolve(answer, credentials=lambda _: ("a", "b")).digest == digest_of(INDEX)  # type: ignore[attr-defined]


def test_a_login_that_is_wrong_ends() -> None:
    with pytest.raises(BattenError, match="does not let us read"):
        resolve(
            lambda _: Say(401, headers={"WWW-Authenticate": 'Basic realm="x"'}), credentials=lambda _: ("a", "wrong")
        )


def test_redirects_keep_the_method_and_lose_the_login() -> None:
    with serving(index) as (storage, asked_there):

        def answer(asked: Asked) -> Say:
            if "Authorization" not in asked.headers:
                return Say(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
            return Say(307, headers={"Location": f"{storage}/elsewhere"})

        assert resolve(answer, credentials=lambda _: ("a", "b"))
    assert [one.method for one in asked_there] == ["HEAD", "GET"]
    assert all("Authorization" not in one.headers for one in asked_there)


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def test_a_registry_that_is_away_is_asked_once() -> None:
    name = f"127.0.0.1:{closed_port()}"
    client = Registries(credentials=lambda _: None)
    with pytest.raises(UnreachableError, match="cannot be reached: Connection refused") as error:
        client.resolve(f"{name}/app:1")
    assert error.value.registry == name
    with serving(index), pytest.raises(UnreachableError) as again:
        client.resolve(f"{name}/other:2")
    assert again.value is error.value


def test_a_dropped_connection_is_unreachable() -> None:
    with pytest.raises(UnreachableError):
        resolve(lambda _: Drop())


def test_mirrors_come_before_docker_hub_only_for_its_names() -> None:
    client = Registries(["http://mirror:5000/"], ["plain.example:5000"])
    assert client.endpoints("docker.io") == ("http://mirror:5000", "https://registry-1.docker.io")
    assert client.endpoints("ghcr.io") == ("https://ghcr.io",)
    assert client.endpoints("plain.example:5000") == ("http://plain.example:5000",)
    assert client.endpoints("[::1]:5000") == ("http://[::1]:5000",)


def test_a_mirror_that_lacks_the_image_is_passed_over() -> None:
    with serving(lambda _: Say(404)) as (empty, _), serving(index) as (full, asked):
        client = Registries([empty, full], credentials=lambda _: None)
        assert client.resolve("redis:8").digest == digest_of(INDEX)
    assert asked[0].path == "/v2/library/redis/manifests/8"


def test_logins_of_docker_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_program: Callable) -> None:  # type: ignore[type-arg]
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert docker_credentials("ghcr.io") is None
    auth = base64.b64encode(b"me:secret:with:colons").decode()
    config = {
        "auths": {
            "ghcr.io": {"auth": auth},
            "https://index.docker.io/v1/": {"auth": auth},
            "bad.example": {"auth": "!"},
        },
        "credHelpers": {"helped.example": "fake"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert docker_credentials("ghcr.io") == ("me", "secret:with:colons")
    assert docker_credentials("docker.io") == ("me", "secret:with:colons")
    assert docker_credentials("bad.example") is None
    fake_program("docker-credential-fake", '#!/bin/sh\nread name\necho \'{"Username":"u","Secret":"s"}\'\n')
    assert docker_credentials("helped.example") == ("u", "s")
    (tmp_path / "config.json").write_text("[")
    assert docker_credentials("ghcr.io") is None
