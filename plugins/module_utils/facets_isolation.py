"""What keeps a container apart from its host: capabilities, profiles, devices, namespaces."""

from __future__ import annotations

import re
from typing import Any

from .desired import Desired
from .facet import Read, texts
from .facets_process import digest
from .observed import Observed


def capabilities(ours: str, theirs: str) -> Read:
    def read(desired: Desired, observed: Observed) -> tuple[Any, Any]:
        return _caps(desired.service.get(ours)), _caps(observed.host.get(theirs))

    return read


def security(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    wanted = {_option(option) for option in desired.service.get("security_opt") or []}
    actual = {_option(option) for option in observed.host.get("SecurityOpt") or []}
    service, host = desired.service, observed.host
    modes = (service.get("pid"), service.get("ipc"), host.get("PidMode"), host.get("IpcMode"))
    shares = service.get("privileged") or host.get("Privileged") or "host" in modes
    # The engine adds this by itself to containers that share the host's namespaces (moby daemon/create.go).
    actual -= {"label:disable"} - wanted if shares else set()
    if apparmor(desired, observed) != (None, None):  # then that facet compares what came of it
        wanted, actual = ({one for one in options if not one.startswith("apparmor:")} for options in (wanted, actual))
    return sorted(wanted), sorted(actual)


def apparmor(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """The engine writes its default profile down when it starts a container, on a host that has AppArmor (moby
    daemon/container_linux.go, saveAppArmorConfig)."""
    actual = str(observed.inspect.get("AppArmorProfile") or "")
    return (apparmor_profile(desired), actual) if desired.engine.apparmor and actual else (None, None)


def apparmor_profile(desired: Desired) -> str:
    """Return the profile that the engine gives a container, where the host has AppArmor."""
    named = [option for option in map(_option, desired.service.get("security_opt") or []) if option.startswith("app")]
    if named:
        return named[-1].partition(":")[2]
    return "unconfined" if desired.service.get("privileged") else "docker-default"


def masked_paths(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Whether the kernel's own files are hidden and read-only. Which ones differs by version, so lists are not compared
    (moby daemon/pkg/oci/defaults.go: /proc/interrupts and thermal_throttle came in 28)."""
    options = {_option(option) for option in desired.service.get("security_opt") or []}
    open_ = bool(desired.service.get("privileged") or "systempaths:unconfined" in options)
    lists = (observed.host.get("MaskedPaths"), observed.host.get("ReadonlyPaths"))
    return _masks(not open_), _masks(all(lists))


def devices(desired: Desired, observed: Observed) -> tuple[Any, Any]:
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


def device_rules(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Rules of the device control group, and devices that a driver is asked for, such as GPUs."""
    wanted = {"rules": sorted(desired.service.get("device_cgroup_rules") or []), "requests": len(_requests(desired))}
    actual = {
        "rules": sorted(observed.host.get("DeviceCgroupRules") or []),
        "requests": len(observed.host.get("DeviceRequests") or []),
    }
    return wanted, actual


def namespaces(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """An unset ipc or cgroup namespace is the daemon's choice (dockerd(8), ``--default-ipc-mode`` of private or
    shareable, ``--default-cgroupns-mode``): no difference as long as it is one that the daemon may choose."""
    wanted, actual = {}, {}
    for ours, theirs in (
        ("pid", "PidMode"),
        ("uts", "UTSMode"),
        ("userns_mode", "UsernsMode"),
        ("ipc", "IpcMode"),
        ("cgroup", "CgroupnsMode"),
    ):
        value, there = desired.service.get(ours) or "", str(observed.host.get(theirs) or "")
        chosen = {"ipc": ("", "private", "shareable"), "cgroup": ("", *desired.engine.cgroup_namespaces)}.get(ours, ())
        if value or there not in chosen:
            wanted[ours], actual[ours] = _namespace(value), _namespace(there)
    mode = str(observed.host.get("NetworkMode") or "")
    wanted["network"] = _namespace(desired.service.get("network_mode") or "networks")
    special = mode in ("host", "none", "bridge") or mode.startswith("container:")
    actual["network"] = _namespace(mode) if special else "networks"
    return wanted, actual


def sysctls(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Those of one interface engine 27 moves into the options of its network (moby api/docs/CHANGELOG.md, v1.46)."""
    actual = texts(observed.host.get("Sysctls"))
    wanted = texts(desired.service.get("sysctls"))
    moved = {name for name in wanted if re.fullmatch(r"net\..+\.eth\d+\..+", name) and name not in actual}
    return {name: value for name, value in wanted.items() if name not in moved}, actual


def runtime(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """The engine writes its default down at creation; ``runc`` has two names (moby daemon/runtime_unix.go)."""
    wanted = str(desired.service.get("runtime") or desired.engine.runtime)
    actual = str(observed.host.get("Runtime") or wanted)
    return _RUNC.get(wanted, wanted), _RUNC.get(actual, actual)


_RUNC = {"io.containerd.runc.v2": "runc"}


def _caps(values: Any) -> list[str]:
    return sorted(str(value).upper().removeprefix("CAP_") for value in values or [])


def _option(option: str) -> str:
    name, separator, value = option.replace("=", ":", 1).partition(":")
    if name == "no-new-privileges" and not separator:
        value = "true"
    if name == "seccomp" and value not in ("unconfined", "builtin"):
        return f"seccomp:{digest(value)}"
    return f"{name}:{value}"


def _namespace(value: str) -> str:
    return "container" if value.startswith(("service:", "container:")) else value


def _masks(hidden: bool) -> str:
    return "masked" if hidden else "unmasked"


def _requests(desired: Desired) -> list[Any]:
    deployed = (desired.service.get("deploy") or {}).get("resources") or {}
    return [*(desired.service.get("gpus") or []), *((deployed.get("reservations") or {}).get("devices") or [])]
