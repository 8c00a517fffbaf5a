"""``batten.yaml`` for somebody's files: what batten must be told to deploy them with nothing taken from a service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from batten.harden import credentials
from batten.harden.evidence import ports
from batten.plan.model import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batten.harden.credentials import Credential
    from batten.harden.decide import Decision
    from batten.plan.model import Port

_LOOPBACK = ("127.0.0.1", "::1")
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
        if listed := [_port(port) for port in decision.plan["ports"] if port.published]:
            services.setdefault(name, {})["ports"] = listed
    return {key: value for key, value in (*declared.items(), ("services", services)) if value}


def text(declared: Mapping[str, Any]) -> str:
    """Return a definition as a file."""
    return _HEAD + yaml.safe_dump(dict(declared), sort_keys=False, width=120)


def undeclared(stack: str, decisions: Mapping[str, Decision]) -> tuple[Finding, ...]:
    """Tell of ports that no definition can name: the engine chooses their number, or Compose does, in a range."""
    return tuple(
        Finding(
            "note",
            f"{stack}/{name}",
            "it publishes ports whose numbers the file leaves open, and batten.yaml has none of them",
            f"write services.{name}.ports with numbers of your choice before batten deploys it",
        )
        for name, decision in sorted(decisions.items())
        if (found := ports(decision.evidence.raw)) is None or any(not port.published for port in found)
    )


def _port(port: Port) -> dict[str, Any]:
    said: dict[str, Any] = {"target": port.target, "published": port.published}
    if port.protocol != "tcp":
        said["protocol"] = port.protocol
    if port.address in _LOOPBACK:
        said["publish_on"] = "loopback"
    return said
