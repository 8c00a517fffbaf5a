"""A verify report as a person reads it: who fails and why, what each service holds, what is used, what ends when.

Pure: plain values in, plain values out, in the order in which the page shows them. ``html.py`` writes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

from batten.report.remedies import remedy

if TYPE_CHECKING:
    from batten.verify.hosts import Expiry, HostReport, ImageInUse, Usage
    from batten.verify.model import Control, Report

WORST_FIRST = ("fail", "waived", "pass", "not_applicable")
SOON_DAYS = 30
NEAR_LIMIT = 0.9
_HISTORY = 10
_ROWS = 4


@dataclass(frozen=True)
class Tally:
    """Counts of statuses, and the worst of them; ``worst`` is "" where there is nothing."""

    failed: int = 0
    waived: int = 0
    held: int = 0
    inapplicable: int = 0

    @classmethod
    def of(cls, controls: Iterable[Control]) -> Tally:
        counts = Counter(str(control.status) for control in controls)
        return cls(*(counts[status] for status in WORST_FIRST))

    @property
    def worst(self) -> str:
        counts = (self.failed, self.waived, self.held, self.inapplicable)
        return next((status for status, count in zip(WORST_FIRST, counts, strict=True) if count), "")

    @property
    def judged(self) -> int:
        return self.failed + self.waived + self.held

    @property
    def words(self) -> str:
        """Such as ``1 fails, 12 hold``."""
        pairs = (
            (self.failed, "fails", "fail"),
            (self.waived, "is waived", "are waived"),
            (self.held, "holds", "hold"),
            (self.inapplicable, "does not apply", "do not apply"),
        )
        return ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in pairs if count)


@dataclass(frozen=True)
class Row:
    """One line of the posture: a service, a stack itself or the host, and its tally in each family."""

    name: str
    cells: tuple[Tally, ...]


@dataclass(frozen=True)
class Group:
    """The lines of one stack, or of the host (``name`` is "")."""

    name: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Failure:
    """A control that fails, where and why."""

    id: str
    title: str
    cis: str | None
    places: tuple[tuple[str, str], ...]  # where, evidence


@dataclass(frozen=True)
class Remedy:
    """What to do about some failures: a sentence, and a command or ""."""

    text: str
    command: str
    failures: tuple[Failure, ...]


@dataclass(frozen=True)
class Bar:
    """A service's memory, in words and as shares of the largest limit on its host. ``used`` None: it does not run."""

    stack: str
    service: str
    limit: str
    used: str | None
    limit_share: float
    used_share: float
    percent: int
    near: bool


@dataclass(frozen=True)
class Budget:
    """A host's memory as shares of a whole: in use by the stacks, promised to them besides, others, what is left."""

    total: str
    parts: tuple[tuple[str, str, str, float, float], ...]  # kind, label, size, from, share


@dataclass(frozen=True)
class End:
    """What ends: ``days`` from now, negative if it ended, None if it has no end. ``age`` in days."""

    kind: str
    name: str
    stack: str
    users: tuple[str, ...]
    until: str
    days: int | None
    age: int
    soon: bool


@dataclass(frozen=True)
class Look:
    """One line of the drift history."""

    at: str
    count: int
    what: tuple[str, ...]
    more: int


@dataclass(frozen=True)
class Host:
    """Everything that the page says of one host. ``error`` is set alone, where it could not be judged."""

    name: str
    anchor: str
    tally: Tally
    error: Mapping[str, str] | None = None
    groups: tuple[Group, ...] = ()
    families: tuple[str, ...] = ()
    system: str = ""
    versions: tuple[tuple[str, str], ...] = ()
    budget: Budget | None = None
    bars: tuple[Bar, ...] = ()
    images: tuple[ImageInUse, ...] = ()
    ends: tuple[End, ...] = ()
    secrets: tuple[End, ...] = ()
    drift_at: str = ""
    drift_count: int | None = None
    drift: tuple[Look, ...] = ()


@dataclass(frozen=True)
class Line:
    """One control over all hosts, for the list of everything that was looked at."""

    id: str
    title: str
    cis: str | None
    tally: Tally


@dataclass(frozen=True)
class Page:
    """The whole page. ``mood`` is ``error``, ``fail``, ``pass`` or ``none``."""

    mood: str
    verdict: str
    detail: str
    at: str
    scope: str
    tally: Tally
    remedies: tuple[Remedy, ...]
    hosts: tuple[Host, ...]
    waivers: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    stand_ins: tuple[tuple[str, tuple[str, ...]], ...]
    controls: tuple[tuple[str, tuple[Line, ...]], ...]


def page(report: Report, inventory: str = "") -> Page:
    """Arrange a report. ``inventory`` is what a person would type after ``-i``."""
    tally = Tally.of(report.controls)
    mood, verdict, detail = _verdict(report, tally)
    hosts = tuple(_hosts(report))
    return Page(
        mood=mood,
        verdict=verdict,
        detail=detail,
        at=report.at,
        scope=_scope(report, hosts),
        tally=tally,
        remedies=tuple(_remedies(report.controls, inventory, several=len(hosts) > 1)),
        hosts=hosts,
        waivers=tuple(dict(one) | {"days": _days(report.at, one["expires"])} for one in report.waivers),
        notes=report.notes,
        stand_ins=tuple(_stand_ins(report.stand_ins)),
        controls=tuple(_controls(report.controls)),
    )


def plural(count: int, one: str, many: str = "") -> str:
    """Write a count with its noun: ``1 host``, ``2 hosts``."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def size(count: int) -> str:
    """Write bytes for people: ``512 MiB``, ``1.5 GiB``."""
    if count >= 1 << 30:
        return f"{count / (1 << 30):.1f}".removesuffix(".0") + " GiB"
    return f"{count / (1 << 20):.0f} MiB"


def _verdict(report: Report, tally: Tally) -> tuple[str, str, str]:
    others = [f"{plural(tally.waived, 'failure')} accepted in writing, until a date"] if tally.waived else []
    if tally.inapplicable:
        others.append(f"{tally.inapplicable} do{'es' if tally.inapplicable == 1 else ''} not apply here")
    if report.errors:
        failing = f"{plural(tally.failed, 'control')} fail{'s' if tally.failed == 1 else ''} on the others"
        said = f"{plural(len(report.errors), 'host')} could not be judged"
        return "error", said, "; ".join([failing if tally.judged else "Nothing else was judged", *others])
    if not tally.judged:
        return "none", "Nothing was judged", "; ".join(others)
    if tally.failed:
        verb = "fails" if tally.failed == 1 else "fail"
        return "fail", f"{tally.failed} of {plural(tally.judged, 'control')} {verb}", "; ".join(others)
    if not tally.held:
        return "pass", "Every failure is waived", "; ".join(others)
    said = f"All {tally.held} controls hold" if tally.held > 1 else "1 control holds"
    return "pass", said, "; ".join(others)


def _scope(report: Report, hosts: Sequence[Host]) -> str:
    stacks = {(one.host, one.stack) for one in report.controls if one.stack}
    services = {(one.host, one.stack, one.service) for one in report.controls if one.service}
    counts = ((len(hosts), "host"), (len(stacks), "stack"), (len(services), "service"))
    return ", ".join(plural(count, noun) for count, noun in counts if count)


def _subject(control: Control) -> str:
    return "/".join(part for part in (control.stack, control.service) if part) or "host"


def _remedies(controls: Sequence[Control], inventory: str, *, several: bool) -> Iterator[Remedy]:
    """What fails, in the order of the catalogue, by what is to be done about it."""
    failed: dict[str, list[Control]] = {}
    for control in controls:
        if control.status == "fail":
            failed.setdefault(control.id, []).append(control)
    found: dict[tuple[str, str], list[Failure]] = {}
    for name, group in failed.items():
        places = tuple((f"{one.host}: {_subject(one)}" if several else _subject(one), one.evidence) for one in group)
        failure = Failure(name, group[0].title, group[0].cis, places)
        found.setdefault(remedy(name, inventory), []).append(failure)
    yield from (Remedy(text, command, tuple(failures)) for (text, command), failures in found.items())


def _hosts(report: Report) -> Iterator[Host]:
    """All hosts by name, those that could not be judged first."""
    judged: dict[str, list[Control]] = {}
    for control in report.controls:
        judged.setdefault(control.host, []).append(control)
    told = {host.name: host for host in report.hosts}
    errors = {str(error["host"]): error for error in report.errors}
    names = [*sorted(errors), *sorted((judged.keys() | told.keys()) - errors.keys())]
    for number, name in enumerate(names, 1):
        of_host = judged.get(name, [])
        yield _host(name, f"host-{number}", of_host, told.get(name), errors.get(name), report.at)


def _host(
    name: str,
    anchor: str,
    controls: list[Control],
    told: HostReport | None,
    error: Mapping[str, str] | None,
    at: str,
) -> Host:
    families = tuple(dict.fromkeys(_family(control) for control in controls))
    groups, tally = tuple(_posture(controls, families)), Tally.of(controls)
    if told is None:
        return Host(name, anchor, tally, error, groups, families)
    ends = tuple(_ends(told.expiries, at))
    drift = told.drift or {}
    return Host(
        name=name,
        anchor=anchor,
        tally=tally,
        error=error,
        groups=groups,
        families=families,
        system=told.versions.get("system", ""),
        versions=tuple((what, text) for what, text in told.versions.items() if what != "system"),
        budget=_budget(told),
        bars=tuple(_bars(told.usage)),
        images=told.images,
        ends=tuple(end for end in ends if end.days is not None),
        secrets=tuple(sorted((end for end in ends if end.days is None), key=lambda end: (-end.age, end.name))),
        drift_at=str(drift.get("at") or ""),
        drift_count=drift.get("count"),
        drift=tuple(_looks(drift.get("history") or ())),
    )


def _family(control: Control) -> str:
    return control.id.partition(".")[0]


def _posture(controls: list[Control], families: Sequence[str]) -> Iterator[Group]:
    """The host itself, then each stack: itself, then its services."""
    cells: dict[tuple[str, str], dict[str, list[Control]]] = {}
    for control in controls:
        cells.setdefault((control.stack or "", control.service or ""), {}).setdefault(_family(control), []).append(
            control
        )
    for stack, keys in groupby(sorted(cells), key=lambda key: key[0]):
        yield Group(
            stack,
            tuple(
                Row(
                    key[1] or ("the stack itself" if stack else "the host itself"),
                    tuple(Tally.of(cells[key].get(family, ())) for family in families),
                )
                for key in keys
            ),
        )


def _budget(host: HostReport) -> Budget | None:
    promised = sum(one.limit_bytes for one in host.usage)
    used = min(promised, sum(one.used_bytes or 0 for one in host.usage))
    whole = max(host.memory_bytes, promised + host.foreign_bytes)
    if not whole:
        return None
    pieces = [
        ("used", "in use", used),
        ("promised", "more within their limits", promised - used),
        ("foreign", "kept for other containers", host.foreign_bytes),
        ("left", "for the host itself", whole - promised - host.foreign_bytes),
    ]
    parts, start = [], 0.0
    for kind, label, count in pieces:
        share = 100 * count / whole
        if count:
            parts.append((kind, label, size(count), round(start, 2), round(share, 2)))
        start += share
    return Budget(size(host.memory_bytes), tuple(parts))


def _bars(usage: Sequence[Usage]) -> Iterator[Bar]:
    largest = max((one.limit_bytes for one in usage), default=0) or 1
    for one in sorted(usage, key=lambda one: (-one.limit_bytes, one.stack, one.service)):
        part = min(1.0, (one.used_bytes or 0) / (one.limit_bytes or 1))
        limit = 100 * one.limit_bytes / largest
        yield Bar(
            stack=one.stack,
            service=one.service,
            limit=size(one.limit_bytes),
            used=None if one.used_bytes is None else size(one.used_bytes),
            limit_share=round(limit, 2),
            used_share=round(limit * part, 2),
            percent=round(100 * part),
            near=part >= NEAR_LIMIT,
        )


def _ends(expiries: Sequence[Expiry], at: str) -> Iterator[End]:
    """What ends, soonest first; one certificate that several services have is one line."""
    users: dict[tuple[str, str, str, str, str], list[str]] = {}
    for one in expiries:
        service, _, name = one.name.rpartition("/")
        users.setdefault((one.until or "", one.kind, one.stack, name, one.since), []).append(service)
    for (until, kind, stack, name, since), services in sorted(users.items()):
        days = _days(at, until) if until else None
        names = tuple(sorted(filter(None, services)))
        age = -_days(at, since)
        yield End(kind, name, stack, names, until, days, age, days is not None and days < SOON_DAYS)


def _days(at: str, moment: str) -> int:
    """Return whole days from one moment to another, in RFC 3339 or as days; 0 where one is no date."""
    try:
        return (datetime.fromisoformat(moment[:10]) - datetime.fromisoformat(at[:10])).days
    except ValueError:
        return 0


def _looks(history: Sequence[Mapping[str, Any]]) -> Iterator[Look]:
    """The newest looks of the drift timer, newest first."""
    for line in reversed(history[-_HISTORY:]):
        rows = [row for row in line.get("rows") or () if isinstance(row, Mapping)]
        what = [" ".join(str(row[key]) for key in ("name", "facet") if row.get(key)) for row in rows]
        count = line.get("drift")
        total = count if isinstance(count, int) else len(rows)
        yield Look(str(line.get("at") or ""), total, tuple(what[:_ROWS]), max(0, total - len(what[:_ROWS])))


def _stand_ins(stand_ins: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, tuple[str, ...]]]:
    by_kind: dict[str, set[str]] = {}
    for one in stand_ins:
        by_kind.setdefault(str(one["software"]), set()).add(str(one["image"]).partition("@")[0])
    yield from ((kind, tuple(sorted(images))) for kind, images in sorted(by_kind.items()))


def _controls(controls: Sequence[Control]) -> Iterator[tuple[str, tuple[Line, ...]]]:
    """Every control by family, in the order of the catalogue, which is that of the report."""
    by_id: dict[str, list[Control]] = {}
    for control in controls:
        by_id.setdefault(control.id, []).append(control)
    families: dict[str, list[Line]] = {}
    for name, found in by_id.items():
        families.setdefault(_family(found[0]), []).append(Line(name, found[0].title, found[0].cis, Tally.of(found)))
    yield from ((family, tuple(lines)) for family, lines in families.items())
