"""Pinning: which digests the references of an inventory's plans mean, and what has moved since the lock was written."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ansible_collections.batten.core.plugins.module_utils import atomic
from batten.errors import BattenError
from batten.plan.lock import Lock, load_lock
from batten.plan.stack import load_inputs, references
from batten.registry import Reference, Resolved, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from batten.plan.settings import StackSettings

_AT_ONCE = 8
_HEADER = """\
# What each image meant when it was last asked for: batten pin. Commit this file; batten plan says how old it is.
"""
# Droplets are amd64 alone (DigitalOcean, "Droplet Features").
_PLATFORMS = {"digitalocean": "linux/amd64"}


@dataclass(frozen=True)
class Change:
    """One reference: its digest before (None: not pinned) and after, and where it is used (``host/stack/service``).

    ``missing`` is the platform of a host that uses it, and that the image does not have.
    """

    reference: str
    before: str | None
    after: str
    platforms: tuple[str, ...]
    used_by: tuple[str, ...]
    missing: str | None = None

    @property
    def status(self) -> Literal["new", "moved", "same"]:
        return "new" if self.before is None else "same" if self.before == self.after else "moved"


@dataclass
class Wanted:
    """What one lock file is to hold: where each reference is used, and the platforms that it must have."""

    lock: Lock
    used_by: dict[str, set[str]] = field(default_factory=dict)
    platforms: dict[str, set[str]] = field(default_factory=dict)


def wanted(stacks: Mapping[str, Sequence[StackSettings]], platform: str | None = None) -> dict[Path, Wanted]:
    """Return what each lock file of an inventory is to hold, by its path. ``platform`` is that of all its hosts.

    Reads definitions, bases and locks; raises BattenError for what is wrong in them.
    """
    found: dict[Path, Wanted] = {}
    for host, settings in sorted(stacks.items()):
        for one in settings:
            if one.lock is None:
                continue
            entry = found.setdefault(one.lock, Wanted(load_lock(one.lock)))
            for service, reference in references(one, load_inputs(one)).items():
                if "@" in reference:
                    continue  # it is pinned by hand
                entry.used_by.setdefault(reference, set()).add(f"{host}/{one.name}/{service}")
                needs = platform or _PLATFORMS.get(one.target)
                entry.platforms.setdefault(reference, set()).update([needs] if needs else [])
    return found


def resolve(names: Sequence[str], ask: Callable[[str], Resolved]) -> tuple[dict[str, Resolved], list[BattenError]]:
    """Ask for every reference, several at once; return what was found, and each problem once: a registry that cannot
    be reached is one problem, however many images are there."""
    found: dict[str, Resolved] = {}
    problems: dict[str, BattenError] = {}

    def one(name: str) -> Resolved | BattenError:
        try:
            return ask(name)
        except BattenError as error:
            return error

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for name, answer in zip(names, pool.map(one, names), strict=True):
            if isinstance(answer, Resolved):
                found[name] = answer
            else:
                problems[answer.registry if isinstance(answer, UnreachableError) else name] = answer
    return found, [problem for _, problem in sorted(problems.items())]


@dataclass(frozen=True)
class HostLogin:
    """A login to a registry that a host keeps sealed: the ``secret`` of its ``stack`` is the password of ``user``."""

    host: str
    stack: str
    user: str
    secret: str


def host_logins(stacks: Mapping[str, Sequence[StackSettings]]) -> dict[str, HostLogin]:
    """Return the logins that an inventory declares, by registry; of several hosts with one, the first."""
    found: dict[str, HostLogin] = {}
    for host, settings in sorted(stacks.items()):
        for one in settings:
            for registry, login in one.registries.items():
                found.setdefault(registry, HostLogin(host, one.name, login["user"], login["secret"]))
    return found


def registry_of(reference: str) -> str:
    """Return the registry of a reference; of what is none, nothing, and who resolves it says so."""
    try:
        return Reference.parse(reference).registry
    except BattenError:
        return ""


def ask_host(login: HostLogin, names: Sequence[str], run: Callable[[bytes], bytes]) -> list[Resolved | BattenError]:
    """Have a host ask a registry for ``names`` with a login that stays there; ``run`` takes and returns JSON.

    Raises BattenError where the host cannot be asked.
    """
    how = {"registry": registry_of(names[0]), "user": login.user, "secret": login.secret}
    answer = run(json.dumps({"images": dict.fromkeys(names, how)}).encode())
    try:
        found = json.loads(answer)
        return [
            Resolved(str(one["digest"]), tuple(map(str, one["platforms"])))
            if "digest" in one
            else BattenError(str(one["what"]), f"{login.host}: {name}", str(one["fix"]))
            for name in names
            for one in (found[name],)
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise BattenError(
            f"the host answers something else: {error!r}", login.host, "run site.yml, then again"
        ) from error


def changes(entry: Wanted, resolved: Mapping[str, Resolved]) -> list[Change]:
    """Compare a lock with what its references mean now."""
    found = []
    for reference, used_by in sorted(entry.used_by.items()):
        now, before = resolved[reference], entry.lock.images.get(reference)
        lacking = sorted(name for name in entry.platforms[reference] if not _has(now.platforms, name))
        found.append(
            Change(
                reference,
                before.digest if before else None,
                now.digest,
                now.platforms,
                tuple(sorted(used_by)),
                lacking[0] if lacking else None,
            )
        )
    return found


def lock_text(lock: Lock, found: Sequence[Change], today: date) -> str:
    """Return the lock as a file: what was found today, and what else was there (another inventory may use it)."""
    entries: dict[str, Any] = {
        name: {"digest": pin.digest, "resolved_at": pin.resolved_at, "platforms": list(pin.platforms)}
        for name, pin in lock.images.items()
    }
    for one in found:
        entries[one.reference] = {
            "digest": one.after,
            "resolved_at": today.isoformat(),
            "platforms": list(one.platforms),
        }
    import yaml

    return _HEADER + yaml.safe_dump({"images": entries}, sort_keys=True, width=120)


def write_lock(path: Path, text: str) -> None:
    """Write a lock all at once: who reads it meanwhile sees the old one or the new one."""
    try:
        atomic.write(path, text.encode())
    except OSError as error:
        raise BattenError(
            f"cannot write the lock: {error.strerror}", str(path), "make its directory writable"
        ) from error


def _has(platforms: Sequence[str], name: str) -> bool:
    """An image for linux/arm64 has no variant or v8, which are the same (containerd platforms, ``Normalize``)."""
    return any(one == name or one.startswith(f"{name}/") for one in platforms)
