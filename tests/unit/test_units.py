"""Units: what they say, and that installing them restarts and stops nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.batten.core.plugins.module_utils import atomic, timers, units
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths

PLAN = {
    "requires_mounts_for": ["/mnt/data"],
    "services": {"db": {"stop_grace_seconds": 120}, "web": {"stop_grace_seconds": 30}},
}
# Remembers what is enabled and active as files, and records what it was told.
SYSTEMCTL = """#!/bin/sh
echo "$@" >>"$STATE/record"
verb=$1; for unit do :; done
case $verb in
show)
  shift 3; between=  # show --property=... --
  for unit; do
    [ -z "$between" ] || echo; between=yes
    [ -e "$STATE/active-$unit" ] && echo ActiveState=active || echo ActiveState=inactive
    [ -e "$STATE/enabled-$unit" ] && echo UnitFileState=enabled || echo UnitFileState=disabled
  done ;;
enable) : >"$STATE/enabled-$unit" ;;
start) : >"$STATE/active-$unit" ;;
esac
"""


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_program: Callable[[str, str], None]) -> Path:
    fake_program("systemctl", SYSTEMCTL)
    monkeypatch.setenv("STATE", str(tmp_path))
    return tmp_path / "record"


def said(record: Path) -> list[str]:
    lines = record.read_text().splitlines() if record.exists() else []
    record.unlink(missing_ok=True)
    return [line for line in lines if not line.startswith("show ")]


def text(name: str, stack: str = "demo") -> str:
    return {path.name: content for path, content in units.files(StackPaths(stack), PLAN).items()}[name]


def test_docker_asserts_the_mount_and_is_bound_to_nothing_that_could_stop_it() -> None:
    lines = text("batten-demo.conf").splitlines()
    assert "AssertPathIsMountPoint=/opt/batten/demo/secrets" in lines
    assert "After=batten-secrets@demo.service" in lines
    assert "RequiresMountsFor=/mnt/data" in lines
    assert not any(line.startswith(("Requires=", "BindsTo=", "PartOf=", "Wants=")) for line in lines)


def test_stopping_may_take_longer_than_all_grace_together() -> None:
    assert "TimeoutStopSec=210" in text("batten.conf").splitlines()


@pytest.mark.parametrize("name", ["batten-secrets@.service", "batten-stack@.service"])
def test_every_unit_has_limits(name: str) -> None:
    assert "MemoryMax=134217728" in text(name).splitlines()
    assert any(line.startswith("TasksMax=") for line in text(name).splitlines())


def test_the_unit_that_mounts_stays_in_the_hosts_mount_namespace() -> None:
    """Each of these gives a service a mount namespace of its own (systemd.exec(5))."""
    private = (
        "Private",
        "Protect",
        "ReadOnlyPaths",
        "ReadWritePaths",
        "InaccessiblePaths",
        "RootDirectory",
        "TemporaryFile",
    )
    assert not any(line.startswith(private) for line in text("batten-secrets@.service").splitlines())


def test_installing_starts_and_never_stops_or_restarts(record: Path, tmp_path: Path) -> None:
    paths = StackPaths("demo", str(tmp_path / "host"))
    predicted = units.ensure(paths, PLAN, check=True)
    assert said(record) == []
    assert not (tmp_path / "host").exists()
    changes = units.ensure(paths, PLAN, check=False)
    assert set(predicted) <= set(changes)
    assert said(record) == [
        "daemon-reload",
        "enable --quiet batten-secrets@demo.service",
        "start batten-secrets@demo.service",
        "enable --quiet batten-stack@demo.service",
        "start batten-stack@demo.service",
    ]
    assert units.ensure(paths, PLAN, check=False) == []
    assert units.ensure(paths, PLAN, check=True) == []
    assert said(record) == []


def test_an_edited_unit_is_put_right_with_a_reload_only(record: Path, tmp_path: Path) -> None:
    paths = StackPaths("demo", str(tmp_path / "host"))
    units.ensure(paths, PLAN, check=False)
    said(record)
    (paths.units / "docker.service.d" / "batten-demo.conf").write_text("[Unit]\n")
    assert units.ensure(paths, PLAN, check=False) == ["docker.service.d/batten-demo.conf: written"]
    assert said(record) == ["daemon-reload"]


WITH_TIMERS = {**PLAN, "sync_seconds": 300, "backup": {"schedule": "daily"}}


def test_timers_come_take_new_times_and_go(record: Path, tmp_path: Path) -> None:
    paths = StackPaths("demo", str(tmp_path / "host"))
    units.ensure(paths, WITH_TIMERS, check=False)
    assert {"start batten-sync@demo.timer", "start batten-backup@demo.timer"} <= set(said(record))
    assert units.ensure(paths, WITH_TIMERS, check=False) == []
    hourly = {**WITH_TIMERS, "sync_seconds": 3600}
    assert units.ensure(paths, hourly, check=False) == ["batten-sync@demo.timer: written"]
    assert said(record) == ["daemon-reload", "restart batten-sync@demo.timer"]
    gone = ["batten-backup@demo.timer: removed", "batten-sync@demo.timer: removed"]
    assert units.ensure(paths, PLAN, check=True) == gone
    assert units.ensure(paths, PLAN, check=False) == gone
    assert said(record) == [
        "disable --quiet --now batten-backup@demo.timer batten-sync@demo.timer",
        "daemon-reload",
    ]


def test_what_timers_start_has_limits_and_no_more_rights_than_it_needs() -> None:
    for kind, service in timers.SERVICES.items():
        lines = service.splitlines()
        assert f"ExecStart=/usr/bin/python3 /usr/local/lib/batten/batten-host.pyz {kind} %i" in lines
        assert {"NoNewPrivileges=yes", "ProtectSystem=full", "TasksMax=128"} <= set(lines)
        # The last one counts. A sync converges the stack, whose data may lie below /home.
        homes = [line for line in lines if line.startswith("ProtectHome=")]
        assert homes[-1] == ("ProtectHome=no" if kind == "sync" else "ProtectHome=yes")
        assert any(line.startswith("CapabilityBoundingSet=CAP_") for line in lines)


def test_removing_one_stack_keeps_the_templates_for_the_other(record: Path, tmp_path: Path) -> None:
    one, two = (StackPaths(name, str(tmp_path / "host")) for name in ("one", "two"))
    units.ensure(one, PLAN, check=False)
    units.ensure(two, PLAN, check=False)
    said(record)
    foreign = one.units / "docker.service.d" / "mine.conf"
    foreign.write_text("[Service]\n")
    assert units.remove(one, check=True) == units.remove(one, check=False)
    assert said(record) == [
        "disable --quiet --now batten-secrets@one.service batten-stack@one.service",
        "daemon-reload",
    ]
    assert (one.units / "batten-stack@.service").exists()
    units.remove(two, check=False)
    assert [path for path in one.units.rglob("*") if path.is_file()] == [foreign]
    assert units.remove(two, check=False) == []


DRIFT = {**PLAN, "drift_seconds": 900}


def test_one_look_for_drift_serves_all_stacks_as_often_as_the_most_eager_asks(record: Path, tmp_path: Path) -> None:
    shop, other = StackPaths("shop", str(tmp_path / "root")), StackPaths("other", str(tmp_path / "root"))
    atomic.write_json(other.plan, {**PLAN, "drift_seconds": 300})
    units.ensure(shop, DRIFT, check=False)
    timer = shop.units / "batten-drift.timer"
    assert "OnUnitInactiveSec=300\n" in timer.read_text()
    assert any("start" in line and "batten-drift.timer" in line for line in said(record))
    assert units.ensure(shop, DRIFT, check=False) == []

    atomic.write_json(other.plan, PLAN)
    assert units.ensure(shop, DRIFT, check=False) == ["batten-drift.timer: written"]
    assert "OnUnitInactiveSec=900\n" in timer.read_text()
    assert units.ensure(shop, PLAN, check=False) == ["batten-drift.timer: removed"]
    assert not timer.exists()


def test_the_look_for_drift_goes_with_the_last_stack_that_asks(record: Path, tmp_path: Path) -> None:
    shop, other = StackPaths("shop", str(tmp_path / "root")), StackPaths("other", str(tmp_path / "root"))
    for paths in (shop, other):
        atomic.write_json(paths.plan, DRIFT)
        units.ensure(paths, DRIFT, check=False)
    units.remove(shop, check=False)
    assert (shop.units / "batten-drift.timer").exists()
    shop.plan.unlink()
    units.remove(other, check=False)
    assert not list(shop.units.glob("batten-drift*"))
