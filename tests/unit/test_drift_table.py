"""The drift matrix as a table: what needs no host."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from batten.verify.catalogue import catalogue
from tests.drift import page
from tests.drift.row import SERVICES
from tests.drift.table import ROWS

PAGE = Path(__file__).parents[2] / "docs" / "drift.md"
SCOPES = {"service", "host", "secret", "file", "network", "volume"}


def test_rows_are_at_least_eighty_and_each_has_a_name_of_its_own() -> None:
    assert len(ROWS) >= 80
    assert [name for name, times in Counter(row.name for row in ROWS).items() if times > 1] == []


def test_rows_name_services_scopes_and_controls_that_exist() -> None:
    for row in ROWS:
        assert {scope for scope, _, _ in row.found} <= SCOPES, row.name
        assert row.touched <= set(SERVICES), row.name
        assert set(row.controls) <= catalogue().keys(), row.name


def test_every_family_of_the_issue_has_rows() -> None:
    assert {scope for row in ROWS for scope, _, _ in row.found} == SCOPES
    assert sum(row.site for row in ROWS) >= 10
    assert any(not row.found for row in ROWS)


def test_the_page_has_the_table_of_these_rows() -> None:
    text = PAGE.read_text()
    assert page.written_into(text) == text, "run: python -m tests.drift.page docs/drift.md"


def test_what_is_refused_has_a_way_by_hand() -> None:
    assert [row.name for row in ROWS if row.refused and not row.undo] == []
