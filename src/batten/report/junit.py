"""A verify report as JUnit XML, which CI systems show: a suite a host, a case a control on a thing.

The form is that of Jenkins' xunit plugin (junit-10.xsd), which pytest writes too. A failure has the evidence as its
message and what to do as its text; waived controls and those that do not apply are skipped, each with its reason; a
host that could not be judged is one case with an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from batten.report.remedies import remedy

if TYPE_CHECKING:
    from batten.verify.model import Control, Report

# XML 1.0, section 2.2: what may not stand in a document, not even escaped.
_UNFIT = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(report: Report, *, inventory: str = "") -> str:
    """Return the document. ``inventory`` is what a person types after ``-i``."""
    errors = {str(error["host"]): error for error in report.errors}
    by_host: dict[str, list[Control]] = {name: [] for name in errors}
    for control in report.controls:
        by_host.setdefault(control.host, []).append(control)
    suites = [_suite(name, by_host[name], errors.get(name), report, inventory) for name in sorted(by_host)]
    root = ET.Element("testsuites", name="batten verify", time=f"{report.seconds:.3f}")
    for total in ("tests", "failures", "errors"):
        root.set(total, str(sum(int(suite.attrib[total]) for suite in suites)))
    root.extend(suites)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _suite(
    host: str, controls: Iterable[Control], error: Mapping[str, str] | None, report: Report, inventory: str
) -> ET.Element:
    cases = [_case(control, inventory) for control in controls]
    if error:
        case = ET.Element("testcase", classname=_fit(host), name="the host can be judged", time="0")
        _say(case, "error", error["what"], error["fix"])
        cases.append(case)
    counts = {kind: sum(case.find(kind) is not None for case in cases) for kind in ("failure", "error", "skipped")}
    suite = ET.Element(
        "testsuite",
        name=_fit(host),
        tests=str(len(cases)),
        failures=str(counts["failure"]),
        errors=str(counts["error"]),
        skipped=str(counts["skipped"]),
        timestamp=report.at.removesuffix("Z"),
        hostname=_fit(host),
    )
    suite.extend(cases)
    return suite


def _case(control: Control, inventory: str) -> ET.Element:
    where = ".".join(part for part in (control.host, control.stack, control.service) if part)
    case = ET.Element("testcase", classname=_fit(where), name=_fit(f"{control.id}: {control.title}"), time="0")
    if control.status == "fail":
        cis = f"CIS Docker Benchmark 1.6, {control.cis}" if control.cis else ""
        _say(case, "failure", control.evidence, "\n".join(filter(None, (*remedy(control.id, inventory), cis))))
    elif control.status in ("waived", "not_applicable"):
        _say(case, "skipped", control.evidence)
    return case


def _say(case: ET.Element, kind: str, message: str, text: str = "") -> None:
    said = ET.SubElement(case, kind, message=_fit(message))
    said.text = _fit(text) or None


def _fit(text: str) -> str:
    return _UNFIT.sub("\ufffd", text)
