"""Swap stays off over a reload of systemd. Paths are those of a Debian 13 with cgroup v2 and engine 26.1.5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import scopes

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
    for name in NAMES[:3]:
        (tmp_path / "sys/fs/cgroup/system.slice" / name).mkdir(parents=True)
    return tmp_path


def written(host: Path) -> list[str]:
    return sorted(path.parent.name for path in (host / scopes.UNITS).glob("*/batten.conf"))


def test_each_container_without_swap_keeps_it_off(host: Path) -> None:
    scopes.keep_swap_off([container(0), container(1), container(2, swap=128), container(3), container(4)], str(host))
    assert written(host) == [f"{name}.d" for name in NAMES[:2]]
    text = (host / scopes.UNITS / f"{NAMES[0]}.d" / "batten.conf").read_text()
    assert text.endswith("\n[Scope]\nMemorySwapMax=0\n")


def test_containers_that_are_gone_are_forgotten_and_no_others(host: Path) -> None:
    scopes.keep_swap_off([container(0), container(1)], str(host))
    (host / "sys/fs/cgroup/system.slice" / NAMES[0]).rmdir()
    scopes.keep_swap_off([container(0, pid=0)], str(host))  # ours, stopped; the other is of another stack, and runs
    assert written(host) == [f"{name}.d" for name in NAMES[:2]]
    scopes.keep_swap_off([], str(host))
    assert written(host) == [f"{NAMES[1]}.d"]


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
    scopes.keep_swap_off([one], str(host))
    assert written(host) == []
