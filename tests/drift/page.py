"""The table of ``docs/drift.md``; ``python -m tests.drift.page docs/drift.md`` makes it anew."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from batten.plan.drift import HOST_FACETS, STACK_FACETS
from tests.drift.table import ROWS

BEGIN, END = "<!-- the table: python -m tests.drift.page -->\n", "<!-- end of the table -->\n"
SCOPES = ("service", "file", "secret", "network", "volume", "host")


def _lines() -> Iterator[str]:
    yield f"{len(ROWS)} rows; {sum(row.site for row in ROWS)} of them are repaired by `site.yml`."
    yield from ("", "| of | rows | facets that they break |", "|---|---|---|")
    broken: set[str] = set()
    for scope in SCOPES:
        rows = [row for row in ROWS if scope in {one[0] for one in (*row.found, *row.ignored)}]
        facets = sorted({one[2] for row in rows for one in (*row.found, *row.ignored) if one[0] == scope})
        broken.update(facets)
        yield f"| {scope} | {len(rows)} | {', '.join(facets)} |"
    yield f"| nothing: no drift | {sum(not (row.found or row.ignored) for row in ROWS)} | |"
    left = sorted({*STACK_FACETS, *HOST_FACETS} - broken)
    yield from ("", f"Compared, and in no row: {', '.join(left)}.")


def written_into(text: str) -> str:
    """Return the page with its table made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = "\n".join(_lines())
    return f"{before}{BEGIN}{lines}\n{END}{after}"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(written_into(page.read_text()))
