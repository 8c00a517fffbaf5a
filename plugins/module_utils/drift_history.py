"""What a host found when its timer made it look at itself: the last report, what changed when, and metrics."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import atomic, exposition
from .drift import Report
from .observed import timestamp
from .paths import PROGRAM, HostPaths

MOST_LINES = 2000
MOST_ROWS = 200  # of one line: a host where everything differs is told by the count
_NAMES = ("stack", "scope", "name", "facet")
_SHOWN = 5  # rows that the journal's line names


def record(paths: HostPaths, report: Report) -> None:
    """Keep a report: whole as the last one, in the history where it differs from the one before, as metrics."""
    atomic.make_directory(paths.run, 0o755)  # whatever the umask of the timer's unit
    atomic.make_directory(paths.metrics.parent, 0o755)
    atomic.write_json(paths.drift, report.to_json())
    atomic.write(paths.metrics, metrics(report).encode(), 0o644)
    lines = _lines(paths.history)
    new = line(report)
    if not lines or outcome(lines[-1]) != outcome(new):
        atomic.make_directory(paths.history.parent, 0o750)
        text = "".join(json.dumps(one, sort_keys=True) + "\n" for one in [*lines, new][-MOST_LINES:])
        atomic.write(paths.history, text.encode(), 0o640)


def line(report: Report) -> dict[str, Any]:
    """Return the line of the history that stands for a report: what differed, without the values."""
    rows = [{key: row[key] for key in _NAMES} for row in report.drift[:MOST_ROWS]]
    return {"at": report.at, "drift": len(report.drift), "errors": len(report.errors), "rows": rows}


def outcome(line: Mapping[str, Any]) -> Any:
    """Return what two lines that say the same have in common: all but the time."""
    return {key: value for key, value in line.items() if key != "at"}


def journal(report: Report) -> str:
    """Return one line for the journal, with the level that it has there (sd-daemon(3): ``<4>`` is a warning)."""
    if report.errors:
        first = report.errors[0]
        return f"<3>drift could not be told in full: {first['where']}: {first['what']}".replace("\n", "; ")
    if not report.drift:
        return f"<6>no drift, {len(report.ignored)} ignored, in {report.seconds:.1f} s"
    names = [f"{row['stack'] or 'host'} {row['name']} {row['facet']}" for row in report.drift]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"<4>{len(names)} differences: {', '.join(names[:_SHOWN])}{more}; python3 {PROGRAM} drift shows them"


def metrics(report: Report) -> str:
    """Return the report for Prometheus."""
    kinds = Counter((row["stack"] or "", row["scope"], row["facet"]) for row in report.drift)
    counts = {
        f'stack="{stack}",scope="{scope}",facet="{facet}"': count
        for (stack, scope, facet), count in sorted(kinds.items())
    }
    families: Sequence[tuple[str, str, Mapping[str, Any]]] = (
        ("batten_drift", "Facets that are not as planned; none where there is no drift.", counts),
        ("batten_drift_ignored", "Differences that the inventory leaves out.", {"": len(report.ignored)}),
        ("batten_drift_errors", "What could not be looked at.", {"": len(report.errors)}),
        ("batten_drift_seconds", "How long the look took.", {"": report.seconds}),
        ("batten_drift_checked_timestamp_seconds", "When the host was looked at.", {"": timestamp(report.at)}),
    )
    return exposition.text(families)


def _lines(path: Path) -> list[dict[str, Any]]:
    """Return the history, without lines that are none (a disk that was full)."""
    found = []
    for text in path.read_text(errors="replace").splitlines() if path.exists() else []:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and "rows" in line:
            found.append(line)
    return found
