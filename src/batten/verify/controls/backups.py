"""Backups: there is one that was read back, it is young enough, and its file is all there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from batten.verify.catalogue import control
from batten.verify.controls.lifecycle import timer
from batten.verify.model import LiveBackup, LiveHost, Verdict, fails, holds, not_applicable

if TYPE_CHECKING:
    from batten.plan.model import StackPlan


@control("backups.age", "The newest verified backup is young enough", scope="stack")
def age(expected: StackPlan, live: LiveHost) -> Verdict:
    if expected.backup is None:
        return not_applicable("backups are off: backup_recipient is not set")
    found = [
        (moment, each)
        for each in live.backups.get(expected.backup.directory, ())
        if (moment := _verified(each, expected))
    ]
    if not found:
        return fails(f"no verified backup lies in {expected.backup.directory}")
    moment, newest = max(found, key=lambda pair: pair[0])
    hours = (int(live.facts["now"]) - moment) / 3600
    said = f"{newest.described.get('file')} is {hours:.1f} h old, at most {expected.backup.max_age_seconds / 3600:.1f}"
    return holds(said) if hours * 3600 <= expected.backup.max_age_seconds else fails(said)


@control("backups.timer", "Backups are made by themselves", scope="stack")
def scheduled(expected: StackPlan, live: LiveHost) -> Verdict:
    if expected.backup is None:
        return not_applicable("backups are off: backup_recipient is not set")
    return timer(live, f"batten-backup@{expected.name}.timer")


def _verified(backup: LiveBackup, expected: StackPlan) -> float | None:
    """When a whole backup of this stack to this key was verified, in seconds since the epoch; else None."""
    told = backup.described
    whole = told.get("stack") == expected.name and told.get("bytes") == backup.size
    if not whole or expected.backup is None or told.get("recipient") != expected.backup.recipient:
        return None
    try:
        return datetime.strptime(str(told.get("verified")), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
