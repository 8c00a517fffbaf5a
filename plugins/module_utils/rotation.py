"""A secret changes hands in three states of the bundle, each saved first and then applied like any release.

1. *entering*: what checks the secret accepts the new value beside the old one; nobody uses it yet.
2. *leaving*: the new value is the current one, its consumers get it; the old one is still accepted, and comes back if
   they do not get healthy. When they did it is *retiring*, until the last session of its login role has ended.
3. Only the new one is left.

A run that is killed leaves one of these, and the next goes on from it. Secrets that only one value can be valid of at a
time go to the second state at once, which keeps the old value until the gate has passed.
"""

from __future__ import annotations

import calendar
import difflib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from . import apply, audit, credentials, generators, lock, postgres, release
from .credentials import ENTERING, LEAVING, RETIRING, Bundle, Other
from .docker_api import Docker
from .errors import BattenError
from .infisical_http import Unreachable
from .paths import StackPaths

Rules = Mapping[str, Mapping[str, Any]]
Push = Callable[[Mapping[str, str]], Mapping[str, int]]

OVERLAPPING = ("postgres_role", "redis")
"""Kinds of which two values can be valid at once."""
_FIXED = {
    "none": ("what it has encrypted or signed stands and falls with it", "leave it; an authority is renewed by itself"),
    "provided": (
        "its new value comes from whoever issued it",
        "put the new value into Infisical: batten tunnel infisical",
    ),
}
_EMPTY = ("it has no value yet", "run site.yml first")
_PATIENCE_SECONDS = 30.0
_PAUSE_SECONDS = 1.0


@dataclass
class Result:
    """What a rotation did. ``waiting`` are old login roles with sessions: a later run or the timer ends them."""

    rotated: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    waiting: dict[str, int] = field(default_factory=dict)
    actions: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


class Returned(BattenError):  # noqa: N818 - what happened, as a person says it
    """The new values did not work, and the old ones are back."""


# --- the three states, as pure functions ---------------------------------------------------------------------------


def entering(bundle: Bundle, new: Mapping[str, str]) -> Bundle:
    """Return the bundle in which ``new`` values are accepted beside the current ones, where two can be."""
    others = {name: Other(value, ENTERING) for name, value in new.items()}
    return replace(bundle, others={**bundle.others, **others})


def switched(bundle: Bundle, rules: Rules, at: str) -> Bundle:
    """Return the bundle in which every entering value is the current one and the old one is leaving."""
    incoming = {name: other.value for name, other in bundle.others.items() if other.phase == ENTERING}
    outgoing = {name: Other(bundle.values[name], LEAVING) for name in incoming if name in bundle.values}
    others = {name: other for name, other in bundle.others.items() if name not in incoming}
    users = _exchanged(bundle, rules, incoming)
    return replace(bundle.having(incoming, at), others={**others, **outgoing}, users=users)


def returned(bundle: Bundle, rules: Rules, at: str) -> Bundle:
    """Return the bundle in which every leaving value is the current one again, and the new ones are still accepted."""
    old = {name: other.value for name, other in bundle.others.items() if other.phase == LEAVING}
    others = {name: Other(bundle.values[name], LEAVING) for name in old if kind(rules, name) in OVERLAPPING}
    kept = {name: other for name, other in bundle.others.items() if name not in old}
    return replace(bundle.having(old, at), others={**kept, **others}, users=_exchanged(bundle, rules, old))


def proven(bundle: Bundle) -> Bundle:
    """Return the bundle whose leaving values will not come back: the stack is healthy without them."""
    others = {
        name: Other(other.value, RETIRING) if other.phase == LEAVING else other for name, other in bundle.others.items()
    }
    return replace(bundle, others=others)


def retired(bundle: Bundle, names: Collection[str]) -> Bundle:
    """Return the bundle without the second values of ``names``."""
    return replace(bundle, others={name: other for name, other in bundle.others.items() if name not in names})


def _exchanged(bundle: Bundle, rules: Rules, names: Iterable[str]) -> dict[str, str]:
    users = dict(bundle.users)
    for name in names:
        if kind(rules, name) == "postgres_role":
            role = rules[name]["role"]
            users[name] = credentials.alternate(role, users.get(name) or credentials.alternate(role, ""))
    return users


def kind(rules: Rules, part: str) -> str:
    """Return the rotation kind of the secret that the value ``part`` belongs to."""
    for name, rule in rules.items():
        if part in generators.parts(name, rule):
            return str(rule.get("rotation") or "restart")
    return "none"


def phase(bundle: Bundle, which: str) -> list[str]:
    """Return the names whose second value is ``which``."""
    return sorted(name for name, other in bundle.others.items() if other.phase == which)


def chosen(
    rules: Rules,
    bundle: Bundle,
    names: Sequence[str],
    everything: bool,
    older_than: float | None,
    prefix: str = "",
) -> list[str]:
    """Return the secrets to rotate; ``older_than`` is in seconds, ``prefix`` what a person types before a name.

    Raises BattenError for one that cannot be rotated.
    """
    can = [name for name, rule in sorted(rules.items()) if kind(rules, name) not in _FIXED and name in bundle.values]
    for name in names:
        if name not in rules:
            near = difflib.get_close_matches(name, can, 1)
            fix = f"use {prefix}{near[0]}" if near else f"use one of: {', '.join(prefix + one for one in can)}"
            raise BattenError(f"no secret is named {prefix}{name}", "rotate", fix)
        if name not in can:
            why, fix = _FIXED.get(kind(rules, name), _EMPTY)
            raise BattenError(f"{prefix}{name} cannot be rotated: {why}", "rotate", fix)
    if everything:
        return can
    if older_than is not None:
        return [name for name in can if _age(bundle.made.get(name)) > older_than]
    return sorted(set(names))


def _age(made: str | None) -> float:
    """Return the seconds since ``made``; without it, no end of them: it was made before batten wrote times down."""
    return time.time() - calendar.timegm(time.strptime(made, "%Y-%m-%dT%H:%M:%SZ")) if made else float("inf")


def runs(paths: StackPaths) -> bool:
    """Return whether a release of the stack runs here, so that there is something to rotate under."""
    return release.running(paths) is not None


# --- effects --------------------------------------------------------------------------------------------------------


@dataclass
class Rotation:
    """One stack whose secrets change hands. ``push`` stores values in Infisical and returns their versions.

    Whoever uses it holds the stack's lock, from before it is made: it reads the release that runs.
    """

    docker: Docker
    paths: StackPaths
    push: Push | None = None
    say: Callable[[str], None] = lambda _: None
    patience: float = _PATIENCE_SECONDS

    def __post_init__(self) -> None:
        running = release.running(self.paths)
        if running is None:
            fix = "run site.yml with its inventory first"
            raise BattenError(f"stack {self.paths.stack} does not run here", str(self.paths.current), fix)
        self.payload = release.read(self.paths, running)
        self.rules: Rules = self.payload["secrets"]["generate"]
        self.result = Result()

    def rotate(self, names: Sequence[str]) -> Result:
        """Give each of ``names`` a new value; finish first what a killed run left. Raises :class:`Returned`."""
        begun = phase(credentials.load(self.paths), ENTERING)
        self._finish()
        bundle = credentials.load(self.paths)
        # A killed run of the same command has begun the others.
        again = {name: self.rules[name] for name in names if name not in begun}
        self._change(generators.generate_all(again, bundle.values))
        self.result.rotated = sorted(names)
        return self.result

    def adopt(self, new: Mapping[str, str]) -> Result:
        """Bring values that a person changed in Infisical to their consumers. Raises :class:`Returned`."""
        self._finish(but=new)
        self._change(new)
        self.result.rotated = sorted(new)
        return self.result

    def finish(self) -> Result:
        """Go on with what a killed run left, or what waited for sessions to end."""
        if credentials.load(self.paths).others:
            self._finish(patience=0)
        return self.result

    def mend(self) -> Result:
        """Have the stack run as released, whatever a killed run left of it: half a rotation, or a missing container."""
        if credentials.load(self.paths).others:
            self._finish(patience=0)
        else:
            self._converge()
        return self.result

    def _finish(self, but: Collection[str] = (), patience: float | None = None) -> None:
        bundle = credentials.load(self.paths)
        if abandoned := [name for name in phase(bundle, ENTERING) if name in but]:
            credentials.save(self.paths, retired(bundle, abandoned))
            bundle = credentials.load(self.paths)
        if phase(bundle, ENTERING):
            self._accept()
            self._switch()
        elif phase(bundle, LEAVING):
            self._hold()
        elif bundle.others:
            self._converge()
        if bundle.others:
            self._retire(patience)
            self.result.finished = sorted(set(bundle.others) - set(credentials.load(self.paths).others))

    def _change(self, new: Mapping[str, str]) -> None:
        if not new:
            return
        bundle = credentials.load(self.paths)
        credentials.save(self.paths, entering(bundle, new))
        if any(kind(self.rules, name) in OVERLAPPING for name in new):
            self._accept()
        self._switch()
        self._retire()

    def _accept(self) -> None:
        """Have servers accept the entering values too. Where that fails they are dropped: no run would get past it."""
        try:
            with self._timed("accept"):
                self._converge()
        except BattenError as failure:
            bundle = credentials.load(self.paths)
            names = phase(bundle, ENTERING)
            credentials.save(self.paths, retired(bundle, names))
            self._audit(names, "returned")
            self._converge()
            raise _returned_to_old(names, failure) from failure

    def _switch(self) -> None:
        bundle = credentials.load(self.paths)
        new = {name: bundle.others[name].value for name in phase(bundle, ENTERING)}
        versions = self.push(new) if self.push else {}
        bundle = switched(bundle, self.rules, lock.now())
        credentials.save(self.paths, replace(bundle, versions={**bundle.versions, **versions}))
        self._hold()

    def _hold(self) -> None:
        """Apply the values that are current; put the old ones back if the stack does not get healthy with them."""
        try:
            with self._timed("switch"):
                self._converge()
        except BattenError as failure:
            names = phase(credentials.load(self.paths), LEAVING)
            self._return(names)
            raise _returned_to_old(names, failure) from failure
        credentials.save(self.paths, proven(credentials.load(self.paths)))

    def _return(self, names: Sequence[str]) -> None:
        bundle = returned(credentials.load(self.paths), self.rules, lock.now())
        credentials.save(self.paths, bundle)
        self._audit(names, "returned")
        self._converge()
        credentials.save(self.paths, bundle := proven(bundle))
        if self.push:
            with suppress(Unreachable):  # the next look stores them, for they are newer than what is there
                versions = self.push({name: bundle.values[name] for name in names})
                credentials.save(self.paths, replace(bundle, versions={**bundle.versions, **versions}))
        self._retire()

    def _retire(self, patience: float | None = None) -> None:
        """Drop what has left. A login role goes when its last session has ended, which may be after this run."""
        bundle = credentials.load(self.paths)
        retiring = phase(bundle, RETIRING)
        with self._timed("retire"):
            held = self._held(bundle, retiring, self.patience if patience is None else patience)
            gone = [name for name in retiring if name not in held]
            if gone:
                credentials.save(self.paths, retired(bundle, gone))
            if any(kind(self.rules, name) in OVERLAPPING for name in gone):
                self._converge()
        self._audit(gone, "done")

    def _held(self, bundle: Bundle, retiring: Sequence[str], patience: float) -> set[str]:
        """Return the names whose old login role still has sessions after ``patience`` seconds at most."""
        old = {
            name: credentials.accounts(bundle, name, self.rules[name]["role"])[1][0]
            for name in retiring
            if kind(self.rules, name) == "postgres_role"
        }
        deadline = time.monotonic() + patience
        while old:
            spec, project = self.payload["postgres"], self.payload["project"]
            sessions = postgres.sessions(self.docker, project, spec, self.paths)
            self.result.waiting = {role: sessions[role] for role in old.values() if sessions.get(role)}
            # A server shows no sessions' end to wait for: there is no event, so this looks once a second.
            if not self.result.waiting or time.monotonic() >= deadline:
                break
            time.sleep(_PAUSE_SECONDS)
        return {name for name, role in old.items() if role in self.result.waiting}

    def _converge(self) -> None:
        # Units are no matter of secrets, and the timer's own may not write them.
        try:
            done = apply.converge(self.payload, apply.Options(manage_units=False), self.docker, self.paths)
        except OSError as error:  # a full disk, a directory that may not be written: no reason to stay halfway
            raise BattenError(str(error), f"stack {self.paths.stack}", "see: df -h; then run site.yml") from error
        self.result.actions += done.actions

    def _timed(self, state: str) -> _Timed:
        return _Timed(self, state)

    def _audit(self, names: Iterable[str], outcome: str) -> None:
        common = {"stack": self.paths.stack, "scope": "secret", "action": "rotate", "result": outcome}
        audit.append(self.paths.audit, [{**common, "service": name} for name in names])


def _returned_to_old(names: Sequence[str], failure: BattenError) -> Returned:
    words = f"{failure.what}\nThe old values are back: {', '.join(names)}"
    return Returned(words, failure.where, failure.fix)


class _Timed:
    """Says what goes on, and adds up the seconds of each state."""

    def __init__(self, rotation: Rotation, state: str) -> None:
        self.rotation, self.state = rotation, state

    def __enter__(self) -> None:
        self.rotation.say(self.state)
        self.begun = time.monotonic()

    def __exit__(self, *_: object) -> None:
        seconds = self.rotation.result.seconds
        seconds[self.state] = round(seconds.get(self.state, 0.0) + time.monotonic() - self.begun, 1)
