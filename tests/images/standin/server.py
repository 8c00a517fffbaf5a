"""What the stand-in servers share: a table of paths, a clean end on SIGTERM, and log lines."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Request:
    """What a handler may look at: the path with its query, lower-case header names, the body."""

    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    """What a handler gives back."""

    status: int
    body: str
    kind: str = "text/plain; charset=utf-8"


Handler = Callable[[Request], Answer]


def now() -> str:
    """The time in RFC 3339 with microseconds, UTC."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def logfmt(**words: object) -> str:
    """`key=value` words as Go's logfmt writes them: quoted only where there is a space, a quote or an equals sign."""
    return " ".join(f"{key}={_quoted(str(value))}" for key, value in words.items())


def as_json(**words: object) -> str:
    """One line of JSON, without spaces as Go writes it."""
    return json.dumps(words, separators=(",", ":"))


def say(line: str, stream: str = "stdout") -> None:
    """Write a line at once."""
    print(line, file=sys.stderr if stream == "stderr" else sys.stdout, flush=True)


def serve(port: int, routes: Mapping[str, Handler], ended: Callable[[], None] = lambda: None) -> None:
    """Answer on every IPv4 address until SIGTERM or SIGINT; a path is matched without its query, else 404."""

    class Server(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            handler = routes.get(self.path.partition("?")[0])
            answer = handler(Request(self.path, headers, body)) if handler else Answer(404, "404 page not found\n")
            payload = answer.body.encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(payload)

        do_GET = do_HEAD = do_POST = answer

        def log_message(self, format: str, *args: object) -> None:
            """The software that is stood in for logs no line a request by default."""

    server = ThreadingHTTPServer(("0.0.0.0", port), Server)
    server.daemon_threads = True

    def stop(*_: object) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    server.serve_forever(poll_interval=0.1)
    ended()


def _quoted(text: str) -> str:
    return json.dumps(text) if not text or any(sign in text for sign in ' "=') else text
