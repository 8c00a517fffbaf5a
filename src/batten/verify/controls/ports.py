"""Published ports: the planned ones, on the planned addresses, and nothing else that the engine holds open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batten.verify.catalogue import control
from batten.verify.model import HostPlan, LiveContainer, LiveHost, Verdict, fails, holds, not_applicable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batten.plan.model import ServicePlan

EVERYWHERE = ("", "0.0.0.0", "::", "*")  # noqa: S104 - what is looked for, not bound
ENGINE = {"docker-proxy", "dockerd"}  # without a proxy the daemon itself holds the port

Published = tuple[str, int, str]  # address, port, protocol


@control("ports.published", "The published ports are the planned ones", cis="5.9")
def published(expected: ServicePlan, live: LiveContainer) -> Verdict:
    planned = {(port.address or "", port.published, port.target, port.protocol) for port in expected.ports}
    found = set()
    for target, bindings in (live.host_config.get("PortBindings") or {}).items():
        number, _, protocol = target.partition("/")
        for binding in bindings or ():
            host_port = binding.get("HostPort") or "0"
            found.add((_address(binding.get("HostIp")), int(host_port), int(number), protocol))
    planned = {(_address(address), *rest) for address, *rest in planned}  # type: ignore[misc]
    if live.host_config.get("PublishAllPorts"):
        return fails("PublishAllPorts is on")
    if found == planned:
        return holds(_show(found))
    return fails(f"published {_show(found)}, planned {_show(planned)}")


@control("ports.interfaces", "No port is published on every interface", cis="5.14")
def interfaces(expected: ServicePlan, live: LiveContainer) -> Verdict:
    found = {
        port for port in engine_ports([live.inspect["NetworkSettings"].get("Ports") or {}]) if port[0] in EVERYWHERE
    }
    return fails(f"on every interface: {_show(found)}") if found else holds("none")


@control("ports.privileged", "Only a proxy publishes ports below 1024", cis="5.8")
def privileged(expected: ServicePlan, live: LiveContainer) -> Verdict:
    low = {port for port in engine_ports([live.inspect["NetworkSettings"].get("Ports") or {}]) if port[1] < 1024}
    if low and expected.service_class != "proxy":
        return fails(f"a {expected.service_class} service publishes {_show(low)}")
    return holds(_show(low))


@control("ports.listeners", "The engine holds no port open but the planned ones", scope="host", cis="5.9")
def listeners(expected: HostPlan, live: LiveHost) -> Verdict:
    planned = _planned(expected)
    theirs = _foreign(live)
    unplanned = []
    for one in live.listeners:
        if not ENGINE & set(one.programs):
            continue
        key = (_address(one.address), one.port, one.protocol)
        if key not in planned and key not in theirs and ("", *key[1:]) not in planned | theirs:
            unplanned.append(str(one))
    return fails("; ".join(unplanned)) if unplanned else holds(f"planned: {_show(planned)}")


@control("ports.outside", "From outside nothing answers but what is planned", scope="host", cis="5.9")
def outside(expected: HostPlan, live: LiveHost) -> Verdict:
    """Tried (``scan.py``). A program of the host's own is told, and fails where the inventory closes those."""
    if not live.outside:
        return not_applicable("neither this machine nor another host of the inventory shares a route with it")
    planned = _planned(expected)
    allowed = {int(one["port"]) for one in expected.variables.get("host_firewall_allow") or ()}
    foreign = {port for _, port, _ in _foreign(live)}
    held = {one.port: one for one in live.listeners if one.protocol == "tcp" and not ENGINE & set(one.programs)}
    own, wrong = set(), set()
    for address, ports in live.outside.items():
        for port in (port for port, word in ports.items() if word == "open"):
            if {(address, port, "tcp"), ("", port, "tcp")} & planned or port in allowed:
                continue
            by = ", ".join(held[port].programs) if port in held else ""
            if port in foreign and not expected.wants("host_firewall"):
                own.add(f"{port} by another's container")
            elif by and ("sshd" in by or not expected.wants("host_firewall_input")):
                own.add(f"{port} by {by}")
            else:
                wrong.add(f"{address}:{port}{f' by {by}' if by else ''}")
    tried = sum(map(len, live.outside.values()))
    if wrong:
        return fails(f"answers, not planned: {', '.join(sorted(wrong))}")
    told = f"; the host's own: {', '.join(sorted(own))}" if own else ""
    return holds(f"{tried} ports tried, only planned ones answer{told}")


@control("ports.served", "What is planned to be published answers from outside", scope="host")
def served(expected: HostPlan, live: LiveHost) -> Verdict:
    """Silence may be a provider's firewall on the way; a refusal is this host's own word."""
    words = {
        (address, port): ports[port]
        for address, ports in live.outside.items()
        for place, port, protocol in _planned(expected)
        if protocol == "tcp" and place in ("", address) and port in ports
    }
    refused = [f"{address}:{port}" for (address, port), word in words.items() if word == "refused"]
    opened = [f"{address}:{port}" for (address, port), word in words.items() if word == "open"]
    if refused:
        return fails(f"refused: {', '.join(sorted(refused))}")
    return (
        holds(f"answer: {', '.join(sorted(opened))}") if opened else not_applicable("none could be tried from outside")
    )


def _foreign(live: LiveHost) -> set[Published]:
    """What containers outside the stacks publish."""
    ours = engine_ports(one.inspect["NetworkSettings"].get("Ports") or {} for one in live.containers)
    return set(engine_ports(live.published)) - set(ours)


def _planned(expected: HostPlan) -> set[Published]:
    return {
        (_address(port.address), port.published, port.protocol)
        for stack in expected.stacks
        for service in stack.services.values()
        for port in service.ports
    }


def engine_ports(settings: Iterator[Mapping[str, Any]] | list[Any] | tuple[Any, ...]) -> Iterator[Published]:
    """What ``NetworkSettings.Ports`` of containers really publish."""
    for ports in settings:
        for target, bindings in ports.items():
            for binding in bindings or ():
                yield _address(binding.get("HostIp")), int(binding.get("HostPort") or 0), target.partition("/")[2]


def _address(text: str | None) -> str:
    return "" if (text or "") in EVERYWHERE else str(text).strip("[]")


def _show(ports: set[Any]) -> str:
    return ", ".join(sorted(":".join(str(part) for part in (port[0] or "*", *port[1:])) for port in ports)) or "none"
