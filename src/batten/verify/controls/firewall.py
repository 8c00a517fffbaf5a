"""The firewall: what the kernel has loaded, as nft lists it, against the plans and the inventory; and what is tried."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from batten.verify.catalogue import control
from batten.verify.model import HostPlan, LiveHost, Verdict, all_of, fails, holds, not_applicable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Judge = Callable[[HostPlan, LiveHost], Verdict]

METADATA = ("169.254.169.254", "fd00:ec2::254")
EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - compared, not bound
OFF = not_applicable("host_firewall is off")
UNIT = "batten-firewall.service"


def _where_on(judge: Judge) -> Judge:
    """The control applies where the inventory wants a firewall."""

    def judged(expected: HostPlan, live: LiveHost) -> Verdict:
        return judge(expected, live) if expected.wants("host_firewall") else OFF

    return judged


@control("firewall.table", "Rules that Docker does not bypass are loaded", scope="host", cis="1.2.1")
@_where_on
def table(expected: HostPlan, live: LiveHost) -> Verdict:
    hooks = {str(chain.get("hook")) for chain in _all(live, "chain") if chain.get("hook")}
    missing = {"forward", "prerouting"} - hooks
    if missing:
        return fails(f"table inet batten has no chain on {', '.join(sorted(missing))}")
    return holds(f"table inet batten, on {', '.join(sorted(hooks))}")


@control("firewall.default-deny", "What no rule lets through to a container is dropped", scope="host", cis="1.2.1")
@_where_on
def default_deny(expected: HostPlan, live: LiveHost) -> Verdict:
    open_ended = [name for name in ("forward", "published") if not _ends_in_drop(live, name)]
    return fails(f"chain {' and '.join(open_ended)} does not end in drop") if open_ended else holds("both chains drop")


@control(
    "firewall.published", "The open ports are the planned ones and those of the inventory", scope="host", cis="5.9"
)
@_where_on
def published(expected: HostPlan, live: LiveHost) -> Verdict:
    planned = set(_planned(expected))
    found = {("", *entry) for entry in _elements(live, "anywhere")}
    found |= {tuple(entry) for name in ("here4", "here6") for entry in _elements(live, name)}
    return _same(planned, found)


@control("firewall.sources", "Ports for some networks only are open to these alone", scope="host")
@_where_on
def sources(expected: HostPlan, live: LiveHost) -> Verdict:
    allow = expected.variables.get("host_firewall_allow") or ()
    planned = {
        (str(ipaddress.ip_network(source, strict=False)), str(one.get("protocol", "tcp")), int(one["port"]))
        for one in allow
        for source in one.get("from") or ()
    }
    found = {tuple(entry) for name in ("from4", "from6") for entry in _elements(live, name)}
    return _same(planned, found)


@control("firewall.loopback", "Neighbours do not reach what is published on loopback", scope="host")
@_where_on
def loopback(expected: HostPlan, live: LiveHost) -> Verdict:
    """Engines before 28 answer them (moby issue 45610)."""
    closed = [rule for rule in _rules(live, "prerouting") if _drops(rule) and '"127.0.0.0"' in _text(rule)]
    return holds("127.0.0.0/8 is dropped but on lo") if closed else fails("nothing drops 127.0.0.0/8 from outside")


@control("firewall.metadata", "The cloud's metadata address is closed to containers", scope="host")
@_where_on
def metadata(expected: HostPlan, live: LiveHost) -> Verdict:
    if not expected.wants("host_firewall_metadata"):
        return not_applicable("host_firewall_metadata is off")
    rules = [_text(rule) for rule in _rules(live, "forward") if _drops(rule)]
    missing = [address for address in METADATA if not any(f'"{address}"' in rule for rule in rules)]
    return fails(f"no rule closes {', '.join(missing)}") if missing else holds(f"{', '.join(METADATA)} are closed")


@control("firewall.metadata-tried", "No container reaches the cloud's metadata", scope="host")
@_where_on
def metadata_tried(expected: HostPlan, live: LiveHost) -> Verdict:
    """Tried from inside every container; nothing is asked of what answers."""
    if not expected.wants("host_firewall_metadata"):
        return not_applicable("host_firewall_metadata is off")
    tried = {one.name: one.tried["network"].get("metadata") for one in live.containers if "network" in one.tried}
    reached = sorted(name for name, word in tried.items() if word == "open")
    there = f"from the host itself it is {live.tried_on_host.get('metadata', 'not tried')}"
    return fails(f"{', '.join(reached)} reach {METADATA[0]}") if reached else holds(f"none of {len(tried)}; {there}")


@control("firewall.boot", "The firewall is up before the engine at every boot", scope="host")
@_where_on
def boot(expected: HostPlan, live: LiveHost) -> Verdict:
    unit = live.units.get(UNIT, {})
    state = (unit.get("UnitFileState") or "missing", unit.get("ActiveState", "missing"))
    if state != ("enabled", "active"):
        return fails(f"{UNIT} is {' and '.join(state)}")
    first = "docker.service" in unit.get("Before", "").split()
    return holds(f"{UNIT} is enabled and active") if first else fails(f"{UNIT} is not ordered before docker.service")


@control("firewall.input", "What comes to the host itself is denied but for what is listed", scope="host")
@_where_on
def input_(expected: HostPlan, live: LiveHost) -> Verdict:
    if not expected.wants("host_firewall_input"):
        return not_applicable("host_firewall_input is off: the host's own ports are left alone")
    chain = next((chain for chain in _all(live, "chain") if chain.get("hook") == "input"), {})
    return holds("policy drop") if chain.get("policy") == "drop" else fails(f"policy {chain.get('policy') or 'none'}")


@control("firewall.engine-rules", "The engine's own rules are loaded", scope="host", cis="2.4")
def engine_rules(expected: HostPlan, live: LiveHost) -> Verdict:
    """Gone after ``iptables -F``, until the engine starts again: then its networks are not kept apart."""
    found = sorted(live.chains)
    kept = {"-N DOCKER", "-N DOCKER-USER"} <= live.chains or any("docker-bridges" in one for one in found)
    return holds(", ".join(found)) if kept else fails(f"chains of the engine: {', '.join(found) or 'none'}")


def _planned(expected: HostPlan) -> Iterator[tuple[str, str, int]]:
    for stack in expected.stacks:
        for service in stack.services.values():
            for port in service.ports:
                address = port.address or ""
                if address in EVERYWHERE:
                    yield "", port.protocol, port.published
                elif not ipaddress.ip_address(address).is_loopback:
                    yield str(ipaddress.ip_address(address)), port.protocol, port.published
    for one in expected.variables.get("host_firewall_allow") or ():
        if not one.get("from"):
            yield "", str(one.get("protocol", "tcp")), int(one["port"])


def _same(planned: set[tuple[Any, ...]], found: set[tuple[Any, ...]]) -> Verdict:
    if found == planned:
        return holds(f"open: {_show(found)}")
    return all_of(
        *([fails(f"open, not planned: {_show(found - planned)}")] if found - planned else []),
        *([fails(f"closed, planned open: {_show(planned - found)}")] if planned - found else []),
    )


def _show(ports: set[tuple[Any, ...]]) -> str:
    return (
        ", ".join(sorted(f"{protocol} {f'{place} ' if place else ''}{number}" for place, protocol, number in ports))
        or "none"
    )


def _all(live: LiveHost, kind: str) -> list[Mapping[str, Any]]:
    """Objects of one kind in nft's JSON (libnftables-json(5))."""
    return [one[kind] for one in live.table if kind in one]


def _rules(live: LiveHost, chain: str) -> list[Mapping[str, Any]]:
    return [rule for rule in _all(live, "rule") if rule.get("chain") == chain]


def _drops(rule: Mapping[str, Any]) -> bool:
    return any("drop" in step or "reject" in step for step in rule.get("expr") or ())


def _ends_in_drop(live: LiveHost, chain: str) -> bool:
    """True if the chain's last rule drops all that comes to it."""
    rules = _rules(live, chain)
    return bool(rules) and _drops(rules[-1]) and not any("match" in step for step in rules[-1]["expr"])


def _text(rule: Mapping[str, Any]) -> str:
    return repr(rule.get("expr")).replace("'", '"')


def _elements(live: LiveHost, name: str) -> Iterator[list[Any]]:
    """The elements of a set, each as its parts; a network as it is written."""
    for found in _all(live, "set"):
        if found.get("name") != name:
            continue
        for element in found.get("elem") or ():
            value = element.get("elem", {}).get("val", element) if isinstance(element, dict) else element
            parts = value.get("concat", [value]) if isinstance(value, dict) else [value]
            yield [_part(part) for part in parts]


def _part(part: Any) -> Any:
    if isinstance(part, dict) and "prefix" in part:
        return f"{part['prefix']['addr']}/{part['prefix']['len']}"
    return part
