"""A verify report as one HTML file that asks for nothing from anywhere: no script, no font, no picture to fetch.

Its policy (Content-Security-Policy, W3C CSP3) allows one style sheet, by digest, and nothing else. All that comes from
hosts is escaped by Jinja, and freed of characters that a page may not hold or that would turn its text around.
"""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup

from batten.report.page import page, plural

if TYPE_CHECKING:
    from batten.verify.model import Report

HERE = Path(__file__).parent
POLICY = "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'"
STAND_INS = {
    "real": "Debian's packages of the real software",
    "server": "small servers that answer the documented endpoints only",
}
# Not of XML 1.0 (section 2.2, Char), or control characters, or Unicode's marks that reverse text (UAX 9).
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def html(report: Report, *, inventory: str = "", version: str = "") -> str:
    """Return the page. ``inventory`` is what a person types after ``-i``, ``version`` batten's own."""
    style = (HERE / "report.css").read_text()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            page=page(report, inventory),
            inventory=Path(inventory).name,
            version=version,
            style=Markup(style),  # noqa: S704 - our own file
            policy=f"{POLICY}; style-src 'sha256-{digest}'",
            stand_in_words=STAND_INS,
        )
    )


def clean(value: Any) -> Any:
    """Return text without characters that do not belong on a page; anything else as it is."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return _UNFIT.sub("\ufffd", value)


def moment(text: str) -> str:
    """Write a time in RFC 3339 for people: ``23 November 2026, 09:30 UTC``; anything else as it is."""
    try:
        return datetime.fromisoformat(text).strftime("%-d %B %Y, %H:%M UTC")
    except ValueError:
        return text


def minute(text: str) -> str:
    """Write a time in RFC 3339 as ``2026-11-23 09:30``; anything else as it is."""
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return text


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=clean,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"minute": minute, "moment": moment, "plural": plural}
    return environment
