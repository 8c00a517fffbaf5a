"""Logs: they go to a journal that survives a reboot, is bounded, and drops nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batten.verify.catalogue import control
from batten.verify.model import HostPlan, LiveContainer, LiveHost, Verdict, equal, fails, holds, not_applicable

if TYPE_CHECKING:
    from batten.plan.model import ServicePlan

SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600}  # systemd.time(7), as systemctl show prints it
FEW = 5  # lines of which none is JSON, and the service may just not have said anything itself
LINES_A_SECOND = 10_000  # more than all services of a host write; journald's own default is 333


@control("logging.driver", "The service logs to the journal", cis="2.13")
def driver(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return equal("LogConfig.Type", "journald", live.host_config["LogConfig"]["Type"])


@control("logging.readable", "The service's log lines are in the journal", needs_process=True)
def readable(expected: ServicePlan, live: LiveContainer) -> Verdict:
    if live.id in live.host.logged:
        return holds(f"read them with: journalctl CONTAINER_NAME={live.name}")
    return fails("the journal has no line of this container")


@control("logging.json", "The service's last log lines are JSON", needs_process=True)
def json_lines(expected: ServicePlan, live: LiveContainer) -> Verdict:
    """Counted on the host (probe.py): lines may hold anything, so none leaves it."""
    if expected.log_format != "json":
        by = f"Alloy's parser {expected.log_parser} reads it" if expected.log_parser else "no parser is planned"
        return not_applicable(f"the profile says that it logs text; {by}")
    found = live.tried.get("log") or {}
    lines, good, broken = (int(found.get(key, 0)) for key in ("lines", "json", "broken"))
    if not good and lines < FEW:
        return not_applicable(f"it has logged {lines or 'no'} lines since its start, which may be a start script's")
    if broken or not good:
        return fails(f"of the last {lines} lines {good} are JSON, {lines - good} are not")
    return holds(f"{good} of the last {lines} lines, nothing but JSON since the first")


@control("logging.journal-persistent", "The journal survives a reboot", scope="host")
def persistent(expected: HostPlan, live: LiveHost) -> Verdict:
    storage = live.journal.get("Storage", "auto")  # journald.conf(5): auto is persistent if the directory exists
    kept = storage == "persistent" or (storage == "auto" and "directory" in live.journal)
    evidence = f"Storage={storage}, /var/log/journal {'exists' if 'directory' in live.journal else 'is missing'}"
    return holds(evidence) if kept and "directory" in live.journal else fails(evidence)


@control("logging.journal-bounded", "The journal cannot fill the disk", scope="host")
def bounded(expected: HostPlan, live: LiveHost) -> Verdict:
    size = live.journal.get("SystemMaxUse")
    return holds(f"SystemMaxUse={size}") if size else fails("SystemMaxUse is not set")


@control("logging.journal-complete", "The journal drops no line of the engine", scope="host")
def complete(expected: HostPlan, live: LiveHost) -> Verdict:
    """Container lines come from docker.service, and journald limits each unit: journald.conf(5).

    An interval of 0 in a unit does not lift the limit, it means journald's own (systemd issue 22034).
    """
    if live.journal.get("RateLimitIntervalSec") in ("0", "0s") or live.journal.get("RateLimitBurst") == "0":
        return holds("journald limits no unit")
    unit = live.units.get("docker.service", {})
    interval, burst = unit.get("LogRateLimitIntervalUSec", "0"), unit.get("LogRateLimitBurst", "0")
    parts = re.findall(r"(\d+)(us|ms|s|min|h)\b", interval)
    seconds = sum(int(number) * SECONDS[unit_name] for number, unit_name in parts)
    if seconds and int(burst) / seconds >= LINES_A_SECOND:
        return holds(f"docker.service may log {burst} lines in {interval}")
    return fails(
        f"docker.service has LogRateLimitIntervalSec={interval} and LogRateLimitBurst={burst}: bursts are lost"
    )
