"""Engines that tests write: one behind a socket, and one that shows a container in one state after the other."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ansible_collections.batten.core.plugins.module_utils.observed import Observed


class Answers(BaseHTTPRequestHandler):
    """Speaks HTTP over a socket of the file system; a test says what, in its ``reply``."""

    def do_GET(self) -> None:
        self.reply()

    def do_POST(self) -> None:
        self.reply()

    def reply(self) -> None:
        raise NotImplementedError

    def answer(self, status: int, body: bytes, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "socket"

    def log_message(self, *_: Any) -> None: ...


@contextmanager
def served(directory: Path, handler: type[Answers]) -> Iterator[str]:
    """Serve on a socket in ``directory`` for the block; give its path."""
    path = str(directory / "engine.sock")
    with socketserver.ThreadingUnixStreamServer(path, handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield path
        server.shutdown()


class Engine:
    """Has one container, and shows one state of it after the other, each after one event."""

    def __init__(self, *states: Observed) -> None:
        self.states = list(states)
        self.codes: list[int] = []
        self.ran: list[list[str]] = []

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None: ...

    def events(self, project: str) -> Engine:
        return self

    def next(self, timeout: float) -> Any:
        if timeout and len(self.states) > 1:
            self.states.pop(0)
        return None

    def list(self, project: str) -> Any:
        return [{"Id": "1", "Labels": {"com.docker.compose.service": self.states[0].service}}]

    def inspect_all(self, identifiers: Any) -> Any:
        return [self.states[0].inspect for _ in identifiers]

    def exec(self, identifier: str, command: Any) -> Any:
        self.ran.append(list(command))
        return SimpleNamespace(exit_code=self.codes.pop(0), stdout=b"", stderr=b"password authentication failed")

    def logs(self, identifier: str, tail: int) -> Any:
        return ["the last line"]
