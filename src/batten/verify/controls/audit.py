"""Audit: the kernel records who changes the engine's files and who runs its programs."""

from __future__ import annotations

import re

from batten.verify.catalogue import control
from batten.verify.model import HostPlan, LiveHost, Verdict, fails, holds, not_applicable

UNITS = "/usr/lib/systemd/system"
# Numbers of CIS Docker 1.6, and where each thing lies: one of these places, depending on the distribution.
WATCHED: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("1.1.3", "dockerd", ("/usr/bin/dockerd", "/usr/sbin/dockerd")),
    ("1.1.4", "run-containerd", ("/run/containerd",)),
    ("1.1.5", "data", ("/var/lib/docker",)),
    ("1.1.6", "etc-docker", ("/etc/docker",)),
    ("1.1.7", "docker-service", (f"{UNITS}/docker.service",)),
    ("1.1.8", "containerd-socket", ("/run/containerd/containerd.sock",)),
    ("1.1.9", "docker-socket-unit", (f"{UNITS}/docker.socket",)),
    ("1.1.10", "defaults", ("/etc/default/docker",)),
    ("1.1.11", "daemon-json", ("/etc/docker/daemon.json",)),
    ("1.1.12", "containerd-config", ("/etc/containerd/config.toml",)),
    ("1.1.13", "sysconfig", ("/etc/sysconfig/docker",)),
    ("1.1.14", "containerd", ("/usr/bin/containerd",)),
    ("1.1.15", "shim", ("/usr/bin/containerd-shim",)),
    ("1.1.16", "shim-runc-v1", ("/usr/bin/containerd-shim-runc-v1",)),
    ("1.1.17", "shim-runc-v2", ("/usr/bin/containerd-shim-runc-v2",)),
    ("1.1.18", "runc", ("/usr/bin/runc", "/usr/sbin/runc")),
)
OWN = ("/etc/batten", "/opt/batten", "/var/lib/batten")


def _declare(cis: str, name: str, paths: tuple[str, ...]) -> None:
    @control(f"audit.{name}", f"Changes and uses of {paths[0]} are recorded", scope="host", cis=cis)
    def watched(expected: HostPlan, live: LiveHost) -> Verdict:
        return _watched(expected, live, paths)


for _row in WATCHED:
    _declare(*_row)


@control("audit.batten", "Changes of batten's own files are recorded", scope="host")
def batten(expected: HostPlan, live: LiveHost) -> Verdict:
    return _watched(expected, live, OWN)


@control("audit.running", "The audit service runs and the kernel listens to it", scope="host", cis="1.2.1")
def running(expected: HostPlan, live: LiveHost) -> Verdict:
    if reason := _not_here(expected, live):
        return not_applicable(reason)
    enabled = next((line.split()[1] for line in live.audit if line.startswith("enabled ")), "0")
    unit = live.units.get("auditd.service", {})
    if enabled not in ("1", "2") or (unit.get("UnitFileState"), unit.get("ActiveState")) != ("enabled", "active"):
        return fails(f"the kernel says enabled {enabled}, auditd is {unit.get('ActiveState', 'missing')}")
    return holds(f"enabled {enabled}")


def _watched(expected: HostPlan, live: LiveHost, paths: tuple[str, ...]) -> Verdict:
    if reason := _not_here(expected, live):
        return not_applicable(reason)
    there = [path for path in paths if path in live.present]
    if not there:
        return not_applicable(f"{paths[0]} does not exist on this host: the kernel takes no rule for it")
    rules = {path for line in live.audit for path in re.findall(r"(?:-F (?:path|dir)=|-w )(\S+?)/?(?=\s|$)", line)}
    missing = [path for path in there if path not in rules]
    return (
        fails(f"auditctl -l has no rule for {', '.join(missing)}") if missing else holds(f"watches {', '.join(there)}")
    )


def _not_here(expected: HostPlan, live: LiveHost) -> str:
    """Why this host has no audit rules; empty if it should have them."""
    if not expected.wants("host_audit"):
        return "host_audit is off"
    kind = live.machine.get("container", "none")
    return "" if kind == "none" else f"a container ({kind}) owns no audit rules"
