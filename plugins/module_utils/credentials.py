"""A stack's secret values: made once on the host, encrypted at rest, delivered to memory.

Source and delivery are apart: :func:`resolve` says where values come from, and is all that changes when they come from
somewhere else; ``delivery.py`` turns values into files.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import atomic, delivery, generators, mounts, systemd_creds
from .errors import BattenError
from .lock import held, now
from .paths import PROGRAM, StackPaths

ENTERING, LEAVING, RETIRING = "entering", "leaving", "retiring"
_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")
_KEY_BYTES = 32


@dataclass(frozen=True)
class Other:
    """The second value of a secret that changes hands. ``phase`` is ENTERING, when what checks it has to accept it and
    nobody uses it yet; LEAVING, when it was the current one, and comes back if the new one does not work; or RETIRING,
    when the new one has proven to work, and sessions of the old one may still be open."""

    value: str
    phase: str


@dataclass(frozen=True)
class Bundle:
    """What ``secrets.cred`` holds: the values, and the key of this stack's digests. Part of every backup.

    ``users`` are the login roles that go with the values of alternating PostgreSQL roles; ``versions`` are Infisical's
    of the values, where it has them; ``made`` are the times of the values, as :func:`lock.now` writes them. ``given``
    are digests of what a person handed in last, by name: the value in use may be newer.
    """

    digest_key: bytes
    values: Mapping[str, str] = field(default_factory=dict)
    others: Mapping[str, Other] = field(default_factory=dict)
    users: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)
    made: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)

    def mark(self, text: str) -> str:
        """Return what tells of another text and of nothing else: whoever reads it lacks the key."""
        return hmac.new(self.digest_key, text.encode(), hashlib.sha256).hexdigest()

    def having(self, values: Mapping[str, str], at: str = "") -> Bundle:
        """Return this bundle with ``values`` laid over its own, made ``at`` (default: now)."""
        return replace(self, values={**self.values, **values}, made={**self.made, **dict.fromkeys(values, at or now())})

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON. Holds every value: for sealing and for encrypted backups alone."""
        others = {name: dict(other.__dict__) for name, other in self.others.items()}
        return {**self.__dict__, "digest_key": self.digest_key.hex(), "others": others}


def from_json(stored: Mapping[str, Any]) -> Bundle:
    """Return the bundle that :meth:`Bundle.to_json` gave, of this version or an older one."""
    others = {name: Other(**other) for name, other in stored.get("others", {}).items()}
    rest = {key: stored[key] for key in ("values", "users", "versions", "made", "given") if key in stored}
    return Bundle(bytes.fromhex(stored["digest_key"]), others=others, **rest)


@dataclass(frozen=True)
class Delivery:
    """What :func:`deliver` did, or would do. ``changes`` are names, never values; ``digests`` are by service."""

    changed: bool
    changes: list[str]
    digests: dict[str, str]


def resolve(
    paths: StackPaths,
    rules: Mapping[str, Mapping[str, Any]],
    bundle: Bundle,
    coming: Collection[str] = (),
    renew: bool = True,
) -> tuple[Bundle, list[str]]:
    """Return the bundle with every value that ``rules`` names, and the names made now.

    No value is ever made twice, but for certificates that are due, with ``renew``. A rule without a ``generator``
    (``{"from": VARIABLE}``) stands for a value that a person hands in. ``coming`` names those that check mode has not
    handed in; anything stands for them.
    Raises BattenError naming the values that a person must give, or one that is not what its rule says.
    """
    missing = [name for name in sorted(rules) if name not in bundle.values]
    for name in rules.keys() - missing:
        generators.check(name, rules[name], bundle.values[name])
    asked = [name for name in missing if provided(rules[name])]
    if lacking := [name for name in asked if name not in coming]:
        raise _not_given(paths, rules, lacking)
    wanted = {
        name: rules[name]
        for name in rules
        if name in missing or (renew and generators.due(name, rules[name], bundle.values))
    }
    made = dict.fromkeys(asked, "coming")
    to_make = {name: rule for name, rule in wanted.items() if name not in made}
    made |= generators.generate_all(to_make, {**bundle.values, **made})
    return (bundle.having(made) if made else bundle), sorted(wanted)


def lost(paths: StackPaths, names: Collection[str]) -> list[str]:
    """Return those of ``names`` that were delivered from this host before."""
    spec: dict[str, Any] = atomic.read_json(paths.secrets_spec, {"generate": {}})
    return sorted(set(names) & set(spec["generate"]))


def provided(rule: Mapping[str, Any]) -> bool:
    """Return whether a person has to give this value: it cannot be made."""
    return bool(rule.get("generator", "provided") == "provided")


def accounts(bundle: Bundle, name: str, role: str) -> list[tuple[str, str]]:
    """Return the ``(login role, password)`` pairs to accept for alternating ``role``, the current one first."""
    user = bundle.users.get(name) or alternate(role, "")
    pairs = [(user, bundle.values[name])]
    if name in bundle.others:
        pairs.append((alternate(role, user), bundle.others[name].value))
    return pairs


def alternate(role: str, user: str) -> str:
    """Return the login role of ``role`` that is not ``user``."""
    return f"{role}_b" if user == f"{role}_a" else f"{role}_a"


def delivered(bundle: Bundle, rules: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return all that a template may name: every value, and for what changes hands without a gap

    - ``NAME.user``, the login role of the current value, and ``NAME.userlist``, the lines of PgBouncer's user list for
      every account to accept (``rotation`` postgres_role);
    - ``NAME.acl``, the passwords to accept as Redis's ACL writes them, ``>one >two`` (``rotation`` redis; redis.io,
      "ACL", "Key permissions": a ``>`` adds a password to the user's list).
    """
    found = dict(bundle.values)
    for name, rule in rules.items():
        if name not in bundle.values:
            continue
        if rule.get("rotation") == "postgres_role":
            pairs = accounts(bundle, name, rule["role"])
            quoted = delivery.ENCODINGS["pgbouncer"]
            found[f"{name}.user"] = pairs[0][0]
            found[f"{name}.userlist"] = "\n".join(f"{quoted(user)} {quoted(value)}" for user, value in pairs)
        if rule.get("rotation") == "redis":
            other = [bundle.others[name].value] if name in bundle.others else []
            found[f"{name}.acl"] = " ".join(f">{value}" for value in [bundle.values[name], *other])
    return found


def deliver(
    paths: StackPaths, spec: Mapping[str, Any], check: bool, coming: Collection[str] = (), renew: bool = True
) -> Delivery:
    """Make missing values, keep them encrypted, mount memory and write every consumer's files.

    ``spec`` is the release's ``secrets`` (docs/architecture.md). Safe to repeat; with nothing to do it only reads.
    ``coming`` names what a person will hand in, which only check mode has to be told. Without ``renew`` a certificate
    that is due stays.
    """
    bundle, made = resolve(paths, spec["generate"], load(paths), coming if check else (), renew)
    changes = [f"{name}: made" for name in made]
    if not paths.credentials.exists():
        changes.append("secrets.cred: written")
    if not check:
        if made or not paths.credentials.exists():
            save(paths, bundle)
        atomic.write_json(paths.secrets_spec, spec)
        atomic.write_json(paths.made, dict(bundle.made))  # for `verify`, which opens nothing
    wanted = delivery.consumers(spec["deliveries"], delivered(bundle, spec["generate"]))
    if mounts.ensure(paths.secrets, check):
        changes.append("memory mount: mounted")
    _fits(wanted)
    changes += delivery.write(paths.secrets, wanted, check)
    digests = {service: delivery.digest(bundle.digest_key, consumer) for service, consumer in wanted.items()}
    return Delivery(bool(changes), changes, digests)


def unlock(paths: StackPaths) -> Delivery:
    """Deliver again what was delivered last; for a boot, when memory is empty. Makes no new value.

    It renews no certificate either: so early the clock may be far off, and what it signed would begin at a wrong time.
    """
    spec = atomic.read_json(paths.secrets_spec, None)
    if spec is None:
        raise gone(paths)
    return deliver(paths, spec, check=False, renew=False)


def put(paths: StackPaths, given: Any) -> list[str]:
    """Keep values that a person gave, ``{NAME: value}``; return the names that changed.

    One that was handed in before, as an inventory does at every run, is no news: what took its place since, by a
    rotation or in Infisical, stays.
    """
    if not isinstance(given, dict) or not all(
        isinstance(value, str) and value and _NAME.match(name) for name, value in given.items()
    ):
        raise BattenError("standard input is not {NAME: value}", "put", 'type: {"api_key": "..."} with non-empty texts')
    with held(paths.lock):
        bundle = load(paths)
        digests = {name: bundle.mark(f"given {name}\0{value}") for name, value in given.items()}
        news = {name: value for name, value in given.items() if bundle.given.get(name) != digests[name]}
        changed = {name: value for name, value in news.items() if bundle.values.get(name) != value}
        _refuse_fixed(paths, sorted(name for name in changed if name in bundle.values))
        if news:
            save(paths, replace(bundle.having(changed), given={**bundle.given, **digests}))
    return sorted(changed)


def _refuse_fixed(paths: StackPaths, replaced: Sequence[str]) -> None:
    """Refuse another value for what is made once and stays, such as the key that a database is encrypted with."""
    rules = (atomic.read_json(paths.secrets_spec, None) or {}).get("generate") or {}
    for name in replaced:
        rule = rules.get(name, {})
        if rule.get("rotation") == "none" and rule.get("generator", "provided") != "provided":
            raise BattenError(
                f"{name} is in use here and never changes, and another value was given",
                f"stack {paths.stack}",
                f"take {rule.get('from') or name} out of the inventory; a restore goes onto a host that has none yet",
            )


def load(paths: StackPaths) -> Bundle:
    """Decrypt the bundle; an empty one with a new key when there is none yet.

    Raises BattenError where there was one and it is gone: new values would not open the data that the old ones protect.
    """
    if not paths.credentials.exists():
        if paths.secrets_spec.exists():
            raise gone(paths)
        return empty()
    return from_json(systemd_creds.read(paths.credentials, _sealed_name(paths)))


def opens(paths: StackPaths) -> bool:
    """Return whether the bundle is there, and this host can open it."""
    try:
        return paths.credentials.exists() and load(paths) is not None
    except BattenError:
        return False


def empty() -> Bundle:
    """Return a bundle without values, and with a new key."""
    return Bundle(secrets.token_bytes(_KEY_BYTES))


def save(paths: StackPaths, bundle: Bundle) -> None:
    """Encrypt and write the bundle."""
    atomic.make_directory(paths.var, 0o700)
    atomic.make_directory(paths.state, 0o700)
    systemd_creds.write(paths.credentials, _sealed_name(paths), bundle.to_json())


def _sealed_name(paths: StackPaths) -> str:
    return f"batten-{paths.stack}"


def _not_given(paths: StackPaths, rules: Mapping[str, Mapping[str, Any]], lacking: list[str]) -> BattenError:
    variables = ", ".join(str(rules[name].get("from") or name) for name in lacking)
    sample = json.dumps(dict.fromkeys(lacking, "..."))
    return BattenError(
        f"no value was given for {', '.join(lacking)}",
        f"stack {paths.stack}",
        f"set {variables} in the inventory, under ansible-vault; or as root on this host, "
        f"{sample} on standard input of: python3 {PROGRAM} put {paths.stack}",
    )


def gone(paths: StackPaths) -> BattenError:
    """Return the error of a bundle that was there."""
    fix = f"restore it from a backup; to begin with new values instead: rm {paths.secrets_spec}, then run site.yml"
    return BattenError(f"no credentials of stack {paths.stack} are on this host", str(paths.credentials), fix)


def _fits(wanted: Mapping[str, delivery.Consumer]) -> None:
    size = sum(len(content) for consumer in wanted.values() for content in consumer.files.values())
    if size > mounts.SIZE_BYTES // 2:  # half, as a rename holds the old and the new for a moment
        raise BattenError(f"the secret files are {size} bytes", "deliveries", f"at most {mounts.SIZE_BYTES // 2}")
