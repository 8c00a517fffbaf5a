"""The drift matrix on one host: every row found exactly, repaired by one run with the least disturbance, and proven.

A row that fails is told, and the host is brought back before the next one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.drift.row import Row
from tests.drift.table import ROWS
from tests.drift.yard import Yard, named
from tests.rig import hosts, images, registry

BEGUN = """
held() { p=$(sed -n 's/.*"pid": \\([0-9]*\\).*"brief": false.*/\\1/p' /run/lock/batten-yard.lock) && kill -0 $p; }
until held 2>/dev/null || docker inspect yard-worker-1 >/dev/null 2>&1; do sleep 0.05; done"""
"""Shell: waits until a run holds the stack, or has done its work."""


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
    assert look.is_empty, str(look)
    assert '"changed": false' in yard.repair().stdout
    assert yard.starts() == before


@pytest.fixture
def brought_back(yard: Yard, request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever happens in a row, the next one begins on a clean host."""
    failures = request.session.testsfailed
    yield
    if request.session.testsfailed > failures:
        yard.bring_back(request.getfixturevalue("row").undo)
        # What no look sees may be left, in a container.
        if not yard.failing() <= yard.waived:
            yard.host.run("docker ps -aq | xargs -r docker rm -f")
            yard.bring_back()


@pytest.mark.parametrize("row", ROWS, ids=[row.name.replace(" ", "-") for row in ROWS])
@pytest.mark.usefixtures("brought_back")
def test_row(yard: Yard, row: Row) -> None:
    yard.hand(row.damage)
    before = yard.starts()
    with ThreadPoolExecutor(1) as beside:
        judged = beside.submit(yard.failing) if row.controls else None
        look = yard.look()
    assert named(look.found, row.found) == row.found, str(look)
    assert not look.errors, str(look)
    if judged:
        assert set(row.controls) <= judged.result() - yard.waived

    if row.refused:
        done = yard.repair()
        assert row.refused in f"{look}{done.stdout}{done.stderr}"
        yard.hand(row.undo)
    repair(yard, row)
    assert started_since(before, yard) == row.touched
    with ThreadPoolExecutor(1) as beside:
        judged = beside.submit(yard.failing) if row.controls else None
        look = yard.look()
    assert look.is_empty, str(look)
    if judged:
        assert judged.result() <= yard.waived
    if not row.refused:
        yard.hand(row.undo)


def test_a_look_while_a_run_is_going_on_shows_nothing_that_is_half_done(yard: Yard) -> None:
    yard.hand("docker rm -f yard-worker-1")
    with ThreadPoolExecutor(1) as beside:
        run = beside.submit(yard.repair)
        yard.hand(BEGUN)
        look = yard.look()
        assert run.result().returncode == 0, run.result().stderr
    assert look.rows == (), str(look)
    assert all("another run holds" in one["what"] for one in look.errors), str(look)
    assert yard.look().is_empty


def repair(yard: Yard, row: Row) -> None:
    if row.site:
        yard.up()
    else:
        done = yard.repair()
        assert done.returncode == 0, done.stdout + done.stderr


def started_since(before: dict[str, str], yard: Yard) -> set[str]:
    """Services of which a container runs that was started, restarted or made since."""
    return {service for start, service in yard.starts().items() if start not in before}
