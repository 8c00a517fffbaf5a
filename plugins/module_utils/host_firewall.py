"""The rules of ``table inet batten``, as text for ``nft -f``. Pure.

One table of our own, whichever backend Docker's rules use (iptables, or nftables from Engine 29 on): in netfilter a
``drop`` is final over all tables of a hook, while ``accept`` ends its own chain only (nft(8), VERDICT STATEMENTS). So
nothing that Docker, ufw or firewalld accept opens what is closed here, and nothing here opens what they close. No
program of theirs writes to another's table, as they do to the chain DOCKER-USER, which is gone after ``iptables -F``,
may lie behind other rules, and is not there at all with Docker's nftables backend.
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .errors import BattenError
from .quantities import EVERY_ADDRESS

METADATA = ("169.254.169.254", "fd00:ec2::254")
"""Where clouds serve an instance's metadata (DigitalOcean, AWS, GCP, Azure; the second one AWS only)."""

BRIDGES = ("docker*", "br-*")
"""Interfaces of Docker's networks: docker0, docker_gwbridge, and br-ID of every network without a name of its own."""

Port = tuple[str, str, int]
"""Address (empty: any), protocol, number: as the client sees them."""


@dataclass(frozen=True)
class Rules:
    """What the rules are made from, beside the plans. ``foreign`` are bridges named like Docker's that are not, and
    ``named`` those of Docker's that are named otherwise; ``ssh`` is empty where the host's own ports are left alone."""

    allow: tuple[Mapping[str, Any], ...] = ()
    metadata: bool = True
    ssh: tuple[int, ...] = ()
    foreign: tuple[str, ...] = ()
    named: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as a record keeps it."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> Rules:
        """Return the rules of a record."""
        lists: dict[str, Any] = {key: value if key == "metadata" else tuple(value) for key, value in row.items()}
        return Rules(**lists)


def published(plans: Iterable[Mapping[str, Any]]) -> list[Port]:
    """Return what stacks publish to the outside, sorted; ``plans`` are ``StackPlan`` as JSON."""
    found = set()
    for plan in plans:
        for service in (plan.get("services") or {}).values():
            for port in service.get("ports") or ():
                address = port.get("address") or ""
                if address in EVERY_ADDRESS:
                    found.add(("", str(port["protocol"]), int(port["published"])))
                elif not ipaddress.ip_address(address).is_loopback:
                    found.add((str(ipaddress.ip_address(address)), str(port["protocol"]), int(port["published"])))
    return sorted(found)


def check_allow(allow: Iterable[Mapping[str, Any]]) -> None:
    """Raise BattenError for what is no port, or no network."""
    where = "host_firewall_allow"
    for entry in allow:
        if not 0 < int(entry["port"]) < 65536:
            raise BattenError(f"{entry['port']} is no port", where, "write 1 to 65535")
        wrong = [source for source in entry.get("from") or () if not _is_network(source)]
        if wrong:
            raise BattenError(f"{wrong[0]!r} is no network", where, "write it as 10.0.0.0/8")


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def digest(body: str) -> str:
    """Return what tells one text of rules from another."""
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def render(rules: Rules, ports: Sequence[Port]) -> str:
    """Return the text of the table. Loading it replaces the old table in one transaction, for IPv4 and IPv6."""
    body = "\n".join([*_sets(rules, ports), *_chains(rules)])
    return (
        "#!/usr/sbin/nft -f\n"
        "# Written by batten (role host); batten-firewall.service loads it at boot, before Docker starts.\n"
        "# To open a port: host_firewall_allow in the inventory. To be without it until the next boot:\n"
        "#   nft delete table inet batten\n"
        "table inet batten\ndelete table inet batten\n"
        f'table inet batten {{\n\tcomment "batten {digest(body)}"\n\n{body}\n}}\n'
    )


def _sets(rules: Rules, ports: Sequence[Port]) -> list[str]:
    anywhere = [f"{protocol} . {number}" for address, protocol, number in ports if not address]
    anywhere += [f"{one['protocol']} . {one['port']}" for one in rules.allow if not one.get("from")]
    at: dict[int, list[str]] = {4: [], 6: []}
    for address, protocol, number in ports:
        if address:
            at[ipaddress.ip_address(address).version].append(f"{address} . {protocol} . {number}")
    sources = {version: _sources(rules.allow, version) for version in (4, 6)}
    return [
        "\t# Protocol and port, as the client sees them: on any address,",
        *_set("anywhere", "inet_proto . inet_service", anywhere),
        "\t# on one of this host's,",
        *_set("here4", "ipv4_addr . inet_proto . inet_service", at[4]),
        *_set("here6", "ipv6_addr . inet_proto . inet_service", at[6]),
        "\t# and to clients from one network only.",
        *_set("from4", "ipv4_addr . inet_proto . inet_service", sources[4], interval=True),
        *_set("from6", "ipv6_addr . inet_proto . inet_service", sources[6], interval=True),
    ]


def _sources(allow: Iterable[Mapping[str, Any]], version: int) -> list[str]:
    """Return who may come from where: of networks that overlap the larger alone, as nft refuses both in one set."""
    networks: dict[str, list[Any]] = {}
    for one in allow:
        for source in one.get("from") or ():
            network = ipaddress.ip_network(source, strict=False)
            if network.version == version:
                networks.setdefault(f"{one['protocol']} . {one['port']}", []).append(network)
    return [f"{network} . {port}" for port, all_ in networks.items() for network in ipaddress.collapse_addresses(all_)]


def _set(name: str, kind: str, elements: Sequence[str], interval: bool = False) -> list[str]:
    lines = [f"\tset {name} {{", f"\t\ttype {kind}", *(["\t\tflags interval"] if interval else [])]
    if elements:
        lines.append(f"\t\telements = {{ {', '.join(sorted(set(elements)))} }}")
    return [*lines, "\t}", ""]


def _chains(rules: Rules) -> list[str]:
    v4, v6 = METADATA
    quoted = ", ".join(f'"{name}"' for name in (*BRIDGES, *rules.named))
    bridges = f"{{ {quoted} }}"
    metadata = [
        "\t\t# The cloud's metadata needs no password, and tells user data and keys to whoever asks.",
        f"\t\tiifname {bridges} ip daddr {v4} counter reject with icmpx admin-prohibited",
        f"\t\tiifname {bridges} ip6 daddr {v6} counter reject with icmpx admin-prohibited",
    ]
    foreign = [
        "\t\t# Bridges that only look like Docker's.",
        "\t\toifname { " + ", ".join(f'"{name}"' for name in rules.foreign) + " } accept",
    ]
    return [
        "\tchain prerouting {",
        "\t\ttype filter hook prerouting priority raw; policy accept;",
        "\t\t# Engines before 28 give a container what a neighbour sends to a port that it publishes on loopback.",
        '\t\tiifname != "lo" ip daddr 127.0.0.0/8 counter drop',
        '\t\tiifname != "lo" ip6 daddr ::1 counter drop',
        "\t}",
        "",
        "\tchain forward {",
        "\t\ttype filter hook forward priority filter - 5; policy accept;",
        *(metadata if rules.metadata else []),
        "\t\tct state established,related accept",
        f"\t\toifname != {bridges} accept",
        *(foreign if rules.foreign else []),
        "\t\tct status dnat goto published",
        "\t\t# Among containers Docker's own rules decide.",
        f"\t\tiifname {bridges} accept",
        "\t\t# Sent to a container's own address, past what it publishes.",
        "\t\tcounter drop",
        "\t}",
        "",
        "\tchain published {",
        *_accepted("ct original ", "ct original proto-dst"),
        "\t\tcounter drop",
        "\t}",
        *(_input(rules.ssh) if rules.ssh else []),
    ]


def _accepted(original: str, port: str) -> list[str]:
    return [
        f"\t\tmeta l4proto . {port} @anywhere accept",
        f"\t\t{original}ip daddr . meta l4proto . {port} @here4 accept",
        f"\t\t{original}ip6 daddr . meta l4proto . {port} @here6 accept",
        f"\t\tip saddr . meta l4proto . {port} @from4 accept",
        f"\t\tip6 saddr . meta l4proto . {port} @from6 accept",
    ]


def _input(ssh: Sequence[int]) -> list[str]:
    return [
        "",
        "\tchain input {",
        "\t\ttype filter hook input priority filter - 5; policy drop;",
        '\t\tiifname "lo" accept',
        "\t\tct state established,related accept",
        "\t\tmeta l4proto { icmp, icmpv6 } accept",
        f"\t\ttcp dport {{ {', '.join(map(str, sorted(set(ssh))))} }} accept",
        "\t\t# Answers to DHCP come from an address that was not asked.",
        "\t\tudp sport 67 udp dport 68 accept",
        "\t\tip6 saddr fe80::/10 udp dport 546 accept",
        *_accepted("", "th dport"),
        "\t}",
    ]


def opened(ports: Sequence[Port]) -> list[str]:
    """Return ports in words, for people: ``tcp 443``, ``tcp 198.51.100.7:443``."""
    return [
        f"{protocol} {number}" if not address else f"{protocol} {_bracketed(address)}:{number}"
        for address, protocol, number in ports
    ]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def closed(rules: Rules, ports: Sequence[Port], containers: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what containers publish to the outside and the rules close, in words.

    ``containers`` are those of ``GET /containers/json``. What is open from some networks only counts as open.
    """
    allowed = {(one["protocol"], int(one["port"])) for one in rules.allow}
    anywhere = {(protocol, number) for address, protocol, number in ports if not address} | allowed
    found = set()
    for container in containers:
        for port in container.get("Ports") or ():
            address, number = port.get("IP") or "", port.get("PublicPort")
            if not number or not address or ipaddress.ip_address(address).is_loopback:
                continue
            if (port["Type"], number) not in anywhere and (address, port["Type"], number) not in ports:
                found.add(f"{container['Names'][0].lstrip('/')} publishes {port['Type']} {number}")
    return sorted(found)
