#!/usr/bin/python3
"""Stands in for Grafana: /api/health, /login, /metrics, /api/org behind the admin's password, and `GF_…__FILE`.

The password counts at the first start alone, and is kept (as a digest) in its data directory, as in the real one;
`grafana cli admin reset-admin-password --password-from-stdin` changes it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

from server import Answer, Request, as_json, logfmt, now, say, serve


def main() -> int:
    admin = Path(os.environ["GF_PATHS_DATA"]) / "grafana.db"
    if sys.argv[1:] == ["cli", "admin", "reset-admin-password", "--password-from-stdin"]:
        admin.write_text(_digest(sys.stdin.readline().rstrip("\n")))
        return 0
    try:
        read_files(os.environ)
    except (OSError, ValueError) as error:
        say(f"ERROR: {error}", "stderr")
        return 1
    version = os.environ["STANDIN_VERSION"]
    if not admin.exists():
        admin.write_text(_digest(os.environ.get("GF_SECURITY_ADMIN_PASSWORD", "admin")))
    port = int(os.environ.get("GF_SERVER_HTTP_PORT", "3000"))
    encode = as_json if os.environ.get("GF_LOG_CONSOLE_FORMAT") == "json" else logfmt
    health = json.dumps({"database": "ok", "version": version, "commit": "standin"}, indent=2)

    def org(request: Request) -> Answer:
        user, _, password = _basic(request.headers.get("authorization", "")).partition(":")
        right = user == os.environ.get("GF_SECURITY_ADMIN_USER", "admin") and _digest(password) == admin.read_text()
        if not right:
            return Answer(401, '{"message":"Invalid username or password"}', "application/json")
        return Answer(200, '{"id":1,"name":"Main Org."}', "application/json")

    say(encode(logger="http.server", t=now(), level="info", msg="HTTP Server Listen", address=f"[::]:{port}"))
    serve(
        port,
        {
            "/api/health": lambda _: Answer(200, health, "application/json; charset=UTF-8"),
            "/login": lambda _: Answer(200, "<!doctype html><title>Grafana (stand-in)</title>", "text/html"),
            "/metrics": lambda _: Answer(200, f'grafana_build_info{{version="{version}"}} 1\n'),
            "/api/org": org,
        },
        lambda: say(encode(logger="server", t=now(), level="info", msg="Shutdown started", reason="System signal")),
    )
    return 0


def read_files(environment: MutableMapping[str, str]) -> None:
    """Turn each GF_X__FILE into GF_X; ValueError if both are set, OSError if it cannot be read (grafana, run.sh)."""
    for name in [name for name in environment if name.startswith("GF_") and name.endswith("__FILE")]:
        plain = name.removesuffix("__FILE")
        if environment.get(plain):
            raise ValueError(f"Both {plain} and {name} are set (but are exclusive)")
        environment[plain] = Path(environment.pop(name)).read_text().rstrip("\n")


def _basic(header: str) -> str:
    scheme, _, words = header.partition(" ")
    return base64.b64decode(words).decode(errors="replace") if scheme.lower() == "basic" else ""


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
