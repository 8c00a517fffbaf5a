#!/usr/bin/python3
"""Stands in for Stack Auth: `migrate`, `backend` (8102) and `dashboard DIRECTORY` (8101).

It uses the real PostgreSQL: migrations make a table and a row, and /health?db=1 reads them. It really needs ClickHouse.
"""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from server import Answer, Request, say, serve

PSQL = "/usr/lib/postgresql/17/bin/psql"
MIGRATION = """
CREATE TABLE IF NOT EXISTS "Project" ("id" text PRIMARY KEY, "createdAt" timestamptz NOT NULL DEFAULT now());
CREATE TABLE IF NOT EXISTS "SchemaMigration" ("migrationName" text PRIMARY KEY);
INSERT INTO "Project" ("id") VALUES ('internal') ON CONFLICT DO NOTHING;
"""
CRON_STEPS = ("email-queue-step", "external-db-sync/sequencer", "external-db-sync/poller")


def main(arguments: list[str]) -> int:
    match arguments:
        case ["migrate"]:
            return migrate()
        case ["backend"]:
            backend()
        case ["dashboard", directory]:
            dashboard(Path(directory))
    return 0


def migrate() -> int:
    version = os.environ["STANDIN_VERSION"]
    applied = f"""INSERT INTO "SchemaMigration" VALUES ('{version}') ON CONFLICT DO NOTHING;"""
    done = sql(MIGRATION + applied)
    if done.returncode:
        say(f"Error: migrations failed: {done.stderr.strip()}", "stderr")
        return 1
    try:
        clickhouse("SELECT 1")
    except OSError as error:
        say(f"Error: ClickHouse migrations failed: {error}", "stderr")
        return 1
    say("Migrations complete.")
    return 0


def backend() -> None:
    cron = {f"/api/latest/internal/{step}": cron_step for step in CRON_STEPS}
    say("▲ Next.js (stand-in)")
    say("✓ Ready on http://localhost:8102")
    serve(8102, {"/health": health, **cron})


def dashboard(directory: Path) -> None:
    script = directory / "apps/dashboard/config.js"
    say("✓ Ready on http://localhost:8101")
    serve(
        8101,
        {
            "/health": lambda _: Answer(200, '{"status":"ok"}', "application/json"),
            "/config.js": lambda _: Answer(200, script.read_text(), "text/javascript"),
        },
    )


def health(request: Request) -> Answer:
    """The process, and with `db=1` a row of the database."""
    if os.environ.get("STANDIN_BROKEN"):
        return Answer(500, '{"status":"error"}', "application/json")
    if parse_qs(urlsplit(request.path).query).get("db") == ["1"]:
        done = sql("""SELECT "id" FROM "Project" WHERE "id" = 'internal'""")
        if done.returncode or "internal" not in done.stdout:
            say(f"Health check failed: {done.stderr.strip()}", "stderr")
            return Answer(500, '{"status":"error"}', "application/json")
    return Answer(200, '{"status":"ok"}', "application/json")


def cron_step(request: Request) -> Answer:
    """Only with `Authorization: Bearer $CRON_SECRET`."""
    if request.headers.get("authorization") != f"Bearer {os.environ['CRON_SECRET']}":
        return Answer(401, '{"error":"Unauthorized"}', "application/json")
    return Answer(200, '{"ok":true}', "application/json")


def sql(text: str) -> subprocess.CompletedProcess[str]:
    """Run statements through psql; the password goes by the environment, where `ps` does not show it."""
    url = urlsplit(os.environ["STACK_DATABASE_CONNECTION_STRING"])
    query = parse_qs(url.query)
    connection = {
        "PGHOST": url.hostname or "",
        "PGPORT": str(url.port or 5432),
        "PGUSER": unquote(url.username or ""),
        "PGPASSWORD": unquote(url.password or ""),
        "PGDATABASE": url.path.lstrip("/"),
        "PGCONNECT_TIMEOUT": "5",
        "PGSSLMODE": query.get("sslmode", ["prefer"])[0],
    }
    if root := query.get("sslrootcert"):
        connection["PGSSLROOTCERT"] = root[0]
    words = [PSQL, "--no-psqlrc", "--quiet", "--tuples-only", "--set", "ON_ERROR_STOP=1", "--file", "-"]
    return subprocess.run(
        words, input=text, text=True, capture_output=True, env={**os.environ, **connection}, check=False
    )


def clickhouse(statement: str) -> str:
    """Run a statement as the admin user; OSError if it is refused or not there."""
    headers = {
        "X-ClickHouse-User": os.environ.get("STACK_CLICKHOUSE_ADMIN_USER", "stackframe"),
        "X-ClickHouse-Key": os.environ["STACK_CLICKHOUSE_ADMIN_PASSWORD"],
    }
    request = urllib.request.Request(os.environ["STACK_CLICKHOUSE_URL"] + "/", statement.encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            text: str = answer.read().decode()
            return text
    except urllib.error.HTTPError as error:
        raise OSError(error.read().decode(errors="replace").strip()) from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
