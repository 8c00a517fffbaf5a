"""Networks: by need, internal where planned, and shared with nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batten.verify.catalogue import control
from batten.verify.model import LiveContainer, LiveHost, Verdict, equal, fails, holds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batten.plan.model import ServicePlan, StackPlan


MASQUERADE = "com.docker.network.bridge.enable_ip_masquerade"


@control("networks.attached", "The service is on the planned networks only")
def attached(expected: ServicePlan, live: LiveContainer) -> Verdict:
    known = {network["Name"]: _short(network) for network in live.host.networks}
    names = (live.inspect["NetworkSettings"].get("Networks") or {}).keys()
    return equal("networks", sorted(expected.networks), sorted(known.get(name) or name for name in names))


@control("networks.default-bridge", "The service is not on the engine's default bridge", cis="5.30")
def default_bridge(expected: ServicePlan, live: LiveContainer) -> Verdict:
    names = live.inspect["NetworkSettings"].get("Networks") or {}
    return fails("it is on docker0") if "bridge" in names else holds(", ".join(sorted(names)) or "none")


@control("networks.internal", "Networks are internal, or have no way out, as planned", scope="stack")
def internal(expected: StackPlan, live: LiveHost) -> Verdict:
    """Without the engine's masquerading, the answers to what a container sends never find it (moby, bridge driver)."""
    found = {name: bool(network["Internal"]) for name, network in _of(expected, live)}
    wrong = [
        f"{name} is {_word(flag)}, planned {_word(expected.networks[name])}"
        for name, flag in found.items()
        if name in expected.networks and flag != expected.networks[name]
    ]
    used = {name for service in expected.services.values() for name in service.networks}  # Compose makes no other
    missing = [f"{name} does not exist" for name in sorted(used) if name not in found]
    extra = [f"{name} is not planned" for name in found if name not in expected.networks]
    leaking = [
        f"{name} has a way out, planned none"
        for name, network in _of(expected, live)
        if name in expected.closed and (network.get("Options") or {}).get(MASQUERADE) != "false"
    ]
    problems = wrong + missing + extra + leaking
    return (
        fails("; ".join(problems))
        if problems
        else holds(", ".join(f"{n} {_word(f)}" for n, f in sorted(found.items())))
    )


@control("networks.members", "No foreign container is on the stack's networks", scope="stack")
def members(expected: StackPlan, live: LiveHost) -> Verdict:
    ours = {c.id for c in live.containers if c.project == expected.project and c.service in expected.services}
    foreign = [
        f"{member.get('Name', identity[:12])} on {name}"
        for name, network in _of(expected, live)
        for identity, member in (network.get("Containers") or {}).items()
        if identity not in ours
    ]
    return fails("; ".join(sorted(foreign))) if foreign else holds("only the stack's own containers")


def _of(expected: StackPlan, live: LiveHost) -> list[tuple[str, dict[str, Any]]]:
    return [
        (_short(network), dict(network))
        for network in live.networks
        if (network.get("Labels") or {}).get("com.docker.compose.project") == expected.project
    ]


def _short(network: Mapping[str, Any]) -> str:
    return str((network.get("Labels") or {}).get("com.docker.compose.network") or network["Name"])


def _word(internal: bool) -> str:
    return "internal" if internal else "external"
