"""Every comparable property of a container, once: how to read both sides, how to compare, what a difference costs.

A live-updatable facet is one that the engine's ``/containers/ID/update`` takes
(https://docs.docker.com/reference/api/engine/version/v1.44/#tag/Container/operation/ContainerUpdate); a change of
any other needs a new container. Where the model sets nothing, the desired value is what the engine makes of nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .desired import Desired
from .observed import Observed
from .quantities import seconds, size

UPDATE = "update"
RECREATE = "recreate"

# Docker's client passes these from its own configuration (~/.docker/config.json, "proxies") to every new container.
_PROXIES = {"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"}


@dataclass(frozen=True)
class Facet:
    """``read`` returns (desired, actual), each JSON-able and fit to be shown; two None stand for "not compared"."""

    name: str
    action: str
    read: Callable[[Desired, Observed], tuple[Any, Any]]


def _name(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Compose makes a new container beside the old one as ``ID_NAME`` and renames it last; cut off, it keeps that name
    (docker/compose pkg/compose/convergence.go, recreateContainer)."""
    wanted, actual = desired.service.get("container_name"), observed.container
    if wanted or re.fullmatch(rf"{re.escape(desired.project)}-{re.escape(desired.name)}-\d+", actual):
        return (wanted, actual) if wanted else (None, None)
    return f"{desired.project}-{desired.name}-1", actual


def _memory(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    return size(desired.limit("memory", "mem_limit")), int(observed.host.get("Memory") or 0)


def _memory_swap(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Unset with a memory limit means twice that limit (moby daemon/daemon_unix.go, adaptContainerSettings)."""
    if not desired.engine.swap_limit:
        return None, None
    memory, wanted = size(desired.limit("memory", "mem_limit")), desired.service.get("memswap_limit")
    actual = int(observed.host.get("MemorySwap") or 0)
    return (2 * memory if not size(wanted) else size(wanted)), actual


def _cpus(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    return float(desired.limit("cpus", "cpus") or 0), int(observed.host.get("NanoCpus") or 0) / 1e9


def _pids(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    wanted, actual = int(desired.limit("pids", "pids_limit") or 0), int(observed.host.get("PidsLimit") or 0)
    return max(wanted, 0), max(actual, 0)


def _image(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    reference, actual = desired.service.get("image", ""), str(observed.config.get("Image", ""))
    identifier = desired.image.get("Id")
    if identifier is None or identifier == observed.inspect["Image"]:
        return reference, actual
    return f"{reference} ({_short(identifier)})", f"{actual} ({_short(observed.inspect['Image'])})"


def _environment(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Names with digests, never values. What the image provides and the model does not set is ignored."""
    wanted, actual = desired.environment, observed.environment
    image = dict(pair.split("=", 1) for pair in desired.image_config.get("Env") or [] if "=" in pair)
    left = {
        name: _digest(value)
        for name, value in actual.items()
        if name in wanted or (name not in image and desired.image and name.lower() not in _PROXIES)
    }
    return {name: _digest(value) for name, value in wanted.items()}, left


def _labels(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    wanted = {str(name): str(value) for name, value in (desired.service.get("labels") or {}).items()}
    image = desired.image_config.get("Labels") or {}
    actual = {
        name: value
        for name, value in observed.labels.items()
        if not name.startswith("com.docker.") and (name in wanted or (desired.image and image.get(name) != value))
    }
    return wanted, actual


def _ulimits(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Only those that the model names: the engine adds its daemon-wide defaults to every container."""
    wanted = {}
    for name, value in (desired.service.get("ulimits") or {}).items():
        # Compose leaves a limit of zero out of what it prints (compose-go, types.UlimitsConfig, omitempty).
        soft, hard = (value.get("soft", 0), value.get("hard", 0)) if isinstance(value, dict) else (value, value)
        wanted[name] = [int(soft), int(hard)]
    actual = {limit["Name"]: [limit["Soft"], limit["Hard"]] for limit in observed.host.get("Ulimits") or []}
    return wanted, {name: actual.get(name) for name in wanted}


def _shm_size(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    wanted = size(desired.service.get("shm_size"))
    return (wanted, int(observed.host.get("ShmSize") or 0)) if wanted else (None, None)


def _tmpfs(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    wanted = desired.service.get("tmpfs") or []
    pairs = [entry.partition(":") for entry in ([wanted] if isinstance(wanted, str) else wanted)]
    actual = observed.host.get("Tmpfs") or {}
    return (
        {path: sorted(filter(None, options.split(","))) for path, _, options in pairs},
        {path: sorted(filter(None, options.split(","))) for path, options in actual.items()},
    )


def _mounts(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Anonymous volumes that an image declares appear by themselves; they are no difference."""
    if desired.service.get("volumes_from"):
        return None, None
    wanted, actual = desired.mounts, observed.mounts
    targets = {mount[2] for mount in wanted}
    actual = {mount for mount in actual if mount[:2] != ("volume", "") or mount[2] in targets}
    return sorted(":".join(mount) for mount in wanted), sorted(":".join(mount) for mount in actual)


def _capabilities(ours: str, theirs: str) -> Callable[[Desired, Observed], tuple[Any, Any]]:
    def read(desired: Desired, observed: Observed) -> tuple[Any, Any]:
        return _caps(desired.service.get(ours)), _caps(observed.host.get(theirs))

    return read


def _security(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    wanted = {_option(option) for option in desired.service.get("security_opt") or []}
    actual = {_option(option) for option in observed.host.get("SecurityOpt") or []}
    shares = desired.service.get("privileged") or "host" in (desired.service.get("pid"), desired.service.get("ipc"))
    # The engine adds this by itself to containers that share the host's namespaces (moby daemon/create.go).
    return sorted(wanted), sorted(actual - ({"label:disable"} - wanted if shares else set()))


def _devices(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    wanted = []
    for device in desired.service.get("devices") or []:
        if isinstance(device, str):
            parts = device.split(":")
            source, target, rights = (
                parts[0],
                parts[1] if len(parts) > 1 else parts[0],
                parts[2] if len(parts) > 2 else "rwm",
            )
        else:
            source = device["source"]
            target, rights = device.get("target") or source, device.get("permissions") or "rwm"
        wanted.append(f"{source}:{target}:{rights}")
    actual = [
        f"{device['PathOnHost']}:{device['PathInContainer']}:{device['CgroupPermissions']}"
        for device in observed.host.get("Devices") or []
    ]
    return sorted(wanted), sorted(actual)


def _namespaces(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """An unset ipc or cgroup namespace is the daemon's choice, so only set ones are compared."""
    wanted, actual = {}, {}
    for ours, theirs in (
        ("pid", "PidMode"),
        ("uts", "UTSMode"),
        ("userns_mode", "UsernsMode"),
        ("ipc", "IpcMode"),
        ("cgroup", "CgroupnsMode"),
    ):
        value = desired.service.get(ours) or ""
        if value or ours not in ("ipc", "cgroup"):
            wanted[ours], actual[ours] = _namespace(value), _namespace(observed.host.get(theirs) or "")
    mode = str(observed.host.get("NetworkMode") or "")
    wanted["network"] = _namespace(desired.service.get("network_mode") or "networks")
    special = mode in ("host", "none", "bridge") or mode.startswith("container:")
    actual["network"] = _namespace(mode) if special else "networks"
    return wanted, actual


def _networks(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Aliases that the engine or a person added do no harm; a missing one does."""
    if desired.service.get("network_mode"):
        return None, None
    wanted, actual = desired.networks, observed.networks
    shown = {}
    for name, there in actual.items():
        aliases = there["aliases"] & wanted[name]["aliases"] if name in wanted else there["aliases"]
        shown[name] = {"aliases": sorted(aliases), "address": there["address"]}
    return {name: {**value, "aliases": sorted(value["aliases"])} for name, value in wanted.items()}, shown


def _ports(desired: Desired, observed: Observed) -> tuple[Any, Any]:
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
    return sorted(wanted), sorted(actual)


def _log(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Options that the model does not name are the daemon's own defaults for the same driver."""
    logging = desired.service.get("logging") or {}
    options = {name: str(value) for name, value in (logging.get("options") or {}).items()}
    there = observed.host.get("LogConfig") or {}
    actual = {name: value for name, value in (there.get("Config") or {}).items() if name in options}
    return (
        {"driver": logging.get("driver") or desired.engine.log_driver, "options": options},
        {"driver": there.get("Type"), "options": actual},
    )


def _hosts(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    wanted = desired.service.get("extra_hosts") or []
    lines = [f"{name}={address}" for name, address in wanted.items()] if isinstance(wanted, dict) else wanted
    return sorted(map(_extra_host, lines)), sorted(map(_extra_host, observed.host.get("ExtraHosts") or []))


def _sorted(ours: str, theirs: str) -> Callable[[Desired, Observed], tuple[Any, Any]]:
    def read(desired: Desired, observed: Observed) -> tuple[Any, Any]:
        return sorted(map(str, desired.service.get(ours) or [])), sorted(map(str, observed.host.get(theirs) or []))

    return read


def _flag(ours: str, theirs: str) -> Callable[[Desired, Observed], tuple[Any, Any]]:
    def read(desired: Desired, observed: Observed) -> tuple[Any, Any]:
        return bool(desired.service.get(ours)), bool(observed.host.get(theirs))

    return read


def _number(ours: str, theirs: str) -> Callable[[Desired, Observed], tuple[Any, Any]]:
    def read(desired: Desired, observed: Observed) -> tuple[Any, Any]:
        return int(desired.service.get(ours) or 0), int(observed.host.get(theirs) or 0)

    return read


def _config(ours: str, theirs: str) -> Callable[[Desired, Observed], tuple[Any, Any]]:
    """A text that the engine takes from the image when the model leaves it out."""

    def read(desired: Desired, observed: Observed) -> tuple[Any, Any]:
        wanted = desired.service.get(ours) or desired.image_config.get(theirs) or ""
        if not desired.service.get(ours) and not desired.image:
            return None, None
        return str(wanted), str(observed.config.get(theirs) or "")

    return read


def _command(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    known = desired.image or desired.service.get("command") is not None or desired.service.get("entrypoint")
    return (desired.command, list(observed.config.get("Cmd") or [])) if known else (None, None)


def _entrypoint(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    known = desired.image or desired.service.get("entrypoint") is not None
    return (desired.entrypoint, list(observed.config.get("Entrypoint") or [])) if known else (None, None)


def _healthcheck(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    known = desired.image or desired.service.get("healthcheck")
    return (desired.healthcheck, observed.healthcheck) if known else (None, None)


def _grace(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    wanted = desired.service.get("stop_grace_period")
    return None if wanted is None else round(seconds(wanted)), observed.config.get("StopTimeout")


def _sysctls(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    wanted = desired.service.get("sysctls") or {}
    return {name: str(value) for name, value in wanted.items()}, dict(observed.host.get("Sysctls") or {})


def _hostname(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    wanted = desired.service.get("hostname")
    return (wanted, observed.config.get("Hostname")) if wanted else (None, None)


def _restart(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    return desired.restart, observed.restart


def _reservation(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    return size(desired.reservation), int(observed.host.get("MemoryReservation") or 0)


FACETS: tuple[Facet, ...] = (
    Facet("name", RECREATE, _name),
    Facet("image", RECREATE, _image),
    Facet("command", RECREATE, _command),
    Facet("entrypoint", RECREATE, _entrypoint),
    Facet("user", RECREATE, _config("user", "User")),
    Facet("working_dir", RECREATE, _config("working_dir", "WorkingDir")),
    Facet("hostname", RECREATE, _hostname),
    Facet("environment", RECREATE, _environment),
    Facet("labels", RECREATE, _labels),
    Facet("memory", UPDATE, _memory),
    Facet("memory_swap", UPDATE, _memory_swap),
    Facet("memory_reservation", UPDATE, _reservation),
    Facet("cpus", UPDATE, _cpus),
    Facet("cpu_shares", UPDATE, _number("cpu_shares", "CpuShares")),
    Facet("pids", UPDATE, _pids),
    Facet("restart", UPDATE, _restart),
    Facet("ulimits", RECREATE, _ulimits),
    Facet("oom_score_adj", RECREATE, _number("oom_score_adj", "OomScoreAdj")),
    Facet("shm_size", RECREATE, _shm_size),
    Facet("healthcheck", RECREATE, _healthcheck),
    Facet("init", RECREATE, _flag("init", "Init")),
    Facet("stop_signal", RECREATE, _config("stop_signal", "StopSignal")),
    Facet("stop_grace", RECREATE, _grace),
    Facet("read_only", RECREATE, _flag("read_only", "ReadonlyRootfs")),
    Facet("tmpfs", RECREATE, _tmpfs),
    Facet("mounts", RECREATE, _mounts),
    Facet("cap_add", RECREATE, _capabilities("cap_add", "CapAdd")),
    Facet("cap_drop", RECREATE, _capabilities("cap_drop", "CapDrop")),
    Facet("security_opt", RECREATE, _security),
    Facet("group_add", RECREATE, _sorted("group_add", "GroupAdd")),
    Facet("devices", RECREATE, _devices),
    Facet("privileged", RECREATE, _flag("privileged", "Privileged")),
    Facet("namespaces", RECREATE, _namespaces),
    Facet("sysctls", RECREATE, _sysctls),
    Facet("networks", RECREATE, _networks),
    Facet("ports", RECREATE, _ports),
    Facet("log", RECREATE, _log),
    Facet("extra_hosts", RECREATE, _hosts),
    Facet("dns", RECREATE, _sorted("dns", "Dns")),
)


def _short(identifier: str) -> str:
    return identifier.rpartition(":")[2][:12]


def _digest(value: str) -> str:
    return "sha256:" + hashlib.sha256(value.encode()).hexdigest()[:16]


def _caps(values: Any) -> list[str]:
    return sorted(str(value).upper().removeprefix("CAP_") for value in values or [])


def _option(option: str) -> str:
    name, separator, value = option.replace("=", ":", 1).partition(":")
    if name == "no-new-privileges" and not separator:
        value = "true"
    if name == "seccomp" and value not in ("unconfined", "builtin"):
        return f"seccomp:{_digest(value)}"
    return f"{name}:{value}"


def _namespace(value: str) -> str:
    return "container" if value.startswith(("service:", "container:")) else value


def _address(value: Any) -> str:
    text = str(value or "").strip("[]")
    return "" if text == "0.0.0.0" else text  # noqa: S104 - compared with, not bound to


def _extra_host(line: str) -> str:
    separator = "=" if "=" in line else ":"
    name, _, address = line.partition(separator)
    return f"{name}={address.strip('[]')}"
