"""Making secret values, on the host where they are used.

A rule is what the planner made of a declaration (``src/batten/plan/secrets.py``)::

    {"generator": "password" | "hex" | "base64" | "base64url" | "uuid" | "keypair" | "ca" | "x509" | "provided",
     "length": N, "alphabet": CHARACTERS,      # password: characters; hex, base64, base64url: bytes; 32 unless given
     "from": VARIABLE,                         # a person may give it, and of a provided one must
     "format": REGEX,                          # which the whole value must match
     "ca": NAME, "names": [NAME or IP, ...], "days": N,           # x509; days also of a ca
     "rotation": KIND, "role": ROLE, "expires": DAYS or null}     # not needed here
"""

from __future__ import annotations

import base64
import re
import secrets
import string
import uuid
from collections.abc import Mapping
from typing import Any

from . import pki
from .errors import BattenError

_ALPHANUMERIC = string.ascii_letters + string.digits
# What the software of a kind of rotation can be given. A password that is not ASCII would need SASLprep (scram.py), and
# a blank would end it in Redis's list of users, where the next word could be a rule.
_TAKEN: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("postgres_role", "postgres", "pgbouncer"), (r"[ -~]+", "printable ASCII, as PostgreSQL needs it")),
    "redis": (r"[A-Za-z0-9._~-]+", "of letters, digits and . _ ~ - alone, as Redis needs it"),
}
_KEY = r"\s*-----BEGIN (?:EC |RSA )?PRIVATE KEY-----[\s\S]+"
# What a value of a generator looks like, where it has one form; a password may be any text.
_FORMS: Mapping[str, tuple[str, str]] = {
    "hex": (r"(?:[0-9a-fA-F]{2})+", "hexadecimal digits"),
    "base64": (r"[A-Za-z0-9+/]+={0,2}", "base64"),
    "base64url": (r"[A-Za-z0-9_-]+={0,2}", "base64url"),
    "uuid": (r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", "a UUID"),
    "keypair": (_KEY, "a private key in PEM"),
    "ca": (_KEY, "a private key in PEM"),
    "x509": (_KEY, "a private key in PEM"),
}
PARTS: Mapping[str, tuple[str, ...]] = {
    "keypair": ("_public",),
    "ca": ("_certificate",),
    "x509": ("_certificate",),
}


def parts(name: str, rule: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the values that one secret has: itself first, then what belongs to it.

    A ``keypair`` is NAME and NAME_public, a ``ca`` and an ``x509`` are NAME (the key) and NAME_certificate.
    """
    return (name, *(name + ending for ending in PARTS.get(rule.get("generator", "provided"), ())))


def generate(name: str, rule: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, str]:
    """Make the values of one secret, for each of its :func:`parts`. ``values`` are those that are there already.

    A password has ``length`` characters of A-Z a-z 0-9, or of the rule's ``alphabet``; ``hex``, ``base64`` and
    ``base64url`` (unpadded) encode ``length`` random bytes; ``uuid`` is a version 4. Keys are EC P-256. A ``ca`` that
    has a key keeps it: its new certificate holds for the leaves that are there. An ``x509`` gets a new key.
    Raises BattenError for a rule that nothing can be made by.
    """
    generator, length = rule.get("generator", "provided"), rule.get("length") or 32
    if generator in ("alnum", "password"):
        return {name: "".join(secrets.choice(rule.get("alphabet") or _ALPHANUMERIC) for _ in range(length))}
    if generator == "uuid":
        return {name: str(uuid.uuid4())}
    if generator == "hex":
        return {name: secrets.token_hex(length)}
    if generator == "base64":
        return {name: base64.b64encode(secrets.token_bytes(length)).decode()}
    if generator == "base64url":
        return {name: base64.urlsafe_b64encode(secrets.token_bytes(length)).decode().rstrip("=")}
    if generator == "keypair":
        key = pki.make_key()
        return {name: key, f"{name}_public": pki.public_key(key)}
    if generator == "ca":
        key = values.get(name) or pki.make_key()
        return {name: key, f"{name}_certificate": pki.make_ca(name, key, rule.get("days") or pki.CA_DAYS)}
    if generator == "x509":
        ca, key = rule["ca"], pki.make_key()
        if ca not in values or f"{ca}_certificate" not in values:
            raise BattenError(f"the CA {ca} of {name} is not there", "secrets", f"declare {ca}: {{generator: ca}}")
        signed = pki.issue(values[ca], values[f"{ca}_certificate"], key, rule["names"], rule.get("days") or 90)
        return {name: key, f"{name}_certificate": signed}
    known = "password, hex, base64, base64url, uuid, keypair, ca, x509"
    raise BattenError(f"unknown generator {generator}", "secrets", f"use one of {known}, or hand the value in")


def in_order(rules: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return names in the order of making: what another needs comes before it."""
    return sorted(rules, key=lambda name: (rules[name].get("generator") == "x509", name))


def generate_all(rules: Mapping[str, Mapping[str, Any]], values: Mapping[str, str]) -> dict[str, str]:
    """Make the values of all secrets of ``rules``, what another needs before it. ``values`` are there already."""
    made: dict[str, str] = {}
    for name in in_order(rules):
        made |= generate(name, rules[name], {**values, **made})
    return made


def due(name: str, rule: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    """Return whether a value that is there has to be made anew.

    That is so for a certificate at two thirds of its lifetime, for one that is missing beside its key, and for a leaf
    whose names or whose CA are no longer the rule's.
    """
    if rule.get("generator") not in ("ca", "x509"):
        return False
    certificate = values.get(f"{name}_certificate")
    return certificate is None or pki.due(certificate) or not fits(name, rule, values)


def fits(name: str, rule: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    """Return whether a certificate that is there is its key's, and what its rule asks for, at whatever time."""
    certificate = values[f"{name}_certificate"]
    if not pki.matches(values[name], certificate):
        return False
    if rule["generator"] == "ca":
        return True
    ca = values.get(f"{rule['ca']}_certificate")
    named = pki.names_of(certificate) == pki.normal(rule["names"])
    return named and (ca is None or pki.issued_by(certificate, ca))


def check(name: str, rule: Mapping[str, Any], value: str) -> None:
    """Refuse a value that is not what its rule says: given by a person, or made when the declaration said otherwise.

    Raises BattenError, which never shows the value.
    """
    generator = rule.get("generator", "provided")
    form, called = _FORMS.get(generator, ("", ""))
    if form and not re.fullmatch(form, value):
        raise BattenError(
            f"the value of {name} is not {called}, as its generator {generator} makes it",
            "secrets",
            f"put the generator of {name} back, or declare the new one under another name",
        )
    form, called = _TAKEN.get(str(rule.get("rotation")), (r"[\s\S]+", "there"))
    if not re.fullmatch(form, value):
        raise BattenError(f"the value of {name} is not {called}", "secrets", "give another one")
    if rule.get("format") and not re.fullmatch(rule["format"], value):
        raise BattenError(
            f"the value of {name} does not match its format", "secrets", f"give one that matches {rule['format']}"
        )
