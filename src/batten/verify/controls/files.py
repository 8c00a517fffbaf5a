"""Files: owners and modes of the engine's and of batten's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from batten.plan.model import StackPlan
from batten.verify.catalogue import control
from batten.verify.model import FileStat, HostPlan, LiveHost, Verdict, fails, holds, not_applicable

if TYPE_CHECKING:
    from collections.abc import Iterable

Paths = Callable[[LiveHost], list[str]]


def _at(*paths: str) -> Paths:
    return lambda live: list(paths)


def _unit(name: str) -> Paths:
    """The file that defines a unit, and what is laid over it."""

    def paths(live: LiveHost) -> list[str]:
        unit = live.units.get(name, {})
        return [path for key in ("FragmentPath", "DropInPaths") for path in unit.get(key, "").split()]

    return paths


def _setting(name: str) -> Paths:
    """The file that daemon.json names."""
    return lambda live: [str(path)] if (path := (live.daemon or {}).get(name)) else []


def _below(directory: str, ending: str = "") -> Paths:
    return lambda live: [path for path in live.files if path.startswith(directory) and path.endswith(ending)]


# What it is, its control, where it lies, its group, the most that its mode may allow, and two numbers of the benchmark.
GUARDED: tuple[tuple[str, str, Paths, str, int, str, str], ...] = (
    ("the engine's unit", "units", _unit("docker.service"), "root", 0o644, "3.1", "3.2"),
    ("the unit of the engine's socket", "socket-unit", _unit("docker.socket"), "root", 0o644, "3.3", "3.4"),
    ("/etc/docker", "docker-directory", _at("/etc/docker"), "root", 0o755, "3.5", "3.6"),
    (
        "certificates of registries",
        "registry-certificates",
        _below("/etc/docker/certs.d/"),
        "root",
        0o444,
        "3.7",
        "3.8",
    ),
    ("the authority of the engine's clients", "tls-authority", _setting("tlscacert"), "root", 0o444, "3.9", "3.10"),
    ("the engine's TLS certificate", "tls-certificate", _setting("tlscert"), "root", 0o444, "3.11", "3.12"),
    ("the key of the engine's TLS certificate", "tls-key", _setting("tlskey"), "root", 0o400, "3.13", "3.14"),
    ("the engine's socket", "docker-socket", _at("/run/docker.sock"), "docker", 0o660, "3.15", "3.16"),
    ("daemon.json", "daemon-json", _at("/etc/docker/daemon.json"), "root", 0o644, "3.17", "3.18"),
    ("/etc/default/docker", "defaults", _at("/etc/default/docker"), "root", 0o644, "3.19", "3.20"),
    ("/etc/sysconfig/docker", "sysconfig", _at("/etc/sysconfig/docker"), "root", 0o644, "3.22", "3.21"),
    ("containerd's socket", "containerd-socket", _at("/run/containerd/containerd.sock"), "root", 0o660, "3.23", "3.24"),
)


def _declare(what: str, name: str, paths: Paths, group: str, most: int, owner: str, mode: str) -> None:
    @control(
        f"files.{name}-owner",
        f"{'Root' if group == 'root' else 'Root and group docker'} alone own {what}",
        scope="host",
        cis=owner,
    )
    def owned(expected: HostPlan, live: LiveHost) -> Verdict:
        return _judged(live, paths(live), lambda stat: not _owned(stat, group), f"root:{group}")

    @control(f"files.{name}", f"The mode of {what} allows no more than {most:04o}", scope="host", cis=mode)
    def restricted(expected: HostPlan, live: LiveHost) -> Verdict:
        return _judged(live, paths(live), lambda stat: bool(stat.mode & ~most & 0o7777), f"at most {most:04o}")


for _row in GUARDED:
    _declare(*_row)


@control("files.containerd-config", "Only root can change containerd's settings", scope="host")
def containerd_config(expected: HostPlan, live: LiveHost) -> Verdict:
    return _guarded(live, [*_unit("containerd.service")(live), "/etc/containerd/config.toml"], 0o644)


@control("files.docker-data", "Only root reads the engine's data", scope="host")
def docker_data(expected: HostPlan, live: LiveHost) -> Verdict:
    return _guarded(live, ["/var/lib/docker"], 0o711)


@control("files.batten-state", "Only root reads batten's state", scope="host")
def batten_state(expected: HostPlan, live: LiveHost) -> Verdict:
    return _guarded(live, ["/var/lib/batten"], 0o700)


@control("files.batten-audit", "Only root reads and writes the audit file", scope="host")
def batten_audit(expected: HostPlan, live: LiveHost) -> Verdict:
    return _guarded(live, ["/var/log/batten/audit.jsonl"], 0o640)


@control("files.batten-program", "Only root can change batten's program and its directories", scope="host")
def batten_program(expected: HostPlan, live: LiveHost) -> Verdict:
    return _guarded(live, ["/usr/local/lib/batten/batten-host.pyz", "/opt/batten", "/etc/batten"], 0o755)


@control("files.batten-units", "Only root can change batten's units", scope="host")
def batten_units(expected: HostPlan, live: LiveHost) -> Verdict:
    return _guarded(live, _below("/etc/systemd/system/batten-")(live), 0o644)


@control("files.release", "Only root can change what the stack is made of", scope="stack")
def release(expected: StackPlan, live: LiveHost) -> Verdict:
    top = f"/opt/batten/{expected.name}"
    stats = [stat for part in ("top", "releases", "files") for stat in live.trees.get((expected.name, part), ())]
    wrong = [stat for stat in stats if stat.kind != "l" and (stat.uid != 0 or stat.mode & 0o022)]
    there = {stat.path for stat in stats}
    if missing := [path for path in (f"{top}/base", f"{top}/releases/") if path not in there]:
        return fails(f"{' and '.join(missing)} is missing")
    return fails(_some(wrong)) if wrong else holds(f"{len(stats)} files and directories, all root's own")


@control("files.volumes", "The directories of data have the planned owner and mode", scope="stack")
def volumes(expected: StackPlan, live: LiveHost) -> Verdict:
    places = {str(volume["Name"]): str(volume.get("Mountpoint")) for volume in live.volumes}
    found, problems = [], []
    for volume in expected.volumes.values():
        stat = live.files.get(places.get(volume.name, ""))
        if stat is None or volume.uid is None:
            continue  # mounts.volumes judges one that is missing; of an adopted one the owner is not known
        found.append(stat)
        if stat.uid != volume.uid or (volume.gid is not None and stat.gid != volume.gid):
            problems.append(f"{stat}, planned {volume.uid}:{volume.gid}")
        elif volume.device and stat.mode != int(volume.mode, 8):
            problems.append(f"{stat}, planned {volume.mode}")
    if problems:
        return fails("; ".join(problems))
    return holds(_some(found)) if found else not_applicable("no volume with an owner that batten knows")


def _owned(stat: FileStat, group: str) -> bool:
    return stat.uid == 0 and stat.group in (group, "root")


def _guarded(live: LiveHost, paths: Iterable[str], most: int) -> Verdict:
    """Hold if those of ``paths`` that exist belong to root and allow nothing beyond mode ``most``."""
    return _judged(
        live,
        paths,
        lambda stat: not _owned(stat, "root") or bool(stat.mode & ~most & 0o7777),
        f"at most root:root {most:04o}",
    )


def _judged(live: LiveHost, paths: Iterable[str], wrong: Callable[[FileStat], bool], wanted: str) -> Verdict:
    found = [live.files[path] for path in paths if path in live.files]
    if not found:
        return not_applicable("does not exist on this host")
    bad = [stat for stat in found if wrong(stat)]
    return fails(f"{_some(bad)}; wanted {wanted}") if bad else holds(_some(found))


def _some(stats: list[FileStat]) -> str:
    return "; ".join(str(stat) for stat in stats[:5]) + (f" and {len(stats) - 5} more" if len(stats) > 5 else "")
