"""``batten.yaml`` for somebody's files: what batten must be told to deploy them with nothing taken from a service."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Literal

import yaml

from batten.harden import credentials
from batten.harden.evidence import ports
from batten.plan.model import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from batten.harden.credentials import Credential
    from batten.harden.decide import Decision
    from batten.plan.model import Port

_EVERYWHERE = (None, "", "*")  # and the unspecified address of either family
_HEAD = """\
# What batten must know to deploy these files: point stack_compose_files at them, and stack_definition at this one.
# Ports are the files' own: batten publishes no others. No value of a credential is in it;
# `batten secrets import -i INVENTORY --compose-file FILE` moves the values to the hosts.
"""


def definition(found: Sequence[Credential], decisions: Mapping[str, Decision]) -> dict[str, Any]:
    """Return ``batten.yaml``: every published port, and each credential as a secret that is handed over."""
    declared = credentials.fragment(found)
    services: dict[str, Any] = {name: dict(one) for name, one in declared.get("services", {}).items()}
    for name, decision in sorted(decisions.items()):
        listed = [_port(port) for port in decision.plan["ports"] if port.published]
        if listed:  # what is on several addresses of one kind is one port there
            services.setdefault(name, {})["ports"] = [
                port for number, port in enumerate(listed) if port not in listed[:number]
            ]
    return {key: value for key, value in (*declared.items(), ("services", services)) if value}


def text(declared: Mapping[str, Any]) -> str:
    """Return a definition as a file."""
    return _HEAD + yaml.safe_dump(dict(declared), sort_keys=False, width=120)


def undeclared(stack: str, decisions: Mapping[str, Decision]) -> tuple[Finding, ...]:
    """Tell of ports that a definition cannot name: of a number that the engine chooses, or Compose does, in a range;
    and of those on one address of the host, which it has on the loopback instead, for that opens them to nobody."""
    return tuple(finding for name, one in sorted(decisions.items()) for finding in _undeclared(f"{stack}/{name}", one))


def _undeclared(where: str, decision: Decision) -> Iterator[Finding]:
    name = decision.evidence.name
    found = ports(decision.evidence.raw)
    if found is None or any(not port.published for port in found):
        yield Finding(
            "note",
            where,
            "it publishes ports whose numbers the file leaves open, and batten.yaml has none of them",
            f"write services.{name}.ports with numbers of your choice before batten deploys it",
        )
    if bound := [port for port in decision.plan["ports"] if port.published and _reach(port.address) == "one"]:
        said = ", ".join(f"{port.published} on {port.address}" for port in bound)
        yield Finding(
            "note",
            where,
            f"it publishes {said} alone, and batten.yaml can name no address: it has that on the loopback",
            f"write publish_on: private in services.{name}.ports for digitalocean_vpc_address, or public for "
            "stack_public_addresses, if others must reach it",
        )


def _reach(address: str | None) -> Literal["every", "loopback", "one"]:
    """Return whom a published address lets in: everybody, this host alone, or who reaches that one address."""
    if address in _EVERYWHERE:
        return "every"
    try:
        found = ipaddress.ip_address(str(address))
    except ValueError:  # a name: never open more than it may mean
        return "one"
    return "every" if found.is_unspecified else "loopback" if found.is_loopback else "one"


def _port(port: Port) -> dict[str, Any]:
    said: dict[str, Any] = {"target": port.target, "published": port.published}
    if port.protocol != "tcp":
        said["protocol"] = port.protocol
    if _reach(port.address) != "every":
        said["publish_on"] = "loopback"
    return said
