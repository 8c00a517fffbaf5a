"""What need not happen now waits, and is told; what must happen does. On what a real engine said (tests/unit/data)."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import (
    actions,
    cgroups,
    compare,
    desired,
    observed,
    waiting,
)
from tests.unit.recorded import CONTAINERS, STACK

MIB = 2**20
OLD = ["sh", "-c", "echo hi > /data/x; touch /data/ready; exec sleep 1000"]
NEW = [*OLD, "-c", "shared_buffers=2MB"]
SMALL = {"memory_bytes": 64 * MIB, "tunables": {"buffers": "1MB"}, "environment": {"A": "1"}, "command": OLD}


def decided(
    memory: int,
    planned: dict[str, Any],
    peak: int | None = None,
    put_off: tuple[str, ...] = (),
    change: dict[str, Any] | None = None,
    network: bool = False,
) -> tuple[dict[str, str], list[tuple[str, str, float | None]]]:
    """Plan service db, which runs with 64 MiB, for ``memory``; return the actions and what waits."""
    model = copy.deepcopy(STACK["model"])
    model["services"]["db"].update({"mem_limit": str(memory), "memswap_limit": str(memory), **(change or {})})
    wanted = desired.services("stk", model, {"stk-busybox:1": STACK["image"]}, desired.Engine())
    there = observed.by_service(CONTAINERS)
    peaks = {"db": peak} if waiting.falls(wanted["db"], there["db"][0]) else {}
    plan = {"db": {"memory_bytes": memory, **planned}}
    held, waits = waiting.hold(wanted, there, plan, peaks, {"db": 7.5})
    found = compare.compare("stk", held, there, {"once"})
    if network:
        found.append(compare.Difference("stk", "network", "stk_data", "internal", True, False, "recreate"))
    found, late = waiting.put_off(found, held, there, peaks, put_off, {"db": 7.5})
    acts = {name: one.action for name, one in actions.decide(found, held, there).items()}
    return acts, [(one.service, one.why, one.seconds) for one in [*waits, *late]]


RAISED = {"command": NEW, "environment": {"A": "2", "B": "x$$y", "X": 'a$$b"c'}}
TUNED = {"tunables": {"buffers": "2MB"}, "accepted": [SMALL]}
WAITS = [("db", "buffers=2MB (now 1MB)", 7.5)]


def test_a_raise_is_live_and_its_restart_only_tunables_wait() -> None:
    assert decided(128 * MIB, TUNED, change=RAISED) == ({"db": "update"}, WAITS)
    assert decided(64 * MIB, TUNED, change=RAISED) == ({}, WAITS)


def test_asked_for_the_tunables_are_applied() -> None:
    acts, waits = decided(128 * MIB, {**TUNED, "accepted": []}, change=RAISED)
    assert (acts["db"], waits) == ("recreate", [])


def test_another_change_besides_is_no_reason_to_keep_old_tunables() -> None:
    change = {**RAISED, "environment": {"A": "2", "B": "other", "X": 'a$$b"c'}}
    acts, waits = decided(128 * MIB, TUNED, change=change)
    assert (acts["db"], waits) == ("recreate", [])


@pytest.mark.parametrize(
    ("peak", "action"), [(24 * MIB, "update"), (26 * MIB, "recreate"), (None, "recreate"), (60 * MIB, "recreate")]
)
def test_a_limit_falls_live_only_well_above_what_was_ever_used(peak: int | None, action: str) -> None:
    acts, waits = decided(32 * MIB, {}, peak)
    assert (acts["db"], waits) == (action, [])


def test_a_database_keeps_its_larger_limit_until_asked() -> None:
    waits = [("db", "memory 32 MiB (now 64 MiB)", 7.5)]
    assert decided(32 * MIB, {"accepted_limits": [64 * MIB]}, 60 * MIB) == ({}, waits)
    assert decided(32 * MIB, {"accepted_limits": [64 * MIB]}, MIB) == ({"db": "update"}, [])
    assert decided(32 * MIB, {"accepted_limits": [48 * MIB]}, 60 * MIB)[0]["db"] == "recreate"


def test_tunables_of_a_larger_limit_hold_the_limit_up() -> None:
    change = {"command": NEW}
    acts, waits = decided(32 * MIB, {**TUNED, "accepted_limits": [64 * MIB]}, MIB, change=change)
    assert (acts, waits) == ({}, [("db", "buffers=2MB (now 1MB), memory 32 MiB (now 64 MiB)", 7.5)])


def test_stateful_services_are_left_for_later_and_their_cost_is_told() -> None:
    change = {"user": "5:5"}
    assert decided(128 * MIB, {}, put_off=("db",), change=change) == ({"db": "update"}, [("db", "user", 7.5)])
    assert "recreate" in decided(128 * MIB, {}, put_off=("api",), change=change)[0].values()


def test_a_network_with_a_service_that_is_put_off_on_it_stays() -> None:
    assert decided(64 * MIB, {}, put_off=("db",), network=True) == ({}, [("db", "network stk_data: internal", 7.5)])
    assert decided(64 * MIB, {}, network=True)[0]["db"] == "recreate"


@pytest.mark.parametrize(
    ("lines", "file"),
    [
        ("0::/system.slice/docker-1.scope\n", "sys/fs/cgroup/system.slice/docker-1.scope/memory.peak"),
        (
            "5:cpu,cpuacct:/docker/1\n4:memory:/docker/1\n0::/\n",
            "sys/fs/cgroup/memory/docker/1/memory.max_usage_in_bytes",
        ),
    ],
)
def test_the_peak_comes_from_either_control_group(tmp_path: Path, lines: str, file: str) -> None:
    (tmp_path / "proc/7").mkdir(parents=True)
    (tmp_path / "proc/7/cgroup").write_text(lines)
    assert cgroups.Groups(7, str(tmp_path)).peak() is None
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text("1234\n")
    assert cgroups.Groups(7, str(tmp_path)).peak() == 1234
    assert cgroups.Groups(8, str(tmp_path)).peak() is None
