"""`python -m api`: serve until SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import sys

from .app import App
from .database import Database, DatabaseError
from .logs import configure
from .metrics import Metrics
from .server import Server
from .settings import SettingsError, from_environment

log = logging.getLogger("api")


def main() -> int:
    """Serve; 0 after a graceful end, 1 if the environment is wrong."""
    configure()
    try:
        settings = from_environment(os.environ)
    except SettingsError as error:
        log.error(str(error))
        return 1
    database, metrics = Database(settings), Metrics()
    app = App(database, metrics, settings.version, unavailable=DatabaseError)
    server = Server(("0.0.0.0", settings.port), app, metrics)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    database.open()
    log.info("ready", extra={"fields": {"port": settings.port, "version": settings.version}})
    server.serve_forever(poll_interval=0.2)
    log.info("stopping: requests in flight may end")
    server.server_close()
    database.close()
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
