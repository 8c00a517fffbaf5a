"""The lists of ``docs/controls.md``; ``python -m batten.verify.page docs/controls.md`` makes them anew."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from batten.verify.catalogue import FAMILIES, catalogue
from batten.verify.cis import NOT_JUDGED, order

BEGIN, END = "<!-- the lists: python -m batten.verify.page -->\n", "<!-- end of the lists -->\n"
OF = {"service": "each service", "stack": "each stack", "host": "the host"}


def lists() -> str:
    """Return the controls by family, and the benchmark's numbers that have none, as Markdown."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    entries = catalogue()
    numbers = {entry.cis for entry in entries.values() if entry.cis}
    yield f"There are {len(entries)} controls; they answer {len(numbers)} numbers of the CIS Docker Benchmark 1.6.0."
    for family in FAMILIES:
        yield from ("", f"### {family}", "", "| control | judges | what holds | CIS |", "|---|---|---|---|")
        for name, entry in entries.items():
            if name.startswith(f"{family}."):
                yield f"| `{name}` | {OF[entry.scope]} | {entry.title} | {entry.cis or ''} |"
    yield from (
        "",
        "### Numbers of the benchmark without a control",
        "",
        "| CIS | asks for | why not |",
        "|---|---|---|",
    )
    for number, (title, reason) in sorted(NOT_JUDGED.items(), key=lambda pair: order(pair[0])):
        yield f"| {number} | {title} | {reason} |"
    yield "| 7.1 to 7.9 | A swarm's managers and nodes | There is no swarm: `daemon.no-swarm` (5.1) sees to it. |"


def written_into(text: str) -> str:
    """Return the page with its lists made anew."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{lists()}{END}{after}"


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(written_into(page.read_text()))
