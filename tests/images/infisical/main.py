#!/usr/bin/python3
"""Stands in for Infisical's server: the part of its API that batten uses, over real PostgreSQL and Redis.

Nothing listens before the environment is checked, migrations are done, the root key opens and Redis answers.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import accounts  # noqa: F401 - registers its routes
import crypto
import machines  # noqa: F401
import projects  # noqa: F401
import psycopg2
import settings
import vault  # noqa: F401
from access import guard, identify
from cache import Cache
from database import Database, migrate
from web import Log, Server, listener

POSTGRES_GIVES_UP = 2.6
"""Seconds after which the real one exits when PostgreSQL is not there (recorded); with Redis it is cache.connect."""


def main() -> int:
    started = time.monotonic()
    try:
        told = settings.read()
    except settings.SettingsError as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    log = Log(told.log_level)
    try:
        migrate(told.database)
    except psycopg2.Error as error:
        time.sleep(max(0, started + POSTGRES_GIVES_UP - time.monotonic()))
        log.say("error", "Boot up migration failed", err={"type": "Error", "message": str(error)})
        return 1
    db = Database(told.database, told.pool, log.fault)
    try:
        root_key = open_root_key(db, told.key, told.current)
    except ValueError as error:
        log.say("error", str(error), err={"type": "Error", "message": str(error)})
        return 1
    cache = Cache(told.redis, log.fault)
    try:
        cache.connect()
    except ConnectionError as error:
        log.say("error", "Reached the max retries per request limit", err={"type": "Error", "message": str(error)})
        return 1
    server = listener(Server(told, db, cache, log, root_key, identify, guard))

    def stop(*_: object) -> None:
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    log.say("info", f"Server listening at http://{told.host}:{told.port} (stand-in)")
    server.serve_forever(poll_interval=0.1)
    server.server_close()
    log.say("info", "Server stopped")
    db.close()
    cache.close()
    return 0


def open_root_key(db: Database, key: bytes, current: bool) -> bytes:
    """The key that values are encrypted with: made at the first start, opened with ENCRYPTION_KEY ever after."""
    with db.transaction("KmsRootConfig") as transaction:
        transaction.rows("LOCK TABLE kms_root_config")
        row = transaction.row('SELECT "encryptedRootKey" FROM kms_root_config WHERE id = 1')
        if row is None:
            made = os.urandom(32)
            transaction.rows("INSERT INTO kms_root_config VALUES (1, %s)", crypto.encrypt(key, made))
            return made
    try:
        return crypto.decrypt(key, bytes(row["encryptedRootKey"]))
    except ValueError:
        if current:
            raise ValueError("The ENCRYPTION_KEY does not open this database's root key (label: primary)") from None
        raise


if __name__ == "__main__":
    sys.exit(main())
