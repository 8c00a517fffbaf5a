"""Networks of a stack: as the model says, Compose's own, and with nobody else on them. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from .compare import PRESENCE, Difference
from .compose_labels import ONE_OFF, PROJECT, SERVICE
from .quantities import address

MEMBERS = "members"

Network = Mapping[str, Any]


def ours(model: Mapping[str, Any], project: str, networks: Iterable[Network]) -> list[Network]:
    """Return those of the engine's ``networks`` that this stack made, or that stand where it would make one."""
    names = {name for name, _ in _planned(model)}
    return [one for one in networks if _labels(one).get(PROJECT) == project or one["Name"] in names]


def foreign(network: Network, project: str, containers: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the containers on a network, also stopped ones, that are no service of ``project``; what ``docker compose
    run`` started is none either."""
    return [one for one in containers if _is_on(one, network) and not _lasts(one, project)]


def compare_networks(
    stack: str,
    project: str,
    model: Mapping[str, Any],
    networks: Iterable[Network],
    containers: Sequence[Mapping[str, Any]],
    neighbours: Collection[str] = (),
) -> list[Difference]:
    """Return how the networks of a stack differ. One that is missing and that nobody misses Compose just makes.

    ``networks`` and ``containers`` are all of the engine. ``neighbours`` are the projects of other stacks of ours here:
    whether their services belong on a network, which may be external to them, is told of them.
    """
    live = {network["Name"]: network for network in networks}
    found = []
    for name, wanted in _planned(model):
        network = live.get(name)
        pairs: list[tuple[str, Any, Any]]
        if network is None:
            pairs = [(PRESENCE, "present", "absent")] if _missed(name, project, containers) else []
        else:
            pairs = _identity(network, project, containers) or _options(network, wanted)
            strangers = sorted(
                str(one["Name"]).lstrip("/")
                for one in foreign(network, project, containers)
                if not any(_is_service(one, other) for other in (project, *neighbours))
            )
            pairs += [(MEMBERS, [], strangers)] if strangers else []
        found += [_difference(stack, name, *pair, network) for pair in pairs if pair[1] != pair[2]]
    return found


def compare_guests(stack: str, project: str, containers: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """Return who else lives in the namespaces of a stack's containers, as by ``docker run --network container:ID``.

    Nobody can be taken out of them but by being stopped, and what is not ours is not stopped: it is told.
    """
    mine = {str(one["Id"]): _service(one) for one in containers if _is_service(one, project)}
    found: dict[str, list[str]] = {}
    for one in containers:
        if not _is_service(one, project):
            modes = [str(one["HostConfig"].get(key) or "") for key in ("NetworkMode", "PidMode", "IpcMode")]
            for identifier in {mode[len("container:") :] for mode in modes if mode.startswith("container:")} & set(
                mine
            ):
                found.setdefault(mine[identifier], []).append(str(one["Name"]).lstrip("/"))
    return [
        Difference(stack, "service", name, MEMBERS, [], sorted(guests), "none", reason=_stop(guests))
        for name, guests in sorted(found.items())
    ]


def _stop(guests: Sequence[str]) -> str:
    return f"another container shares its network or processes; see whose it is, then: docker stop {' '.join(guests)}"


def _is_service(container: Mapping[str, Any], project: str) -> bool:
    return _labels(container["Config"]).get(PROJECT) == project and bool(_service(container))


def _lasts(container: Mapping[str, Any], project: str) -> bool:
    return _is_service(container, project) and _labels(container["Config"]).get(ONE_OFF, "False") != "True"


def _difference(stack: str, name: str, facet: str, desired: Any, actual: Any, network: Network | None) -> Difference:
    if facet == MEMBERS:
        return Difference(stack, "network", name, facet, desired, actual, "update")
    owner = _labels(network or {}).get(PROJECT)
    if facet == PRESENCE and network is not None and owner is not None and actual == f"of project {owner}":
        fix = f"rename one of the two, or say external: true in the base; it is in use by project {owner}"
        return Difference(stack, "network", name, facet, desired, actual, "none", reason=fix)
    return Difference(stack, "network", name, facet, desired, actual, "recreate")


def _planned(model: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the networks that Compose makes, by their real names."""
    return [
        (str((options or {}).get("name", key)), options or {})
        for key, options in sorted((model.get("networks") or {}).items())
        if not (options or {}).get("external")
    ]


def _identity(network: Network, project: str, containers: Iterable[Mapping[str, Any]]) -> list[tuple[str, Any, Any]]:
    """Compose refuses a network of the right name without its labels, and the engine starts no container whose network
    was made anew under the same name."""
    owner = _labels(network).get(PROJECT)
    if owner != project:
        return [(PRESENCE, "Compose's own", f"of project {owner}" if owner else "made by hand")]
    for one in containers:
        end = _ends(one).get(network["Name"]) or {}
        # What `docker compose run` left keeps the network of its time, and nothing makes it anew.
        if _lasts(one, project) and end.get("NetworkID") not in ("", None, network["Id"]):
            return [(PRESENCE, "the one that its services joined", "another of the same name")]
    return []


def _options(network: Network, wanted: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    options = wanted.get("driver_opts") or {}
    there = {key: value for key, value in (network.get("Options") or {}).items() if key in options}
    return [
        ("internal", bool(wanted.get("internal")), bool(network.get("Internal"))),
        ("driver", wanted.get("driver") or "bridge", network.get("Driver")),
        ("ipv6", bool(wanted.get("enable_ipv6")), bool(network.get("EnableIPv6"))),
        ("options", {key: str(value) for key, value in options.items()}, there),
        ("subnets", *_subnets(wanted, network)),
    ]


def _subnets(wanted: Mapping[str, Any], network: Network) -> tuple[list[str], list[str]]:
    """Only of the families that the plan names: the engine picks the other one's subnet itself."""
    desired = sorted(
        address(pool["subnet"]) for pool in (wanted.get("ipam") or {}).get("config") or [] if pool.get("subnet")
    )
    live = sorted(address(pool.get("Subnet")) for pool in (network.get("IPAM") or {}).get("Config") or [])
    named = {":" in subnet for subnet in desired}
    return desired, [subnet for subnet in live if (":" in subnet) in named]


def _missed(name: str, project: str, containers: Iterable[Mapping[str, Any]]) -> bool:
    return any(name in _ends(one) for one in containers if _labels(one["Config"]).get(PROJECT) == project)


def _is_on(container: Mapping[str, Any], network: Network) -> bool:
    end = _ends(container).get(network["Name"])
    return end is not None and end.get("NetworkID") in ("", None, network["Id"])


def _ends(container: Mapping[str, Any]) -> Mapping[str, Any]:
    return container["NetworkSettings"].get("Networks") or {}


def _labels(thing: Mapping[str, Any]) -> Mapping[str, str]:
    return thing.get("Labels") or {}


def _service(container: Mapping[str, Any]) -> str:
    return _labels(container["Config"]).get(SERVICE, "")
