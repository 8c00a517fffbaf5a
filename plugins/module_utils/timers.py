"""What a host does by itself from time to time for a stack, each by a timer that the plan asks for or does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .paths import PROGRAM

_MEMORY_MAX_BYTES = 384 * 1024 * 1024  # ours, and docker, compose or psql beside it

SANDBOX = """\
NoNewPrivileges=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
ProtectSystem=full
ProtectHome=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
PrivateTmp=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
"""
"""For units that work with the engine and write below /opt, /var and /run."""

_LIMITS = f"""\
UMask=0077
LimitCORE=0
MemoryMax={_MEMORY_MAX_BYTES}
TasksMax=128
"""
# An engine that somebody has stopped is not started by a timer. Requisite=docker.service would say so too, and end the
# unit with each restart of the engine (systemd.unit(5)), the one among them that the unit's own work asks for.
_ENGINE_RUNS = "ExecCondition=/usr/bin/systemctl --quiet is-active docker.service\n"
SERVICES: Mapping[str, str] = {
    "backup": f"""\
[Unit]
Description=Encrypted backup of stack %i
Documentation=man:age(1)
After=docker.service batten-stack@%i.service
# A run that changed the stack meanwhile, or a database that was just restarted: try again, but not all night.
StartLimitIntervalSec=6h
StartLimitBurst=4

[Service]
Type=oneshot
{_ENGINE_RUNS}ExecStart=/usr/bin/python3 {PROGRAM} backup %i
Restart=on-failure
RestartSec=10min
Nice=10
CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH
RestrictAddressFamilies=AF_UNIX
{_LIMITS}{SANDBOX}""",
    "sync": f"""\
[Unit]
Description=Changed secrets of stack %i to their consumers
After=docker.service batten-stack@%i.service network-online.target

[Service]
Type=oneshot
{_ENGINE_RUNS}ExecStart=/usr/bin/python3 {PROGRAM} sync %i
CapabilityBoundingSet=CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_KILL CAP_SYS_PTRACE
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
{_LIMITS}{SANDBOX}# Instead of the above: what is changed reaches the stack by a whole run, which makes missing
# directories of data, also below /home, and may find Compose below /root.
ProtectHome=no
""",
}

DRIFT = f"""\
[Unit]
Description=How this host differs from what batten put on it
After=docker.service

[Service]
Type=oneshot
{_ENGINE_RUNS}ExecStart=/usr/bin/python3 {PROGRAM} drift --record
# 2: there is drift, and it is told.
SuccessExitStatus=2
Nice=10
IOSchedulingClass=idle
# It looks into containers (ptrace), and reads the firewall's and audit's rules (net_admin, audit_control).
CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_SYS_PTRACE CAP_NET_ADMIN CAP_AUDIT_CONTROL
RestrictAddressFamilies=AF_UNIX AF_NETLINK
{_LIMITS}{SANDBOX}# Instead of the above: a volume's directory below /home would seem gone, and root's own Compose.
ProtectHome=read-only
"""
"""One for a host, and no template: it looks at all stacks at once. It repairs nothing."""


def drift_timer(seconds: float) -> str:
    """Return the text of the timer that calls :data:`DRIFT`."""
    often = round(seconds)
    when = f"OnActiveSec={min(often, 60)}\nOnUnitInactiveSec={often}\nAccuracySec=5s\nRandomizedDelaySec={often // 10}"
    return _timer("When this host looks for drift", when)


def timers(plan: Mapping[str, Any]) -> dict[str, str]:
    """Return the text of each timer that ``plan`` (a ``StackPlan`` as JSON) asks for, by the kind of its service."""
    found = {}
    if plan.get("backup"):
        # What was missed while the host was down is made up for (systemd.timer(5), Persistent=).
        when = f"OnCalendar={plan['backup']['schedule']}\nRandomizedDelaySec=15min\nPersistent=yes"
        found["backup"] = _timer("When stack %i is backed up", when)
    if plan.get("sync_seconds"):
        seconds = round(plan["sync_seconds"])
        when = f"OnActiveSec={seconds}\nOnUnitInactiveSec={seconds}\nAccuracySec=5s\nRandomizedDelaySec={seconds // 10}"
        found["sync"] = _timer("When stack %i looks for changed secrets", when)
    return found


def _timer(description: str, when: str) -> str:
    return f"[Unit]\nDescription={description}\n\n[Timer]\n{when}\n\n[Install]\nWantedBy=timers.target\n"
