"""A small private CA: keys and certificates, made on the host by its own ``openssl`` 3.

A private key travels through pipes and lies in no file, not for a moment; what ``openssl ca`` wants as files (an empty
register) is public. Keys and certificates are PEM texts here.
"""

from __future__ import annotations

import ipaddress
import re
import tempfile
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from . import command, openssl
from .errors import BattenError

CA_DAYS = 3650
LEAF_DAYS = 90
# A client whose clock is behind would take a certificate of this minute for one of the future.
CLOCK_SKEW = timedelta(hours=1)
_MOST_COMMON_NAME = 64  # ub-common-name (RFC 5280, appendix A)
_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\Z")
_COMMON = re.compile(r"[A-Za-z0-9 ._:*-]+\Z")

_REGISTER = """
[ca]
database = {directory}/register
new_certs_dir = {directory}
rand_serial = yes
unique_subject = no
default_md = sha256
policy = any
[any]
organizationName = optional
commonName = optional
[req]
prompt = no
distinguished_name = subject
[subject]
O = batten
CN = {common_name}
[extensions]
{extensions}
"""
_OF_CA = """basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash"""
_OF_LEAF = """basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = {names}"""


def make_key() -> str:
    """Return a new EC P-256 private key, PKCS#8."""
    return openssl.run(["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"])


def public_key(key: str) -> str:
    """Return the public key of a private one."""
    return openssl.run(["pkey", "-pubout"], key)


def make_ca(common_name: str, key: str, days: int = CA_DAYS, now: datetime | None = None) -> str:
    """Return the self-signed certificate of a CA that may issue leaves and no further CAs.

    With the key of an older CA and its name, the new certificate takes its place: leaves of either hold for both.
    """
    if not _COMMON.match(common_name) or len(common_name) > _MOST_COMMON_NAME:
        raise BattenError(
            f"{common_name!r} cannot be a CA's name", "secrets", "use at most 64 letters, digits, _ and -"
        )
    start = (now or _now()) - CLOCK_SKEW
    return _sign(common_name, _OF_CA, key, key, "", start, start + timedelta(days=days) + CLOCK_SKEW)


def issue(
    ca_key: str, ca: str, key: str, names: Sequence[str], days: int = LEAF_DAYS, now: datetime | None = None
) -> str:
    """Return a certificate of ``key`` for servers and clients, signed by a CA.

    ``names`` are DNS names and IP addresses. It never outlives its CA. Raises BattenError for a wrong name, for a key
    that is not the CA's, and where this host's clock lies outside the CA's time.
    """
    now = now or _now()
    alternative = ", ".join(map(_alternative, names))
    if not alternative:
        raise BattenError("a certificate without a name", "secrets", "write names: [SERVICE]")
    if not matches(ca_key, ca):
        raise BattenError("the CA's key and certificate are not a pair", "secrets", "give both of the same CA")
    since, until = validity(ca)
    if not since <= now < until:
        raise BattenError(
            f"this host's clock says {_written(now)}, and the CA holds from {_written(since)} to {_written(until)}",
            "this host",
            "see: timedatectl; a CA that has ended is renewed, with the same key, by the next run of site.yml",
        )
    common_name = names[0] if len(names[0]) <= _MOST_COMMON_NAME else "batten"
    end = min(now + timedelta(days=days), until)
    return _sign(common_name, _OF_LEAF.format(names=alternative), key, ca_key, ca, now - CLOCK_SKEW, end)


def validity(certificate: str) -> tuple[datetime, datetime]:
    """Return from when until when the first certificate of a PEM text holds, in UTC."""
    # -dateopt: OpenSSL 3.0, openssl-x509(1)
    text = openssl.run(["x509", "-noout", "-startdate", "-enddate", "-dateopt", "iso_8601"], certificate)
    start, end = (line.partition("=")[2] for line in text.splitlines())
    return _read(start), _read(end)


def renewed_at(start: datetime, end: datetime) -> datetime:
    """Return when a certificate that holds from ``start`` to ``end`` is to be renewed: at two thirds of that."""
    return start + (end - start) * 2 / 3


def due(certificate: str, now: datetime | None = None) -> bool:
    """Return whether a certificate is to be renewed: late in its time, or made by a clock that was ahead."""
    start, end = validity(certificate)
    return (now or _now()) >= renewed_at(start, end) or begins_later(start, now)


def begins_later(start: datetime, now: datetime | None = None) -> bool:
    """Return whether ``start`` lies in the future, and it is not the clock that is behind.

    The kernel knows whether somebody keeps its time, whichever program does (timedatectl(1), NTPSynchronized).
    """
    if start <= (now or _now()):
        return False
    return command.run(["timedatectl", "show", "--property=NTPSynchronized", "--value"]).stdout.strip() == "yes"


def matches(key: str, certificate: str) -> bool:
    """Return whether ``key`` is the private key of a certificate (the first of a PEM text)."""
    return public_key(key) == openssl.run(["x509", "-noout", "-pubkey"], certificate)


def issued_by(certificate: str, ca: str) -> bool:
    """Return whether a certificate was signed by a CA, whatever their dates."""
    try:
        # The leaf last, on standard input; no other store is asked.
        openssl.run(["verify", "-no-CApath", "-no-CAstore", "-no_check_time", "-CAfile", "{}"], certificate, ca)
    except BattenError:
        return False
    return True


def names_of(certificate: str) -> set[str]:
    """Return the DNS names and IP addresses that a certificate is for, as :func:`normal` has them."""
    text = openssl.run(["x509", "-noout", "-ext", "subjectAltName"], certificate)
    return normal(re.findall(r"(?:DNS|IP Address):([^,\s]+)", text))


def normal(names: Iterable[str]) -> set[str]:
    """Return names in one spelling: an IP address has several."""
    return {alternative.partition(":")[2] for alternative in map(_alternative, names)}


def _alternative(name: str) -> str:
    try:
        return f"IP:{ipaddress.ip_address(name)}"
    except ValueError:
        labels = name[2:].split(".") if name.startswith("*.") else name.split(".")
        if len(name) > 253 or not all(_LABEL.match(label) for label in labels):
            raise BattenError(
                f"{name!r} is neither a DNS name nor an IP address", "secrets", "correct it under names"
            ) from None
        return f"DNS:{name}"


def _sign(common_name: str, extensions: str, key: str, ca_key: str, ca: str, start: datetime, end: datetime) -> str:
    """Sign the certificate of ``key``; without ``ca`` by itself.

    By ``openssl ca``, which alone takes a beginning in the past: ``-not_before`` of ``openssl req`` and ``x509`` is of
    3.4 (their manuals, HISTORY), and Debian 12 and Ubuntu 24.04 have 3.0.
    """
    with tempfile.TemporaryDirectory(prefix="batten-ca-") as directory:
        (Path(directory) / "register").touch()
        config = _REGISTER.format(directory=directory, common_name=common_name, extensions=extensions)
        request = openssl.run(["req", "-new", "-utf8", "-config", "{}", "-key", "{}"], "", config, key)
        issuer = ["-cert", "{}"] if ca else ["-selfsign"]
        return openssl.run(
            [
                *("ca", "-batch", "-notext", "-utf8", "-name", "ca", "-extensions", "extensions", "-in", "/dev/stdin"),
                *("-startdate", _asn1(start), "-enddate", _asn1(end), "-config", "{}", "-keyfile", "{}", *issuer),
            ],
            request,
            config,
            ca_key,
            *([ca] if ca else []),
        )


def _now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)


def _read(text: str) -> datetime:
    return datetime.strptime(text.strip(), "%Y-%m-%d %H:%M:%SZ").replace(tzinfo=timezone.utc)


def _asn1(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y%m%d%H%M%SZ")


def _written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M UTC")
