"""Files: owners and modes of the engine's and of batten's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batten.plan.model import StackPlan
from batten.verify.catalogue import control
from batten.verify.model import FileStat, LiveHost, Verdict, fails, holds, not_applicable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Stacks = tuple[StackPlan, ...]


@control("files.units", "Only root can change the engine's units", scope="host", cis="3.2")
def units(expected: Stacks, live: LiveHost) -> Verdict:
    paths = [u.get("FragmentPath", "") for n, u in live.units.items() if n.startswith(("docker.", "containerd."))]
    return _guarded(live, [path for path in paths if path], 0o644)


@control("files.docker-directory", "Only root can change /etc/docker", scope="host", cis="3.6")
def docker_directory(expected: Stacks, live: LiveHost) -> Verdict:
    return _guarded(live, ["/etc/docker"], 0o755)


@control("files.daemon-json", "Only root can change daemon.json", scope="host", cis="3.18")
def daemon_json(expected: Stacks, live: LiveHost) -> Verdict:
    return _guarded(live, ["/etc/docker/daemon.json"], 0o644)


@control("files.defaults", "Only root can change the engine's defaults", scope="host", cis="3.20")
def defaults(expected: Stacks, live: LiveHost) -> Verdict:
    return _guarded(live, ["/etc/default/docker", "/etc/sysconfig/docker"], 0o644)


@control("files.docker-socket", "Only root and group docker reach the engine's socket", scope="host", cis="3.16")
def docker_socket(expected: Stacks, live: LiveHost) -> Verdict:
    return _guarded(live, ["/run/docker.sock"], 0o660, group="docker")


@control("files.containerd-socket", "Only root reaches containerd's socket", scope="host", cis="3.24")
def containerd_socket(expected: Stacks, live: LiveHost) -> Verdict:
    return _guarded(live, ["/run/containerd/containerd.sock"], 0o660)


@control("files.docker-data", "Only root reads the engine's data", scope="host")
def docker_data(expected: Stacks, live: LiveHost) -> Verdict:
    return _guarded(live, ["/var/lib/docker"], 0o711)


@control("files.batten-state", "Only root reads batten's state", scope="host")
def batten_state(expected: Stacks, live: LiveHost) -> Verdict:
    return _guarded(live, ["/var/lib/batten"], 0o700)


@control("files.batten-audit", "Only root reads and writes the audit file", scope="host")
def batten_audit(expected: Stacks, live: LiveHost) -> Verdict:
    return _guarded(live, ["/var/log/batten/audit.jsonl"], 0o640)


@control("files.release", "Only root can change what the stack is made of", scope="stack")
def release(expected: StackPlan, live: LiveHost) -> Verdict:
    stats = [stat for part in ("releases", "files") for stat in live.trees.get((expected.name, part), ())]
    wrong = [stat for stat in stats if stat.kind != "l" and (stat.uid != 0 or stat.mode & 0o022)]
    if not stats:
        return fails(f"/opt/batten/{expected.name}/releases is missing or empty")
    return fails(_some(wrong)) if wrong else holds(f"{len(stats)} files and directories, all root's own")


def _guarded(live: LiveHost, paths: Iterable[str], most: int, group: str = "root") -> Verdict:
    """Hold if those of ``paths`` that exist belong to root and ``group`` and allow nothing beyond mode ``most``."""
    found = [live.files[path] for path in paths if path in live.files]
    if not found:
        return not_applicable("does not exist on this host")
    wrong = list(_too_open(found, most, group))
    return fails(f"{_some(wrong)}; at most root:{group} {most:04o}") if wrong else holds(_some(found))


def _too_open(stats: Iterable[FileStat], most: int, group: str) -> Iterator[FileStat]:
    for stat in stats:
        if stat.uid != 0 or stat.group not in (group, "root") or stat.mode & ~most & 0o7777:
            yield stat


def _some(stats: list[FileStat]) -> str:
    return "; ".join(str(stat) for stat in stats[:5]) + (f" and {len(stats) - 5} more" if len(stats) > 5 else "")
