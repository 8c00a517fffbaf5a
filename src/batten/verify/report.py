"""The report as text: what fails first, then what is waived, with the evidence; what holds only as counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batten.verify.model import Control, Report

MARKS = {"fail": "FAIL", "waived": "waived", "pass": "ok", "not_applicable": "n/a"}
# What the label batten.standin.software of a test image says, in words.
SOFTWARE = {"real": "Debian's packages of the real software", "server": "a server with its documented endpoints only"}


def text(report: Report, *, every: bool = False) -> str:
    """Return the report for a terminal. ``every`` lists the controls that hold, and those that do not apply, too."""
    return "\n".join(_lines(report, every)) + "\n"


def _lines(report: Report, every: bool) -> Iterator[str]:
    for error in report.errors:
        yield f"ERROR {error['host']}: {error['what']}"
        yield f"  fix: {error['fix']}"
    controls = sorted(report.controls, key=lambda one: (one.host, list(MARKS).index(one.status)))
    for host, group in groupby(controls, key=lambda one: one.host):
        of_host = list(group)
        yield f"{host}: {_counts(of_host)}"
        shown = [one for one in of_host if every or one.status in ("fail", "waived")]
        identity = max((len(one.id) for one in shown), default=0)
        subject = max((len(_subject(one)) for one in shown), default=0)
        for one in shown:
            yield f"  {MARKS[one.status]:6} {one.id:{identity}}  {_subject(one):{subject}}  {_cis(one)}{one.evidence}"
    for note in report.notes:
        yield f"note: {note}"
    for software, images in groupby(sorted(report.stand_ins, key=_software), key=_software):
        names = sorted({f"{one['image']} ({one['service']})" for one in images})
        yield f"stand-ins, {SOFTWARE[software]}: {', '.join(names)}"
    yield _verdict(report)


def _software(stand_in: Mapping[str, str]) -> str:
    return stand_in["software"]


def _verdict(report: Report) -> str:
    counts = report.counts
    judged = counts["pass"] + counts["fail"] + counts["waived"]
    seconds = f"in {report.seconds:.1f} s"
    if report.errors:
        return f"{len(report.errors)} of the hosts could not be judged, {counts['fail']} controls fail, {seconds}"
    if counts["fail"]:
        return f"{counts['fail']} of {judged} controls fail, {seconds}"
    waived = f", {counts['waived']} of them waived" if counts["waived"] else ""
    return f"all {judged} controls hold{waived}, {seconds}"


def _counts(controls: list[Control]) -> str:
    words = {"fail": "fail", "waived": "waived", "pass": "hold", "not_applicable": "do not apply"}
    found = ((sum(one.status == status for one in controls), word) for status, word in words.items())
    return ", ".join(f"{count} {word}" for count, word in found if count)


def _subject(control: Control) -> str:
    return "/".join(part for part in (control.stack, control.service) if part) or "host"


def _cis(control: Control) -> str:
    return f"CIS {control.cis}: " if control.cis else ""
