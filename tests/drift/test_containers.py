"""The drift matrix, containers. A row that fails is told, and the host is brought back before the next one."""

from __future__ import annotations

import pytest

from tests.drift.matrix import ask
from tests.drift.row import Row, slug
from tests.drift.rows_containers import ROWS
from tests.drift.yard import Yard


def test_a_host_that_nobody_touched_shows_no_drift_and_no_repair_changes_it(yard: Yard) -> None:
    before = yard.starts()
    look = yard.look()
    assert look.is_empty, str(look)
    assert '"changed": false' in yard.repair().stdout
    assert yard.starts() == before


@pytest.mark.parametrize("row", ROWS, ids=slug)
@pytest.mark.usefixtures("brought_back")
def test_row(yard: Yard, row: Row) -> None:
    ask(yard, row)


def test_in_the_end_every_control_holds_again(yard: Yard) -> None:
    assert yard.failing() <= yard.waived
