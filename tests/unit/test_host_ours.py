"""What batten put on a host besides containers and secrets, and how each way to be wrong is told."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import atomic, host_ours, program, release, units
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths

PLAN: dict[str, Any] = {"name": "shop", "requires_mounts_for": [], "services": {}, "sync_seconds": 300}
PAYLOAD: dict[str, Any] = {
    "stack": "shop",
    "project": "shop",
    "layers": [{"name": "compose.yaml", "text": "name: shop\n"}],
    "files": {"web": {"digest": "d1", "entries": {"a": "hello"}}},
    "plan": PLAN,
    "secrets": {"generate": {}, "deliveries": {}},
}


def systemd(paths: StackPaths) -> dict[str, dict[str, str]]:
    """What systemd says where all is well."""
    secrets = "batten-secrets@shop.service"
    state = {"LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "active"}
    well = {**state, "NeedDaemonReload": "no", "DropInPaths": ""}
    return {name: {**well, "After": f"basic.target {secrets}"} for name in host_ours.watched(paths, PLAN)}


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackPaths:
    """A host right after a run."""
    found = StackPaths("shop", str(tmp_path))
    release.write(found, PAYLOAD)
    release.activate(found, PAYLOAD)
    release.mark_good(found, PAYLOAD, {})
    atomic.write_json(found.secrets_spec, PAYLOAD["secrets"])
    for path, text in units.files(found, PLAN).items():
        atomic.write(path, text.encode())
    atomic.write(found.program, b"a program", 0o755)
    atomic.write_json(found.program_record, {"sha256": program.digest(b"a program")})
    for place in (found.audit.parent, found.program.parent, found.stacks):
        place.mkdir(exist_ok=True, parents=True)
    found.audit.write_text("")
    found.audit.parent.chmod(0o750)
    found.audit.chmod(0o640)
    monkeypatch.setattr(host_ours, "_ROOT", f"{os.getuid()}:{os.getgid()}")  # who runs the tests stands for root
    host_ours.own(found, PAYLOAD, check=False)
    return found


def looked(
    paths: StackPaths, containers: Sequence[dict[str, Any]] = (), live: host_ours.Live | None = None
) -> list[tuple[str, str, str]]:
    live = live or systemd(paths)
    found = [
        *host_ours.current(paths),
        *host_ours.of_stack(paths, PAYLOAD, containers, live),
        *host_ours.of_host(paths.root, "", live, ["shop"]),
    ]
    return [(Path(one.name).name, one.facet, one.action) for one in found]


def test_right_after_a_run_nothing_is_wrong(paths: StackPaths) -> None:
    assert looked(paths) == []


DAMAGES: list[tuple[Callable[[StackPaths], object], list[tuple[str, str, str]]]] = [
    (lambda paths: paths.current.unlink(), [("current", "current", "rewrite")]),
    (lambda paths: paths.plan.unlink(), [("plan.json", "content", "rewrite")]),
    (lambda paths: paths.secrets_spec.write_text("{}"), [("secrets.json", "content", "rewrite")]),
    (
        lambda paths: (release.directory(paths, PAYLOAD) / "compose.yaml").write_text("edited"),
        [("compose.yaml", "content", "rewrite")],
    ),
    (
        lambda paths: (release.directory(paths, PAYLOAD) / "release.json").write_text("edited"),
        [("release.json", "content", "rewrite")],
    ),
    (lambda paths: paths.release.unlink(), [("release.json", "content", "rewrite")]),
    (lambda paths: (paths.files / "web" / "d1" / "a").unlink(), [("a", "content", "rewrite")]),
    (lambda paths: (paths.files / "web" / "d0").mkdir(), [("d0", "leftover", "remove")]),
    (lambda paths: paths.state.chmod(0o755), [("shop", "mode", "rewrite")]),
    (lambda paths: paths.plan.chmod(0o644), [("plan.json", "mode", "rewrite")]),
    (lambda paths: (paths.files / "web" / "d1" / "a").chmod(0o666), [("a", "mode", "rewrite")]),
    (lambda paths: paths.audit.chmod(0o666), [("audit.jsonl", "mode", "rewrite")]),
    (lambda paths: paths.var.chmod(0o755), [("batten", "mode", "rewrite")]),
    (
        lambda paths: (paths.units / "batten-stack@.service").write_text("edited"),
        [("batten-stack@.service", "unit", "rewrite")],
    ),
    (
        lambda paths: (paths.units / "docker.service.d" / "batten-shop.conf").unlink(),
        [("batten-shop.conf", "drop_in", "rewrite")],
    ),
    (
        lambda paths: (paths.units / "batten-sync@shop.timer").unlink(),
        [("batten-sync@shop.timer", "timer", "rewrite")],
    ),
    (
        lambda paths: (paths.units / "batten-stack@shop.service.d" / "zz.conf").write_text("[Service]\n"),
        [("batten-stack@shop.service", "drop_in", "none")],
    ),
    (
        lambda paths: (paths.units / "docker.service.d" / "batten-old.conf").write_text("[Unit]\n"),
        [("batten-old.conf", "leftover", "none")],
    ),
    (
        lambda paths: (paths.units / "batten-sync@old.timer").write_text("[Timer]\n"),
        [("batten-sync@old.timer", "leftover", "none")],
    ),
    (
        lambda paths: (paths.program).write_bytes(b"#!/bin/sh\n"),
        [("batten-host.pyz", "program", "rewrite")],
    ),
]


@pytest.mark.parametrize(("damage", "expected"), DAMAGES)
def test_each_damage_is_its_own_facet(
    paths: StackPaths, damage: Callable[[StackPaths], object], expected: list[tuple[str, str, str]]
) -> None:
    damage(paths)
    assert looked(paths) == expected


@pytest.mark.parametrize(
    ("unit", "properties", "expected"),
    [
        ("batten-stack@shop.service", {"UnitFileState": "disabled"}, "unit"),
        ("batten-stack@shop.service", {"LoadState": "masked", "ActiveState": "inactive"}, "unit"),
        ("batten-stack@shop.service", {"LoadState": "not-found", "UnitFileState": ""}, "unit"),
        ("batten-sync@shop.timer", {"ActiveState": "inactive"}, "timer"),
        ("batten-secrets@shop.service", {"NeedDaemonReload": "yes"}, "unit"),
        ("docker.service", {"After": "basic.target"}, "unit"),
    ],
)
def test_units_are_compared_with_what_systemd_has(
    paths: StackPaths, unit: str, properties: dict[str, str], expected: str
) -> None:
    live = systemd(paths)
    live[unit].update(properties)
    assert [row[:2] for row in looked(paths, live=live)] == [(unit, expected)]


def test_a_release_that_pruning_would_remove_is_a_leftover(paths: StackPaths) -> None:
    for number in range(release.KEPT + 1):
        old = paths.releases / f"old{number}"
        shutil.copytree(release.directory(paths, PAYLOAD), old)
        os.utime(old, (number, number))
    assert ("old0", "leftover", "remove") in looked(paths)
    release.prune(paths, {release.identity(PAYLOAD)}, [])
    assert looked(paths) == []


def test_files_that_a_container_still_mounts_are_no_leftover(paths: StackPaths) -> None:
    (paths.files / "web" / "d0").mkdir()
    labels = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}
    mounts = [{"Type": "bind", "Source": str(paths.files / "web" / "d0"), "Destination": "/etc/web"}]
    one = {"Id": "1", "Name": "/shop-web-1", "Created": "", "Config": {"Labels": labels}, "Mounts": mounts}
    assert looked(paths, [one]) == []
    assert looked(paths, [{**one, "Mounts": []}]) == [("d0", "leftover", "remove")]
    assert host_ours.of_stack(paths, PAYLOAD, None, systemd(paths)) == []  # nobody knows


def test_a_container_of_our_project_that_is_of_no_service_is_told_and_left(paths: StackPaths) -> None:
    labels = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}
    once = {**labels, "com.docker.compose.oneoff": "True"}
    containers = [
        {"Id": name, "Name": f"/{name}", "Created": name, "Config": {"Labels": one}}
        for name, one in (("shop-web-1", labels), ("shop-web-run-1", once))
    ]
    assert looked(paths, containers) == [("shop-web-run-1", "orphan", "none")]


def test_owners_and_modes_are_put_right(paths: StackPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    paths.state.chmod(0o777)
    assert host_ours.own(paths, PAYLOAD, check=True) == [f"{paths.state}: mode 0700"]
    assert host_ours.own(paths, PAYLOAD, check=False) == [f"{paths.state}: mode 0700"]
    assert looked(paths) == []
    given: list[object] = []
    monkeypatch.setattr(host_ours, "_ROOT", "4321:4321")
    monkeypatch.setattr(host_ours, "_set", lambda *words: given.append(words))
    host_ours.own(paths, PAYLOAD, check=False)
    assert (str(paths.plan), None) in given


def test_an_owner_or_a_mode_is_never_given_through_a_link(tmp_path: Path) -> None:
    """Who may write where it lies could put one there after the look, and have any file of the host's given away."""
    target, link = tmp_path / "shadow", tmp_path / "link"
    target.write_text("")
    target.chmod(0o600)
    link.symlink_to(target)
    for mode in (0o644, None):
        with pytest.raises(OSError, match="symbolic link"):
            host_ours._set(str(link), mode)
    assert target.stat().st_mode & 0o777 == 0o600
    host_ours._set(str(target), 0o640)
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_systemd_that_does_not_answer_is_an_error_and_not_a_row_for_each_unit(
    paths: StackPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "Failed to connect to bus\n")
    monkeypatch.setattr(subprocess, "run", lambda *_words, **_more: failed)
    with pytest.raises(BattenError, match="Failed to connect to bus"):
        host_ours.live_units(["docker.service"])
    assert [one for one in host_ours.of_stack(paths, PAYLOAD, None, {}) if one.facet in ("unit", "timer")] == []
