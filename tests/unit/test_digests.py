"""Private registries: a host asks with a login that it keeps sealed, and only digests come back."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import digests
from ansible_collections.batten.core.plugins.module_utils.docker_api import Docker, DockerError
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError as HostError
from batten import pin
from batten.errors import BattenError
from batten.plan import Capacity, StackSettings, load_inputs, plan_stack
from batten.registry import Resolved
from batten.render import release

TOKEN = "t0psecret-t0psecret"
IMAGE = "registry.example.org/shop/app:1"
HOW = {"registry": "registry.example.org", "user": "deploy", "secret": "registry_token"}
DIGEST = "sha256:" + "a" * 64


class Engine(Docker):
    """Answers as the engine does, and keeps what it was asked."""

    def __init__(self, answer: Any) -> None:
        super().__init__("/nowhere")
        self.answer = answer
        self.asked: list[tuple[str, str, dict[str, Any]]] = []

    def call(self, method: str, path: str, *rest: Any, headers: Any = None, **more: Any) -> Any:
        login = json.loads(base64.urlsafe_b64decode(headers["X-Registry-Auth"]))
        self.asked.append((method, path, login))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_the_engine_asks_with_the_sealed_login() -> None:
    platforms = [
        {"os": "linux", "architecture": "arm64", "variant": "v8"},
        {"os": "linux", "architecture": "amd64"},
        {"os": "unknown", "architecture": "unknown"},
    ]
    engine = Engine({"Descriptor": {"digest": DIGEST}, "Platforms": platforms})
    found = digests.resolve(engine, {IMAGE: HOW}, {"registry_token": TOKEN})
    assert found == {IMAGE: {"digest": DIGEST, "platforms": ["linux/amd64", "linux/arm64/v8"]}}
    login = {"username": "deploy", "password": TOKEN, "serveraddress": "registry.example.org"}
    assert engine.asked == [("GET", f"/distribution/{IMAGE}/json", login)]
    digests.resolve(engine, {"shop/app:1": {**HOW, "registry": "docker.io"}}, {"registry_token": TOKEN})
    assert engine.asked[-1][2]["serveraddress"] == "https://index.docker.io/v1/"


@pytest.mark.parametrize(
    ("answer", "values", "words"),
    [
        (DockerError(500, f"unauthorized: {TOKEN} is wrong"), {"registry_token": TOKEN}, "unauthorized: ***"),
        ({}, {"registry_token": TOKEN}, "the engine says nothing"),
        ({}, {}, "has no value on this host"),
    ],
)
def test_what_a_registry_refuses_is_told_without_the_login(answer: Any, values: dict[str, str], words: str) -> None:
    found = digests.resolve(Engine(answer), {IMAGE: HOW}, values)[IMAGE]
    assert words in found["what"]
    assert TOKEN not in json.dumps(found)


@pytest.mark.parametrize("given", [None, [], {}, {"images": []}, {"images": {IMAGE: {"registry": 1}}}])
def test_something_else_on_standard_input_is_refused(given: Any) -> None:
    with pytest.raises(HostError, match="does not say which images"):
        digests.asked(given)


def settings(place: Path, **more: Any) -> StackSettings:
    (place / "compose.yaml").write_text(f"services: {{app: {{image: '{IMAGE}'}}}}\n")
    variables = {
        "stack_name": "shop",
        "stack_base": "compose.yaml",
        "stack_registries": {"registry.example.org": {"user": "deploy", "secret": "registry_token"}},
        **more,
    }
    return StackSettings.from_variables(variables, root=place)


def test_the_host_has_the_login_though_no_service_uses_it(tmp_path: Path) -> None:
    one = settings(tmp_path, stack_secrets={"registry_token": {"generator": "provided"}})
    inputs = load_inputs(one)
    plan, _ = plan_stack(one, Capacity(8 * 1024**3, 2), inputs=inputs)
    secrets = release(plan, one, inputs.definition)["secrets"]
    assert set(secrets["generate"]) == {"registry_token"}
    assert secrets["deliveries"] == {}
    with pytest.raises(BattenError, match="registry_token"):
        load_inputs(settings(tmp_path))


def test_a_host_is_asked_for_its_registry_alone(tmp_path: Path) -> None:
    one = settings(tmp_path)
    logins = pin.host_logins({"h2": [one], "h1": [one]})
    assert logins == {"registry.example.org": pin.HostLogin("h1", "shop", "deploy", "registry_token")}
    given: list[Any] = []

    def run(asked: bytes) -> bytes:
        given.append(json.loads(asked))
        gone = {"what": "no such tag", "fix": "push it"}
        return json.dumps({IMAGE: {"digest": DIGEST, "platforms": ["linux/amd64"]}, "x:2": gone}).encode()

    found, problem = pin.ask_host(logins["registry.example.org"], [IMAGE, "x:2"], run)
    assert found == Resolved(DIGEST, ("linux/amd64",))
    assert str(problem) == "h1: x:2: no such tag\n  fix: push it"
    assert given[0]["images"][IMAGE] == HOW
    for nonsense in (b"", b"[]", b"{}", b'{"registry.example.org/shop/app:1": 3}'):
        with pytest.raises(BattenError, match="answers something else"):
            pin.ask_host(logins["registry.example.org"], [IMAGE], lambda _, answer=nonsense: answer)
