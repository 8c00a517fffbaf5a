"""A stack's secrets as they lie on this host beside the sealed bundle. Digests only; reads only.

``presence``, ``owner``, ``mode`` and ``content`` of each delivered file, ``stale`` against Infisical, and ``expiry``.
What a consumer has *loaded* is compared with the containers (survey.py).
"""

from __future__ import annotations

import hashlib
import hmac
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from . import atomic, credentials, delivery, generators, mounts, pki
from .compare import PRESENCE, Difference
from .credentials import Bundle
from .delivery import Consumer
from .errors import BattenError
from .observed import timestamp
from .paths import PROGRAM, StackPaths

OWNER, MODE, CONTENT, STALE, EXPIRY = "owner", "mode", "content", "stale", "expiry"
_SCOPE = "secret"
_DAY = 86400
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
NOTICE_SECONDS = 14 * _DAY
"""How long before its end a certificate that a person gives is told; of a short-lived one, a sixth of its time."""


@dataclass(frozen=True)
class Entry:
    """One thing below the secrets' mount. ``digest`` is an HMAC under the stack's key, empty for what is no file."""

    kind: str
    uid: int
    gid: int
    mode: int
    digest: str = ""


@dataclass(frozen=True)
class Found:
    """What :func:`look` found. ``digests`` are those of :func:`credentials.deliver`, by service."""

    differences: list[Difference] = field(default_factory=list)
    digests: Mapping[str, str] = field(default_factory=dict)


def look(paths: StackPaths, spec: Mapping[str, Any]) -> Found:
    """Compare what is delivered with ``spec``, a release's ``secrets``, and the values of the sealed bundle.

    Raises BattenError when the bundle does not open: then nothing can be told. The digests of one that is gone are
    those that the consumers loaded last.
    """
    rules = spec["generate"]
    if not paths.credentials.exists():
        return Found([_gone(paths)], atomic.read_json(paths.loaded, {}))
    bundle = credentials.load(paths)
    wanted = _consumers(spec["deliveries"], credentials.delivered(bundle, rules))
    mounted = mounts.mounted(paths.secrets)
    found = [
        *_values(paths, rules, bundle),
        *_mount(paths.stack, mounted.never_swaps if mounted else None),
        *compare(paths.stack, wanted, observe(paths.secrets, bundle.digest_key), bundle.digest_key),
        *_refreshed(paths),
    ]
    digests = {service: delivery.digest(bundle.digest_key, consumer) for service, consumer in wanted.items()}
    return Found(found, digests)


def observe(directory: Path, key: bytes) -> dict[str, Entry]:
    """Return what lies below ``directory``, by relative path."""
    found = {}
    for path in sorted(directory.rglob("*")) if directory.is_dir() else []:
        status = path.lstat()
        kind = _kind(status.st_mode)
        digest = _digest(key, path.read_bytes()) if kind == "file" else ""
        name = str(path.relative_to(directory))
        found[name] = Entry(kind, status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), digest)
    return found


def compare(stack: str, wanted: Mapping[str, Consumer], there: Mapping[str, Entry], key: bytes) -> list[Difference]:
    """Return how the files that are ``there`` differ from the ``wanted`` ones. Pure."""
    expected: dict[str, Entry] = {}
    for service, consumer in wanted.items():
        expected[service] = Entry("directory", 0, 0, delivery.DIRECTORY_MODE)
        for name, content in consumer.files.items():
            digest = _digest(key, content)
            expected[f"{service}/{name}"] = Entry("file", consumer.uid, consumer.gid, delivery.FILE_MODE, digest)
    found = []
    for name in sorted({*expected, *there}):
        want, has = expected.get(name), there.get(name)
        if want is None:
            # A directory whose service is gone stays: a container may still have it mounted (delivery.write).
            if has is not None and not (has.kind == "directory" and "/" not in name):
                found.append(Difference(stack, _SCOPE, name, PRESENCE, "absent", has.kind, "rewrite"))
        elif has is None or has.kind != want.kind:
            actual = has.kind if has else "absent"
            found.append(Difference(stack, _SCOPE, name, PRESENCE, want.kind, actual, "rewrite"))
        else:
            pairs = (
                (OWNER, f"{want.uid}:{want.gid}", f"{has.uid}:{has.gid}"),
                (MODE, f"{want.mode:04o}", f"{has.mode:04o}"),
                (CONTENT, want.digest, has.digest),
            )
            found += [
                Difference(stack, _SCOPE, name, facet, desired, actual, "rewrite")
                for facet, desired, actual in pairs
                if desired != actual
            ]
    return found


def _consumers(deliveries: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Consumer]:
    """Return what each service gets, leaving out services that need a value which is not there."""
    found = {}
    for service, one in deliveries.items():
        try:
            found.update(delivery.consumers({service: one}, values))
        except BattenError:  # noqa: PERF203 - the missing value is a difference of its own
            continue
    return found


def _values(paths: StackPaths, rules: Mapping[str, Mapping[str, Any]], bundle: Bundle) -> list[Difference]:
    """Values that the bundle lacks, certificates that are due or that a person has to renew, and values that are older
    than they may be."""
    found, known = [], _certificates(paths, rules, bundle)
    for name, rule in sorted(rules.items()):
        if name not in bundle.values:
            action = "none" if credentials.provided(rule) else "rewrite"
            found.append(Difference(paths.stack, _SCOPE, name, PRESENCE, "a value", "absent", action))
        elif name in known and _is_due(known[name]):
            found.append(_ending(paths.stack, name, rule, known[name]))
        elif rule.get("expires") and _age(bundle.made.get(name)) > rule["expires"] * _DAY:
            wanted, actual = f"at most {rule['expires']} days old", f"of {bundle.made.get(name) or 'an unknown day'}"
            why = f"a new value is yours to ask for: batten rotate -i INV {name}"
            found.append(Difference(paths.stack, _SCOPE, name, EXPIRY, wanted, actual, "none", reason=why))
    return found


def _is_due(known: Mapping[str, Any]) -> bool:
    return not known["fits"] or known["renewal"] <= time.time() or _begins_later(known)


def _begins_later(known: Mapping[str, Any]) -> bool:
    """Return whether batten made it by a clock that was ahead. A person's own may be for later."""
    begins, now = (datetime.fromtimestamp(at, timezone.utc) for at in (known.get("start", 0), time.time()))
    return pki.begins_later(begins, now)


def _ending(stack: str, name: str, rule: Mapping[str, Any], known: Mapping[str, Any]) -> Difference:
    """A certificate that is to be renewed: by a run where batten made it, else by a person."""
    given = credentials.provided(rule)
    if known["fits"] and _begins_later(known):
        actual = f"begins only on {time.strftime('%Y-%m-%d', time.gmtime(known['start']))}, by a clock that was ahead"
    elif known["fits"]:
        actual = f"{'ends' if known['end'] >= time.strftime('%Y-%m-%d', time.gmtime()) else 'ended'} {known['end']}"
    else:
        actual = "no certificate that openssl reads" if given else "not what its rule asks for"
    place = f"as {name} in Infisical" + (f", or as {rule['from']} in the inventory" if rule.get("from") else "")
    why = f"a new one is yours to give, {place}; then run site.yml" if given else None
    return Difference(
        stack, _SCOPE, name, EXPIRY, "renewed in time", actual, "none" if given else "rewrite", reason=why
    )


def _age(made: str | None) -> float:
    """Return the seconds since a value was made; for ever where that is not known."""
    return time.time() - timestamp(made) if made else float("inf")


def _certificates(
    paths: StackPaths, rules: Mapping[str, Mapping[str, Any]], bundle: Bundle
) -> dict[str, dict[str, Any]]:
    """Return of each certificate whether it ``fits`` its rule, its ``renewal`` in Unix time, and its ``end``, a day.

    Asking openssl costs more than the rest of a look, so answers are kept with what they are of. Of one that a person
    gave the first in the text counts, which is the leaf (RFC 8446, 4.4.2).
    """
    kept, values = atomic.read_json(paths.certificates, {}), bundle.values
    found = {}
    for name, rule in rules.items():
        made = rule.get("generator") in ("ca", "x509")
        if name not in values or not (made or (credentials.provided(rule) and _CERTIFICATE in values[name])):
            continue
        certificate = values.get(f"{name}_certificate") if made else values[name]
        parts = [rule, values[name], certificate, values.get(f"{rule.get('ca')}_certificate")]
        of = _digest(bundle.digest_key, atomic.canonical(parts).encode())
        if kept.get(name, {}).get("of") == of:
            found[name] = kept[name]
        elif certificate is None:
            found[name] = {"of": of, "fits": False, "renewal": 0, "end": ""}
        else:
            found[name] = {"of": of, **_validity(name, rule, values, certificate)}
    if found != kept:
        atomic.write_json(paths.certificates, found)
    return found


def _validity(name: str, rule: Mapping[str, Any], values: Mapping[str, str], certificate: str) -> dict[str, Any]:
    given = credentials.provided(rule)
    try:
        start, end = pki.validity(certificate)
    except BattenError:
        if not given:
            raise
        return {"fits": False, "renewal": 0, "end": ""}
    notice = min(NOTICE_SECONDS, (end - start).total_seconds() / 6)
    renewal = end.timestamp() - notice if given else pki.renewed_at(start, end).timestamp()
    fits = given or generators.fits(name, rule, values)
    begins = {} if given else {"start": start.timestamp()}
    return {"fits": fits, "renewal": renewal, "end": end.strftime("%Y-%m-%d"), **begins}


def _gone(paths: StackPaths) -> Difference:
    """A run of site.yml gets the values back from Infisical; without one only a person can."""
    action, why = ("rewrite", None) if paths.access.exists() else ("none", credentials.gone(paths).fix)
    name = paths.credentials.name
    return Difference(paths.stack, _SCOPE, name, PRESENCE, "a sealed bundle", "absent", action, reason=why)


def _mount(stack: str, never_swaps: bool | None) -> list[Difference]:
    if never_swaps:
        return []
    actual = "not mounted" if never_swaps is None else "memory that may swap"
    return [Difference(stack, _SCOPE, "memory mount", PRESENCE, "memory that never swaps", actual, "rewrite")]


def _refreshed(paths: StackPaths) -> list[Difference]:
    """What the last look at Infisical could not bring here."""
    state = atomic.read_json(paths.refreshed, {})
    again = f"the next look takes it, at once: python3 {PROGRAM} sync {paths.stack}"

    def told(name: str, desired: str, actual: str, fix: str) -> Difference:
        return Difference(paths.stack, _SCOPE, name, STALE, desired, actual, "none", reason=f"{fix}; {again}")

    problem = state.get("problem")
    found = [told("Infisical", "refreshed", str(problem), "bring Infisical back")] if problem else []
    for name, version in sorted((state.get("refused") or {}).items()):
        actual = f"version {version} did not work, the one before is in use"
        found.append(told(name, "as in Infisical", actual, f"correct {name} in Infisical"))
    return found


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "symlink"
    return "directory" if stat.S_ISDIR(mode) else "file" if stat.S_ISREG(mode) else "special file"


def _digest(key: bytes, content: bytes) -> str:
    return hmac.new(key, content, hashlib.sha256).hexdigest()[:12]
