"""An HTTP server on loopback whose answers a test writes down, dropped and hanging ones included."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Asked:
    """One request as the server got it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Any


@dataclass(frozen=True)
class Say:
    """An answer: ``body`` is sent as JSON, or as it is when it is bytes. ``drip`` sends a byte each so many seconds."""

    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    drip: float = 0


class Drop:
    """Close the connection without an answer."""


@dataclass(frozen=True)
class Hang:
    """Say nothing for so many seconds, then close."""

    seconds: float


Answerer = Callable[[Asked], "Say | Drop | Hang"]


@contextmanager
def serving(answer: Answerer, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[Asked]]]:
    """Serve ``answer`` on a free port; yield the URL and the list of requests that came."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Asked(self.command, self.path, dict(self.headers), json.loads(content) if content else None)
            asked.append(request)
            said = answer(request)
            if isinstance(said, Hang):
                time.sleep(said.seconds)
            if not isinstance(said, Say):
                self.close_connection = True
                return
            data = said.body if isinstance(said.body, bytes) else json.dumps(said.body).encode()
            data = b"" if said.status == 304 else data
            self.send_response(said.status)
            for name, value in {"Content-Length": str(len(data)), **said.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            for start in range(0, len(data), 1 if said.drip else len(data)):
                time.sleep(said.drip)
                self.wfile.write(data[start : start + 1] if said.drip else data)

        def log_message(self, *_: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None: ...  # a client that hangs up is part of the test

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}", asked
        server.shutdown()
