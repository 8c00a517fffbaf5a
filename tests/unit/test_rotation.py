"""A secret changes hands: whoever uses a value finds it accepted, at every step and after a kill at every step."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import (
    apply,
    atomic,
    credentials,
    postgres,
    release,
    rotation,
)
from ansible_collections.batten.core.plugins.module_utils.credentials import Bundle, Other
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError
from ansible_collections.batten.core.plugins.module_utils.infisical_http import Unreachable
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths

RULES: dict[str, dict[str, Any]] = {
    "app": {"generator": "password", "rotation": "postgres_role", "role": "app"},
    "cache": {"generator": "password", "rotation": "redis"},
    "token": {"generator": "hex", "rotation": "restart"},
    "vault_key": {"generator": "hex", "rotation": "none"},
    "api_key": {"generator": "provided", "rotation": "provided"},
}
FIRST = {"app": "p1", "cache": "c1", "token": "t1", "vault_key": "k", "api_key": "x"}


class Killed(BaseException):
    """Stands for ``kill -9``."""


@dataclass
class World:
    """A host without a host: what is saved, what servers accept, what consumers use; each effect is one tick."""

    saved: Bundle
    remote: dict[str, str]
    accepted: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    used: dict[str, tuple[str, str]] = field(default_factory=dict)
    sessions: dict[str, int] = field(default_factory=dict)
    bad: set[str] = field(default_factory=set)
    dies_at: int = -1
    tick: int = 0
    states: list[Bundle] = field(default_factory=list)

    def step(self) -> None:
        self.tick += 1
        if self.tick == self.dies_at:
            raise Killed

    def save(self, _: StackPaths, bundle: Bundle) -> None:
        self.step()
        self.saved = bundle

    def push(self, values: Mapping[str, str]) -> dict[str, int]:
        self.step()
        self.remote |= values
        self.step()  # applied, and the answer lost
        return dict.fromkeys(values, self.tick)

    def converge(self, *_: Any) -> Any:
        """Servers first, then consumers; in between, those that were there must still get in."""
        self.step()
        self.states.append(self.saved)
        self.accepted["app"] = set(credentials.accounts(self.saved, "app", "app"))
        cache = {self.saved.values["cache"], *([o.value] if (o := self.saved.others.get("cache")) else [])}
        self.accepted["cache"] = {("default", value) for value in cache}
        for name in self.used.keys() & self.accepted.keys():
            assert self.used[name] in self.accepted[name], f"{name}: locked out"
        self.step()
        if self.bad & set(self.saved.values.values()):
            raise BattenError("api did not get healthy", "service api", "see its log")
        self.used = {
            "app": credentials.accounts(self.saved, "app", "app")[0],
            "cache": ("default", self.saved.values["cache"]),
        }
        self.step()
        return apply.Result("r", None)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(Bundle(b"k", values=FIRST, made=dict.fromkeys(FIRST, "2026-01-01T00:00:00Z")), dict(FIRST))
    payload = {"secrets": {"generate": RULES}, "postgres": {}, "project": "demo"}
    monkeypatch.setattr(credentials, "load", lambda _: made.saved)
    monkeypatch.setattr(credentials, "save", made.save)
    monkeypatch.setattr(apply, "converge", made.converge)
    monkeypatch.setattr(postgres, "sessions", lambda *_: made.sessions)
    monkeypatch.setattr(release, "running", lambda _: "r")
    monkeypatch.setattr(release, "read", lambda *_: payload)
    monkeypatch.setattr(rotation.audit, "append", lambda *_: None)
    made.converge()
    return made


@pytest.fixture
def paths(tmp_path: Any) -> StackPaths:
    atomic.make_directory(tmp_path / "run/lock")
    return StackPaths("demo", str(tmp_path))


def turn(world: World, paths: StackPaths) -> rotation.Rotation:
    return rotation.Rotation(None, paths, world.push, patience=0)  # type: ignore[arg-type]


def test_all_kinds_at_once(world: World, paths: StackPaths) -> None:
    names = rotation.chosen(RULES, world.saved, [], everything=True, older_than=None)
    assert names == ["app", "cache", "token"]
    result = turn(world, paths).rotate(names)
    assert result.rotated == names
    assert not world.saved.others
    assert all(world.saved.values[name] != FIRST[name] for name in names)
    assert world.used["app"] == ("app_b", world.saved.values["app"])
    assert world.remote == dict(world.saved.values)
    turn(world, paths).rotate(["app"])
    assert world.used["app"][0] == "app_a"


def test_killed_at_every_step_the_next_run_finishes(paths: StackPaths, world: World) -> None:
    begin = (world.saved, dict(world.remote), dict(world.used))
    world.tick = 0
    turn(world, paths).rotate(["app", "cache", "token"])
    steps = world.tick
    assert steps > 12
    for dies_at in range(1, steps + 1):
        world.saved, world.remote, world.used = begin[0], dict(begin[1]), dict(begin[2])
        world.tick, world.dies_at = 0, dies_at
        with pytest.raises(Killed):
            turn(world, paths).rotate(["app", "cache", "token"])
        turn(world, paths).rotate(["app", "cache", "token"])
        assert not world.saved.others, dies_at
        assert world.remote == dict(world.saved.values), dies_at
        assert world.used["cache"] == ("default", world.saved.values["cache"])
        assert world.saved.values["token"] != FIRST["token"]


def test_a_stack_that_others_need_is_mended_though_no_rotation_is_open(world: World, paths: StackPaths) -> None:
    """A kill between two containers of the last step leaves no second value, and a service that does not run."""
    assert not world.saved.others
    world.used.clear()
    rotation.Rotation(docker=None, paths=paths).mend()  # type: ignore[arg-type]
    assert world.used["cache"] == ("default", "c1")


def test_a_value_that_does_not_work_goes_back_everywhere(world: World, paths: StackPaths) -> None:
    world.bad = {"new"}
    with pytest.raises(rotation.Returned, match="api did not get healthy") as caught:
        turn(world, paths).adopt({"app": "new"})
    assert "old values are back: app" in caught.value.what
    assert world.saved.values == FIRST
    assert not world.saved.others
    assert world.used["app"] == ("app_a", "p1")
    assert world.remote["app"] == "p1"


def test_values_go_back_also_where_the_system_refuses(
    world: World, paths: StackPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def converge(*_: Any) -> Any:
        if world.saved.values["token"] != FIRST["token"]:
            raise OSError(30, "Read-only file system", "/home/shop/data")
        return world.converge()

    monkeypatch.setattr(apply, "converge", converge)
    with pytest.raises(rotation.Returned, match="Read-only file system: '/home/shop/data'\nThe old values are back"):
        turn(world, paths).adopt({"token": "t2"})
    assert world.saved.values == world.remote == FIRST
    assert not world.saved.others


def test_killed_while_it_goes_back_it_still_goes_back(world: World, paths: StackPaths) -> None:
    begin = (world.saved, dict(world.used))
    for dies_at in range(1, 40):
        world.saved, world.used, world.bad = begin[0], dict(begin[1]), {"new"}
        world.tick, world.dies_at = 0, dies_at
        try:
            turn(world, paths).adopt({"app": "new"})
        except rotation.Returned:
            break
        except Killed:
            world.dies_at = -1
            with suppress(rotation.Returned):
                turn(world, paths).finish()
        assert world.used["app"] == ("app_a", "p1"), dies_at
        assert world.saved.values["app"] == "p1", dies_at
    else:
        pytest.fail("it never ended")


def test_a_role_with_sessions_stays_until_they_have_ended(world: World, paths: StackPaths) -> None:
    world.sessions = {"app_a": 2}
    assert turn(world, paths).rotate(["app"]).waiting == {"app_a": 2}
    assert world.saved.others["app"] == Other("p1", credentials.RETIRING)
    assert ("app_a", "p1") in world.accepted["app"]
    assert turn(world, paths).finish().finished == []
    world.sessions = {}
    assert turn(world, paths).finish().finished == ["app"]
    assert not world.saved.others
    assert world.accepted["app"] == {("app_b", world.saved.values["app"])}


def test_a_value_that_has_proven_to_work_stays_when_something_else_fails_later(world: World, paths: StackPaths) -> None:
    world.sessions = {"app_a": 1}
    turn(world, paths).rotate(["app"])
    new = world.saved.values["app"]
    world.bad = {FIRST["token"]}  # a service fails for a reason of its own
    with pytest.raises(BattenError, match="api did not get healthy") as caught:
        turn(world, paths).finish()
    assert not isinstance(caught.value, rotation.Returned)
    assert (world.saved.values["app"], world.remote["app"]) == (new, new)
    world.bad = set()
    world.sessions = {}
    turn(world, paths).finish()
    assert world.used["app"] == ("app_b", new)


def test_a_value_that_no_server_takes_is_dropped(
    world: World, paths: StackPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def converge(*_: Any) -> Any:
        if "a b" in (other.value for other in world.saved.others.values()):
            raise BattenError("ACL file has errors", "service redis", "see its log")
        return world.converge()

    monkeypatch.setattr(apply, "converge", converge)
    with pytest.raises(rotation.Returned, match="ACL file has errors"):
        turn(world, paths).adopt({"cache": "a b"})
    assert world.saved.values == FIRST
    assert not world.saved.others
    turn(world, paths).rotate(["cache"])


def test_old_values_are_back_though_infisical_went_away(world: World, paths: StackPaths) -> None:
    def push(values: Mapping[str, str]) -> dict[str, int]:
        if "new" in values.values():
            return {"app": 2}
        raise Unreachable("Infisical gives no answer", "http://127.0.0.1:8222", "run again")

    world.bad = {"new"}
    with pytest.raises(rotation.Returned, match="old values are back"):
        rotation.Rotation(None, paths, push, patience=0).adopt({"app": "new"})  # type: ignore[arg-type]
    assert world.used["app"] == ("app_a", "p1")
    assert not world.saved.others


@pytest.mark.parametrize(
    ("name", "why"),
    [("vault_key", "stands and falls with it"), ("api_key", "whoever issued it"), ("nope", "no secret is named nope")],
)
def test_what_cannot_be_rotated_is_refused_with_the_reason(name: str, why: str) -> None:
    with pytest.raises(BattenError, match=why) as caught:
        rotation.chosen(RULES, Bundle(b"k", values=FIRST), [name], everything=False, older_than=None)
    assert caught.value.fix


def test_older_than() -> None:
    bundle = Bundle(b"k", values=FIRST, made={"app": "2026-01-01T00:00:00Z", "cache": credentials.now()})
    assert rotation.chosen(RULES, bundle, [], everything=False, older_than=86400) == ["app", "token"]
