"""The page of controls, and the benchmark's numbers: what is listed is what there is."""

from __future__ import annotations

from pathlib import Path

from batten.verify import page
from batten.verify.catalogue import catalogue
from batten.verify.cis import NOT_JUDGED, NUMBERS

PAGE = Path(__file__).parents[2] / "docs" / "controls.md"


def test_the_page_lists_what_there_is() -> None:
    text = PAGE.read_text()
    assert page.written_into(text) == text, "run: python -m batten.verify.page docs/controls.md"
    assert all(f"| `{name}` |" in text for name in catalogue())


def test_every_number_of_the_benchmark_has_a_control_or_a_reason() -> None:
    judged = {entry.cis for entry in catalogue().values() if entry.cis}
    assert judged | NOT_JUDGED.keys() == set(NUMBERS)
    assert judged & NOT_JUDGED.keys() == set()
    assert all(reason.endswith(".") for _, reason in NOT_JUDGED.values())


def test_there_are_at_least_120_controls() -> None:
    assert len(catalogue()) >= 120
