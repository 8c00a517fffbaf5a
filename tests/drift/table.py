"""The drift matrix: what is done to a host by hand, what must be found of it, and what the repair may touch.

Rows name what they are about in the words of ``batten drift --json``: (scope, name, facet).
"""

from __future__ import annotations

from tests.drift import rows_containers, rows_host, rows_kernel, rows_stack
from tests.drift.row import Row

ROWS: tuple[Row, ...] = (*rows_containers.ROWS, *rows_kernel.ROWS, *rows_stack.ROWS, *rows_host.ROWS)


def _judged() -> set[str]:
    known: set[str] = set()
    found = set()
    for row in ROWS:
        if not set(row.controls) <= known:
            found.add(row.name)
        known |= set(row.controls)
    return found


JUDGED = _judged()
"""The names of the rows that are the first to name one of their controls."""
