"""PostgreSQL: a small pool, statements and transactions, and migrations before anything listens."""

from __future__ import annotations

import queue
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions
import psycopg2.extras
from failures import broken

psycopg2.extras.register_uuid()

Row = dict[str, Any]

MIGRATIONS = (Path(__file__).with_name("schema.sql").read_text(),)


class Transaction:
    """Statements on one connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def rows(self, statement: str, *values: object) -> list[Row]:
        with self._connection.cursor(cursor_factory=psycopg2.extras.RealDictCursor) as cursor:
            cursor.execute(statement, values)
            return [dict(row) for row in cursor.fetchall()] if cursor.description else []

    def row(self, statement: str, *values: object) -> Row | None:
        found = self.rows(statement, *values)
        return found[0] if found else None

    def one(self, statement: str, *values: object) -> Row:
        """The row of a statement that always gives one."""
        return self.rows(statement, *values)[0]


class Database:
    """A pool that forgets a connection when the server has closed it, as node-postgres does on its `end` event."""

    def __init__(self, url: str, size: int, log: Callable[[str], None]) -> None:
        self._url = url
        self._log = log
        self._free: queue.LifoQueue[Any] = queue.LifoQueue()
        for _ in range(size):
            self._free.put(None)

    @contextmanager
    def transaction(self, label: str = "Find one") -> Iterator[Transaction]:
        """All or nothing; an error of the database is a 500 with this label."""
        connection = self._free.get()
        try:
            if connection is not None and _ended(connection):
                connection.close()
                connection = None
            connection = connection or psycopg2.connect(self._url)
            with connection:
                yield Transaction(connection)
        except psycopg2.Error as error:
            self._log(f"{label}: {error}")
            if connection is not None and isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)):
                connection.close()
            raise broken(label) from None
        finally:
            self._free.put(None if connection is None or connection.closed else connection)

    def rows(self, statement: str, *values: object, label: str = "Find one") -> list[Row]:
        with self.transaction(label) as transaction:
            return transaction.rows(statement, *values)

    def row(self, statement: str, *values: object, label: str = "Find one") -> Row | None:
        found = self.rows(statement, *values, label=label)
        return found[0] if found else None

    def one(self, statement: str, *values: object, label: str = "Find one") -> Row:
        return self.rows(statement, *values, label=label)[0]

    def close(self) -> None:
        while not self._free.empty():
            if connection := self._free.get_nowait():
                connection.close()


def migrate(url: str) -> None:
    """Apply what is missing, one at a time over all that start together. psycopg2.Error if the server is not there."""
    connection = psycopg2.connect(url, connect_timeout=10)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(749302)")
        cursor.execute("CREATE TABLE IF NOT EXISTS infisical_migrations (id int PRIMARY KEY)")
        cursor.execute("SELECT count(*) FROM infisical_migrations")
        for number in range(cursor.fetchone()[0], len(MIGRATIONS)):
            cursor.execute(MIGRATIONS[number])
            cursor.execute("INSERT INTO infisical_migrations VALUES (%s)", (number,))
    connection.close()


def _ended(connection: Any) -> bool:
    """Whether an idle connection has something to read: the server's goodbye."""
    return bool(select.select([connection], [], [], 0)[0])
