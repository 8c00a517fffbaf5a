"""Swap stays off over a reload of systemd. Paths are those of a Debian 13 with cgroup v2 and engine 26.1.5."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import scopes
from ansible_collections.batten.core.plugins.module_utils.docker_api import Docker

IDS = [digit * 64 for digit in "abcde"]
NAMES = [f"docker-{one}.scope" for one in IDS]


def container(place: int, memory: int = 64, swap: int = 64, pid: int | None = None) -> dict[str, Any]:
    return {
        "Id": IDS[place],
        "State": {"Pid": 100 + place if pid is None else pid},
        "HostConfig": {"Memory": memory, "MemorySwap": swap},
    }


@pytest.fixture
def host(tmp_path: Path) -> Path:
    groups = [f"0::/system.slice/{name}\n" for name in NAMES[:3]]
    groups += ["4:memory:/docker/d\n0::/docker/d\n", f"0::/user.slice/x-{NAMES[4]}\n"]
    for place, text in enumerate(groups):
        path = tmp_path / f"proc/{100 + place}/cgroup"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path


def keep(containers: list[dict[str, Any]], host: Path, known: Sequence[str] = IDS) -> None:
    """``known`` are the IDs of all containers of the engine."""
    engine: Any = SimpleNamespace(list=lambda: [{"Id": one} for one in known])
    scopes.keep_swap_off(engine, containers, str(host))


def written(host: Path) -> list[str]:
    return sorted(path.parent.name for path in (host / scopes.UNITS).glob("*/batten.conf"))


def test_each_container_without_swap_keeps_it_off(host: Path) -> None:
    keep([container(0), container(1), container(2, swap=128), container(3), container(4)], host)
    assert written(host) == [f"{name}.d" for name in NAMES[:2]]
    text = (host / scopes.UNITS / f"{NAMES[0]}.d" / "batten.conf").read_text()
    assert text.endswith("\n[Scope]\nMemorySwapMax=0\n")


def test_what_the_engine_has_not_is_forgotten_and_nothing_of_another_stack(host: Path) -> None:
    """Also not what is between two starts and has no scope, nor what lies deeper by its ``cgroup_parent``."""
    keep([container(0), container(1)], host)
    keep([container(2)], host)
    assert written(host) == [f"{name}.d" for name in NAMES[:3]]
    keep([], host, known=IDS[1:])
    assert written(host) == [f"{name}.d" for name in NAMES[1:3]]


def test_nothing_is_forgotten_while_the_engine_restarts(host: Path) -> None:
    keep([container(0)], host)
    scopes.keep_swap_off(Docker(str(host / "docker.sock")), [container(1)], str(host))
    assert written(host) == [f"{name}.d" for name in NAMES[:2]]


def test_what_another_run_adds_meanwhile_stays(host: Path) -> None:
    class Engine:
        def list(self) -> list[dict[str, str]]:
            keep([container(0)], host)
            return []

    engine: Any = Engine()
    scopes.keep_swap_off(engine, [], str(host))
    assert written(host) == [f"{NAMES[0]}.d"]


@pytest.mark.parametrize(
    "one",
    [
        container(0, memory=0, swap=0),
        container(0, swap=-1),
        container(0, pid=0),
        container(0, pid=999),
        container(3),
        container(4),
    ],
    ids=["no limit", "swap", "stopped", "ended", "cgroup v1", "another's scope"],
)
def test_others_are_left_alone(host: Path, one: dict[str, Any]) -> None:
    keep([one], host)
    assert written(host) == []
