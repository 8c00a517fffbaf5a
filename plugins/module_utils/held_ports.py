"""Ports that the engine keeps for a container that is gone.

A power cut in the middle of a start leaves an endpoint in the engine's store with its ports. At the next boot the
engine takes them back, deletes the endpoint as stale, and keeps the ports, with their NAT rules, for nobody (moby
libnetwork/drivers/bridge, ``restorePortAllocations`` and ``DeleteEndpoint``; moby/moby#20486 and #36591; seen with
26.1.5). Only another start of the engine lets go of them; with live-restore nothing that runs notices it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any

from . import engine_host
from .docker_api import Docker
from .errors import BattenError

# moby libnetwork/portallocator, ErrPortAlreadyAllocated: "Bind for fd00::1:8080 failed: port is already allocated"
_REFUSED = re.compile(r"Bind for (?P<address>\S+):(?P<port>\d+) failed: port is already allocated")
_EVERY = {"", "0.0.0.0", "::"}  # noqa: S104 - compared with, not bound to
_ANSWER_SECONDS = 60


def let_go(docker: Docker, complaint: str) -> str:
    """Have the engine let go of the port that ``complaint``, its own words, is about, if no container has it.

    Returns a line on what was done, nothing where the complaint is about something else. Raises BattenError where a
    start of the engine would stop what runs, or where it does not answer within 60 s after it.
    """
    held = held_for_nobody(complaint, docker.list()) if _REFUSED.search(complaint) else ""
    if not held:
        return ""
    what = f"since a power cut the engine keeps {held} for a container that is gone"
    if not docker.info().get("LiveRestoreEnabled"):
        fix = "systemctl restart docker, which stops every container for a moment: live-restore is off here"
        raise BattenError(what, "dockerd", fix)
    engine_host.systemctl("restart", "docker.service")
    deadline = time.monotonic() + _ANSWER_SECONDS
    while not docker.answers():
        if time.monotonic() > deadline:
            raise BattenError("the engine does not answer", docker.path, "journalctl -u docker.service")
        time.sleep(0.1)
    return what


def held_for_nobody(complaint: str, containers: Iterable[Mapping[str, Any]]) -> str:
    """Return ``ADDRESS:PORT`` of a refusal, nothing where one of ``containers`` (``docker ps``) publishes it."""
    refused = _REFUSED.search(complaint)
    if not refused:
        return ""
    address, port = refused["address"].strip("[]"), int(refused["port"])
    for one in containers:
        for published in one.get("Ports") or []:
            theirs = str(published.get("IP") or "").strip("[]")
            if published.get("PublicPort") == port and (theirs == address or _EVERY & {theirs, address}):
                return ""
    return f"{refused['address']}:{port}"
