"""HTTP/1.1 in front of the routes: request ids, a log line and a measurement a request, a graceful end."""

from __future__ import annotations

import logging
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .app import App
from .logs import choose_request_id, request_id
from .metrics import Metrics

log = logging.getLogger("api.http")

QUIET = ("/health", "/health/deep", "/metrics")
"""Routes of probes: their successes are logged at debug level, or they would be most of the log."""


class Server(ThreadingHTTPServer):
    """Serves until `stop`, which lets requests in flight end and closes connections that wait for the next one."""

    daemon_threads = False  # server_close waits for threads
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], app: App, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics
        self.stopping = False
        self._idle: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(address, _Handler)

    def stop(self) -> None:
        """End `serve_forever` from any thread; does not wait."""
        threading.Thread(target=self._stop, name="stop").start()

    def _stop(self) -> None:
        self.shutdown()
        with self._lock:
            self.stopping = True
            for connection in self._idle:
                connection.shutdown(socket.SHUT_RD)

    def waits(self, connection: socket.socket) -> bool:
        """Note that a connection waits for its next request; False if there is to be none."""
        with self._lock:
            if not self.stopping:
                self._idle.add(connection)
            return not self.stopping

    def works(self, connection: socket.socket) -> None:
        """Note that a connection waits no longer."""
        with self._lock:
            self._idle.discard(connection)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 75  # seconds an idle connection is kept
    server: Server

    def handle_one_request(self) -> None:
        if not self.server.waits(self.connection):
            self.close_connection = True
            return
        try:
            super().handle_one_request()
        finally:
            self.server.works(self.connection)

    def _answer(self) -> None:
        self.server.works(self.connection)
        started = time.monotonic()
        chosen = choose_request_id(self.headers.get("X-Request-Id"))
        token = request_id.set(chosen)
        try:
            answer = self.server.app.answer(self.command, self.path)
            # A body that nobody read would be taken for the next request.
            if self.server.stopping or self.headers.get("Content-Length") or self.headers.get("Transfer-Encoding"):
                self.close_connection = True
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            self.send_header("X-Request-Id", chosen)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body)
            self._note(answer.status, time.monotonic() - started)
        finally:
            request_id.reset(token)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _answer

    def _note(self, status: int, seconds: float) -> None:
        route = self.server.app.route(self.path)
        self.server.metrics.observe(self.command, route, status, seconds)
        level = logging.DEBUG if route in QUIET and status < 400 else logging.INFO
        path = self.path.partition("?")[0]
        fields = {"method": self.command, "path": path, "status": status, "duration_ms": round(seconds * 1000, 2)}
        log.log(level, "request", extra={"fields": fields})

    def version_string(self) -> str:
        """The Server header."""
        return "sample-api"

    def log_message(self, format: str, *args: object) -> None:
        log.info("%s", format % args)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """`_note` has said it."""
