"""Privileges: who the service is, what it may do, and what the kernel says of every process in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batten.dotenv import names_credential
from batten.verify.catalogue import control
from batten.verify.model import LiveContainer, ProcessStatus, Verdict, all_of, equal, fails, holds, not_applicable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batten.plan.model import ServicePlan

# Bit numbers of linux/capability.h, CAP_CHOWN first.
CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)

URL_PASSWORD = re.compile(r"://[^/\s:@]+:[^/\s@${]+@")
# An option or an assignment with a literal after it; a path or a variable is none.
SECRET_ARGUMENT = re.compile(
    rf"{URL_PASSWORD.pattern}|(?i:\b(?:password|passwd|requirepass|secret|token|api[-_]?key)[= ]+(?![-/$'\"{{<\s])\S)"
)

# What the engine grants unless told otherwise: moby, oci/caps/defaults.go.
DEFAULT_CAPABILITIES = {
    "CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP",
    "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
}  # fmt: skip

# Whose value may well be a short number.
PASSWORD = re.compile(r"(?i)(password|passwd|passphrase|pass|pwd|pin)$")


@control("privileges.user", "The service runs as the planned user, not as root", cis="4.1")
def user(expected: ServicePlan, live: LiveContainer) -> Verdict:
    name = str(live.config.get("User") or "")
    if expected.user is not None and name != expected.user:
        return fails(f"Config.User is {name or 'unset'}, planned {expected.user}")
    if name.partition(":")[0] in ("", "0", "root"):
        return fails(f"Config.User is {name or 'unset'}: that is root")
    return holds(f"Config.User {name}")


@control("privileges.process-user", "No process of the service runs as root", cis="4.1", needs_process=True)
def process_user(expected: ServicePlan, live: LiveContainer) -> Verdict:
    processes = _processes(live)
    if roots := [one.name for one in processes if one.uid == 0]:
        return fails(f"as uid 0: {_names(roots)}")
    planned = (expected.user or "").partition(":")[0]
    if planned.isdigit() and (others := [one.name for one in processes if one.uid != int(planned)]):
        return fails(f"not as uid {planned}: {_names(others)}")
    return holds(f"{len(processes)} processes as uid {', '.join(sorted({str(one.uid) for one in processes}))}")


@control("privileges.read-only", "The root filesystem is read-only as planned", cis="5.13")
def read_only(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return equal("HostConfig.ReadonlyRootfs", expected.read_only, live.host_config["ReadonlyRootfs"])


@control("privileges.capabilities", "All capabilities are dropped but the planned ones", cis="5.4")
def capabilities(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return all_of(
        equal("CapDrop", _plain(list(expected.cap_drop)), _plain(live.host_config.get("CapDrop"))),
        equal("CapAdd", _plain(list(expected.cap_add)), _plain(live.host_config.get("CapAdd"))),
    )


@control(
    "privileges.process-capabilities", "No process can hold an unplanned capability", cis="5.4", needs_process=True
)
def process_capabilities(expected: ServicePlan, live: LiveContainer) -> Verdict:
    planned = _planned_capabilities(expected)
    verdicts = []
    for one in _processes(live):
        bounding, effective = _named(one.cap_bounding), _named(one.cap_effective)
        if bounding != planned:
            verdicts.append(fails(f"{one.name}: CapBnd {_set(bounding)}, planned {_set(planned)}"))
        elif not effective <= planned:
            verdicts.append(fails(f"{one.name}: CapEff {_set(effective)}, planned {_set(planned)}"))
    return all_of(*verdicts) if verdicts else holds(f"CapBnd {_set(planned)}, CapEff within it")


@control("privileges.no-new-privileges", "The service cannot gain privileges", cis="5.26")
def no_new_privileges(expected: ServicePlan, live: LiveContainer) -> Verdict:
    options = live.host_config.get("SecurityOpt") or []
    if {"no-new-privileges", "no-new-privileges:true", "no-new-privileges=true"} & set(options):
        return holds("SecurityOpt no-new-privileges")
    return fails(f"SecurityOpt {options or 'is empty'}: no-new-privileges is missing")


@control("privileges.process-no-new-privileges", "The kernel denies new privileges", cis="5.26", needs_process=True)
def process_no_new_privileges(expected: ServicePlan, live: LiveContainer) -> Verdict:
    without = [one.name for one in _processes(live) if not one.no_new_privileges]
    return fails(f"NoNewPrivs 0: {_names(without)}") if without else holds("NoNewPrivs 1 in every process")


@control("privileges.seccomp", "System calls are filtered", cis="5.22", needs_process=True)
def seccomp(expected: ServicePlan, live: LiveContainer) -> Verdict:
    if unconfined := [
        one for one in live.host_config.get("SecurityOpt") or [] if re.match("seccomp[:=]unconfined", one)
    ]:
        return fails(f"SecurityOpt {unconfined[0]}")
    # 2 is SECCOMP_MODE_FILTER, proc_pid_status(5).
    without = [one.name for one in _processes(live) if one.seccomp != 2]
    return fails(f"no filter on: {_names(without)}") if without else holds("Seccomp 2 in every process")


@control("privileges.apparmor", "AppArmor confines the service", cis="5.2", needs_process=True)
def apparmor(expected: ServicePlan, live: LiveContainer) -> Verdict:
    if live.host.facts.get("apparmor") != "Y":
        return not_applicable("this host has no AppArmor")
    assert live.process is not None
    label = live.process.apparmor
    if not label.endswith("(enforce)"):
        return fails(f"AppArmor says {label or 'nothing'}: not enforced")
    return holds(label)


@control("privileges.not-privileged", "The container is not privileged", cis="5.5")
def not_privileged(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return equal("HostConfig.Privileged", False, live.host_config["Privileged"])


@control("privileges.network-namespace", "The service has its own network namespace", cis="5.10")
def network_namespace(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return _own_namespace(live, "NetworkMode")


@control("privileges.pid-namespace", "The service has its own process namespace", cis="5.16")
def pid_namespace(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return _own_namespace(live, "PidMode")


@control("privileges.ipc-namespace", "The service has its own IPC namespace", cis="5.17")
def ipc_namespace(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return _own_namespace(live, "IpcMode")


@control("privileges.uts-namespace", "The service has its own host name", cis="5.21")
def uts_namespace(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return _own_namespace(live, "UTSMode")


@control("privileges.user-namespace", "The daemon's user mapping is not turned off", cis="5.31")
def user_namespace(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return _own_namespace(live, "UsernsMode")


@control("privileges.cgroup-namespace", "The service does not see the host's control groups")
def cgroup_namespace(expected: ServicePlan, live: LiveContainer) -> Verdict:
    # On cgroup v1 the engine's default is "host" and it is not our doing (docs.docker.com, default-cgroupns-mode).
    if str(live.host.info.get("CgroupVersion")) == "1":
        return not_applicable("cgroup v1: the engine shares the namespace by default")
    return _own_namespace(live, "CgroupnsMode")


@control("privileges.devices", "The service reaches no device of the host", cis="5.18")
def devices(expected: ServicePlan, live: LiveContainer) -> Verdict:
    found = [one.get("PathOnHost", "?") for one in live.host_config.get("Devices") or ()]
    found += [str(one.get("Driver") or "device request") for one in live.host_config.get("DeviceRequests") or ()]
    found += live.host_config.get("DeviceCgroupRules") or []
    return fails(f"devices: {', '.join(found)}") if found else holds("none")


@control("privileges.sysctls", "The service sets no kernel parameter that the plan does not know")
def sysctls(expected: ServicePlan, live: LiveContainer) -> Verdict:
    found = live.host_config.get("Sysctls") or {}
    return fails(f"sysctls: {', '.join(sorted(found))}") if found else holds("none")


@control("privileges.groups", "The supplementary groups are the planned ones")
def groups(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return equal("GroupAdd", sorted(expected.group_add), sorted(live.host_config.get("GroupAdd") or []))


@control("privileges.environment", "No credential is in the environment")
def environment(expected: ServicePlan, live: LiveContainer) -> Verdict:
    """The values were replaced on the host by their kind (reads.sh), so the evidence cannot show one."""
    found = secret_variables(live.config.get("Env") or ())
    return fails(f"a literal in {', '.join(found)}: deliver it as a file") if found else holds("none")


@control("privileges.arguments", "No credential is in the command line or in a label")
def arguments(expected: ServicePlan, live: LiveContainer) -> Verdict:
    """The evidence says where, never what."""
    words = {key: live.config.get(key) or [] for key in ("Entrypoint", "Cmd")}
    words["Healthcheck"] = (live.config.get("Healthcheck") or {}).get("Test") or []
    found = [key for key, texts in words.items() if SECRET_ARGUMENT.search(" ".join(texts))]
    found += [
        f"label {name}"
        for name, text in live.labels.items()
        if URL_PASSWORD.search(text) or (text and names_credential(name))
    ]
    return fails(f"a literal in {', '.join(found)}: deliver it as a file") if found else holds("none")


@control("privileges.system-paths", "The kernel's own files are masked or read-only in the container")
def system_paths(expected: ServicePlan, live: LiveContainer) -> Verdict:
    found = {key: live.host_config.get(key) or [] for key in ("MaskedPaths", "ReadonlyPaths")}
    empty = [key for key, paths in found.items() if not paths]
    if empty:
        return fails(f"{' and '.join(empty)} is empty: /proc and /sys are the host's")
    return holds(f"{len(found['MaskedPaths'])} masked, {len(found['ReadonlyPaths'])} read-only")


@control("privileges.selinux", "SELinux confines the service", cis="5.3")
def selinux(expected: ServicePlan, live: LiveContainer) -> Verdict:
    if "name=selinux" not in (live.host.info.get("SecurityOptions") or []):
        return not_applicable("the engine does not use SELinux on this host")
    if loose := [one for one in live.host_config.get("SecurityOpt") or [] if re.match("label[:=]disable", one)]:
        return fails(f"SecurityOpt {loose[0]}")
    label = str(live.inspect.get("ProcessLabel") or "")
    return holds(label) if label else fails("ProcessLabel is empty")


@control(
    "privileges.exec-capabilities",
    "No exec session has more privileges than the service",
    cis="5.23",
    needs_process=True,
)
def exec_capabilities(expected: ServicePlan, live: LiveContainer) -> Verdict:
    planned = _planned_capabilities(expected)
    wrong = [one.name for one in _executed(live) if not _named(one.cap_bounding | one.cap_effective) <= planned]
    return fails(f"exec with more than the service: {_names(wrong)}") if wrong else holds("none")


@control(
    "privileges.exec-user", "No exec session runs as another user than the service", cis="5.24", needs_process=True
)
def exec_user(expected: ServicePlan, live: LiveContainer) -> Verdict:
    uid = (expected.user or "").partition(":")[0]
    wrong = [one for one in _executed(live) if (one.uid != int(uid) if uid.isdigit() else one.uid == 0)]
    return fails("; ".join(f"exec of {one.name} as uid {one.uid}" for one in wrong)) if wrong else holds("none")


@control("privileges.no-sshd", "Nobody logs in to the container by SSH", cis="5.7", needs_process=True)
def no_sshd(expected: ServicePlan, live: LiveContainer) -> Verdict:
    servers = sorted({one.name for one in _processes(live)} & {"sshd", "dropbear"})
    if 22 in (live.tried.get("network") or {}).get("listens", ()):
        servers.append("something listens on port 22")
    return fails(", ".join(servers)) if servers else holds("none")


def secret_variables(entries: Iterable[str]) -> list[str]:
    """The names of variables with a credential. ``entries`` are ``NAME=KIND``: reads.sh has replaced the values."""
    pairs = [(name, kind) for name, _, kind in (entry.partition("=") for entry in entries)]
    return [name for name, kind in pairs if kind == "url-with-password" or _is_credential(name, kind)]


def _is_credential(name: str, kind: str) -> bool:
    return names_credential(name) and (kind == "value" or (kind == "number" and bool(PASSWORD.search(name))))


def _own_namespace(live: LiveContainer, key: str) -> Verdict:
    mode = str(live.host_config.get(key) or "")
    return (
        fails(f"HostConfig.{key} is {mode}")
        if mode.startswith(("host", "container:"))
        else holds(f"{key} {mode or 'private'}")
    )


def _processes(live: LiveContainer) -> tuple[ProcessStatus, ...]:
    assert live.process is not None
    return live.process.processes


def _executed(live: LiveContainer) -> list[ProcessStatus]:
    """The processes that are no descendants of the container's first: those of ``docker exec``, health checks too."""
    parents = {one.pid: one.parent for one in _processes(live)}

    def root(pid: int) -> int:
        seen = {0}
        while (parent := parents.get(pid, 0)) in parents and parent not in seen:
            seen.add(pid)
            pid = parent
        return pid

    first = int(live.state.get("Pid") or 0)
    return [one for one in _processes(live) if root(one.pid) != first]


def _planned_capabilities(expected: ServicePlan) -> set[str]:
    dropped = set(_plain(list(expected.cap_drop)))
    kept = set() if "ALL" in dropped else DEFAULT_CAPABILITIES - dropped
    return kept | set(_plain(list(expected.cap_add)))


def _plain(names: list[str] | None) -> list[str]:
    return sorted(name.upper().removeprefix("CAP_") for name in names or [])


def _named(mask: int) -> set[str]:
    known = {name for bit, name in enumerate(CAPABILITIES) if mask >> bit & 1}
    return known | {f"bit {bit}" for bit in range(len(CAPABILITIES), mask.bit_length()) if mask >> bit & 1}


def _set(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "empty"


def _names(names: list[str]) -> str:
    unique = sorted(set(names))
    return ", ".join(unique[:5]) + (f" and {len(unique) - 5} more" if len(unique) > 5 else "")
