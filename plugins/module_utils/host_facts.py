"""What a host is, as far as it decides what it should be. Reads, never writes."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import capacity, command, engine_host, host_live, host_rules
from .docker_api import Docker
from .engine_packages import parse_os_release, system


@dataclass(frozen=True)
class Facts:
    """One look at a host.

    ``containers`` are of ``GET /containers/json``; ``plans`` the recorded ones by stack; ``audited`` the paths of
    Docker that are there; ``others`` the firewalls that are active; ``keepers`` the services that can keep the clock.
    """

    debian: bool = True
    container: bool = False
    plans: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    daemon: Mapping[str, Any] = field(default_factory=dict)
    containers: tuple[Mapping[str, Any], ...] = ()
    foreign: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    audited: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    ssh: tuple[int, ...] = ()
    swaps: tuple[str, ...] = ()
    keepers: tuple[str, ...] = ()


def look(root: str = "/") -> Facts:
    """Look at this host once; what needs the engine is empty where none answers."""
    docker = Docker(timeout=20)
    answers = docker.answers()
    networks = docker.networks() if answers else []
    states = host_live.units(["firewalld.service", *(f"{one}.service" for one in host_live.KEEPERS)])
    return Facts(
        debian=system(parse_os_release(Path("/etc/os-release").read_text(encoding="utf-8"))).family == "debian",
        container=in_container(),
        plans=capacity.recorded_plans(root),
        daemon=engine_host.read_daemon(engine_host.DAEMON),
        containers=tuple(docker.list()) if answers else (),
        foreign=foreign_bridges(_bridges(root), networks) if answers else (),
        named=tuple(sorted(name for name in map(_bridge_name, networks) if name and not _looks_like_ours(name))),
        audited=tuple(path for path in host_rules.AUDITED if host_live.at(path, root).exists()),
        others=other_firewalls(host_live.text("/etc/ufw/ufw.conf", root) or "", states["firewalld.service"]),
        ssh=ssh_ports(),
        swaps=tuple(host_live.swaps(root)),
        keepers=tuple(one for one in host_live.KEEPERS if states[f"{one}.service"] not in ("missing", "masked")),
    )


def in_container() -> bool:
    """Return whether this host shares its kernel with others (systemd-detect-virt(1); exit status 1 means no)."""
    return command.run(["systemd-detect-virt", "--container", "--quiet"]).returncode == 0


def other_firewalls(ufw: str, firewalld: str) -> tuple[str, ...]:
    """Return the firewalls that are active, from the text of ufw.conf and the state of firewalld's unit.

    ``ufw enable`` writes to its file and leaves its unit inactive until the next boot (ufw(8)).
    """
    found = ["ufw"] if re.search(r"^ENABLED=yes\s*$", ufw, re.MULTILINE | re.IGNORECASE) else []
    return (*found, *(["firewalld"] if firewalld.endswith(", active") else []))


def _bridges(root: str) -> list[str]:
    return sorted(Path(path).parent.name for path in glob.glob(str(host_live.at("/sys/class/net/*/bridge", root))))


def _looks_like_ours(name: str) -> bool:
    return name.startswith(("docker", "br-"))


def _bridge_name(network: Mapping[str, Any]) -> str:
    """Return the interface of a network of the bridge driver; an unnamed one has br- and the start of its ID
    (moby, libnetwork/drivers/bridge: ``config.BridgeName = "br-" + id[:12]``)."""
    if network.get("Driver") != "bridge":
        return ""
    return (network.get("Options") or {}).get("com.docker.network.bridge.name") or f"br-{network['Id'][:12]}"


def foreign_bridges(present: Iterable[str], networks: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the bridges here that only look like Docker's: rules of ours must not meet their traffic."""
    ours = {_bridge_name(network) for network in networks}
    return tuple(sorted(name for name in present if name.startswith("br-") and name not in ours))


def ssh_ports() -> tuple[int, ...]:
    """Return the ports by which people come in: those of sshd, of a socket unit for it, and of this very connection."""
    sshd = command.run(["sshd", "-T"]).stdout
    sockets = command.run(["systemctl", "show", "-P", "Listen", "ssh.socket", "sshd.socket"]).stdout
    found = {*listening(sshd, sockets), *(port for port in [came_in_by(os.getpid())] if port)}
    return tuple(sorted(found or {22}))


def listening(sshd: str, sockets: str) -> set[int]:
    """Return the ports in what ``sshd -T`` and systemctl's ``Listen`` say. Pure.

    A ``ListenAddress`` with a port of its own stands beside ``port``, which is printed all the same (sshd_config(5)).
    """
    found = re.findall(r"^(?:port |listenaddress \S*:)(\d+)$", sshd, re.MULTILINE)
    return {int(port) for port in (*found, *re.findall(r":(\d+) \(Stream\)", sockets))}


def came_in_by(pid: int) -> int | None:
    """Return the port of this host that the SSH session above a process was accepted on.

    sudo takes ``SSH_CONNECTION`` (ssh(1)) out of the environment, so its parents are asked.
    """
    while pid > 1:
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
            status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        found = re.search(rb"(?:^|\0)SSH_CONNECTION=\S+ \d+ \S+ (\d+)", environment)
        if found:
            return int(found.group(1))
        parent = re.search(r"^PPid:\s+(\d+)", status, re.MULTILINE)
        pid = int(parent.group(1)) if parent else 0
    return None
