"""What a host keeps of its own looks: a line where something changed, the last report, metrics, a journal line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.batten.core.plugins.module_utils import drift_history
from ansible_collections.batten.core.plugins.module_utils.drift import Report
from ansible_collections.batten.core.plugins.module_utils.paths import HostPaths


def row(name: str = "api", stack: str | None = "shop", facet: str = "memory") -> dict[str, Any]:
    secret = {"desired": "secret-before", "actual": "secret-after"}
    return {"stack": stack, "scope": "service", "name": name, "facet": facet, **secret, "action": "update"}


def report(*rows: dict[str, Any], at: int = 0, **more: Any) -> Report:
    return Report(f"2026-11-23T10:00:{at:02}Z", 0.5, drift=list(rows), **more)


def history(paths: HostPaths) -> list[dict[str, Any]]:
    return [json.loads(line) for line in paths.history.read_text().splitlines()]


@pytest.fixture
def paths(tmp_path: Path) -> HostPaths:
    return HostPaths(str(tmp_path))


def test_a_line_is_added_only_when_something_else_is_found(paths: HostPaths) -> None:
    looks = [report(), report(at=1), report(row(), at=2), report(row(), at=3), report(row(), row("db"), at=4)]
    for one in [*looks, report(at=5)]:
        drift_history.record(paths, one)
    assert [(line["at"][-3:-1], line["drift"]) for line in history(paths)] == [
        ("00", 0),
        ("02", 1),
        ("04", 2),
        ("05", 0),
    ]
    assert history(paths)[1]["rows"] == [{"stack": "shop", "scope": "service", "name": "api", "facet": "memory"}]
    assert json.loads(paths.drift.read_text())["at"].endswith("05Z")


def test_the_history_holds_no_values_and_ends_somewhere(paths: HostPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_history, "MOST_LINES", 3)
    for number in range(6):
        drift_history.record(paths, report(row(f"n{number}"), at=number))
    assert [line["rows"][0]["name"] for line in history(paths)] == ["n3", "n4", "n5"]
    assert "secret-" not in paths.history.read_text() + paths.metrics.read_text()
    modes = [path.stat().st_mode & 0o777 for path in (paths.history, paths.drift, paths.metrics)]
    assert modes == [0o640, 0o600, 0o644]


def test_a_damaged_line_costs_itself_alone(paths: HostPaths) -> None:
    drift_history.record(paths, report())
    with paths.history.open("a") as file:
        file.write('{"at": "2026-\n[]\n')
    drift_history.record(paths, report(row(), at=1))
    assert [line["drift"] for line in history(paths)] == [0, 1]


def test_metrics_count_by_stack_scope_and_facet() -> None:
    text = drift_history.metrics(report(row(), row("db"), row(stack=None, facet="mode"), errors=[{"where": "x"}]))
    lines = text.splitlines()
    assert 'batten_drift{stack="shop",scope="service",facet="memory"} 2' in lines
    assert 'batten_drift{stack="",scope="service",facet="mode"} 1' in lines
    assert "batten_drift_errors 1" in lines
    assert "batten_drift_checked_timestamp_seconds 1795428000.0" in lines
    assert not any(line.startswith("batten_drift{") for line in drift_history.metrics(report()).splitlines())


@pytest.mark.parametrize(
    ("found", "begins"),
    [
        (report(), "<6>no drift"),
        (report(row()), "<4>1 differences: shop api memory; python3 /usr/local/lib/batten/batten-host.pyz drift"),
        (report(*(row(str(number)) for number in range(9))), "<4>9 differences: shop 0 memory, "),
        (report(row(), errors=[{"where": "stack shop", "what": "a\nb"}]), "<3>drift could not be told in full"),
    ],
)
def test_the_journal_gets_one_line_with_its_level(found: Report, begins: str) -> None:
    line = drift_history.journal(found)
    assert line.startswith(begins)
    assert "\n" not in line
    assert len(line) < 300


@given(st.lists(st.sampled_from("abc"), max_size=30))
def test_two_lines_in_a_row_never_say_the_same(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    paths = HostPaths(str(tmp_path_factory.mktemp("history")))
    for number, name in enumerate(names):
        drift_history.record(paths, report(row(name), at=number))
    found = [line["rows"][0]["name"] for line in history(paths)] if names else []
    assert found == [name for number, name in enumerate(names) if number == 0 or names[number - 1] != name]


def test_a_history_stays_small_and_readable_whatever_is_in_it(
    paths: HostPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift_history, "MOST_ROWS", 2)
    drift_history.record(paths, report(row("a"), row("b"), row("c")))
    assert (history(paths)[0]["drift"], len(history(paths)[0]["rows"])) == (3, 2)
    with paths.history.open("ab") as stream:
        stream.write(b"\xff\xfe\n")
    drift_history.record(paths, report(at=1))
    assert [line["drift"] for line in history(paths)] == [3, 0]
