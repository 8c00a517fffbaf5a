"""Ports that the engine keeps for a container that is gone.

A power cut in the middle of a start leaves an endpoint in the engine's store with its ports. At the next boot the
engine takes them back, deletes the endpoint as stale, and keeps the ports, with their NAT rules, for nobody (moby
libnetwork/drivers/bridge, ``restorePortAllocations`` and ``DeleteEndpoint``; moby/moby#20486 and #36591; seen with
26.1.5). Only another start of the engine lets go of them; with live-restore nothing that runs notices it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from . import atomic, capacity, lock, systemd
from .docker_api import Docker, await_answer
from .errors import BattenError
from .observed import Observed
from .paths import HostPaths, StackPaths

# moby libnetwork/portallocator, ErrPortAlreadyAllocated: "Bind for fd00::1:8080 failed: port is already allocated"
_REFUSED = re.compile(r"Bind for (?P<held>\S+:(?P<port>\d+)) failed: port is already allocated")
_ANSWER_SECONDS = 60


def start(docker: Docker, begin: Callable[[], None], project: str, services: Collection[str], root: str = "/") -> str:
    """``begin``, which starts ``services`` of a Compose project; where the engine refuses a port that it keeps for
    nobody, have it let go of the port and ``begin`` again.

    Returns a line on what was done, nothing where that was not needed. Raises what ``begin`` raises, and BattenError
    where the engine cannot be started anew now: others work with it, or their containers would stop.
    """
    try:
        begin()
        return ""
    except BattenError as refused:
        held = held_for_nobody(refused.what, docker, project, services)
        if not held:
            raise
    with ExitStack() as others:
        for path in _locks(root):
            if not lock.is_ours(path):
                others.enter_context(lock.held(path, patience=0, what="a stack of this host"))
        try:  # another stack's start may have had the engine let go of it meanwhile
            begin()
            return ""
        except BattenError as refused:
            if held_for_nobody(refused.what, docker, project, services) != held:
                raise
            _restart_engine(docker, held, root)
        begin()
    return f"since a power cut the engine kept {held} for a container that is gone; it was started anew"


def held_for_nobody(complaint: str, docker: Docker, project: str, services: Collection[str]) -> str:
    """Return the ``ADDRESS:PORT`` that the engine's words are about, nothing where they are about something else.

    Nor where any container but those of ``services`` publishes the port, on any address, be it stopped: one whose start
    has not ended has its ports already, and is listed as stopped.
    """
    refused = _REFUSED.search(complaint)
    if not refused:
        return ""
    everyone = map(Observed, docker.inspect_all(one["Id"] for one in docker.list()))
    strangers = (one for one in everyone if one.project != project or one.service not in services)
    theirs = {number for one in strangers for _protocol, number in one.published}
    return "" if int(refused["port"]) in theirs else refused["held"]


def _restart_engine(docker: Docker, held: str, root: str) -> None:
    """Start the engine anew, but not twice for one port: an engine that keeps it all the same has another reason."""
    what = f"since a power cut the engine keeps {held} for a container that is gone"
    if not docker.info().get("LiveRestoreEnabled"):
        fix = "systemctl restart docker, which stops every container for a moment: live-restore is off here"
        raise BattenError(what, "dockerd", fix)
    record = HostPaths(root).run / "held-ports.json"
    started_for: Mapping[str, Any] = atomic.read_json(record, {})
    if started_for.get(held) == _engine_pid():
        raise BattenError(f"the engine keeps {held}, also after a start of its own", "dockerd", "reboot this host")
    systemd.restart("docker.service")
    await_answer(docker, time.monotonic() + _ANSWER_SECONDS)
    atomic.make_directory(record.parent, 0o755)
    atomic.write_json(record, {**started_for, held: _engine_pid()})


def _engine_pid() -> str:
    return systemd.show(["docker.service"], "MainPID", must=True)[0].get("MainPID", "")


def _locks(root: str) -> list[Path]:
    """Return the locks of all that works with the engine on this host."""
    stacks = [StackPaths(stack, root) for stack in capacity.recorded_plans(root)]
    return [path for one in stacks for path in (one.lock, one.backup_lock)]
