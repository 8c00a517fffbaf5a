"""The systemd units of a stack, and putting them on a host without disturbing what runs.

Docker comes after the secrets and *asserts* their mount. With ``Requires=`` instead, stopping or restarting
``batten-secrets@`` would stop Docker and every container (systemd.unit(5)). With an assertion a Docker whose secrets
are missing does not start, and nothing that happens later reaches a Docker that runs. Nor does Docker ask for them by
``Wants=``: each ``docker ps`` of a person who looks why nothing runs would start them again, through docker.socket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import atomic, capacity, systemd, timers
from .paths import PROGRAM, SharedPaths, StackPaths

KINDS = ("secrets", "stack", *timers.SERVICES)
"""What we have template units for, ``batten-KIND@.service``; each of the timers has ``batten-KIND@STACK.timer`` too."""
DRIFT_SERVICE, DRIFT_TIMER = "batten-drift.service", "batten-drift.timer"
MEMORY_MAX_BYTES = 128 * 1024 * 1024  # each unit; a Python of this size uses 30 MB
_GRACE_MARGIN_SECONDS = 60

# No option here may give the unit a mount namespace of its own (ProtectSystem=, PrivateTmp=, ProtectKernelTunables=):
# the memory must be mounted in the host's.
_SECRETS = f"""\
[Unit]
Description=Secrets of stack %i in memory
Documentation=man:systemd-creds(1)
RequiresMountsFor=/opt/batten/%i /var/lib/batten/%i
Before=docker.service
StartLimitIntervalSec=0

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/python3 {PROGRAM} unlock %i
# What could not start without the secrets starts now, also when they come late. Both are no-ops where it runs.
ExecStartPost=-/usr/bin/systemctl --no-block start docker.service batten-stack@%i.service
ExecReload=/usr/bin/python3 {PROGRAM} unlock %i
Restart=on-failure
RestartSec=10
UMask=0077
LimitCORE=0
MemoryMax={MEMORY_MAX_BYTES}
TasksMax=32
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_SYS_ADMIN CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE
RestrictAddressFamilies=AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service @mount

[Install]
WantedBy=multi-user.target
"""

_STACK = f"""\
[Unit]
Description=Stack %i, started and stopped in health order
Wants=docker.service network-online.target batten-secrets@%i.service
After=docker.service network-online.target batten-secrets@%i.service
AssertPathIsMountPoint=/opt/batten/%i/secrets

[Service]
# exec, not oneshot: systemd runs ExecStop= of a oneshot only after its start has ended, and a shutdown may come sooner.
Type=exec
RemainAfterExit=yes
ExecStart=/usr/bin/python3 {PROGRAM} boot %i
ExecStop=/usr/bin/python3 {PROGRAM} shutdown %i
# 3: some service is not healthy. The others run, and must be stopped in order.
SuccessExitStatus=3
MemoryMax={MEMORY_MAX_BYTES}
TasksMax=64
CapabilityBoundingSet=CAP_DAC_OVERRIDE CAP_KILL
RestrictAddressFamilies=AF_UNIX
{timers.SANDBOX}
[Install]
WantedBy=multi-user.target
"""


def files(paths: StackPaths, plan: Mapping[str, Any]) -> dict[Path, str]:
    """Return the text of every unit file. ``plan`` is a ``StackPlan`` as JSON."""
    stack = paths.stack
    grace = sum(service["stop_grace_seconds"] for service in plan["services"].values())
    mounts = [f"RequiresMountsFor={place}" for place in plan["requires_mounts_for"]]
    docker = [
        "# Written by batten: the engine waits for this stack's secrets and data. Without them it would make empty",
        "# directories in their place.",
        "[Unit]",
        f"After=batten-secrets@{stack}.service",
        f"AssertPathIsMountPoint={StackPaths(stack).secrets}",
        *mounts,
    ]
    timeout = ["[Service]", f"TimeoutStopSec={grace + _GRACE_MARGIN_SECONDS}"]
    wanted = timers.timers(plan)
    return {
        paths.units / "batten-secrets@.service": _SECRETS,
        paths.units / "batten-stack@.service": _STACK,
        paths.units / f"batten-stack@{stack}.service.d" / "batten.conf": "\n".join(timeout) + "\n",
        paths.units / "docker.service.d" / f"batten-{stack}.conf": "\n".join(docker) + "\n",
        **{paths.units / f"batten-{kind}@.service": timers.SERVICES[kind] for kind in wanted},
        **{paths.units / _timer(paths, kind): text for kind, text in wanted.items()},
    }


def shared_files(paths: SharedPaths, coming: Mapping[str, Mapping[str, Any]]) -> dict[Path, str]:
    """Return the text of the units that all stacks share: the host's look for drift, as often as the most eager plan of
    a stack here asks; none where no plan does. ``coming`` are plans by stack, whatever is recorded of these."""
    plans = {**capacity.recorded_plans(paths.root), **coming}
    often = [seconds for plan in plans.values() if (seconds := plan.get("drift_seconds"))]
    if not often:
        return {}
    return {paths.units / DRIFT_SERVICE: timers.DRIFT, paths.units / DRIFT_TIMER: timers.drift_timer(min(often))}


def ensure(paths: StackPaths, plan: Mapping[str, Any], check: bool) -> list[str]:
    """Install, enable and start the units; return what changed. Needs the program and delivered secrets.

    Nothing here restarts or stops but timers, which run nothing when they take up new times: a changed unit takes
    effect at its next start.
    """
    changes = []
    shared = shared_files(paths, {paths.stack: plan})
    for path, text in {**files(paths, plan), **shared}.items():
        if not (path.is_file() and path.read_text() == text):
            changes.append(f"{path.relative_to(paths.units)}: written")
            if not check:
                atomic.write(path, text.encode(), 0o644)
    changes += _remove_timers(paths, plan, check)
    units = [*instances(paths, plan), *([DRIFT_TIMER] if shared else [])]
    stale = _stale([*units, "docker.service"])
    if check:
        states = _states(units)
        return [*changes, *stale, *(f"{unit}: enabled" for unit in units if states[unit][0] != "enabled")]
    if changes or stale:
        systemd.systemctl("daemon-reload")
    changes += stale
    for unit, (enabled, active) in _states(units).items():
        if enabled.startswith("masked"):
            systemd.systemctl("unmask", "--quiet", *(["--runtime"] if enabled == "masked-runtime" else []), unit)
        if enabled != "enabled":
            systemd.systemctl("enable", "--quiet", unit)
            changes.append(f"{unit}: enabled")
        if active != "active":
            systemd.systemctl("start", unit)
            changes.append(f"{unit}: started")
        elif f"{unit}: written" in changes and unit.endswith(".timer"):
            systemd.systemctl("restart", unit)
    return changes


def _remove_timers(paths: StackPaths, plan: Mapping[str, Any], check: bool) -> list[str]:
    """Take away the timers that the plan does not ask for any more; return what changed."""
    gone = [_timer(paths, kind) for kind in timers.SERVICES if kind not in timers.timers(plan)]
    gone += [] if shared_files(paths, {paths.stack: plan}) else [DRIFT_TIMER]
    gone = [unit for unit in gone if (paths.units / unit).exists()]
    if gone and not check:
        systemd.systemctl("disable", "--quiet", "--now", *gone)
        for unit in gone:
            (paths.units / unit).unlink()
    return [f"{unit}: removed" for unit in gone]


def remove(paths: StackPaths, check: bool) -> list[str]:
    """Stop the stack in order and remove its units, and the templates after the last stack; return what changed."""
    directory = paths.units
    ours = [directory / _timer(paths, kind) for kind in timers.SERVICES]
    shared = [] if shared_files(paths, {paths.stack: {}}) else [directory / DRIFT_TIMER]
    own = [
        directory / f"batten-stack@{paths.stack}.service.d" / "batten.conf",
        directory / "docker.service.d" / f"batten-{paths.stack}.conf",
        *ours,
    ]
    others = [path for path in (directory / "docker.service.d").glob("batten-*.conf") if path not in own]
    templates = [directory / f"batten-{kind}@.service" for kind in KINDS]
    own += [*shared, *(directory / DRIFT_SERVICE for _ in shared)]
    present = [path for path in own + ([] if others else templates) if path.exists()]
    changes = [f"{path.relative_to(directory)}: removed" for path in present]
    if check or not present:
        return changes
    if running := [
        path.name for path in (*ours, *shared) if path.exists()
    ]:  # first: it would start again what is stopped
        systemd.systemctl("disable", "--quiet", "--now", *running)
    if templates[0].exists():
        systemd.systemctl("disable", "--quiet", "--now", *_instances(paths))
    for path in present:
        path.unlink()
        if path.parent != directory and not any(path.parent.iterdir()):
            path.parent.rmdir()
    systemd.systemctl("daemon-reload")
    return changes


def instances(paths: StackPaths, plan: Mapping[str, Any]) -> list[str]:
    """Return the names of the units that are to be enabled and active on a host with this stack."""
    return [*_instances(paths), *(_timer(paths, kind) for kind in timers.timers(plan))]


def _instances(paths: StackPaths) -> tuple[str, str]:
    return f"batten-secrets@{paths.stack}.service", f"batten-stack@{paths.stack}.service"


def _timer(paths: StackPaths, kind: str) -> str:
    return f"batten-{kind}@{paths.stack}.timer"


def _states(units: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return whether each unit is ``enabled`` and ``active``, in the words of systemctl(1)."""
    shown = systemd.show(units, "UnitFileState,ActiveState")
    return {unit: (block.get("UnitFileState", ""), block.get("ActiveState", "")) for unit, block in zip(units, shown)}


def _stale(units: Sequence[str]) -> list[str]:
    """Return the units whose files changed on disk since systemd read them."""
    shown = systemd.show(units, "NeedDaemonReload")
    return [f"{unit}: read again" for unit, one in zip(units, shown) if one.get("NeedDaemonReload") == "yes"]
