"""Infisical is the source of a stack's values, the sealed bundle their copy: what follows where the two differ. Pure.

A value whose version there is the one that was last seen is older than ours; any other version came from a person.
But a lower one that was written before ours was made is of a server that came back from a backup: it is older too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from . import generators
from .credentials import Bundle, provided
from .errors import BattenError
from .infisical import Stored

Rules = Mapping[str, Mapping[str, Any]]

_SECOND = len("2026-11-23T06:00:00")  # both times are UTC; Infisical's goes on with milliseconds


@dataclass(frozen=True)
class Outcome:
    """What makes both sides equal. Values stay out of every ``repr``.

    ``make``: secrets that neither side has, to generate; ``ask``: those that only a person can give.
    ``take``: values to take over, for they are new to this host. ``change``: values that a person changed there.
    ``create``: names to create there, of which ``back`` were there before; ``update``: names whose value here is newer.
    ``wrong``: names whose value there is not of the declared format.
    """

    make: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    take: Mapping[str, str] = field(default_factory=dict, repr=False)
    change: Mapping[str, str] = field(default_factory=dict, repr=False)
    create: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    update: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """What there is to do, by name."""
        return [
            *(f"{name}: made" for name in self.make),
            *(f"{name}: taken from Infisical" for name in sorted(self.take)),
            *(f"{name}: changed in Infisical" for name in sorted(self.change)),
            *(f"{name}: stored in Infisical" for name in self.create if name not in self.back),
            *(f"{name}: gone from Infisical, put back from this host's copy" for name in self.back),
            *(f"{name}: updated in Infisical" for name in self.update),
        ]


def names(rules: Rules) -> list[str]:
    """Return the names of all values of all secrets."""
    return sorted(part for name, rule in rules.items() for part in generators.parts(name, rule))


def compare(
    rules: Rules, bundle: Bundle, remote: Mapping[str, Stored], refused: Mapping[str, int], coming: Collection[str] = ()
) -> Outcome:
    """Return what follows. ``refused`` are the versions that did not work and are not tried again.

    ``coming`` are the names that a person hands in with this run.
    """
    make: list[str] = []
    ask: list[str] = []
    wrong: list[str] = []
    create: list[str] = []
    back: list[str] = []
    update: list[str] = []
    take: dict[str, str] = {}
    change: dict[str, str] = {}
    for secret, rule in sorted(rules.items()):
        parts = generators.parts(secret, rule)
        if all(part not in remote and part not in bundle.values for part in parts):
            (ask if provided(rule) and secret not in coming else make).append(secret)
            continue
        for part in parts:
            there, here = remote.get(part), bundle.values.get(part)
            if there is None:
                if here is not None:
                    create.append(part)
                    if part in bundle.versions:
                        back.append(part)
            elif refused.get(part) == there.version or there.value == here:
                continue
            elif part == secret and not _fits(secret, rule, there.value):
                wrong.append(part)
            elif here is None:
                take[part] = there.value
            elif _is_older(bundle, part, there):
                update.append(part)
            else:
                change[part] = there.value
    return Outcome(tuple(make), tuple(ask), take, change, tuple(create), tuple(back), tuple(update), tuple(wrong))


def _is_older(bundle: Bundle, part: str, there: Stored) -> bool:
    """Return whether ours is newer. A secret that a person deleted and made again begins at version 1, and now."""
    seen = bundle.versions.get(part)
    if seen is None or there.version >= seen:
        return there.version == seen
    return "" < there.updated[:_SECOND] < bundle.made.get(part, "")[:_SECOND]


def _fits(name: str, rule: Mapping[str, Any], value: str) -> bool:
    try:
        generators.check(name, rule, value)
    except BattenError:
        return False
    return True
