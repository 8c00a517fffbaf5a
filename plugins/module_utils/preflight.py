"""Everything that would go wrong later, found before anything that runs is stopped."""

from __future__ import annotations

import glob
import ipaddress
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .capacity import addresses
from .desired import Desired
from .docker_api import Docker
from .errors import BattenError
from .observed import Observed
from .paths import StackPaths
from .quantities import EVERY_ADDRESS

SPACE_TO_RUN = 256 * 2**20  # logs, layers of containers, the release itself
SPACE_TO_PULL = 2 * 2**30  # the reference stack's larger images, unpacked
# With and without the userland proxy (moby libnetwork/drivers/bridge, port_mapping_linux.go): who holds a port.
_ENGINE = ("dockerd (", "docker-proxy (")


@dataclass(frozen=True)
class Problem:
    """One reason to refuse: what, where, and what to type."""

    what: str
    where: str
    fix: str


def refuse(problems: Sequence[Problem]) -> None:
    """Raise one :class:`BattenError` that names every problem, if there is any."""
    problems = list(dict.fromkeys(problems))  # a port on two addresses is in use once
    if not problems:
        return
    if len(problems) == 1:
        raise BattenError(problems[0].what, problems[0].where, problems[0].fix)
    lines = [f"- {one.where}: {one.what}\n  fix: {one.fix}" for one in problems]
    raise BattenError(f"{len(problems)} things stand in the way; nothing was changed\n" + "\n".join(lines))


def check(
    docker: Docker,
    paths: StackPaths,
    plan: Mapping[str, Any],
    desired: Mapping[str, Desired],
    observed: Mapping[str, Sequence[Observed]],
    pulls: bool,
    coming: Iterable[Path] = (),
) -> list[Problem]:
    """Return every problem that only a look at the host can find. Changes nothing."""
    ours = {one.id for containers in observed.values() for one in containers}
    volumes = {volume["Name"]: volume for volume in docker.volumes()}
    model = next(iter(desired.values())).model if desired else {}
    data_root = Path(docker.info()["DockerRootDir"])
    return [
        *mount_points(plan.get("requires_mounts_for") or ()),
        *disk_space(
            (
                (data_root, SPACE_TO_PULL if pulls else SPACE_TO_RUN),
                (paths.top, SPACE_TO_RUN),
                (paths.var, SPACE_TO_RUN),
            )
        ),
        *owned_addresses(desired, addresses()),
        *same_ports(desired),
        *used_ports(desired, observed, published_by_others(docker, ours), listening()),
        *missing_binds(paths.base, desired, coming),
        *moved_volumes(model, volumes),
        *(
            problem
            for name, one in desired.items()
            if observed.get(name)
            for problem in data_changes(one, observed[name][0])
        ),
    ]


def mount_points(required: Iterable[str]) -> list[Problem]:
    """A block volume that is not mounted: its directory would be filled on the system disk, and the data seem gone."""
    return [
        Problem("nothing is mounted here, so the data would land on the system disk", path, f"mount {path}")
        for path in required
        if not os.path.ismount(path)
    ]


def disk_space(wanted: Iterable[tuple[Path, int]]) -> list[Problem]:
    found: dict[int, Problem] = {}
    for wished, needed in wanted:
        path = next(one for one in (wished, *wished.parents) if one.exists())
        free = shutil.disk_usage(path).free
        if free < needed:
            what = f"{free // 2**20} MiB are free, {needed // 2**20} MiB are needed"
            fix = f"docker image prune, or a larger disk; what takes it: du -xh {path} | sort -h | tail"
            found.setdefault(path.stat().st_dev, Problem(what, str(path), fix))
    return list(found.values())


def owned_addresses(desired: Mapping[str, Desired], owned: Iterable[str]) -> list[Problem]:
    """A port on an address that this host does not have would leave its container ``created`` for ever."""
    mine = {ipaddress.ip_address(address) for address in owned}
    found = []
    for name, port in _ports(desired):
        text = _host(port)
        if text in EVERY_ADDRESS:
            continue
        address = ipaddress.ip_address(text)
        if not address.is_loopback and address not in mine:
            have = ", ".join(map(str, sorted(mine, key=str))) or "none"
            found.append(
                Problem(f"this host has no address {text}; it has {have}", f"service {name}", "correct the address")
            )
    return found


def same_ports(desired: Mapping[str, Desired]) -> list[Problem]:
    """One port published twice: the engine starts the first that asks for it, and refuses the second."""
    seen: dict[tuple[str, str], list[tuple[str, str]]] = {}
    found = []
    for name, port in _ports(desired):
        number, address = str(port.get("published") or ""), _host(port)
        others = seen.setdefault((str(port.get("protocol") or "tcp"), number), [])
        for theirs, whose in others if number else ():
            if _collide(theirs, address):
                what = f"port {number} is published by service {whose}, too"
                found.append(Problem(what, f"service {name}", "publish another port for one of them"))
        others.append((address, name))
    return found


def _collide(one: str, other: str) -> bool:
    """Whether the engine binds both addresses to one port: no address is all of both families."""
    if "" in (one, other) or one == other:
        return True
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    return first.version == second.version and (first.is_unspecified or second.is_unspecified)


def used_ports(
    desired: Mapping[str, Desired],
    observed: Mapping[str, Sequence[Observed]],
    published: Mapping[tuple[str, str, int], str],
    sockets: Mapping[tuple[str, str, int], str],
) -> list[Problem]:
    """Both maps are ``{(protocol, address, port): who}``; ``sockets`` counts only where we publish nothing.

    The engine takes a container's ports before it calls it running, so what the engine itself holds of a container
    of ours that does not run is of one that it starts just now, as after a boot, or is held for nobody: both are
    settled when the container starts (``held_ports.py``).
    """
    held, claimed = _published(observed, running=True), _published(observed, running=False)
    found = []
    for name, port in _ports(desired):
        number = str(port.get("published") or "")
        if not number.isdigit():
            continue
        protocol, address = port.get("protocol") or "tcp", _host(port)
        users = dict(published)
        if (protocol, int(number)) not in held:
            starts = (protocol, int(number)) in claimed
            users.update({key: who for key, who in sockets.items() if not (starts and who.startswith(_ENGINE))})
        for (their_protocol, their_address, their_port), who in users.items():
            overlap = address in EVERY_ADDRESS or their_address in EVERY_ADDRESS or address == their_address
            if overlap and (their_protocol, their_port) == (protocol, int(number)):
                fix = f"stop {who}, or publish another port for {name}"
                if who.startswith(_ENGINE):  # for no container that runs, or `published` would say whose
                    fix = f"systemctl restart docker, if no container starts just now; or publish another for {name}"
                found.append(Problem(f"port {number}/{protocol} is in use by {who}", f"service {name}", fix))
                break
    return found


def _published(observed: Mapping[str, Sequence[Observed]], running: bool) -> set[tuple[str, int]]:
    """Return ``(protocol, port)`` of what our containers publish: those that run, or those that do not."""
    return {
        port
        for containers in observed.values()
        for one in containers
        if (one.state in ("running", "paused", "restarting")) is running
        for port in one.published
    }


def missing_binds(base: Path, desired: Mapping[str, Desired], coming: Iterable[Path] = ()) -> list[Problem]:
    """The engine would make an empty directory, owned by root, in place of a missing file of the user.

    ``coming`` are files that this run will write, and so their directories.
    """
    found = []
    there = {parent for path in coming for parent in (path, *path.parents)}
    for name, one in desired.items():
        for kind, source, target, _ in sorted(one.mounts):
            if (
                kind == "bind"
                and Path(source).is_relative_to(base)
                and Path(source) not in there
                and not Path(source).exists()
            ):
                fix = f"add it beside compose.yaml as {Path(source).relative_to(base)}, or remove the mount"
                found.append(Problem(f"{source}, mounted at {target}, does not exist", f"service {name}", fix))
    return found


def moved_volumes(model: Mapping[str, Any], volumes: Mapping[str, Mapping[str, Any]]) -> list[Problem]:
    """A named volume keeps the directory it was made with; Compose would offer to delete it and its data."""
    found = []
    for key, wanted in sorted((model.get("volumes") or {}).items()):
        volume = volumes.get((wanted or {}).get("name") or key)
        if volume is None or (wanted or {}).get("external"):
            continue
        device = ((wanted or {}).get("driver_opts") or {}).get("device")
        live = (volume.get("Options") or {}).get("device")
        if device != live:
            what = (
                f"its data lie in {live or volume['Mountpoint']}, and the plan says {device or 'the engine keeps them'}"
            )
            fix = "set the data directory back; or stop the stack, copy the data, and remove the volume yourself"
            found.append(Problem(what, f"volume {volume['Name']}", fix))
    return found


def data_changes(desired: Desired, observed: Observed) -> list[Problem]:
    """PostgreSQL's files fit one major version, one C library's collations, and one place."""
    image, before = str(desired.service.get("image", "")), str(observed.config.get("Image", ""))
    if not (is_postgres(image) and is_postgres(before)):
        return []
    where, found = f"service {desired.name}", []
    restore = "keep the old image; to change it, dump with pg_dumpall, start it on an empty volume, restore with psql"
    old, new = postgres_major(before, observed.environment), postgres_major(image, _image_environment(desired))
    if old and new and old != new:
        found.append(Problem(f"PostgreSQL {old} holds the data and {new} cannot read them", where, restore))
    if is_alpine(before) != is_alpine(image):
        what = f"{before} and {image} sort text differently (musl and glibc), which breaks indexes silently"
        found.append(Problem(what, where, restore))
    if desired.image:
        there, wanted = (
            observed.environment.get("PGDATA"),
            {**_image_environment(desired), **desired.environment}.get("PGDATA"),
        )
        if there != wanted and there and wanted:
            what = f"the data directory moves from {there} to {wanted}"
            found.append(Problem(what, where, "set PGDATA back, or dump and restore"))
    live = {mount[2]: mount[1] for mount in observed.mounts if mount[0] == "volume" and mount[1]}
    planned = {mount[2]: mount[1] for mount in desired.mounts}
    for target, source in sorted(live.items()):
        if planned.get(target) != source:
            new = planned.get(target) or "nothing"
            what = f"its data are in volume {source} at {target}, which the plan replaces by {new}"
            found.append(Problem(what, where, "set the volume back, or dump and restore"))
    return found


def is_postgres(image: str) -> bool:
    return image.partition("@")[0].rpartition("/")[2].partition(":")[0] in ("postgres", "postgresql")


def is_alpine(image: str) -> bool:
    return "alpine" in image.partition("@")[0].rpartition(":")[2]


def postgres_major(image: str, environment: Mapping[str, str]) -> str | None:
    """Return the major version: ``PG_MAJOR``, which the official image sets, else what the tag begins with."""
    if environment.get("PG_MAJOR"):
        return environment["PG_MAJOR"]
    match = re.match(r"(\d+)", image.partition("@")[0].rpartition("/")[2].partition(":")[2])
    return match.group(1) if match else None


def published_by_others(docker: Docker, ours: Iterable[str]) -> dict[tuple[str, str, int], str]:
    """Return the ports that running containers outside this stack publish."""
    mine = set(ours)
    return {
        (
            port["Type"],
            port.get("IP", "").strip("[]"),
            int(port["PublicPort"]),
        ): f"container {one['Names'][0].lstrip('/')}"
        for one in docker.list()
        if one["Id"] not in mine
        for port in one.get("Ports") or []
        if port.get("PublicPort")
    }


def listening(root: str = "/") -> dict[tuple[str, str, int], str]:
    """Return what listens on this host, from ``/proc/net``: ``{(protocol, address, port): process}``."""
    found = {}
    inodes: dict[str, tuple[str, str, int]] = {}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        try:
            lines = (Path(root) / "proc/net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            # proc(5): state 0A is TCP_LISTEN; an unconnected UDP socket is 07.
            if words[3] == ("0A" if table.startswith("tcp") else "07"):
                address, port = words[1].split(":")
                key = (table[:3], _proc_address(address), int(port, 16))
                found[key] = "another process"
                inodes[words[9]] = key
    for name in _owners(root, inodes):
        found[name[0]] = name[1]
    return found


def _owners(root: str, inodes: Mapping[str, tuple[str, str, int]]) -> list[tuple[tuple[str, str, int], str]]:
    found = []
    for link in glob.glob(str(Path(root) / "proc/[0-9]*/fd/*")):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith("socket:[") and target[8:-1] in inodes:
            process = Path(link).parent.parent
            name = (process / "comm").read_text().strip() if (process / "comm").exists() else "a process"
            found.append((inodes[target[8:-1]], f"{name} (pid {process.name})"))
    return found


def _proc_address(text: str) -> str:
    """``0100007F`` is 127.0.0.1: 32-bit words in the host's byte order, little endian on all that batten runs on."""
    raw = b"".join(bytes.fromhex(text[start : start + 8])[::-1] for start in range(0, len(text), 8))
    address = ipaddress.ip_address(raw)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def _ports(desired: Mapping[str, Desired]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, port) for name, one in sorted(desired.items()) for port in one.service.get("ports") or []]


def _host(port: Mapping[str, Any]) -> str:
    return str(port.get("host_ip") or "").strip("[]")


def _image_environment(desired: Desired) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in desired.image_config.get("Env") or [])
    return {name: value for name, _, value in pairs}
