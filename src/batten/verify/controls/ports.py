"""Published ports: the planned ones, on the planned addresses, and nothing else that the engine holds open."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batten.verify.catalogue import control
from batten.verify.model import LiveContainer, LiveHost, Verdict, fails, holds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batten.plan.model import ServicePlan, StackPlan

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
def listeners(expected: tuple[StackPlan, ...], live: LiveHost) -> Verdict:
    planned = {
        (_address(port.address), port.published, port.protocol)
        for stack in expected
        for service in stack.services.values()
        for port in service.ports
    }
    ours = {container.id for container in live.containers}
    theirs = set(engine_ports(live.published)) - set(
        engine_ports(c.inspect["NetworkSettings"].get("Ports") or {} for c in live.containers if c.id in ours)
    )
    unplanned = []
    for one in live.listeners:
        if not ENGINE & set(one.programs):
            continue
        key = (_address(one.address), one.port, one.protocol)
        if key not in planned and key not in theirs and ("", *key[1:]) not in planned | theirs:
            unplanned.append(str(one))
    return fails("; ".join(unplanned)) if unplanned else holds(f"planned: {_show(planned)}")


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
