"""What the service answers: a table of routes over a database, without sockets."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from .metrics import CONTENT_TYPE, Metrics

log = logging.getLogger("api")


class Store(Protocol):
    """What the routes need of a database."""

    def latency_ms(self) -> float:
        """Milliseconds of one query."""

    def visit(self, page: str) -> int:
        """Count a visit, return the number of visits."""

    def gauges(self) -> Mapping[str, float]:
        """Sizes for /metrics."""


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: status, body, its type, and more headers."""

    status: int
    body: bytes
    kind: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class App:
    """The routes. `unavailable` are the exceptions that mean the database cannot answer now."""

    def __init__(self, store: Store, metrics: Metrics, version: str, unavailable: type[Exception]) -> None:
        self._store, self._metrics, self._version, self._unavailable = store, metrics, version, unavailable
        self._routes: dict[str, Callable[[], Answer]] = {
            "/": self._home,
            "/health": self._health,
            "/health/deep": self._deep,
            "/metrics": self._show_metrics,
        }

    def route(self, path: str) -> str:
        """The known path that a request's path (with its query) means, or `other`."""
        known = path.partition("?")[0]
        return known if known in self._routes else "other"

    def answer(self, method: str, path: str) -> Answer:
        """Answer a request; a database that does not answer becomes 503, never an exception."""
        handler = self._routes.get(self.route(path))
        if not handler:
            return _json(404, {"error": "not found"})
        if method not in ("GET", "HEAD"):
            return _json(405, {"error": "method not allowed"}, {"Allow": "GET, HEAD"})
        try:
            return handler()
        except self._unavailable as error:
            # The text of a database's error may quote its connection string: it goes to the log, not to the caller.
            log.error("the database does not answer", extra={"fields": {"error": str(error)}})
            return _json(503, {"status": "unavailable", "error": "the database does not answer"})

    def _home(self) -> Answer:
        return _json(200, {"service": "sample-api", "version": self._version, "visits": self._store.visit("/")})

    def _health(self) -> Answer:
        return _json(200, {"status": "ok", "version": self._version})

    def _deep(self) -> Answer:
        return _json(200, {"status": "ok", "database": {"latency_ms": self._store.latency_ms()}})

    def _show_metrics(self) -> Answer:
        return Answer(200, self._metrics.render(self._version, self._store.gauges()).encode(), CONTENT_TYPE)


def _json(status: int, body: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(status, json.dumps(body).encode() + b"\n", headers=headers or {})
