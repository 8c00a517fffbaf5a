"""Seeing what a running service is and does: reads only, but for the probes that are tried in it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from ansible_collections.batten.core.plugins.module_utils.docker_api import DockerError
from batten.errors import BattenError
from batten.learn import engine
from batten.learn.engine import Place
from batten.learn.propose import (
    Directory,
    Listener,
    Observation,
    Outcome,
    Process,
    capability_names,
    is_json,
    leaves,
    listeners,
    written_directories,
)

PROGRAMS = (
    "sh", "bash", "wget", "curl", "nc", "pg_isready", "redis-cli", "valkey-cli", "mysqladmin", "mariadb-admin",
    "mongosh", "rabbitmq-diagnostics", "promtool", "clickhouse-client", "python3", "python", "node", "php",
)  # fmt: skip
_PATHS = ("health", "healthz", "-/healthy", "api/health", "ready", "ping", "")
_MOST_PROBES = 24
_SAMPLE_SECONDS = 0.5
_GIVE_UP_SECONDS = 120
_SETTLE_SECONDS = 3.0
_LISTEN_SECONDS = 60.0
_LOG_LINES = 200


def await_good(place: Place, service: str, settle: float = _SETTLE_SECONDS) -> Outcome:
    """Wait until a service is healthy, or has run for ``settle`` seconds where nothing asks, or has ended with 0.

    A failure says the engine's reason and the end of the log.
    """
    began = time.monotonic()
    while True:
        found = engine.container(place, service)
        waited = time.monotonic() - began
        if found is None:
            return Outcome(False, "the container is not there")
        state = found["State"]
        health = (state.get("Health") or {}).get("Status")
        if state["Status"] == "exited":
            return Outcome(state["ExitCode"] == 0, said(place, found, f"it ended with {state['ExitCode']}"), waited)
        if health == "healthy" or (health is None and waited >= settle and state["Running"]):
            return Outcome(True, "", waited)
        if health == "unhealthy" or waited > _GIVE_UP_SECONDS:
            last = (state["Health"]["Log"] or [{}])[-1].get("Output", "") if health else ""
            return Outcome(False, said(place, found, f"it is {health or state['Status']}: {last}"), waited)
        time.sleep(0.2)


def said(place: Place, found: dict[str, Any], why: str) -> str:
    """Return why something failed with the engine's error and the last lines of the log."""
    lines = place.docker.logs(found["Id"], tail=30)
    return "\n".join(part for part in (why, found["State"].get("Error", ""), *lines) if part)


class Peaks:
    """Follows a container's memory and processes until closed; ``memory`` is in bytes, without the page cache."""

    def __init__(self, place: Place, identifier: str) -> None:
        self.memory = self.pids = 0
        self._place, self._identifier = place, identifier
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Peaks:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        while True:
            try:
                sample = self._place.docker.stats(self._identifier)
            except DockerError:
                return
            memory, pids = sample.get("memory_stats") or {}, sample.get("pids_stats") or {}
            inactive = memory.get("stats") or {}
            # The same figure as `docker stats` shows (docker/cli, calculateMemUsageUnixNoCache).
            cache = inactive.get("total_inactive_file", inactive.get("inactive_file", 0))
            self.memory = max(self.memory, memory.get("usage", 0) - cache)
            self.pids = max(self.pids, pids.get("current", 0))
            if self._stop.wait(_SAMPLE_SECONDS):
                return


def observe(
    place: Place, service: str, seconds: float, start_seconds: float, note: Callable[[str], None]
) -> Observation:
    """Watch a service that is good for ``seconds``, then stop it. What cannot be seen is None in the result.

    ``start_seconds`` is how long it took to become good.
    """
    found = engine.container(place, service) or {}
    identifier, config = found["Id"], found["Config"]
    ended = found["State"]["Status"] == "exited"
    processes: tuple[Process, ...] = ()
    heard: list[Listener] | None = None
    probe: tuple[str, ...] | None = None
    has_healthcheck = (config.get("Healthcheck") or {}).get("Test", ["NONE"])[0] != "NONE"
    programs = tuple(program for program in PROGRAMS if _which(place, identifier, config, program))
    with Peaks(place, identifier) as peaks:
        if not ended:
            time.sleep(seconds)
            rows, heard = _settled(place, service, identifier, bool(config.get("ExposedPorts")))
            processes = tuple(_process(identifier, row) for row in rows)
            if not has_healthcheck:
                ports = sorted({one.port for one in heard or _exposed(config) if one.protocol == "tcp"})
                probe = _probe(place, identifier, programs, ports)
                note(f"probe: {' '.join(probe)}" if probe else "nothing in the image could ask whether it is healthy")
    mounts = [mount["Destination"] for mount in found["Mounts"]]
    changed = engine.changes(place, identifier)
    stop = _stopped(place, identifier) if not ended else 0.0
    log = place.docker.logs(identifier, tail=_LOG_LINES)
    return Observation(
        image=config["Image"],
        ended=ended,
        processes=processes,
        directories=_directories(place, identifier, config["Image"], changed, mounts),
        volumes={
            mount["Destination"]: len(engine.entries(place, identifier, mount["Destination"], 2)) > 1
            for mount in found["Mounts"]
            if mount["Type"] == "volume"
        },
        listening=None if heard is None and not ended else tuple(heard or ()),
        programs=programs,
        probe=probe,
        has_healthcheck=has_healthcheck,
        log_is_json=is_json(log),
        memory_bytes=peaks.memory,
        pids=max(1, peaks.pids),
        start_seconds=start_seconds,
        stop_seconds=stop,
    )


def _settled(
    place: Place, service: str, identifier: str, listens: bool
) -> tuple[list[list[str]], list[Listener] | None]:
    """Return the processes and the sockets of a service, once it listens if its image says that it will.

    A database that is still being initialised runs, but not yet as it will. Raises BattenError if it ended meanwhile.
    """
    began = time.monotonic()
    while True:
        found = engine.container(place, service)
        if found is None or not found["State"]["Running"]:
            why = (
                said(place, found, f"it ended with {found['State']['ExitCode']}") if found else "its container is gone"
            )
            raise BattenError(f"it did not run on while it was watched: {why}", service, "see its documentation")
        rows = engine.top(place, identifier)
        heard = _listening(identifier, rows)
        if heard is None or heard or not listens or time.monotonic() - began > _LISTEN_SECONDS:
            return rows, heard
        time.sleep(0.5)


def _stopped(place: Place, identifier: str) -> float:
    began = time.monotonic()
    place.docker.stop(identifier)
    return time.monotonic() - began


def _which(place: Place, identifier: str, config: dict[str, Any], program: str) -> str | None:
    environment = dict(one.partition("=")[::2] for one in config.get("Env") or ())
    path = environment.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    places = (f"{directory.rstrip('/')}/{program}" for directory in path.split(":") if directory)
    return next((one for one in places if engine.exists(place, identifier, one)), None)


def _process(identifier: str, row: list[str]) -> Process:
    """A row of ``top``; capabilities from this machine's /proc, if the pid there is of this very container."""
    pid, uid, gid, name = row
    status = _proc(identifier, pid, "status")
    masks = [line.split()[1] for line in (status or "").splitlines() if line.startswith("CapEff:")]
    return Process(int(uid), int(gid), name, capability_names(int(masks[0], 16)) if masks else None)


def _listening(identifier: str, rows: Iterable[list[str]]) -> list[Listener] | None:
    tables: tuple[tuple[str, Literal["tcp", "udp"]], ...] = (
        ("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp")
    )  # fmt: skip
    for row in rows:
        texts = [(_proc(identifier, row[0], f"net/{table}"), protocol) for table, protocol in tables]
        if texts[0][0] is not None:
            return [one for content, protocol in texts for one in listeners(content or "", protocol)]
    return None


def _proc(identifier: str, pid: str, name: str) -> str | None:
    """Read a file of /proc/PID, if this machine's PID is in the container: an engine in a VM has pids of its own."""
    place = Path("/proc") / pid
    try:
        return (place / name).read_text() if identifier in (place / "cgroup").read_text() else None
    except OSError:
        return None


def _exposed(config: dict[str, Any]) -> list[Listener]:
    ports = (one.partition("/") for one in config.get("ExposedPorts") or {})
    return [Listener(int(port), "tcp", False) for port, _, protocol in ports if protocol == "tcp"]


def _probe(place: Place, identifier: str, programs: Iterable[str], ports: list[int]) -> tuple[str, ...] | None:
    """Return the first health check that holds in the running container."""
    for test in candidates(set(programs), ports)[:_MOST_PROBES]:
        try:
            if place.docker.exec(identifier, test[1:], timeout=10).exit_code == 0:
                return test
        except DockerError:
            continue
    return None


def candidates(programs: set[str], ports: list[int]) -> list[tuple[str, ...]]:
    """Return health checks to try: of the software's own programs, by HTTP, then whether the port is open at all."""
    found: list[tuple[str, ...]] = []
    own: dict[str, Callable[[str], tuple[str, ...]]] = {
        "pg_isready": lambda port: ("pg_isready", "-q", "-h", "127.0.0.1", "-p", port),
        "redis-cli": lambda port: ("redis-cli", "-h", "127.0.0.1", "-p", port, "ping"),
        "valkey-cli": lambda port: ("valkey-cli", "-h", "127.0.0.1", "-p", port, "ping"),
        "mariadb-admin": lambda port: ("mariadb-admin", "-h", "127.0.0.1", "-P", port, "ping"),
        "mysqladmin": lambda port: ("mysqladmin", "-h", "127.0.0.1", "-P", port, "ping"),
    }
    for name, words in own.items():
        found += [("CMD", *words(str(port))) for port in ports if name in programs]
    for path in _PATHS:
        for port in ports:
            url = f"http://127.0.0.1:{port}/{path}"
            if "curl" in programs:
                found.append(("CMD", "curl", "-fsS", "-o", "/dev/null", url))
            elif "wget" in programs:
                found.append(("CMD", "wget", "-q", "-O", "/dev/null", url))
    found = found[: _MOST_PROBES - 4]
    for port in ports[:2]:
        connect = f"import socket; socket.create_connection(('127.0.0.1', {port}), 3)"
        if "bash" in programs:
            found.append(("CMD", "bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"))
        elif "nc" in programs:
            found.append(("CMD", "nc", "-z", "127.0.0.1", str(port)))
        elif python := next((name for name in ("python3", "python") if name in programs), None):
            found.append(("CMD", python, "-c", connect))
    return found


def _directories(
    place: Place, identifier: str, image: str, changed: list[tuple[int, str]], mounts: list[str]
) -> tuple[Directory, ...]:
    """Look at what was written, and at what the image has in the same place."""
    own = leaves(changed, mounts)
    folders = [
        path
        for kind, path in own
        if kind != 2 and (first := engine.entries(place, identifier, path, 1)) and first[0].isdir()
    ]
    found = []
    with engine.created(place, image) as pristine:
        for path in written_directories(changed, mounts, folders):
            now, before = engine.entries(place, identifier, path), engine.entries(place, pristine, path, 2)
            shown = (now or before)[:1]
            if not shown:
                continue  # it came and went
            written = {one for _, one in own}
            size = sum(
                entry.size for entry in now if entry.isfile() and f"{path}/{entry.name.partition('/')[2]}" in written
            )
            mode = f"{shown[0].mode & 0o7777:04o}"
            found.append(Directory(path, shown[0].uid, shown[0].gid, mode, empty=len(before) < 2, bytes=size))
    return tuple(found)
