"""A stack's secret values: made once on the host, encrypted at rest, delivered to memory.

Source and delivery are apart: :func:`resolve` says where values come from, and is all that changes when they come from
somewhere else; ``delivery.py`` turns values into files.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import string
import subprocess
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import atomic, delivery, mounts
from .errors import BattenError
from .paths import PROGRAM, StackPaths

_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")
_ALPHANUMERIC = string.ascii_letters + string.digits
_KEY_BYTES = 32


@dataclass(frozen=True)
class Bundle:
    """What ``secrets.cred`` holds: the values, and the key of this stack's digests. Part of every backup."""

    digest_key: bytes
    values: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Delivery:
    """What :func:`deliver` did, or would do. ``changes`` are names, never values; ``digests`` are by service."""

    changed: bool
    changes: list[str]
    digests: dict[str, str]


def generate(rule: Mapping[str, Any]) -> str:
    """Make one value. ``rule`` is ``{"generator": NAME, "length": N}``, N being 32 unless given.

    ``alnum`` and ``password`` have N characters, of A-Z a-z 0-9 or of the rule's ``alphabet``; ``hex``, ``base64`` and
    ``base64url`` (unpadded) encode N random bytes; ``uuid`` is a version 4.
    """
    generator, length = rule["generator"], rule.get("length") or 32
    if generator in ("alnum", "password"):
        return "".join(secrets.choice(rule.get("alphabet") or _ALPHANUMERIC) for _ in range(length))
    if generator == "uuid":
        return str(uuid.uuid4())
    raw = secrets.token_bytes(length)
    if generator == "hex":
        return raw.hex()
    if generator == "base64":
        return base64.b64encode(raw).decode()
    if generator == "base64url":
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")
    known = "alnum, password, hex, base64, base64url, uuid"
    raise BattenError(f"unknown generator {generator}", "secrets", f"use one of {known}, or hand the value in")


def resolve(
    paths: StackPaths, rules: Mapping[str, Mapping[str, Any]], bundle: Bundle, coming: Collection[str] = ()
) -> tuple[Bundle, list[str]]:
    """Return the bundle with every value that ``rules`` names, and the names made now. No value is ever made twice.

    A rule without a ``generator`` (``{"from": VARIABLE}``) stands for a value that a person hands in. ``coming`` names
    those that check mode has not handed in; anything stands for them.
    Raises BattenError naming the values that a person must give.
    """
    missing = [name for name in sorted(rules) if name not in bundle.values]
    asked = [name for name in missing if rules[name].get("generator", "provided") == "provided"]
    if lacking := [name for name in asked if name not in coming]:
        variables = ", ".join(str(rules[name].get("from") or name) for name in lacking)
        sample = json.dumps(dict.fromkeys(lacking, "..."))
        raise BattenError(
            f"no value was given for {', '.join(lacking)}",
            f"stack {paths.stack}",
            f"set {variables} in the inventory, under ansible-vault; or as root on this host, "
            f"{sample} on standard input of: python3 {PROGRAM} put {paths.stack}",
        )
    made = {name: "coming" if name in asked else generate(rules[name]) for name in missing}
    return Bundle(bundle.digest_key, {**bundle.values, **made}), missing


def deliver(paths: StackPaths, spec: Mapping[str, Any], check: bool, coming: Collection[str] = ()) -> Delivery:
    """Make missing values, keep them encrypted, mount memory and write every consumer's files.

    ``spec`` is the release's ``secrets`` (docs/architecture.md). Safe to repeat; with nothing to do it only reads.
    ``coming`` names what a person will hand in, which only check mode has to be told.
    """
    bundle, made = resolve(paths, spec["generate"], load(paths), coming if check else ())
    changes = [f"{name}: made" for name in made]
    if not paths.credentials.exists():
        changes.append("secrets.cred: written")
    if not check:
        if made or not paths.credentials.exists():
            save(paths, bundle)
        atomic.write_json(paths.secrets_spec, spec)
    wanted = delivery.consumers(spec["deliveries"], bundle.values)
    if mounts.ensure(paths.secrets, check):
        changes.append("memory mount: mounted")
    _fits(wanted)
    changes += delivery.write(paths.secrets, wanted, check)
    digests = {service: delivery.digest(bundle.digest_key, consumer) for service, consumer in wanted.items()}
    return Delivery(bool(changes), changes, digests)


def unlock(paths: StackPaths) -> Delivery:
    """Deliver again what was delivered last; for a boot, when memory is empty. Makes no new value."""
    spec = atomic.read_json(paths.secrets_spec, None)
    if spec is None:
        raise _gone(paths)
    return deliver(paths, spec, check=False)


def put(paths: StackPaths, given: Any) -> list[str]:
    """Keep values that a person gave, ``{NAME: value}``; return the names that changed."""
    if not isinstance(given, dict) or not all(
        isinstance(value, str) and value and _NAME.match(name) for name, value in given.items()
    ):
        raise BattenError("standard input is not {NAME: value}", "put", 'type: {"api_key": "..."} with non-empty texts')
    bundle = load(paths)
    changed = sorted(name for name, value in given.items() if bundle.values.get(name) != value)
    if changed:
        save(paths, Bundle(bundle.digest_key, {**bundle.values, **given}))
    return changed


def load(paths: StackPaths) -> Bundle:
    """Decrypt the bundle; an empty one with a new key when there is none yet.

    Raises BattenError where there was one and it is gone: new values would not open the data that the old ones protect.
    """
    if not paths.credentials.exists():
        if paths.secrets_spec.exists():
            raise _gone(paths)
        return Bundle(secrets.token_bytes(_KEY_BYTES))
    plain = _systemd_creds("decrypt", paths, paths.credentials.read_bytes())
    stored = json.loads(plain)
    return Bundle(bytes.fromhex(stored["digest_key"]), stored["values"])


def save(paths: StackPaths, bundle: Bundle) -> None:
    """Encrypt and write the bundle. Plain text goes through a pipe, never through a file."""
    stored = {"digest_key": bundle.digest_key.hex(), "values": dict(bundle.values)}
    sealed = _systemd_creds("encrypt", paths, json.dumps(stored, sort_keys=True).encode())
    atomic.make_directory(paths.var, 0o700)
    atomic.make_directory(paths.state, 0o700)
    atomic.write(paths.credentials, sealed, 0o600)


def _gone(paths: StackPaths) -> BattenError:
    fix = f"restore it from a backup; to begin with new values instead: rm {paths.secrets_spec}, then run site.yml"
    return BattenError(f"no credentials of stack {paths.stack} are on this host", str(paths.credentials), fix)


def _systemd_creds(verb: str, paths: StackPaths, text: bytes) -> bytes:
    """Run ``systemd-creds VERB`` on ``text``.

    ``auto`` seals with the TPM where there is one and with the host key. An empty ``--tpm2-pcrs`` binds to no boot
    measurement: with the default, PCR 7, an update of the firmware would lose every value (systemd-creds(1)).
    """
    command = ["systemd-creds", verb, f"--name=batten-{paths.stack}"]
    if verb == "encrypt":
        command += ["--with-key=auto", "--tpm2-pcrs="]
    try:
        done = subprocess.run([*command, "-", "-"], input=text, capture_output=True, check=False)
    except FileNotFoundError:
        raise BattenError("systemd-creds is missing", "this host", "install systemd 250 or newer") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().replace("\n", "; ")
        fix = (
            "as root, see: systemd-creds setup"
            if verb == "encrypt"
            else "the file was sealed on another host or damaged: restore it from a backup"
        )
        raise BattenError(f"systemd-creds cannot {verb} the credentials: {said}", str(paths.credentials), fix)
    return done.stdout


def _fits(wanted: Mapping[str, delivery.Consumer]) -> None:
    size = sum(len(content) for consumer in wanted.values() for content in consumer.files.values())
    if size > mounts.SIZE_BYTES // 2:  # half, as a rename holds the old and the new for a moment
        raise BattenError(f"the secret files are {size} bytes", "deliveries", f"at most {mounts.SIZE_BYTES // 2}")
