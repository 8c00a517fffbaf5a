"""What ``batten drift`` prints: what it came to, one line a host, then each difference."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from batten.report.plan import table

Host = Mapping[str, Any]
"""One host of ``batten drift --json``: its report, or ``{"error": {"what", "fix"}}``."""
_SHOWN = 60  # characters of a value in a column


def drift_text(hosts: Mapping[str, Host]) -> str:
    """Return the whole report as text, hosts in order of their names."""
    width = max((len(name) for name in hosts), default=0)
    lines = [_summary(hosts), *(f"  {name:{width}}  {_line(host)}" for name, host in sorted(hosts.items()))]
    return "\n".join([*lines, *(text for name, host in sorted(hosts.items()) if (text := _details(name, host)))])


def exit_code(hosts: Mapping[str, Host]) -> int:
    """Return 0 for no drift, 2 for drift, 1 where a host, or a part of one, could not be looked at."""
    if not hosts or any(host.get("error") or host.get("errors") for host in hosts.values()):
        return 1
    return 2 if any(host["drift"] for host in hosts.values()) else 0


def _summary(hosts: Mapping[str, Host]) -> str:
    kinds = Counter(_kind(host) for host in hosts.values())
    words = ("drifted", "without drift", "not looked at in full", "gave no answer")
    counts = ", ".join(f"{kinds[word]} {word}" for word in words if kinds[word])
    return f"{_count(len(hosts), 'host')}: {counts}"


def _kind(host: Host) -> str:
    if host.get("error"):
        return "gave no answer"
    if host["errors"]:
        return "not looked at in full"
    return "drifted" if host["drift"] else "without drift"


def _line(host: Host) -> str:
    if host.get("error"):
        return f"ERROR {host['error']['what'].splitlines()[0]}"
    parts = [_count(len(host["drift"]), "difference") if host["drift"] else "no drift"]
    if host["errors"]:
        parts.insert(0, f"ERROR {host['errors'][0]['what'].splitlines()[0]}")
    if host.get("ignored"):
        parts.append(f"{len(host['ignored'])} ignored")
    if host.get("deferred"):
        parts.append(f"{len(host['deferred'])} put off")
    releases = " ".join(f"{stack} {one['release']}" for stack, one in sorted(host.get("stacks", {}).items()))
    return ", ".join(parts) + (f" ({releases}; {host['seconds']:.1f} s)" if releases else "")


def _details(name: str, host: Host) -> str:
    lines: list[str] = []
    for error in [host["error"]] if host.get("error") else host["errors"]:
        where = f"{error['where']}: " if error.get("where") else ""
        lines += [f"ERROR {where}{error['what']}", *([f"  fix: {error['fix']}"] if error.get("fix") else [])]
    if not host.get("error"):
        lines += _table(host["drift"])
        lines += [f"ignored: {_subject(row)} {row['facet']}{_why(row)}" for row in host.get("ignored", ())]
        lines += [f"put off: {one['action']} {one['service']}: {one['why']}" for one in host.get("deferred", ())]
        lines += [f"note: {note}" for note in host.get("notes", ())]
    return "\n".join(["", name, *(f"  {line}" for text in lines for line in text.splitlines())]) if lines else ""


def _table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return []
    headings = ("what", "facet", "now", "planned", "repair")
    cells = [
        (_subject(row), str(row["facet"]), _short(row["actual"]), _short(row["desired"]), _repair(row)) for row in rows
    ]
    head, rule, *lines = table(headings, cells).splitlines()
    why = [[f"    {_why(row).strip()}"] if row.get("reason") else [] for row in rows]
    return [head, rule, *(line for pair in zip(lines, why, strict=True) for line in (pair[0], *pair[1]))]


def _subject(row: Mapping[str, Any]) -> str:
    """Return where a difference is: ``demo/api``, ``demo secret api/password``, ``host daemon.json``."""
    stack = row["stack"] or ""
    if row["scope"] == "service":
        return f"{stack}/{row['name']}"
    return " ".join(part for part in (stack, row["scope"], row["name"]) if part)


def _repair(row: Mapping[str, Any]) -> str:
    """Return what a run does about it, and what that takes and interrupts."""
    words = str(row["action"])
    if row.get("seconds"):
        words += f", {row['seconds']:g} s"
    others = [name for name in row.get("restarts", ()) if name != row["name"]]
    if others:
        words += f", interrupts {' '.join(others)}"
    return words


def _why(row: Mapping[str, Any]) -> str:
    until = f", until {row['until']}" if row.get("until") else ""
    return f" ({row['reason']}{until})" if row.get("reason") else ""


def _short(value: Any) -> str:
    shown = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
