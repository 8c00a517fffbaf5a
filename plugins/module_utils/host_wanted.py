"""What the host under the engine should be, from the role's options, this host's facts and the plans of its stacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import host_firewall, host_live, host_rules, policy
from .host_facts import Facts
from .host_firewall import Port, Rules
from .host_items import Item
from .host_rollback import FIREWALL, RULES_FILE

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
