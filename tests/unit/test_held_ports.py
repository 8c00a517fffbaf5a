"""Ports that the engine keeps for a container that is gone: told apart from real conflicts, and let go of once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import atomic, held_ports, lock
from ansible_collections.batten.core.plugins.module_utils.docker_api import DockerError
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths

# The words of Engine 26.1.5, by way of Compose and of the API.
REFUSED = (
    "driver failed programming external connectivity on endpoint web (b722): "
    "Bind for {} failed: port is already allocated"
)


def container(port: str, service: str = "web", project: str = "shop") -> dict[str, Any]:
    labels = {"com.docker.compose.project": project, "com.docker.compose.service": service}
    bindings = {"9/tcp": None, "80/tcp": [{"HostIp": "192.0.2.1", "HostPort": port}]}
    return {"Id": f"{project}-{service}", "Config": {"Labels": labels}, "HostConfig": {"PortBindings": bindings}}


class Engine:
    """Refuses ``refusals`` starts with a port that it holds; a start of its own frees it unless it is ``stubborn``."""

    path = "/run/docker.sock"

    def __init__(self, *containers: Any, held: str = "192.0.2.1:80", live: bool = True, stubborn: bool = False) -> None:
        self.containers = containers or (container("80"),)
        self.held, self.live, self.stubborn = held, live, stubborn
        self.restarts, self.starts, self.silent = 0, 0, 0

    def list(self) -> list[Any]:
        return [{"Id": one["Id"]} for one in self.containers]

    def inspect_all(self, identifiers: Any) -> list[Any]:
        wanted = set(identifiers)
        return [one for one in self.containers if one["Id"] in wanted]

    def info(self) -> dict[str, Any]:
        return {"LiveRestoreEnabled": self.live}

    def answers(self) -> bool:
        self.silent -= 1
        return self.silent < 0

    def systemctl(self, *words: str) -> None:
        if words == ("restart", "docker.service"):
            self.restarts += 1
            self.silent = 2
            self.held = self.held if self.stubborn else ""

    def start(self) -> None:
        self.starts += 1
        if self.held:
            raise DockerError(500, REFUSED.format(self.held))


def started(engine: Engine, root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Start the container of shop's web on ``engine``, and return what was said."""
    asked: Any = engine
    monkeypatch.setattr(held_ports.systemd, "systemctl", engine.systemctl)
    monkeypatch.setattr(held_ports.systemd, "show", lambda *_, **__: [{"MainPID": str(100 + engine.restarts)}])
    return held_ports.start(asked, engine.start, "shop", ["web"], str(root))


@pytest.mark.parametrize(
    ("containers", "restarts"),
    [
        ([container("80")], 1),
        ([container("81"), container("443", "proxy")], 1),
        ([container("80"), container("80", "proxy")], 0),  # another service asks for it
        ([container("80", project="other")], 0),  # running or not: it may be starting
    ],
)
def test_the_engine_is_started_anew_where_nobody_else_can_have_the_port(
    containers: list[Any], restarts: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(*containers)
    if restarts:
        assert "kept 192.0.2.1:80 for a container that is gone" in started(engine, tmp_path, monkeypatch)
    else:
        with pytest.raises(DockerError, match="already allocated"):
            started(engine, tmp_path, monkeypatch)
    assert engine.restarts == restarts


def test_nothing_is_done_where_nothing_is_refused_or_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert started(Engine(held=""), tmp_path, monkeypatch) == ""
    engine = Engine(held="a b")  # no address: the engine never says it so
    with pytest.raises(DockerError):
        started(engine, tmp_path, monkeypatch)
    assert engine.restarts == 0


def test_an_engine_that_keeps_the_port_is_started_anew_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(stubborn=True)
    with pytest.raises(DockerError, match="already allocated"):
        started(engine, tmp_path, monkeypatch)
    for _ in range(3):  # a boot tries again each second
        with pytest.raises(BattenError, match="also after a start of its own"):
            started(engine, tmp_path, monkeypatch)
    assert engine.restarts == 1


def test_one_that_another_start_had_let_go_of_it_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine()
    refused_once = engine.start

    def start() -> None:
        try:
            refused_once()
        finally:
            engine.held = ""

    monkeypatch.setattr(engine, "start", start)
    assert started(engine, tmp_path, monkeypatch) == ""
    assert (engine.restarts, engine.starts) == (0, 2)


def test_an_engine_whose_containers_would_stop_is_left_to_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(live=False)
    with pytest.raises(BattenError, match=r"192\.0\.2\.1:80") as refused:
        started(engine, tmp_path, monkeypatch)
    assert "live-restore is off" in refused.value.fix
    assert engine.restarts == 0


HOLD = "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX); print(); sys.stdin.read()"


@pytest.mark.parametrize("name", ["lock", "backup_lock"])
def test_it_waits_for_nobody_and_disturbs_nobody(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, paths = Engine(), StackPaths("other", str(tmp_path))
    atomic.write_json(paths.plan, {"services": {}})
    atomic.write_json(StackPaths("shop", str(tmp_path)).plan, {"services": {}})
    path: Path = getattr(paths, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        with (
            lock.held(StackPaths("shop", str(tmp_path)).lock),
            pytest.raises(lock.Busy, match="another run holds a stack of this host"),
        ):
            started(engine, tmp_path, monkeypatch)
        holder.stdin.close()
    assert engine.restarts == 0
    with lock.held(StackPaths("shop", str(tmp_path)).lock):  # what the run itself holds is no hindrance
        started(engine, tmp_path, monkeypatch)
    assert engine.restarts == 1
