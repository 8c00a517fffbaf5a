"""The database, through a small pool. Every new connection reads the credentials again, so a rotated password is
taken up without a restart: old connections live on, and an attempt that was refused is repeated with what is there now.
"""

from __future__ import annotations

import time

from psycopg import Connection, Error
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
        self._pool: ConnectionPool[Connection[tuple[object, ...]]] = ConnectionPool(
            kwargs=settings.connection,
            min_size=1,
            max_size=settings.pool_size,
            timeout=3,  # a request waits this long for a connection, then answers 503
            max_lifetime=600,
            # After this long without success attempts stop; the next request begins them again, at once.
            reconnect_timeout=5,
            check=ConnectionPool.check_connection,
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
        with self._pool.connection() as connection:
            connection.execute("SELECT 1")
        return round((time.monotonic() - started) * 1000, 2)

    def visit(self, page: str) -> int:
        """Count one visit of a page and return its number of visits."""
        with self._pool.connection() as connection:
            if not self._has_table:
                connection.execute(_TABLE)
            [(count,)] = connection.execute(_VISIT, (page,)).fetchall()
        self._has_table = True
        return int(str(count))

    def gauges(self) -> dict[str, float]:
        """Sizes of the pool, for /metrics."""
        stats = self._pool.get_stats()
        names = ("pool_size", "pool_available", "requests_waiting", "connections_errors")
        return {f"api_database_{name}": float(stats.get(name, 0)) for name in names}
