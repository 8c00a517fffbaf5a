"""The host under the engine, made what it should be (:mod:`host_wanted`), once more, or left.

Observe (:mod:`host_facts`, :mod:`host_live`), compare (:mod:`host_items`), act (:mod:`host_act`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from . import (
    atomic,
    audit,
    host_act,
    host_facts,
    host_firewall,
    host_items,
    host_live,
    host_rollback,
    host_wanted,
    lock,
    policy,
)
from .compare import Difference, shown_as
from .errors import BattenError
from .host_items import Item
from .host_wanted import Options
from .paths import HostPaths


@dataclass(frozen=True)
class Outcome:
    """What a run found, did or would do. ``armed`` is the digest of rules that wait to be confirmed."""

    differences: tuple[Difference, ...]
    diff: tuple[Mapping[str, str], ...]
    warnings: tuple[str, ...]
    open_ports: tuple[str, ...]
    armed: str = ""


def run(options: Options, planned: Mapping[str, Sequence[Mapping[str, Any]]], check: bool, root: str = "/") -> Outcome:
    """Make this host what ``options`` ask, or tell what that would change. Raises BattenError."""
    if check:
        return _run(options, planned, check, root)
    with held(root):
        return _run(options, planned, check, root)


def _run(options: Options, planned: Mapping[str, Sequence[Mapping[str, Any]]], check: bool, root: str) -> Outcome:
    facts = host_facts.look(root)
    record = atomic.read_json(HostPaths(root).host, {})
    wanted = remembered(host_wanted.items(options, facts, planned), record)
    gone = left(record, wanted)
    live, told = spared(wanted, host_live.read(wanted, root), options.drift)
    found = [*host_items.compare(wanted, live), *map(_gone, gone)]
    open_ports = host_wanted.ports(facts.plans, planned)
    opened = tuple(host_firewall.opened(open_ports)) if options.firewall else ()
    told += host_wanted.notes(options, facts, open_ports) if found else []
    outcome = Outcome(tuple(found), tuple(diff(wanted, live, gone, root)), tuple(told), opened)
    kept: dict[str, Any] = {"rules": None, "open": list(opened), "drift": [dict(one) for one in options.drift]}
    if options.firewall:
        kept["rules"] = host_wanted.rules(options, facts).to_json()
    listed = {**kept, "items": [one.to_json() for one in wanted]}
    known = all(record.get(key) == value for key, value in listed.items())
    if check or (known and not found and not record.get("armed")):
        return outcome
    actor = host_act.Actor(wanted, live, facts.debian, root)
    armed = actor.run(gone, record, kept, options.firewall_confirm_seconds)
    audit.append(HostPaths(root).audit, [audit.of(one.to_json(), "done") for one in found])
    if not armed:
        _see_it_kept(wanted, options.drift, root)
    return replace(outcome, armed=armed)


def held(root: str = "/", brief: bool = False) -> AbstractContextManager[None]:
    """Hold what a run of role host holds (lock.py): its items and its record are of one moment then."""
    return lock.held(HostPaths(root).lock, brief, "this host")


def again(root: str = "/") -> tuple[Difference, ...]:
    """Make this host once more what the last run left; return what was not so. Rules that nobody confirmed are not
    loaded: they may have been taken back because they let nobody in. Raises BattenError."""
    with held(root):
        record = atomic.read_json(HostPaths(root).host, {})
        wanted = host_items.from_json(record.get("items", ()))
        live, _told = spared(wanted, host_live.read(wanted, root), record.get("drift", ()))
        if record.get("armed"):
            live = {**live, **{one.key: one.value for one in wanted if one.facet == "firewall"}}
        found = tuple(one for one in host_items.compare(wanted, live) if one.action != "none")
        if found:
            kept = {key: value for key, value in record.items() if key not in ("items", "before")}
            host_act.Actor(wanted, live, host_facts.look(root).debian, root).run((), record, kept, 0)
            audit.append(HostPaths(root).audit, [audit.of(one.to_json(), "done") for one in found])
            done = {(one.facet, one.name) for one in found}
            _see_it_kept([one for one in wanted if (one.facet, one.name) in done], record.get("drift", ()), root)
    return found


def confirm(digest: str, root: str = "/") -> None:
    """Keep the rules that wait to be confirmed. Raises BattenError when they were taken back already."""
    with held(root):
        host_rollback.confirm(digest, root)
        path = HostPaths(root).host
        record = atomic.read_json(path, {})
        if record.pop("armed", None):
            atomic.write_json(path, record)


def _see_it_kept(wanted: Sequence[Item], rules: Sequence[policy.Rule], root: str) -> None:
    for one in host_items.compare(wanted, spared(wanted, host_live.read(wanted, root), rules)[0]):
        if one.action != "none":
            raise not_kept(one)


def remove(check: bool, root: str = "/") -> Outcome:
    """Take away what runs put here. Packages stay, as do owners, modes and who is in group docker."""
    record = atomic.read_json(HostPaths(root).host, {})
    gone = left(record, ())
    outcome = Outcome(tuple(map(_gone, gone)), tuple(diff((), {}, gone, root)), (), ())
    if record and not check:
        with held(root):
            host_rollback.disarm()
            host_act.take(gone, record.get("before", {}), root)
            host_act.forget(root)
    return outcome


def _gone(one: Item) -> Difference:
    return Difference(None, "host", one.name, one.facet, "absent", "present", "remove")


def not_kept(one: Difference) -> BattenError:
    """Return the error of something that did not become as it should."""
    other = "something else sets it too"
    if one.name.startswith("APT::"):
        other = f"a file after ours sets it too, see: grep {one.name} /etc/apt/apt.conf.d/*"
    return BattenError(
        f"is {one.actual!r} after it was set to {one.desired!r}",
        f"{one.name} ({one.facet})",
        f"{other}; turn this part of role host off, or the other",
    )


def spared(
    wanted: Sequence[Item], live: host_items.Live, rules: Sequence[policy.Rule]
) -> tuple[host_items.Live, list[str]]:
    """Return ``live`` with what the policy leaves alone as if it were as wanted, and a line on each of these and on
    each rule that has ended."""
    today = policy.today()
    division = policy.divide(host_items.compare(wanted, live), rules, today)
    left = {(one.facet, one.name) for one in (*division.report, *division.ignored)}
    told = [
        f"{one.name} ({one.facet}) is left until {one.until}: {one.actual!r}, not {one.desired!r}: {one.reason}"
        for one in division.report
    ]
    as_wanted = {one.key: one.value for one in wanted if (one.facet, one.name) in left}
    return {**live, **as_wanted}, [*policy.expired(rules, today), *told]


def remembered(wanted: Sequence[Item], record: Mapping[str, Any]) -> list[Item]:
    """Return the items with the listing of our rules as it was when they were loaded, if they are still the same."""
    old = {one.key: one for one in host_items.from_json(record.get("items", ()))}
    found = []
    for item in wanted:
        known = old.get(item.key)
        if item.kind == "table" and known and known.value["digest"] == item.value["digest"]:
            item = replace(item, value=known.value)  # noqa: PLW2901
        found.append(item)
    return found


def left(record: Mapping[str, Any], wanted: Sequence[Item]) -> list[Item]:
    """Return what the last run put here and this one does not want: files, units, rules."""
    keys = {one.key for one in wanted}
    return [
        one
        for one in host_items.from_json(record.get("items", ()))
        if one.key not in keys and one.kind in host_act.TAKEN
    ]


def diff(wanted: Sequence[Item], live: host_items.Live, gone: Sequence[Item], root: str) -> list[dict[str, str]]:
    """Return before and after, of files as they are, of all else one line each."""
    shown = []
    before, after = "", ""
    for item in wanted:
        actual = live[item.key]
        if host_items.holds(item, actual):
            continue
        if item.kind == "file":
            shown.append(shown_as(item.name, actual or "", item.value))
        elif item.kind != "table":
            before += f"{item.name} ({item.facet}): {actual}\n"
            after += f"{item.name} ({item.facet}): {item.value}\n"
    shown += [shown_as(one.name, host_live.text(one.name, root) or "", "") for one in gone if one.kind == "file"]
    return [*shown, shown_as("host", before, after)] if before else shown
