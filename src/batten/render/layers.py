"""The layers of a release: the base as it is, then what is shared, then what the target needs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batten import resources
from batten.plan import schema
from batten.render import template

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batten.plan.model import ServicePlan, StackPlan


@dataclass(frozen=True)
class Layer:
    """One Compose file of a release; ``name`` is its file name."""

    name: str
    text: str


def layers(plan: StackPlan, base_text: str) -> tuple[Layer, ...]:
    """Return the files that Compose merges, in ``-f`` order.

    The digests of mounted files must be in the plan already (:func:`batten.render.with_digests`).
    """
    made = template.environment(resources.compose())
    made.filters["mounts"] = mounts
    made.tests["reads_secrets_at_start_only"] = reads_secrets_at_start_only
    base = schema.load_yaml(base_text, "compose.yaml")["services"]
    values = {
        "stack": plan,
        "ipv6_subnets": ipv6_subnets(plan),
        "services": [service for _, service in sorted(plan.services.items())],
        "published": [each for _, each in sorted(plan.services.items()) if each.ports and "ports" not in each.kept],
        "volumes": [] if plan.overlay else sorted(plan.volumes.items()),
        "nothing": {name: _nothing(base.get(name) or {}) for name in plan.services},
        "off": sorted(set(base) - set(plan.services)),
    }
    target = f"compose.{plan.target}.yaml"
    return (
        Layer("compose.yaml", base_text),
        Layer("compose.prod.yaml", template.render(made, "compose.prod.yaml.j2", **values)),
        Layer(target, template.render(made, f"{target}.j2", **values)),
    )


def _nothing(base: Mapping[str, Any]) -> str:
    """Return what takes a variable away from a service of the base.

    ``!reset`` finds no variable in a list (``- NAME=value``) or a file; null does, and Compose then passes nothing on
    but a variable of its own environment (tried with 2.26.1 and 5.6.1).
    """
    return "null" if isinstance(base.get("environment"), list) or base.get("env_file") else "!reset null"


def secrets_layer(plan: StackPlan) -> Layer:
    """Return the overlay that takes credentials out of variables and mounts the files that they come from instead."""
    made = template.environment(resources.compose())
    made.tests["reads_secrets_at_start_only"] = reads_secrets_at_start_only
    services = [
        {"plan": service, "mount": _bind(f"secrets/{name}", "/run/secrets", plan.name)}
        for name, service in sorted(plan.services.items())
        if service.secrets
    ]
    text = template.render(made, "compose.secrets.yaml.j2", stack=plan, services=services)
    return Layer("compose.secrets.yaml", text)


def ipv6_subnets(plan: StackPlan) -> dict[str, str]:
    """Return the subnet of each network that a port published on an IPv6 address needs.

    Without the userland proxy the engine forwards IPv6 only into a network that has it (moby libnetwork, "bridge"
    driver). The subnet is a unique local one (RFC 4193) made of the project's name, the same at every run; Engine 27
    would pick one by itself, 25 and 26 do not.
    """
    published = [
        service for service in plan.services.values() if any(":" in (port.address or "") for port in service.ports)
    ]
    outward = sorted({name for service in published for name in service.networks if not plan.networks.get(name, False)})
    digests = {name: hashlib.sha256(f"{plan.project}/{name}".encode()).hexdigest() for name in outward}
    return {name: f"fd{hex_[:2]}:{hex_[2:6]}:{hex_[6:10]}:{hex_[10:14]}::/64" for name, hex_ in digests.items()}


def mounts(service: ServicePlan, plan: StackPlan) -> tuple[Any, ...]:
    """Return every mount of a service in Compose's syntax, sorted by where it appears in the container.

    Our own directories are in the long syntax, because there the engine can be told not to make what is missing:
    without the memory mount a container must not start on an empty directory of root's. A volume on a directory that
    batten made is not filled from the image: that would also give the directory the image's owner (moby
    daemon/volumes_unix.go, ``copyUp``; seen with caddy, whose /data is root's).
    """
    backed = {name for name, volume in plan.volumes.items() if volume.device is not None}
    found: dict[str, Any] = {
        path: f"{name}:{path}:nocopy" if name in backed else f"{name}:{path}" for name, path in service.volumes.items()
    }
    found |= {mount.split(":")[1]: mount for mount in service.extra_volumes}
    if service.files:
        found[service.files.mount] = _bind(
            f"files/{service.name}/{service.files.digest}", service.files.mount, plan.name
        )
    if service.secrets:
        found["/run/secrets"] = _bind(f"secrets/{service.name}", "/run/secrets", plan.name)
    return tuple(mount for _, mount in sorted(found.items()))


def _bind(source: str, target: str, stack: str) -> dict[str, Any]:
    return {
        "type": "bind",
        "source": f"/opt/batten/{stack}/{source}",
        "target": target,
        "read_only": True,
        "bind": {"create_host_path": False},
    }


def reads_secrets_at_start_only(service: ServicePlan) -> bool:
    """Say whether changed secrets reach this service in no other way than by making its container again."""
    return bool(service.secrets) and service.reload is None
