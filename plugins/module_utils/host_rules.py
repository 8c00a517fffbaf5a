"""Items of the host's smaller concerns: audit, kernel, core dumps, clock, updates, swap, Docker's files. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from .engine_packages import ENGINES
from .errors import BattenError
from .host_items import Item
from .host_live import AUDIT_KEY

AUDIT_FILE = "/etc/audit/rules.d/50-batten-docker.rules"
AUDIT_PLACES = "/etc/tmpfiles.d/batten-audit.conf"
SYSCTL_FILE = "/etc/sysctl.d/60-batten.conf"
COREDUMP_FILE = "/etc/systemd/coredump.conf.d/batten.conf"
LIMITS_FILE = "/etc/security/limits.d/50-batten.conf"
APT_FILE = "/etc/apt/apt.conf.d/52batten-upgrades"
UPGRADE_SERVICE = "/etc/systemd/system/batten-upgrades.service"
UPGRADE_TIMER = "/etc/systemd/system/batten-upgrades.timer"
_HEAD = "Written by batten (role host)."

# CIS Docker 1.6, 1.1.3 to 1.1.18, and what is batten's: programs by who runs them, places by what changes there.
AUDITED: Mapping[str, str] = {
    "/usr/bin/dockerd": "x",
    "/usr/sbin/dockerd": "x",
    "/run/containerd": "wa",
    "/var/lib/docker": "wa",
    "/etc/docker": "wa",
    "/usr/lib/systemd/system/docker.service": "wa",
    "/usr/lib/systemd/system/docker.socket": "wa",
    "/run/containerd/containerd.sock": "wa",
    "/run/docker.sock": "wa",
    "/etc/default/docker": "wa",
    "/etc/docker/daemon.json": "wa",
    "/etc/containerd/config.toml": "wa",
    "/etc/sysconfig/docker": "wa",
    "/usr/bin/containerd": "x",
    "/usr/bin/containerd-shim": "x",
    "/usr/bin/containerd-shim-runc-v1": "x",
    "/usr/bin/containerd-shim-runc-v2": "x",
    "/usr/bin/runc": "x",
    "/usr/sbin/runc": "x",
    "/etc/batten": "wa",
    "/opt/batten": "wa",
    "/var/lib/batten": "wa",
}
_DIRECTORIES = frozenset(
    {"/run/containerd", "/var/lib/docker", "/etc/docker", "/etc/batten", "/opt/batten", "/var/lib/batten"}
)
# Ours, and what is gone after a boot until containerd has started, with the mode that containerd gives it.
_OURS: Mapping[str, str] = {"/etc/batten": "0755", "/opt/batten": "0755", "/var/lib/batten": "0700"}
_MADE: Mapping[str, str] = {**_OURS, "/run/containerd": "0711"}

# CIS Docker 1.6, 3.1 to 3.24: owner and the most that the mode may be.
OWNED: Mapping[str, tuple[str, str]] = {
    "/usr/lib/systemd/system/docker.service": ("root:root", "0644"),
    "/usr/lib/systemd/system/docker.socket": ("root:root", "0644"),
    "/usr/lib/systemd/system/containerd.service": ("root:root", "0644"),
    "/etc/docker": ("root:root", "0755"),
    "/etc/docker/daemon.json": ("root:root", "0644"),
    "/etc/docker/certs.d": ("root:root", "0755"),
    "/etc/default/docker": ("root:root", "0644"),
    "/etc/sysconfig/docker": ("root:root", "0644"),
    "/etc/containerd/config.toml": ("root:root", "0644"),
    "/run/docker.sock": ("root:docker", "0660"),
    "/run/containerd/containerd.sock": ("root:root", "0660"),
}
_TLS: Mapping[str, str] = {"tlscacert": "0444", "tlscert": "0444", "tlskey": "0400"}


def audit(present: Iterable[str], debian: bool) -> list[Item]:
    """Return the audit rules for those of Docker's paths that are there, and for our own: these are made first."""
    paths = sorted({*_OURS, *(path for path in present if path in AUDITED)})
    return [
        Item("package", "audit", "auditd" if debian else "audit", "installed"),
        Item("file", "audit", AUDIT_PLACES, places_text(paths)),
        Item("file", "audit", AUDIT_FILE, audit_text(paths)),
        Item("unit", "audit", "auditd.service", "enabled, active"),
        Item("audit", "audit", "audit rules", paths, "reload"),
    ]


def audit_text(paths: Iterable[str]) -> str:
    """Return the rules file.

    ``auid!=unset``: people and what they start, also through sudo; a container's own work under /var/lib/docker would
    fill the log within hours (auid is set at login, see pam_loginuid(8), and the engine's is not).
    """
    lines = [
        f"# {_HEAD} Who changes Docker, or runs its programs: CIS Docker 1.1.3 to 1.1.18.",
        f"# ausearch -k {AUDIT_KEY} -i",
    ]
    for path in paths:
        kind = "dir" if path in _DIRECTORIES else "path"
        lines.append(
            f"-a always,exit -F arch=b64 -F {kind}={path} -F perm={AUDITED[path]} -F auid!=unset -F key={AUDIT_KEY}"
        )
    return "\n".join(lines) + "\n"


def places_text(paths: Iterable[str]) -> str:
    """Return the file of systemd-tmpfiles that makes what is watched before rules are loaded, at boot too.

    The kernel refuses a rule below a directory that is not there, and ``auditctl -R`` stops at the first one refused
    (auditctl(8)): all that follow would be missing until the next run. Debian's audit-rules.service, and auditd.service
    elsewhere, come after systemd-tmpfiles-setup.service.
    """
    lines = [f"# {_HEAD} What audit rules watch has to be there when they are loaded."]
    return "\n".join([*lines, *(f"d {path} {_MADE[path]} root root" for path in paths if path in _MADE)]) + "\n"


def sysctls(wanted: Mapping[str, Any], container: bool) -> list[Item]:
    """Return the kernel settings, in a file for boots and one by one for now; in a container those of its network."""
    kept = {name: value for name, value in sorted(wanted.items()) if value is not None}
    if container:
        kept = {name: value for name, value in kept.items() if name.startswith(("net.ipv4.", "net.ipv6."))}
    # A leading - lets a setting be that this kernel has not (sysctl.d(5)).
    lines = [
        f"# {_HEAD} roles/host/defaults/main.yml says why.",
        *(f"-{name} = {value}" for name, value in kept.items()),
    ]
    items = [Item("sysctl", "sysctl", name, str(value), "update") for name, value in kept.items()]
    return [Item("file", "sysctl", SYSCTL_FILE, "\n".join(lines) + "\n"), *items] if kept else []


def check_sysctls(wanted: Mapping[str, Any]) -> None:
    """Raise BattenError for what is no name or no value of a kernel setting."""
    for name, value in wanted.items():
        if not re.fullmatch(r"[a-z0-9_]+(\.[A-Za-z0-9_-]+)+", str(name)):
            raise BattenError(f"{name!r} is no kernel setting", "host_sysctls", "write it as sysctl -a does")
        if isinstance(value, (dict, list, bool)) or "\n" in str(value):
            raise BattenError(f"{value!r} is no value", f"host_sysctls.{name}", "write a number or a text")


def core_dumps() -> list[Item]:
    """Return what keeps crashing processes from writing their memory to a disk: of systemd-coredump, and of logins."""
    coredump = f"# {_HEAD} A dump holds the process's secrets.\n[Coredump]\nStorage=none\nProcessSizeMax=0\n"
    limits = f"# {_HEAD} A dump holds the process's secrets.\n* hard core 0\nroot hard core 0\n"
    return [
        Item("file", "core_dumps", COREDUMP_FILE, coredump),
        Item("file", "core_dumps", LIMITS_FILE, limits),
    ]


def upgrades(debian: bool, reboot: str) -> list[Item]:
    """Return what installs security updates every day, but for the engine's packages: an engine that restarts takes
    what it is set to anew, and an upgrade of it belongs to a run, which checks it."""
    if reboot and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", reboot):
        raise BattenError(f"{reboot!r} is no time of day", "host_unattended_reboot", 'write it as "04:30"')
    if debian:
        return [
            Item("package", "upgrades", "unattended-upgrades", "installed"),
            Item("file", "upgrades", APT_FILE, apt_text(reboot)),
            *(
                Item("apt", "upgrades", name, "1")
                for name in ("APT::Periodic::Update-Package-Lists", "APT::Periodic::Unattended-Upgrade")
            ),
            *(
                Item("unit", "upgrades", unit, "enabled, active")
                for unit in ("apt-daily.timer", "apt-daily-upgrade.timer")
            ),
        ]
    return [
        Item("file", "upgrades", UPGRADE_SERVICE, dnf_service(reboot)),
        Item("file", "upgrades", UPGRADE_TIMER, _DNF_TIMER),
        Item("unit", "upgrades", "batten-upgrades.timer", "enabled, active"),
    ]


def apt_text(reboot: str) -> str:
    """Return our file of unattended-upgrades, which takes security updates by its own defaults.

    Names of the blacklist are regular expressions that match at the beginning (README of unattended-upgrades).
    """
    held = "".join(f'\t"^{name}$";\n' for name in held_packages())
    when = f'Unattended-Upgrade::Automatic-Reboot-Time "{reboot}";\n' if reboot else ""
    return (
        f"// {_HEAD} Security updates every day; the engine's packages wait for a run.\n"
        'APT::Periodic::Enable "1";\nAPT::Periodic::Update-Package-Lists "1";\nAPT::Periodic::Unattended-Upgrade "1";\n'
        '// A disk is not filled by packages that were installed long ago.\nAPT::Periodic::AutocleanInterval "7";\n'
        f'Unattended-Upgrade::Automatic-Reboot "{"true" if reboot else "false"}";\n{when}'
        f"Unattended-Upgrade::Package-Blacklist {{\n{held}}};\n"
    )


def held_packages() -> list[str]:
    """Return the packages that run containers, of all sources."""
    return sorted({*ENGINES, "docker-ce-cli", "docker-cli", "containerd", "containerd.io", "runc"})


def dnf_service(reboot: str) -> str:
    """Return a service that does on RHEL what unattended-upgrades does: the one file of dnf-automatic is not ours."""
    again = f"ExecStart=/bin/sh -c 'dnf -q needs-restarting -r || shutdown -r {reboot}'\n" if reboot else ""
    excluded = ",".join(held_packages())
    return (
        f"# {_HEAD}\n[Unit]\nDescription=Security updates, but for the engine's packages\n"
        "Wants=network-online.target\nAfter=network-online.target\n\n[Service]\nType=oneshot\n"
        f"ExecStart=/usr/bin/dnf -y -q upgrade --security --exclude={excluded}\n{again}"
    )


_DNF_TIMER = (
    f"# {_HEAD}\n[Unit]\nDescription=Security updates every day\n\n[Timer]\nOnCalendar=*-*-* 6:00\n"
    "RandomizedDelaySec=60min\nPersistent=yes\n\n[Install]\nWantedBy=timers.target\n"
)


def docker_files(daemon: Mapping[str, Any]) -> list[Item]:
    """Return owner and mode of Docker's files; ``daemon`` is daemon.json, which names those of TLS."""
    wanted = dict(OWNED)
    wanted.update({str(daemon[key]): ("root:root", mode) for key, mode in _TLS.items() if daemon.get(key)})
    return [
        item
        for path, (owner, mode) in sorted(wanted.items())
        for item in (Item("owner", "owner", path, owner), Item("mode", "mode", path, mode))
    ]


def clock(keepers: Iterable[str], debian: bool) -> list[Item]:
    """Return that a service keeps the clock: whichever is there, or else the distribution's own."""
    package = "systemd-timesyncd" if debian else "chrony"
    missing = [] if list(keepers) else [Item("package", "time", package, "installed")]
    return [*missing, Item("keeper", "time", "clock", "kept", "start")]


def swap(mode: str, present: Iterable[str]) -> list[Item]:
    """Return that there is no swap, or that it is what this run has found."""
    if mode == "keep":
        return [Item("swap", "swap", "swap", sorted(present), "none")]
    return [Item("unit", "swap", "swap.target", "masked"), Item("swap", "swap", "swap", [], "update")]
