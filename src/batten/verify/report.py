"""The report as text: the verdict, then what fails and what is waived, with the evidence; what holds only as counts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batten.verify.model import Control, Report

MARKS = {"fail": "FAIL", "waived": "waived", "pass": "ok", "not_applicable": "n/a"}
# What the label batten.standin.software of a test image says, in words.
SOFTWARE = {"real": "Debian's packages of the real software", "server": "a server with its documented endpoints only"}


def text(report: Report, *, every: bool = False, width: int | None = None) -> str:
    """Return the report for a terminal of ``width`` columns, None for any.

    ``every`` lists the controls that hold, and those that do not apply, too.
    """
    return "\n".join(_lines(report, every, width)) + "\n"


def _lines(report: Report, every: bool, width: int | None) -> Iterator[str]:
    """The verdict, a line a host where there are several, then the details."""
    yield _verdict(report)
    by_host: dict[str, list[Control]] = {str(error["host"]): [] for error in report.errors}
    for one in report.controls:
        by_host.setdefault(one.host, []).append(one)
    hosts = sorted(by_host.items())
    if len(hosts) > 1:
        names = max(len(name) for name, _ in hosts)
        yield from (f"  {name:{names}}  {_counts(found) or 'not judged'}" for name, found in hosts)
    for error in report.errors:
        yield from _wrapped(f"ERROR {error['host']}: ", error["what"], width)
        yield from _wrapped("  fix: ", error["fix"], width)
    for host, found in hosts:
        shown = [one for one in found if every or one.status in ("fail", "waived")]
        if shown or (found and len(hosts) == 1):
            yield f"{host}: {_counts(found)}"
            yield from _details(shown, width)
    for note in report.notes:
        yield from _wrapped("note: ", note, width)
    for software, images in groupby(sorted(report.stand_ins, key=_software), key=_software):
        names_of = sorted({f"{one['image']} ({one['service']})" for one in images})
        yield from _wrapped(f"stand-ins, {SOFTWARE[software]}: ", ", ".join(names_of), width)


def _details(controls: list[Control], width: int | None) -> Iterator[str]:
    """A line a control, what fails first; on a narrow terminal the evidence stands below."""
    identity = max((len(one.id) for one in controls), default=0)
    subject = max((len(_subject(one)) for one in controls), default=0)
    for one in sorted(controls, key=lambda one: list(MARKS).index(one.status)):
        head = f"  {MARKS[one.status]:6} {one.id:{identity}}  {_subject(one):{subject}}  "
        evidence = _printable(f"{_cis(one)}{one.evidence}")
        if width and len(head) + len(evidence) > width:
            yield f"  {MARKS[one.status]:6} {one.id}  {_subject(one)}"
            yield from _wrapped(" " * 9, evidence, width)
        else:
            yield head + evidence


def _printable(said: str) -> str:
    """The text without what a terminal would obey: evidence comes from hosts."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in said)


def _wrapped(head: str, said: str, width: int | None) -> Iterator[str]:
    """The text after its head, broken between words to fit; no word is broken, for people copy commands."""
    if not width or len(head) + len(said) <= width:
        yield head + said
        return
    indent = " " * min(len(head), 9)
    yield from textwrap.wrap(
        said, width, initial_indent=head, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _software(stand_in: Mapping[str, str]) -> str:
    return stand_in["software"]


def _verdict(report: Report) -> str:
    counts = report.counts
    judged = counts["pass"] + counts["fail"] + counts["waived"]
    seconds = f"in {report.seconds:.1f} s"
    if report.errors:
        failed = f"{_many(counts['fail'], 'control')} failed"
        return f"{_many(len(report.errors), 'host')} could not be judged, {failed}, {seconds}"
    if counts["fail"]:
        return f"{counts['fail']} of {judged} controls fail, {seconds}"
    waived = f", {counts['waived']} of them waived" if counts["waived"] else ""
    return f"all {judged} controls hold{waived}, {seconds}"


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _counts(controls: list[Control]) -> str:
    words = {"fail": "fail", "waived": "waived", "pass": "hold", "not_applicable": "do not apply"}
    found = ((sum(one.status == status for one in controls), word) for status, word in words.items())
    return ", ".join(f"{count} {word}" for count, word in found if count)


def _subject(control: Control) -> str:
    return "/".join(part for part in (control.stack, control.service) if part) or "host"


def _cis(control: Control) -> str:
    return f"CIS {control.cis}: " if control.cis else ""
