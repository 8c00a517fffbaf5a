#!/usr/bin/python3
"""Stands in for ClickHouse's HTTP port: /ping, and queries that it accepts from a user with the right password."""

from __future__ import annotations

import base64
import os
import re
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from server import Answer, Request, as_json, now, say, serve

ETC = Path("/etc/clickhouse-server")


def main() -> int:
    config = "".join(file.read_text() for file in [ETC / "config.xml", *sorted((ETC / "config.d").glob("*.xml"))])
    console = re.search(r"<console>\s*(1|true)\s*</console>", config)
    in_json = re.search(r"<formatting>.*?<type>\s*json\s*</type>", config, re.DOTALL)
    (Path("/var/lib/clickhouse") / "status").write_text(f"PID: {os.getpid()}\nStarted at: {now()}\n")

    def log(message: str) -> None:
        line = _json_line(message) if in_json else _text_line(message)
        if console:
            say(line)
        with (Path("/var/log/clickhouse-server") / "clickhouse-server.log").open("a") as file:
            print(line, file=file)

    log(f"Starting ClickHouse {os.environ['STANDIN_VERSION']} (stand-in)")
    log("Ready for connections.")
    serve(
        8123,
        {"/ping": lambda _: Answer(200, "Ok.\n"), "/": query},
        lambda: log("Received termination signal (Terminated)"),
    )
    return 0


def query(request: Request) -> Answer:
    """`SELECT 1` gives 1, anything else an empty result; 403 as ClickHouse words it if the password is wrong."""
    asked = parse_qs(urlsplit(request.path).query)
    user, password = _credentials(request, asked)
    if users().get(user) != password:
        return Answer(403, f"Code: 516. DB::Exception: {user}: Authentication failed. (AUTHENTICATION_FAILED)\n")
    statement = " ".join(asked.get("query", [])) or request.body.decode(errors="replace")
    return Answer(200, "1\n" if statement.strip().upper().startswith("SELECT 1") else "")


def users() -> dict[str, str]:
    """Users and passwords in users.d; ClickHouse's own default user has none."""
    text = "".join(file.read_text() for file in sorted((ETC / "users.d").glob("*.xml")))
    found = re.findall(r"<(\w+)>\s*<password>([^<]*)</password>", text)
    return dict(found) or {"default": ""}


def _credentials(request: Request, asked: dict[str, list[str]]) -> tuple[str, str]:
    scheme, _, words = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        user, _, password = base64.b64decode(words).decode(errors="replace").partition(":")
        return user, password
    user = request.headers.get("x-clickhouse-user") or asked.get("user", ["default"])[0]
    return user, request.headers.get("x-clickhouse-key") or asked.get("password", [""])[0]


def _text_line(message: str) -> str:
    return f"{time.strftime('%Y.%m.%d %H:%M:%S')}.000000 [ 1 ] {{}} <Information> Application: {message}"


def _json_line(message: str) -> str:
    return as_json(
        date_time=f"{time.time():.6f}",
        thread_name="",
        thread_id="1",
        level="Information",
        query_id="",
        logger_name="Application",
        message=message,
        source_file="standin",
        source_line="1",
    )


if __name__ == "__main__":
    sys.exit(main())
