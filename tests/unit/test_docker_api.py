"""The engine's client, against a socket that answers as the engine does."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils.docker_api import Docker, DockerError, Exec
from tests.unit.fake_engine import Answers, served


def frame(stream: int, text: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(text)) + text


def running(pid: int, attached: bool, **more: Any) -> dict[str, Any]:
    """What GET /exec/ID/json has of it, as Engine 26.1.5 writes it."""
    process = {"entrypoint": "pg_dump", "arguments": ["app"]}
    return {"Running": True, "Pid": pid, "ProcessConfig": process, "OpenStdin": False, "OpenStdout": attached, **more}


EXECS = {"a": running(7, True), "b": running(8, False), "c": running(9, True, Running=False)}


class Handler(Answers):
    def reply(self) -> None:
        if self.command == "POST":
            self.answer(409, b'{"message": "it is paused"}')
        elif "/logs" in self.path:
            self.answer(200, frame(1, b"one\ntwo\n") + frame(2, b"three\n"), "application/octet-stream")
        elif "/events" in self.path:
            self.answer(200, b'{"Action": "start"}\n{"Action": "die"}\n')
        elif "/containers/busy/json" in self.path:
            self.answer(200, b'{"ExecIDs": ["a", "b", "c"]}')
        elif "/exec/" in self.path:
            self.answer(200, json.dumps(EXECS[self.path.split("/")[-2]]).encode())
        elif "missing" in self.path:
            self.answer(404, b'{"message": "No such container: missing"}')
        else:
            self.answer(200, json.dumps({"path": self.path}).encode())


@pytest.fixture
def docker(tmp_path: Path) -> Iterator[Docker]:
    with served(tmp_path, Handler) as path:
        yield Docker(path, timeout=5)


def test_a_version_and_filters_are_in_the_path(docker: Docker) -> None:
    path = docker.call("GET", "/x", {"filters": {"label": ["a=b"]}})["path"]
    assert path == "/v1.44/x?filters=%7B%22label%22%3A+%5B%22a%3Db%22%5D%7D"


def test_what_is_gone_is_none_and_what_is_refused_is_an_error(docker: Docker) -> None:
    assert docker.inspect("missing") is None
    with pytest.raises(DockerError, match="it is paused") as refused:
        docker.start("x")
    assert refused.value.status == 409


def test_logs_of_both_streams_in_order(docker: Docker) -> None:
    assert docker.logs("x") == ["one", "two", "three"]
    assert docker.logs("x", tail=1) == ["three"]


def test_events_come_one_by_one_and_then_none(docker: Docker) -> None:
    with docker.events("p") as events:
        assert [events.next(5)["Action"], events.next(5)["Action"]] == ["start", "die"]
        assert events.next(0.01) is None


def test_no_engine_is_told_with_what_to_type(tmp_path: Path) -> None:
    docker = Docker(str(tmp_path / "none.sock"))
    assert not docker.answers()
    with pytest.raises(DockerError, match="systemctl status docker"):
        docker.info()


def test_what_runs_by_exec_and_whether_somebody_waits_for_it(docker: Docker) -> None:
    command = ["pg_dump", "app"]
    assert docker.execs("busy") == {7: Exec(command, attached=True), 8: Exec(command, attached=False)}
