"""The database, through a small pool. When its credentials change, the pool's connections are replaced before the next
query, and an attempt that was refused is repeated with what is there now: a rotation fails nothing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from psycopg import Connection, Error, OperationalError
from psycopg_pool import ConnectionPool

from .settings import Settings

DatabaseError = Error

_TABLE = "CREATE TABLE IF NOT EXISTS visits (page text PRIMARY KEY, count bigint NOT NULL)"
_VISIT = """
INSERT INTO visits AS v (page, count) VALUES (%s, 1)
ON CONFLICT (page) DO UPDATE SET count = v.count + 1 RETURNING count
"""


class Database:
    """What the service does with PostgreSQL. Every method raises DatabaseError when it cannot."""

    def __init__(self, settings: Settings) -> None:
        self._has_table = False
        self._settings = settings
        self._entered_with: Mapping[str, str] = {}
        self._lock = threading.Lock()
        self._pool: ConnectionPool[Connection[tuple[object, ...]]] = ConnectionPool(
            kwargs=settings.connection,
            min_size=1,
            max_size=settings.pool_size,
            timeout=3,  # a request waits this long for a connection, then answers 503
            max_lifetime=600,
            # After this long without success attempts stop; the next request begins them again, at once.
            reconnect_timeout=5,
            check=self._check,
            open=False,
        )

    def open(self) -> None:
        """Begin to connect, without waiting: the service is up before its database is."""
        self._pool.open(wait=False)

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()

    def latency_ms(self) -> float:
        """Milliseconds of one query through the pool, waiting for a connection included."""
        started = time.monotonic()
        with self._connection() as connection:
            connection.execute("SELECT 1")
        return round((time.monotonic() - started) * 1000, 2)

    def visit(self, page: str) -> int:
        """Count one visit of a page and return its number of visits."""
        with self._connection() as connection:
            if not self._has_table:
                connection.execute(_TABLE)
            [(count,)] = connection.execute(_VISIT, (page,)).fetchall()
        self._has_table = True
        return int(str(count))

    @contextmanager
    def _connection(self) -> Iterator[Connection[tuple[object, ...]]]:
        """A connection that was made with the credentials as they are now."""
        try:
            current = self._settings.database()
        except (OSError, ValueError) as error:
            raise OperationalError(f"the credentials cannot be read: {error}") from error
        with self._lock:
            if self._entered_with not in ({}, current):
                self._pool.drain()
            self._entered_with = current
        with self._pool.connection() as connection:
            yield connection

    def _check(self, connection: Connection[tuple[object, ...]]) -> None:
        """Refuse a connection that is dead; then the others are too, as a rule, and one after the other takes long."""
        try:
            ConnectionPool.check_connection(connection)
        except Error:
            self._pool.drain()
            raise

    def gauges(self) -> dict[str, float]:
        """Sizes of the pool, for /metrics."""
        stats = self._pool.get_stats()
        names = ("pool_size", "pool_available", "requests_waiting", "connections_errors")
        return {f"api_database_{name}": float(stats.get(name, 0)) for name in names}
