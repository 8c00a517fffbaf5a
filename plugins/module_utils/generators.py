"""Making secret values, on the host where they are used."""

from __future__ import annotations

import base64
import secrets
import string
import uuid
from collections.abc import Mapping
from typing import Any

from .errors import BattenError

_ALPHANUMERIC = string.ascii_letters + string.digits


def parts(name: str, rule: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the values that one secret has: itself first, then what belongs to it."""
    return (name,)


def generate(name: str, rule: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, str]:
    """Make the values of one secret, for each of its :func:`parts`. ``values`` are those that are there already.

    ``rule`` is ``{"generator": NAME, "length": N}``, N being 32 unless given.
    ``alnum`` and ``password`` have N characters, of A-Z a-z 0-9 or of the rule's ``alphabet``; ``hex``, ``base64`` and
    ``base64url`` (unpadded) encode N random bytes; ``uuid`` is a version 4.
    """
    generator, length = rule["generator"], rule.get("length") or 32
    if generator in ("alnum", "password"):
        return {name: "".join(secrets.choice(rule.get("alphabet") or _ALPHANUMERIC) for _ in range(length))}
    if generator == "uuid":
        return {name: str(uuid.uuid4())}
    raw = secrets.token_bytes(length)
    if generator == "hex":
        return {name: raw.hex()}
    if generator == "base64":
        return {name: base64.b64encode(raw).decode()}
    if generator == "base64url":
        return {name: base64.urlsafe_b64encode(raw).decode().rstrip("=")}
    known = "alnum, password, hex, base64, base64url, uuid"
    raise BattenError(f"unknown generator {generator}", "secrets", f"use one of {known}, or hand the value in")


def in_order(rules: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return names in the order of making: what another needs comes before it."""
    return sorted(rules)


def due(name: str, rule: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    """Return whether a value that is there has to be made anew: a certificate at two thirds of its lifetime."""
    return False
