"""What systemd must know of a container's scope, so that it keeps what runc wrote past it.

With the systemd driver on cgroup v2 runc writes ``memory.swap.max`` = 0 itself and leaves the scope's MemorySwapMax= at
infinity (opencontainers/cgroups#74, moby/moby#51446; seen with runc 1.1.15 under systemd 257). The next ``systemctl
daemon-reload``, which upgrades of packages do as we do, gives the container all the swap there is. A drop-in for the
scope is read by that very reload, and again when the container restarts (systemd.unit(5)); it lies in /run, for a scope
is named for its container's ID.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from . import atomic
from .docker_api import Docker, DockerError

UNITS = "run/systemd/system"
TEXT = "# Written by batten: this container gets no swap, after a daemon-reload too.\n[Scope]\nMemorySwapMax=0\n"


def keep_swap_off(docker: Docker, containers: Iterable[Mapping[str, Any]], root: str = "/") -> None:
    """Keep the swap off that these containers (``docker inspect``) run without; forget those that the engine has not.

    What another stack's run wrote stays, also while its container is between two starts and has no scope.
    """
    top = Path(root) / UNITS
    for one in containers:
        if name := unit(one, root):
            atomic.write(top / f"{name}.d" / "batten.conf", TEXT.encode())
    written = list(top.glob("docker-*.scope.d/batten.conf"))  # before the engine is asked: another run may add to them
    try:
        known = {f"{scope(one)}.d" for one in docker.list()}
    except DockerError:  # another stack's boot restarts it: what is too many does no harm until the next time
        return
    for path in written:
        if path.parent.name not in known:
            shutil.rmtree(path.parent, ignore_errors=True)  # another run may do the same


def unit(container: Mapping[str, Any], root: str = "/") -> str:
    """Return the scope of a running container that gets no swap; nothing where systemd keeps none for it."""
    limits, pid = container["HostConfig"], int(container["State"].get("Pid") or 0)
    if not pid or not limits.get("Memory") or limits["Memory"] != limits.get("MemorySwap"):
        return ""
    try:
        groups = (Path(root) / f"proc/{pid}/cgroup").read_text()
    except OSError:  # it ended meanwhile
        return ""
    name = scope(container)
    return name if re.search(rf"^0::\S*/{name}(/|$)", groups, re.MULTILINE) else ""


def scope(container: Mapping[str, Any]) -> str:
    """Return how moby has systemd name a container's (daemon/oci_linux.go, withCgroups: ``system.slice:docker:ID``)."""
    return f"docker-{container['Id']}.scope"
