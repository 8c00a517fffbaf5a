"""Which secrets of a host are rotated: the stack's, those of its Infisical, the host's login; and on which host."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import host_rotation, rotation
from ansible_collections.batten.core.plugins.module_utils.credentials import Bundle
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError
from ansible_collections.batten.core.plugins.module_utils.host_rotation import Wanted

RULES: dict[str, dict[str, dict[str, Any]]] = {
    "shop": {"app_password": {"generator": "hex"}, "tls_ca": {"generator": "ca", "rotation": "none"}},
    "infisical": {"redis_password": {"generator": "hex"}},
}
Plan = Callable[..., dict[str, list[str]]]


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Return what a dry run on a host with ``running`` stacks would rotate, by stack."""

    def of(stack: str, wanted: Wanted, *running: str) -> dict[str, list[str]]:
        def made(_docker: object, paths: Any, *_: object) -> Any:
            return SimpleNamespace(rules=RULES[paths.stack], paths=paths)

        monkeypatch.setattr(host_rotation, "Rotation", made)
        monkeypatch.setattr(host_rotation, "_push", lambda _: None)
        monkeypatch.setattr(host_rotation.release, "running", lambda paths: paths.stack in running or None)
        values = {name: "0" for rules in RULES.values() for name in rules}
        monkeypatch.setattr(host_rotation.credentials, "load", lambda _: Bundle(b"k", values=values))
        found = host_rotation.rotate(stack, wanted, docker=None, check=True)  # type: ignore[arg-type]
        return {name: one["rotated"] for name, one in found.items()}

    return of


def test_a_host_with_both_rotates_each_by_its_own_name(plan: Plan) -> None:
    wanted = Wanted(names=("app_password", "infisical/redis_password"))
    both = {"shop": ["app_password"], "infisical": ["redis_password"]}
    assert plan("shop", wanted, "shop", "infisical") == both
    assert plan("shop", Wanted(everything=True), "shop", "infisical") == both


def test_a_host_of_infisical_alone_rotates_what_is_its_own(plan: Plan) -> None:
    wanted = Wanted(names=("app_password", "infisical/redis_password", host_rotation.IDENTITY))
    assert plan("infisical", wanted, "infisical") == {"infisical": ["redis_password"]}
    assert plan("infisical", Wanted(everything=True), "infisical") == {"infisical": ["redis_password"]}


def test_infisical_s_secrets_are_refused_where_nothing_of_it_runs(plan: Plan) -> None:
    with pytest.raises(BattenError, match="no Infisical of batten's runs here"):
        plan("shop", Wanted(names=("infisical/redis_password",)), "shop")


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("app_pasword", "use app_password"),
        ("infisical/redis_pasword", "use infisical/redis_password"),
        ("infisical/zzz", "use one of: infisical/redis_password"),
    ],
)
def test_a_wrong_name_is_answered_with_what_to_type(plan: Plan, name: str, fix: str) -> None:
    with pytest.raises(BattenError, match=f"no secret is named {name}") as caught:
        plan("shop", Wanted(names=(name,)), "shop", "infisical")
    assert caught.value.fix == fix


def test_the_login_to_an_infisical_elsewhere_says_how_it_is_changed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(host_rotation.infisical_access, "load", lambda _: None)
    paths = rotation.StackPaths("shop", str(tmp_path))
    with pytest.raises(BattenError) as caught:
        host_rotation._new_login(paths, "web", local=False)
    assert str(paths.access) in caught.value.fix


def test_infisical_runs_again_before_the_stack_whose_values_it_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[str] = []

    class Turn:
        def __init__(self, _docker: object, paths: Any, *_: object) -> None:
            self.paths, self.rules = paths, RULES[paths.stack]

        def mend(self) -> None:
            did.append(f"mend {self.paths.stack}")

        def rotate(self, names: list[str]) -> rotation.Result:
            did.append(f"rotate {self.paths.stack} {names}")
            return rotation.Result()

    monkeypatch.setattr(host_rotation, "Rotation", Turn)
    monkeypatch.setattr(host_rotation, "_push", lambda _: None)
    monkeypatch.setattr(host_rotation.release, "running", lambda _: "r")
    monkeypatch.setattr(host_rotation.lock, "held", lambda _: nullcontext())
    monkeypatch.setattr(host_rotation.credentials, "load", lambda _: Bundle(b"k", values={"app_password": "0"}))
    host_rotation.rotate("shop", Wanted(names=("app_password",)), docker=None, check=False)  # type: ignore[arg-type]
    assert did == ["mend infisical", "rotate shop ['app_password']", "rotate infisical []"]
