"""What is asked of a row of the drift matrix."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from tests.drift.row import Row
from tests.drift.table import JUDGED
from tests.drift.yard import Yard, named


def ask(yard: Yard, row: Row) -> None:
    """Found exactly, seen by its controls, repaired by one run with the least disturbance, and a second look is empty.

    A control is read for the first row that names it: a read costs more than all the rest. AssertionError says what is
    not so.
    """
    yard.hand(row.damage)
    before = yard.starts()
    with ThreadPoolExecutor(1) as beside:
        failing = beside.submit(yard.failing) if row.name in JUDGED else None
        look = yard.look()
    assert named(look.found, row.found) == row.found, str(look)
    assert not look.errors, str(look)
    assert look.ignored == row.ignored
    if failing:
        assert set(row.controls) <= failing.result() - yard.waived

    if row.refused:
        done = yard.repair()
        assert row.refused in f"{look}{done.stdout}{done.stderr}"
        yard.hand(row.undo)
    if row.site:
        yard.up()
    else:
        done = yard.repair()
        assert done.returncode == 0, done.stdout + done.stderr
    assert started_since(before, yard) == row.touched
    look = yard.look()
    assert look.is_empty, str(look)
    assert look.ignored == row.ignored
    if not row.refused:
        yard.hand(row.undo)


def started_since(before: Mapping[str, str], yard: Yard) -> set[str]:
    """Services of which a container runs that was started, restarted or made since."""
    return {service for start, service in yard.starts().items() if start not in before}
