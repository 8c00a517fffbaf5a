"""The drift matrix on one host: every row found exactly, repaired by one run with the least disturbance, and proven.

A row that fails is told, and the host is brought back before the next one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.drift.row import Row
from tests.drift.table import ROWS
from tests.drift.yard import Yard, named
from tests.rig import hosts, images, registry


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    registry.ensure_registry()
    images.ensure_images()
    host = hosts.start(f"batten-drift-{os.getpid()}", "engine")
    try:
        found = Yard(host, tmp_path_factory.mktemp("drift"))
        found.deploy()
        yield found
    finally:
        host.remove()


def test_a_host_that_nobody_touched_shows_no_drift_and_no_repair_changes_it(yard: Yard) -> None:
    before = yard.starts()
    look = yard.look()
    assert (look.rows, look.errors) == ((), ()), str(look)
    assert '"changed": false' in yard.repair().stdout
    assert yard.starts() == before


@pytest.fixture
def brought_back(yard: Yard, request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever happens in a row, the next one begins on a clean host."""
    failures = request.session.testsfailed
    yield
    if request.session.testsfailed > failures:
        yard.bring_back(request.getfixturevalue("row").undo)


@pytest.mark.parametrize("row", ROWS, ids=[row.name.replace(" ", "-") for row in ROWS])
@pytest.mark.usefixtures("brought_back")
def test_row(yard: Yard, row: Row) -> None:
    yard.hand(row.damage)
    before = yard.starts()
    look = yard.look()
    assert named(look.found, row.found) == row.found, str(look)
    assert not look.errors, str(look)
    if row.controls:
        assert set(row.controls) <= yard.failing() - yard.waived

    if row.refused:
        done = yard.repair()
        assert row.refused in f"{look}{done.stdout}{done.stderr}"
        yard.hand(row.undo)
    repair(yard, row)
    assert started_since(before, yard) == row.touched
    look = yard.look()
    assert (look.rows, look.errors) == ((), ()), str(look)
    if row.controls:
        assert yard.failing() <= yard.waived
    if not row.refused:
        yard.hand(row.undo)


def repair(yard: Yard, row: Row) -> None:
    if row.site:
        yard.up()
    else:
        done = yard.repair()
        assert done.returncode == 0, done.stdout + done.stderr


def started_since(before: dict[str, str], yard: Yard) -> set[str]:
    """Services of which a container runs that was started, restarted or made since."""
    return {service for start, service in yard.starts().items() if start not in before}
