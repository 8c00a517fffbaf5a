"""HTTP as Fastify serves it here: routes, bodies, answers with ETags, limits, and connections that are cut off."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import crypto
from cache import Cache
from checks import Field, check
from database import Database
from failures import ApiError, broken
from settings import Settings

BODY_LIMIT = 1024 * 1024
PARAMETER_LIMIT = 100
SILENT_SECONDS = 30
IDLE_SECONDS = 72
LEVELS = {"debug": (20, "DEBUG"), "info": (30, "INFO"), "warn": (40, "WARNING"), "error": (50, "ERROR")}
LIMITS = {"read": 60, "write": 200, "secrets": 40}
"""Requests a minute, per client address and route, as enforced in October 2024."""


class Log:
    """pino's JSON lines on standard output."""

    def __init__(self, level: str) -> None:
        self._least = LEVELS.get(level, (0, ""))[0] if level != "silent" else 100
        self._hostname = socket.gethostname()

    def say(self, level: str, message: str, **more: object) -> None:
        number, severity = LEVELS[level]
        if number >= self._least:
            line = {"level": number, "time": int(time.time() * 1000), "pid": 1, "hostname": self._hostname}
            print(json.dumps(line | more | {"severity": severity, "msg": message}), flush=True)

    def fault(self, message: str) -> None:
        self.say("error", message, err={"type": "Error", "message": message})


@dataclass(frozen=True)
class Actor:
    """Who asks. A user's token has no organisation before one is selected."""

    kind: str
    id: str
    organization: str | None
    role: str
    instance_admin: bool = False

    @property
    def column(self) -> str:
        """Where a table names this kind of actor."""
        return '"userId"' if self.kind == "user" else '"identityId"'


@dataclass
class Call:
    """One request on its way to a handler."""

    server: Server
    method: str
    path: str
    params: dict[str, str]
    query: dict[str, str]
    headers: dict[str, str]
    address: str
    body: Any = None
    someone: Actor | None = None

    @property
    def db(self) -> Database:
        return self.server.db

    @property
    def current(self) -> bool:
        return self.server.settings.current

    @property
    def actor(self) -> Actor:
        assert self.someone
        return self.someone

    def fields(self, **fields: Field) -> dict[str, Any]:
        """The body's fields."""
        return check(fields, self.body, self.current)

    def asked(self, **fields: Field) -> dict[str, Any]:
        """The query's fields."""
        return check(fields, self.query, self.current)


Handler = Callable[[Call], Any]
Identify = Callable[[Call], Actor | None]
Guard = Callable[[Call, "Route"], None]


@dataclass(frozen=True)
class Route:
    method: str
    pattern: re.Pattern[str]
    template: str
    handler: Handler
    allowed: tuple[str, ...]
    limit: str
    level: str


ROUTES: list[Route] = []
ANYONE: tuple[str, ...] = ()
USERS = ("user",)
ALL = ("user", "identity")


def route(
    method: str, template: str, allowed: tuple[str, ...] = ALL, limit: str = "", level: str = ""
) -> Callable[[Handler], Handler]:
    """Register a handler. `level` is "2024" or "current" where only one of the two has this route."""

    def register(handler: Handler) -> Handler:
        pattern = re.compile(re.sub(r":(\w+)", r"(?P<\1>[^/]+)", template) + "/?")
        kind = limit or ("read" if method == "GET" else "write")
        ROUTES.append(Route(method, pattern, template, handler, allowed, kind, level))
        # A fixed word goes before a parameter, whatever was registered first.
        ROUTES.sort(key=lambda one: one.template.count(":"))
        return handler

    return register


@dataclass
class Server:
    """What handlers work with."""

    settings: Settings
    db: Database
    cache: Cache
    log: Log
    root_key: bytes
    identify: Identify
    guard: Guard

    def seal(self, text: str) -> bytes:
        return crypto.encrypt(self.root_key, text.encode())

    def unseal(self, sealed: bytes) -> str:
        return crypto.decrypt(self.root_key, bytes(sealed)).decode()

    def answer(self, request: Requests) -> tuple[int, Any, dict[str, str]]:
        """Status, body (None for none) and headers."""
        headers: dict[str, str] = {}
        asked = f"{request.command}:{request.path}"
        try:
            if request.command == "OPTIONS":
                return 204, None, {"Access-Control-Allow-Methods": "GET,HEAD,PUT,PATCH,POST,DELETE"}
            parts = urlsplit(request.path)
            if not _decodes(parts.path):
                said = f"'{request.path}' is not a valid url component"
                bad = {"error": "Bad Request", "code": "FST_ERR_BAD_URL", "message": said, "statusCode": 400}
                return 400, bad, headers
            method = "GET" if request.command == "HEAD" else request.command
            found = self._find(method, parts.path)
            if found is None:
                body = {"message": f"Route {asked} not found", "error": "Not Found", "statusCode": 404}
                return 404, body, headers
            chosen, params = found
            given = {name.lower(): text for name, text in request.headers.items()}
            query = {name: texts[-1] for name, texts in parse_qs(parts.query, keep_blank_values=True).items()}
            call = Call(self, method, parts.path, params, query, given, request.client_address[0])
            call.someone = self.identify(call)
            self.guard(call, chosen)
            call.body = _parsed(given, request.read_body(), "content-length" in given)
            if not self.settings.current and chosen.limit != "none":
                headers = self._count(call, chosen)
            return 200, chosen.handler(call), headers
        except ApiError as failure:
            body = {"statusCode": failure.status, "message": failure.message, "error": failure.error}
            if self.settings.current:
                body = {"reqId": f"req-{uuid.uuid4().hex[:12]}"} | body
            if failure.status >= 500:
                self.log.fault(f"{asked}: {failure.error}")
            return failure.status, body, headers | failure.headers

    def _find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        here = "current" if self.settings.current else "2024"
        for route in ROUTES:
            if route.method == method and route.level in ("", here) and (match := route.pattern.fullmatch(path)):
                params = {name: unquote(text) for name, text in match.groupdict().items()}
                if all(len(text) <= PARAMETER_LIMIT for text in params.values()):
                    return route, params
        return None

    def _count(self, call: Call, route: Route) -> dict[str, str]:
        """Count a request in Redis; 429 beyond the limit. Any X-Forwarded-For is believed (recorded)."""
        limit = LIMITS[route.limit]
        address = call.headers.get("x-forwarded-for") or call.address
        key = f"fastify-rate-limit-{route.method}{route.template}-{address}"

        def count(redis: Any) -> tuple[int, int]:
            used: int = redis.incr(key)
            if used == 1:
                redis.expire(key, 60)
            return used, max(redis.ttl(key), 0)

        used, seconds = self.cache.call(count)
        headers = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(max(limit - used, 0)),
            "X-RateLimit-Reset": str(seconds),
        }
        if used > limit:
            again = "1 minute" if seconds > 50 else f"{seconds} seconds"
            said = f"Rate limit exceeded. Please try again in {again}"
            raise ApiError(429, "RateLimitExceeded", said, headers | {"Retry-After": str(seconds)})
        return headers


class Requests(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    timeout = SILENT_SECONDS
    app: Server
    unread = 0

    def serve(self) -> None:
        self.unread = int(self.headers.get("Content-Length") or 0)
        # The real server's socket times out: the client gets no answer, and what runs here goes on (recorded).
        cut = threading.Timer(self.app.settings.request_seconds, self._hang_up)
        cut.daemon = True
        cut.start()
        try:
            status, body, headers = self.app.answer(self)
        except Exception as error:  # noqa: BLE001 - the process stays up, whatever a handler does
            self.app.log.fault(f"{type(error).__name__}: {error}")
            failure = broken()
            status, headers = 500, {}
            body = {"statusCode": 500, "message": failure.message, "error": failure.error}
        finally:
            cut.cancel()
        try:
            self.read_body()
        except ApiError:
            self.close_connection = True
        self.connection.settimeout(IDLE_SECONDS)
        self._send(status, body, headers)

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = do_DELETE = do_OPTIONS = serve

    def read_body(self) -> bytes:
        """What is left of the body; a 500 (recorded) if it is over Fastify's limit."""
        size, self.unread = self.unread, 0
        if size > BODY_LIMIT:
            for start in range(0, size, BODY_LIMIT):
                self.rfile.read(min(BODY_LIMIT, size - start))
            raise broken()
        return self.rfile.read(size) if size else b""

    def _send(self, status: int, body: Any, headers: dict[str, str]) -> None:
        payload = (
            b""
            if body is None
            else json.dumps(body, separators=(",", ":"), ensure_ascii=False, default=_plain).encode()
        )
        tag = '"' + base64.b64encode(hashlib.sha1(payload).digest()).decode() + '"'
        if self.headers.get("If-None-Match") == tag and status == 200:
            status, payload = 304, b""
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        if body is not None:
            self.send_header("Content-Type", "application/json; charset=utf-8")
            self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(payload)))
        self.send_header("Connection", "close" if self.close_connection else "keep-alive")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)
        self.wfile.flush()

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the other side is gone
            self.close_connection = True

    def finish(self) -> None:
        with contextlib.suppress(OSError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged one by one."""


class Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is no news."""


def listener(app: Server) -> Listener:
    handler = type("AppRequests", (Requests,), {"app": app})
    return Listener((app.settings.host, app.settings.port), handler)


def _decodes(path: str) -> bool:
    try:
        unquote(path, errors="strict")
    except UnicodeDecodeError:
        return False
    return True


def _parsed(headers: dict[str, str], body: bytes, sent: bool) -> Any:
    """A body by its content type; what cannot be parsed is a 500 (recorded)."""
    kind = headers.get("content-type", "").partition(";")[0].strip()
    if not kind:
        if body:
            raise broken()
        return None
    try:
        if kind == "application/json":
            return json.loads(body.decode(), object_pairs_hook=_no_prototype)
        if kind == "application/x-www-form-urlencoded":
            return dict(parse_qsl(body.decode(), keep_blank_values=True))
        if kind == "text/plain":
            return body.decode()
    except ValueError:
        pass
    raise broken()


def _no_prototype(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if "__proto__" in dict(pairs):
        raise ValueError("__proto__")
    return dict(pairs)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(type(value).__name__)
