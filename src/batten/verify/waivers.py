"""Waivers: controls accepted in writing, each with its reason and the day it ends.

They stand in ``waivers.yaml`` in the inventory's directory::

    - control: privileges.read-only
      host: web1                # optional: everywhere if left out
      service: caddy            # optional
      reason: it writes its certificates beside its program; to be fixed upstream
      expires: 2027-01-31
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import yaml

from batten.errors import BattenError
from batten.verify.catalogue import catalogue, nearest
from batten.verify.model import Control, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

REQUIRED = {"control", "reason", "expires"}
KEYS = REQUIRED | {"host", "service"}


@dataclass(frozen=True)
class Waiver:
    """``host`` and ``service`` None mean any. It counts up to and including the day ``expires``."""

    control: str
    reason: str
    expires: date
    host: str | None = None
    service: str | None = None

    def covers(self, control: str, host: str, service: str | None) -> bool:
        return (
            self.control == control and self.host in (None, host) and (self.service is None or self.service == service)
        )

    def __str__(self) -> str:
        where = " ".join(part for part in (self.host, self.service) if part)
        return f"{self.control}{f' on {where}' if where else ''}"


def beside(inventory: Path) -> Path:
    """The waiver file that belongs to an inventory, a directory or a file."""
    return (inventory if inventory.is_dir() else inventory.parent) / "waivers.yaml"


def load(path: Path) -> tuple[Waiver, ...]:
    """Read a waiver file; none is no waivers.

    :raises BattenError: an unknown control or key, a missing reason, or a date that is none.
    """
    if not path.exists():
        return ()
    try:
        entries = yaml.safe_load(path.read_text()) or []
    except yaml.YAMLError as error:
        raise BattenError(f"this is not YAML: {error}", str(path), "correct it") from error
    if not isinstance(entries, list):
        raise BattenError("expected a list of waivers", str(path), "begin each with '- control: ID'")
    return tuple(_waiver(entry, f"{path}: waiver {number}") for number, entry in enumerate(entries, 1))


def _waiver(entry: Any, where: str) -> Waiver:
    if not isinstance(entry, dict):
        raise BattenError("expected a mapping", where, "write control, reason and expires")
    values = {str(key): value for key, value in entry.items() if not str(key).startswith("x-")}
    if unknown := sorted(values.keys() - KEYS):
        raise BattenError(f"unknown key {unknown[0]!r}", where, f"known keys: {', '.join(sorted(KEYS))}")
    if missing := sorted(key for key in REQUIRED if not values.get(key)):
        raise BattenError(f"{missing[0]} is missing", where, f"add {missing[0]}: it is required")
    control = str(values["control"])
    if control not in catalogue():
        raise BattenError(f"unknown control {control!r}", where, f"did you mean {nearest(control)}?")
    expires = values["expires"]
    try:
        day = expires if type(expires) is date else date.fromisoformat(str(expires))
    except ValueError as error:
        raise BattenError(f"expires is {expires!r}, which is no day", where, "write it as YYYY-MM-DD") from error
    return Waiver(
        control,
        " ".join(str(values["reason"]).split()),
        day,
        None if values.get("host") is None else str(values["host"]),
        None if values.get("service") is None else str(values["service"]),
    )


def apply(
    verdict: Verdict, control: str, host: str, service: str | None, waivers: Iterable[Waiver], today: date
) -> Verdict:
    """A failure that a living waiver covers is waived; everything else stays what it is."""
    if verdict.status != "fail":
        return verdict
    for waiver in waivers:
        if waiver.covers(control, host, service) and today <= waiver.expires:
            return Verdict("waived", f"{verdict.evidence}; waived until {waiver.expires}: {waiver.reason}")
    return verdict


def told(waivers: Iterable[Waiver], controls: Sequence[Control], today: date) -> tuple[Mapping[str, Any], ...]:
    """Every waiver as plain values, with its ``state``.

    ``counts``, ``expired``, ``unused`` (what it covers does not fail), or ``unjudged``: nothing that it covers was
    judged, as with ``--limit``, where a host does not answer, or where a control does not apply.
    """

    def state(waiver: Waiver) -> str:
        if today > waiver.expires:
            return "expired"
        found = {one.status for one in controls if waiver.covers(one.id, one.host, one.service)}
        return "counts" if "waived" in found else "unused" if found - {"not_applicable"} else "unjudged"

    return tuple(asdict(waiver) | {"expires": waiver.expires.isoformat(), "state": state(waiver)} for waiver in waivers)


def notes(waivers: Sequence[Waiver], controls: Sequence[Control], today: date) -> tuple[str, ...]:
    """What a person should know of the waivers: which have expired, which cover nothing that fails.

    One of a host that was not judged is not spoken of.
    """
    hosts = {None, *(one.host for one in controls)}
    said = []
    for waiver, one in zip(waivers, told(waivers, controls, today), strict=True):
        if one["state"] == "expired":
            said.append(f"the waiver of {waiver} expired on {waiver.expires} and does not count")
        elif one["state"] == "unused":
            said.append(f"the waiver of {waiver} covers nothing that fails: remove it")
        elif one["state"] == "unjudged" and waiver.host in hosts:
            said.append(f"the waiver of {waiver} covers nothing that was judged now")
    return tuple(said)


def dump(waivers: Iterable[Waiver]) -> str:
    """The waivers as a file that :func:`load` reads (JSON is YAML)."""
    return json.dumps([asdict(waiver) | {"expires": waiver.expires.isoformat()} for waiver in waivers])
