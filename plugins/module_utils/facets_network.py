"""Whom a container can reach and who reaches it: networks, published ports, names, and where its log goes."""

from __future__ import annotations

from typing import Any

from .desired import Desired
from .observed import Observed
from .quantities import address


def networks(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Aliases that the engine or a person added do no harm; a missing one does."""
    if desired.service.get("network_mode"):
        return None, None
    wanted, actual = desired.networks, observed.networks
    shown = {}
    for name, there in actual.items():
        aliases = there["aliases"] & wanted[name]["aliases"] if name in wanted else there["aliases"]
        shown[name] = {"aliases": sorted(aliases), "address": there["address"]}
    return {name: {**value, "aliases": sorted(value["aliases"])} for name, value in wanted.items()}, shown


def surplus_networks(wanted: Any, actual: Any) -> bool:
    """Whether a container is only on more networks than planned; it leaves them live."""
    return all(actual.get(name) == value for name, value in (wanted or {}).items())


def ports(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    wanted = [
        f"{_address(port.get('host_ip'))}:{port.get('published') or ''}:"
        f"{port['target']}/{port.get('protocol') or 'tcp'}"
        for port in desired.service.get("ports") or []
    ]
    actual = []
    for target, bindings in (observed.host.get("PortBindings") or {}).items():
        for binding in bindings or [{}]:
            published = str(binding.get("HostPort") or "")
            actual.append(f"{_address(binding.get('HostIp'))}:{'' if published == '0' else published}:{target}")
    if observed.host.get("PublishAllPorts"):  # docker run -P: on ports that the engine picks
        actual.append("every exposed port")
    return sorted(wanted), sorted(actual)


def hosts(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    wanted = desired.service.get("extra_hosts") or []
    lines = [f"{name}={address}" for name, address in wanted.items()] if isinstance(wanted, dict) else wanted
    return sorted(map(_extra_host, lines)), sorted(map(_extra_host, observed.host.get("ExtraHosts") or []))


def dns(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    pairs = (("dns", "Dns"), ("dns_search", "DnsSearch"), ("dns_opt", "DnsOptions"))
    wanted = {ours: sorted(map(address, _many(desired.service.get(ours)))) for ours, _ in pairs}
    actual = {ours: sorted(map(address, observed.host.get(theirs) or [])) for ours, theirs in pairs}
    return {name: value for name, value in wanted.items() if value}, {
        name: value for name, value in actual.items() if value
    }


def mac_address(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Only planned ones: the engine makes up the others, and tells nobody which they are."""
    prefix = desired.model.get("networks") or {}
    wanted, actual = {}, {}
    ends = observed.inspect["NetworkSettings"].get("Networks") or {}
    for key, options in (desired.service.get("networks") or {}).items():
        planned = (options or {}).get("mac_address") or desired.service.get("mac_address")
        name = (prefix.get(key) or {}).get("name") or f"{desired.project}_{key}"
        if planned and name in ends:
            wanted[name], actual[name] = _hardware(planned), _hardware(ends[name].get("MacAddress"))
    return wanted, actual


def links(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Old links, which the default network alone has; Compose makes none of them on its own networks."""
    planned = desired.service.get("links") or desired.service.get("external_links")
    return (None, None) if planned else ([], sorted(map(str, observed.host.get("Links") or [])))


def log(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Options of the daemon's own reach every container of its driver, and stay as they were when it was made (moby
    daemon/logs.go, mergeAndVerifyLogConfig); of those only what the model names is compared."""
    logging = desired.service.get("logging") or {}
    driver = logging.get("driver") or desired.engine.log_driver
    options = {name: str(value) for name, value in (logging.get("options") or {}).items()}
    there = observed.host.get("LogConfig") or {}
    given = desired.engine.log_options if driver == desired.engine.log_driver else frozenset()
    actual = {
        name: value for name, value in (there.get("Config") or {}).items() if name in options or name not in given
    }
    return {"driver": driver, "options": options}, {"driver": there.get("Type"), "options": actual}


def _address(value: Any) -> str:
    text = address(str(value or "").strip("[]"))
    return "" if text == "0.0.0.0" else text  # noqa: S104 - compared with, not bound to


def _extra_host(line: str) -> str:
    separator = "=" if "=" in line else ":"
    name, _, there = line.partition(separator)
    return f"{name}={address(there.strip('[]'))}"


def _hardware(value: Any) -> str:
    return str(value or "").lower().replace("-", ":")


def _many(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) else list(value or [])
