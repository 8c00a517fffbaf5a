"""The host under the engine: what it should be, what differs, and what a run tells. Pure but for :func:`run`.

Observe (:mod:`host_facts`, :mod:`host_live`), compare (:mod:`host_items`), act (:mod:`host_act`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
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
    host_rules,
    lock,
    policy,
)
from .compare import Difference
from .errors import BattenError
from .host_facts import Facts
from .host_firewall import Port, Rules
from .host_items import Item
from .host_rollback import FIREWALL, RULES_FILE

LOCK = "/run/lock/batten-host.lock"
UNIT_FILE = "/etc/systemd/system/batten-firewall.service"
UNIT = """\
# Written by batten (role host).
[Unit]
Description=What reaches containers from outside
Documentation=man:nft(8)
DefaultDependencies=no
# Before there is a network, and before Docker publishes a port. What empties all tables is nftables.service alone: ours
# comes after it, and again with it.
Before=network-pre.target docker.service shutdown.target
Wants=network-pre.target
After=nftables.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service
Conflicts=shutdown.target
RequiresMountsFor=/etc/batten

[Service]
Type=oneshot
RemainAfterExit=yes
# Nothing closes by stopping it: without ExecStop= the rules stay.
ExecStart=/usr/sbin/nft -f /etc/batten/firewall.nft
ExecReload=/usr/sbin/nft -f /etc/batten/firewall.nft
ProtectSystem=full
ProtectHome=yes
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_ADMIN
MemoryMax=64M

[Install]
WantedBy=sysinit.target
"""


@dataclass(frozen=True)
class Options:
    """What the role asks; the module's parameters, without what says how it is called."""

    firewall: bool = True
    firewall_allow: tuple[Mapping[str, Any], ...] = ()
    firewall_metadata: bool = True
    firewall_input: bool = False
    firewall_ssh_ports: tuple[int, ...] = ()
    firewall_confirm_seconds: int = 60
    audit: bool = True
    sysctls: Mapping[str, Any] = field(default_factory=dict)
    core_dumps: bool = False
    time: bool = True
    unattended_upgrades: bool = True
    unattended_reboot: str = ""
    docker_group: bool = True
    docker_group_members: tuple[str, ...] = ()
    docker_files: bool = True
    swap: str = "keep"
    drift: tuple[policy.Rule, ...] = ()


def rules(options: Options, facts: Facts) -> Rules:
    """Return what the firewall is made from, on this host. Its own ports are left to a firewall that keeps them."""
    own = options.firewall_input and not facts.others
    ssh = tuple(sorted({*facts.ssh, *options.firewall_ssh_ports})) if own else ()
    return Rules(options.firewall_allow, options.firewall_metadata, ssh, facts.foreign, facts.named)


def items(options: Options, facts: Facts, planned: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Item]:
    """Return all that this host should be. ``planned`` are the ports of this run's stacks, by stack; until they are
    deployed, what runs keeps its ports. Raises BattenError for an option that cannot be."""
    host_rules.check_sysctls(options.sysctls)
    found: list[Item] = []
    if options.firewall:
        host_firewall.check_allow(options.firewall_allow)
        found += firewall_items(rules(options, facts), ports(facts.plans, planned))
    if options.audit and not facts.container:
        found += host_rules.audit(facts.audited, facts.debian)
    found += host_rules.sysctls(options.sysctls, facts.container)
    if not options.core_dumps:
        found += host_rules.core_dumps()
    if options.time and not facts.container:
        found += host_rules.clock(facts.keepers, facts.debian)
    if options.unattended_upgrades:
        found += host_rules.upgrades(facts.debian, options.unattended_reboot)
    if options.docker_group:
        found.append(Item("group", "group", "docker", sorted(options.docker_group_members), "update"))
    if options.docker_files:
        found += host_rules.docker_files(facts.daemon)
    if not facts.container:
        found += host_rules.swap(options.swap, facts.swaps)
    return found


def ports(plans: Mapping[str, Mapping[str, Any]], planned: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Port]:
    """Return what is open: what recorded plans publish, and what this run's will beyond that.

    The controller does not know this host's addresses yet: a port that is recorded on one of them stays on that one.
    """
    coming = [{"services": {"": {"ports": wanted}}} for wanted in planned.values()]
    recorded = host_firewall.published(plans.values())
    known = {(protocol, number) for _, protocol, number in recorded}
    return sorted([*recorded, *(port for port in host_firewall.published(coming) if port[1:] not in known)])


def firewall_items(wanted: Rules, open_ports: Sequence[Port]) -> list[Item]:
    """Return the rules as a file, as the kernel has them, and what loads them at boot."""
    text = host_firewall.render(wanted, open_ports)
    return [
        Item("package", "firewall", "nftables", "installed"),
        Item("file", "firewall", RULES_FILE, text),
        Item("file", "firewall", UNIT_FILE, UNIT),
        Item("unit", "firewall", FIREWALL, "enabled, active"),
        Item("table", "firewall", "nftables", {"digest": str(host_live.listing(text)["digest"])}),
    ]


def notes(options: Options, facts: Facts, open_ports: Sequence[Port]) -> list[str]:
    """Return what a person must be told of this host: who owns what, and what is closed that somebody publishes."""
    told = []
    if options.firewall:
        for name in facts.others:
            theirs = "host_firewall_input is left to it: " if options.firewall_input else ""
            told.append(
                f"{name} is active: {theirs}it owns what comes to the host itself, and batten what is sent on to "
                f"containers; no rule of {name} opens a container's port, host_firewall_allow does"
            )
        shut = host_firewall.closed(rules(options, facts), open_ports, facts.containers)
        if shut:
            told.append(f"closed to the outside: {'; '.join(shut)}; host_firewall_allow opens a port")
        if facts.daemon.get("userland-proxy", True) and facts.containers and not options.firewall_input:
            told.append(
                "daemon.json leaves userland-proxy on: a port that docker-proxy serves comes to the host itself, where "
                "only host_firewall_input closes it; set userland-proxy to false"
            )
    return told


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
    record = atomic.read_json(host_live.at(host_act.RECORD, root), {})
    wanted = remembered(items(options, facts, planned), record)
    gone = left(record, wanted)
    live, told = spared(wanted, host_live.read(wanted, root), options.drift)
    found = [*host_items.compare(wanted, live), *map(_gone, gone)]
    open_ports = ports(facts.plans, planned)
    opened = tuple(host_firewall.opened(open_ports)) if options.firewall else ()
    told += notes(options, facts, open_ports) if found else []
    outcome = Outcome(tuple(found), tuple(diff(wanted, live, gone, root)), tuple(told), opened)
    kept: dict[str, Any] = {"rules": None, "open": list(opened), "drift": [dict(one) for one in options.drift]}
    if options.firewall:
        kept["rules"] = rules(options, facts).to_json()
    listed = {**kept, "items": [one.to_json() for one in wanted]}
    known = all(record.get(key) == value for key, value in listed.items())
    if check or (known and not found and not record.get("armed")):
        return outcome
    actor = host_act.Actor(wanted, live, facts.debian, root)
    armed = actor.run(gone, record, kept, options.firewall_confirm_seconds)
    audit.append(host_live.at("/var/log/batten/audit.jsonl", root), map(audited, found))
    if not armed:
        _see_it_kept(wanted, options.drift, root)
    return replace(outcome, armed=armed)


def held(root: str = "/", brief: bool = False) -> AbstractContextManager[None]:
    """Hold what a run of role host holds (lock.py): its items and its record are of one moment then."""
    return lock.held(host_live.at(LOCK, root), brief, "this host")


def again(root: str = "/") -> tuple[Difference, ...]:
    """Make this host once more what the last run left; return what was not so. Rules that nobody confirmed are not
    loaded: they may have been taken back because they let nobody in. Raises BattenError."""
    with held(root):
        record = atomic.read_json(host_live.at(host_act.RECORD, root), {})
        wanted = host_items.from_json(record.get("items", ()))
        live, _told = spared(wanted, host_live.read(wanted, root), record.get("drift", ()))
        if record.get("armed"):
            live = {**live, **{one.key: one.value for one in wanted if one.facet == "firewall"}}
        found = tuple(one for one in host_items.compare(wanted, live) if one.action != "none")
        if found:
            kept = {key: value for key, value in record.items() if key not in ("items", "before")}
            host_act.Actor(wanted, live, host_facts.look(root).debian, root).run((), record, kept, 0)
            audit.append(host_live.at("/var/log/batten/audit.jsonl", root), map(audited, found))
            done = {(one.facet, one.name) for one in found}
            _see_it_kept([one for one in wanted if (one.facet, one.name) in done], record.get("drift", ()), root)
    return found


def confirm(digest: str, root: str = "/") -> None:
    """Keep the rules that wait to be confirmed. Raises BattenError when they were taken back already."""
    with held(root):
        host_rollback.confirm(digest, root)
        path = host_live.at(host_act.RECORD, root)
        record = atomic.read_json(path, {})
        if record.pop("armed", None):
            atomic.write_json(path, record)


def _see_it_kept(wanted: Sequence[Item], rules: Sequence[policy.Rule], root: str) -> None:
    for one in host_items.compare(wanted, spared(wanted, host_live.read(wanted, root), rules)[0]):
        if one.action != "none":
            raise not_kept(one)


def remove(check: bool, root: str = "/") -> Outcome:
    """Take away what runs put here. Packages stay, as do owners, modes and who is in group docker."""
    record = atomic.read_json(host_live.at(host_act.RECORD, root), {})
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


def audited(one: Difference) -> dict[str, Any]:
    """Return a difference as a line of the audit file."""
    return {
        "stack": None,
        "scope": one.scope,
        "service": one.name,
        "facet": one.facet,
        "before": one.actual,
        "after": one.desired,
        "action": one.action,
        "result": "told" if one.action == "none" else "done",
    }


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
            shown.append(_diff(item.name, actual or "", item.value))
        elif item.kind != "table":
            before += f"{item.name} ({item.facet}): {actual}\n"
            after += f"{item.name} ({item.facet}): {item.value}\n"
    shown += [_diff(one.name, host_live.text(one.name, root) or "", "") for one in gone if one.kind == "file"]
    return [*shown, _diff("host", before, after)] if before else shown


def _diff(name: str, before: str, after: str) -> dict[str, str]:
    return {"before_header": name, "after_header": name, "before": before, "after": after}
