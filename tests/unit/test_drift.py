"""A host as a whole: every stack, what cannot be looked at, and what a policy leaves out."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import (
    atomic,
    drift,
    host_ours,
    host_state,
    lock,
    model_cache,
    policy,
    release,
    secret_facets,
    survey,
)
from ansible_collections.batten.core.plugins.module_utils import host as role_host
from ansible_collections.batten.core.plugins.module_utils.compare import Difference
from ansible_collections.batten.core.plugins.module_utils.docker_api import Docker
from ansible_collections.batten.core.plugins.module_utils.engine_view import View
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths


def payload(stack: str, **plan: Any) -> dict[str, Any]:
    secrets: dict[str, Any] = {"generate": {}, "deliveries": {}}
    return {"stack": stack, "project": stack, "layers": [], "plan": {"services": {}, **plan}, "secrets": secrets}


def deployed(root: Path, stack: str, **plan: Any) -> StackPaths:
    paths = StackPaths(stack, str(root))
    release.write(paths, payload(stack, **plan))
    release.activate(paths, payload(stack, **plan))
    release.mark_good(paths, payload(stack, **plan), {})
    return paths


def row(stack: str, facet: str = "memory", name: str = "api") -> Difference:
    return Difference(stack, "service", name, facet, 1, 2, "update")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two stacks on a host without an engine of its own; each has one difference in its containers."""
    for stack in ("infisical", "shop"):
        deployed(tmp_path, stack)

    def look(_view: object, paths: StackPaths, payload: dict[str, Any], *_: object) -> survey.Survey:
        found = policy.divide([row(paths.stack)], payload["plan"].get("drift") or (), policy.today())
        return survey.Survey({}, {}, {}, [], found.repair, {}, frozenset(), (), found.report, found.ignored)

    monkeypatch.setattr(View, "read", lambda docker: View(docker, {}, [], [], []))
    monkeypatch.setattr(survey, "look", look)
    monkeypatch.setattr(model_cache, "merged", lambda *_: {"services": {}})
    monkeypatch.setattr(secret_facets, "look", lambda *_: secret_facets.Found())
    monkeypatch.setattr(host_ours, "of_stack", lambda *_: [])
    monkeypatch.setattr(host_ours, "of_host", lambda *_: [])
    monkeypatch.setattr(host_ours, "live_units", lambda _: {})
    return tmp_path


def look(host: Path, stack: str | None = None) -> drift.Report:
    return drift.look(Docker("/nowhere"), str(host), stack)


def stacks(report: drift.Report) -> list[str | None]:
    return [one["stack"] for one in report.drift]


def test_every_stack_is_looked_at_and_infisical_last(host: Path) -> None:
    report = look(host)
    assert (stacks(report), report.errors, report.exit_code) == (["shop", "infisical"], [], drift.DRIFT)
    assert set(report.stacks) == {"shop", "infisical"}
    assert set(report.to_json()) >= {"at", "seconds", "stacks", "drift", "ignored", "errors"}


def test_one_stack_alone_and_one_that_is_not_there(host: Path) -> None:
    assert stacks(look(host, "shop")) == ["shop"]
    with pytest.raises(BattenError, match="no stack shp runs here"):
        look(host, "shp")


def test_a_stack_that_a_run_holds_is_an_error_with_its_pid_and_hides_no_other(host: Path) -> None:
    with lock.held(StackPaths("shop", str(host)).lock):
        report = look(host)
    assert stacks(report) == ["infisical"]
    assert "another run holds this stack (pid " in report.errors[0]["what"]
    assert report.exit_code == drift.FAILED
    assert look(host).exit_code == drift.DRIFT


def test_what_role_host_is_at_work_on_is_an_error_and_what_it_does_not_write_is_told(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_done = Difference(None, "host", "net.x", "sysctl", 1, 0, "rewrite")
    monkeypatch.setattr(host_state, "of_host", lambda _: [half_done])
    monkeypatch.setattr(host_ours, "of_host", lambda *_: [Difference(None, "host", "x", "mode", 1, 2, "rewrite")])
    with role_host.held(str(host)):
        report = look(host)
        assert [one["where"] for one in look(host, "shop").errors] == []
    assert [one["name"] for one in report.drift if one["scope"] == "host"] == ["x"]
    assert (report.exit_code, report.busy) == (drift.FAILED, ["this host"])
    assert "another run holds this host (pid " in report.errors[0]["what"]
    assert report.errors[0]["fix"].startswith("wait until it ends")
    assert [one["name"] for one in look(host).drift if one["scope"] == "host"] == ["x", "net.x"]


def test_a_run_of_role_host_waits_for_a_look(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, order = threading.Event(), []

    def of_host(_root: str) -> list[Difference]:
        begun.set()
        time.sleep(0.5)
        order.append("looked")
        return []

    monkeypatch.setattr(host_state, "of_host", of_host)
    looking = threading.Thread(target=look, args=[host])
    looking.start()
    begun.wait()
    with role_host.held(str(host)):
        order.append("ran")
    looking.join()
    assert order == ["looked", "ran"]


def test_without_an_engine_the_rest_is_still_told(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(_docker: object) -> View:
        raise BattenError("the Docker engine does not answer", "/var/run/docker.sock", "systemctl status docker")

    monkeypatch.setattr(View, "read", down)
    monkeypatch.setattr(host_ours, "of_host", lambda *_: [Difference(None, "host", "x", "mode", 1, 2, "rewrite")])
    report = look(host)
    assert [(one["name"], one["stack"]) for one in report.drift] == [("x", None)]
    assert [one["fix"] for one in report.errors] == ["systemctl status docker"]
    assert set(report.stacks) == {"shop", "infisical"}


def test_a_release_that_is_nowhere_whole_is_an_error_and_the_last_good_one_stands_in(host: Path) -> None:
    paths = StackPaths("shop", str(host))
    (paths.current / "release.json").write_text("{}")
    assert (look(host).errors, set(look(host).stacks)) == ([], {"infisical", "shop"})
    paths.release.write_text("{}")
    (error,) = look(host).errors
    assert "was edited" in error["what"]
    assert "site.yml -i" in error["fix"]
    other = deployed(host, "shop", reserve=1)
    atomic.point(paths.current, paths.releases / "0000")
    report = look(host)
    assert report.errors == []
    assert report.stacks["shop"] == {"release": release.last_good(other)}
    assert ("shop", "current") in [(one["stack"], one["facet"]) for one in report.drift]


def test_what_the_policy_says_is_left_out_or_told_with_its_reason(host: Path) -> None:
    kept = {"facet": "memory", "service": "*", "policy": "ignore", "reason": "a load test", "until": "2999-01-01"}
    deployed(host, "shop", drift=[kept])
    deployed(host, "infisical", drift=[{**kept, "policy": "report"}])
    report = look(host)
    assert [(one["stack"], one["reason"], one["until"]) for one in report.ignored] == [
        ("shop", "a load test", "2999-01-01")
    ]
    assert [(one["stack"], one["reason"]) for one in report.drift] == [("infisical", "a load test")]
    deployed(host, "shop", drift=[{**kept, "until": "2020-01-01"}])
    report = look(host)
    assert stacks(report) == ["shop", "infisical"]
    assert "ended on 2020-01-01" in report.notes[0]


def test_a_host_with_nothing_on_it_has_no_drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_ours, "of_host", lambda *_: [])
    assert look(tmp_path).exit_code == drift.NONE


def test_on_the_host_what_it_came_to_is_the_first_line(host: Path) -> None:
    lines = drift.text(look(host)).splitlines()
    assert lines[0].startswith("2 differences, 0 errors, in ")
    assert "shop service api memory: 2, planned 1: update" in lines


class Composes:
    """Stands for Compose, and counts."""

    calls = 0

    def __call__(self, *_: object) -> dict[str, Any]:
        self.calls += 1
        return {"services": {"api": {"image": "x"}}}


def test_composes_merge_is_kept_until_the_release_or_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose = Composes()
    monkeypatch.setattr(survey, "merged_model", compose)
    paths = deployed(tmp_path, "shop")
    first = model_cache.merged(paths, payload("shop"))
    assert model_cache.merged(paths, payload("shop")) == first
    assert compose.calls == 1
    model_cache.merged(paths, payload("shop", reserve=1))
    assert compose.calls == 2
    paths.model.write_text(paths.model.read_text().replace('"x"', '"y"'))
    assert model_cache.merged(paths, payload("shop", reserve=1)) == first
    assert compose.calls == 3
    monkeypatch.setattr(model_cache, "compose_program", lambda: [["/usr/lib/x", 1, 2]])
    model_cache.merged(paths, payload("shop", reserve=1))
    assert compose.calls == 4


def test_a_defect_in_one_look_hides_nothing_else_and_tells_no_value(
    host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(view: View, paths: StackPaths, *_: Any) -> Any:
        if paths.stack == "shop":
            raise ValueError("invalid literal for int(): 'hunter2'")
        return found(view, paths, *_)

    found = drift.survey.look
    monkeypatch.setattr(drift.survey, "look", broken)
    report = look(host)
    assert stacks(report) == ["infisical"]
    assert [one["where"] for one in report.errors] == ["stack shop"]
    assert report.errors[0]["what"].startswith("ValueError in drift.py, line ")
    assert "hunter2" not in json.dumps(report.to_json())


@pytest.mark.parametrize("taken", ["lock", "backup_lock"])
def test_what_a_run_or_a_backup_starts_in_containers_is_no_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    """A backup lets go of the stack's lock before it dumps: its pg_dump was told, and ended by a repair."""
    paths = StackPaths("shop", str(tmp_path))
    monkeypatch.setattr(drift.lock, "is_held_by_another", lambda path: path == getattr(paths, taken))
    monkeypatch.setattr(drift.survey.processes, "by_namespace", lambda: pytest.fail("nobody is to be judged"))
    assert drift.survey.at_work(paths)
    assert drift.survey._beneath("shop", None, paths, {}, {}) == []  # type: ignore[arg-type]
    monkeypatch.setattr(drift.lock, "is_held_by_another", lambda _: False)
    assert not drift.survey.at_work(paths)
