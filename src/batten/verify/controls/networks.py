"""Networks: by need, internal where planned, and shared with nobody else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batten.verify.catalogue import control, is_oneoff
from batten.verify.model import HostPlan, LiveContainer, LiveHost, Verdict, equal, fails, holds, not_applicable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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


@control("networks.entered", "Every service's network could be tried from inside", scope="stack")
def entered(expected: StackPlan, live: LiveHost) -> Verdict:
    """The controls below rest on what ``probe.py`` tried in each container's network namespace."""
    running = {name: one for name, one in _containers(expected, live).items() if one.process}
    blind = sorted(name for name, one in running.items() if "outside" not in one.tried.get("network", {}))
    return fails(f"not tried: {', '.join(blind)}") if blind else holds(f"{len(running)} services")


@control("networks.isolated", "A service reaches none that the plan gives it no network with", scope="stack")
def isolated(expected: StackPlan, live: LiveHost) -> Verdict:
    tried, leaks = 0, []
    for name, others in _looks(expected, live):
        shared = set(expected.services[name].networks)
        for other, port, opened in others:
            if shared & set(expected.services[other].networks):
                continue
            tried += 1
            if opened:
                leaks.append(f"{name} reaches {other}:{port}")
    if leaks:
        return fails("; ".join(sorted(leaks)))
    return holds(f"{tried} ports tried from inside, none opens") if tried else not_applicable("no two are kept apart")


@control("networks.dependencies", "A service reaches what it depends on", scope="stack")
def dependencies(expected: StackPlan, live: LiveHost) -> Verdict:
    said, closed = [], []
    for name, others in _looks(expected, live):
        wanted = {other for other, _, _ in others} & expected.services[name].depends_on.keys()
        wanted = {
            other for other in wanted if set(expected.services[other].networks) & set(expected.services[name].networks)
        }
        opened = {other for other, _, is_open in others if is_open}
        said += [f"{name} {other}" for other in wanted & opened]
        closed += [f"{name} cannot reach {other}" for other in wanted - opened]
    if closed:
        return fails("; ".join(sorted(closed)))
    return holds(f"tried from inside: {', '.join(sorted(said))}") if said else not_applicable("no dependency listens")


@control("networks.no-way-out", "A service on internal networks alone has no way out", scope="stack")
def no_way_out(expected: StackPlan, live: LiveHost) -> Verdict:
    inside = {
        name: one
        for name, one in _containers(expected, live).items()
        if (networks := expected.services[name].networks) and all(expected.networks.get(each) for each in networks)
    }
    leaking = sorted(name for name, one in inside.items() if one.tried.get("network", {}).get("outside"))
    if leaking:
        return fails(f"the kernel has a route out of {', '.join(leaking)}")
    return holds(f"no route out of {', '.join(sorted(inside))}") if inside else not_applicable("no service is")


@control("networks.stacks-apart", "No stack reaches another's services", scope="host")
def stacks_apart(expected: HostPlan, live: LiveHost) -> Verdict:
    if len(expected.stacks) < 2:
        return not_applicable("one stack only")
    projects = {one.id: one.project for one in live.containers}
    names = {one.id: f"{one.project}/{one.service}" for one in live.containers}
    tried, leaks = 0, []
    for one in live.containers:
        network = one.tried.get("network", {})
        foreign = [(other, port) for other, port in network.get("tried", ()) if projects.get(other) != one.project]
        tried += len(foreign)
        opened = {tuple(pair) for pair in network.get("reached", ())}
        leaks += [f"{names[one.id]} reaches {names.get(o, o)}:{port}" for o, port in foreign if (o, port) in opened]
    return fails("; ".join(sorted(leaks))) if leaks else holds(f"{tried} ports tried from inside, none opens")


def _looks(expected: StackPlan, live: LiveHost) -> Iterator[tuple[str, list[tuple[str, int, bool]]]]:
    """Each service, and the other services' ports that were tried from inside it."""
    found = _containers(expected, live)
    names = {one.id: name for name, one in found.items()}
    for name, one in found.items():
        network = one.tried.get("network", {})
        opened = {tuple(pair) for pair in network.get("reached", ())}
        others = [(names[o], port, (o, port) in opened) for o, port in network.get("tried", ()) if o in names]
        yield name, others


def _containers(expected: StackPlan, live: LiveHost) -> dict[str, LiveContainer]:
    return {
        one.service: one
        for one in live.containers
        if one.project == expected.project and one.service in expected.services and not is_oneoff(one)
    }


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
