#!/usr/bin/python3
"""Stands in for Loki: /ready, /metrics, /loki/api/v1/push, and `loki -health`.

/ready answers 503 for the first seconds as the real one does for 15 s (min_ready_duration of its ingester).
"""

from __future__ import annotations

import os
import re
import sys
import time
import urllib.request
from pathlib import Path

from server import Answer, Request, as_json, logfmt, now, say, serve

READY_AFTER = 3.0


def main(arguments: list[str]) -> int:
    words = [word.lstrip("-") for word in arguments]
    if "version" in words:
        print(f"loki, version {os.environ['STANDIN_VERSION']}")
        return 0
    if "health" in words:
        return health(_value(words, "health.url") or "http://127.0.0.1:3100/ready")
    config = Path(_value(words, "config.file") or "")
    if not config.is_file():
        say(f"failed parsing config: {config} does not exist, set config.file for custom config path", "stderr")
        return 1
    run(config.read_text())
    return 0


def health(url: str) -> int:
    """`-health` of Loki 3.6.5 and newer: 0 if /ready answers 200, else 1."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return 0 if answer.status == 200 else 1
    except OSError as error:
        say(f"health check failed: {error}", "stderr")
        return 1


def run(config: str) -> None:
    encode = as_json if re.search(r"^\s*log_format:\s*[\"']?json\b", config, re.MULTILINE) else logfmt
    found = re.search(r"^\s*http_listen_port:\s*(\d+)", config, re.MULTILINE)
    started = time.monotonic()
    (Path("/loki") / "standin").write_text("Loki's data would be here\n")

    def ready(_: Request) -> Answer:
        if time.monotonic() - started < READY_AFTER:
            return Answer(503, "Ingester not ready: waiting for 15s after being ready\n")
        return Answer(200, "ready\n")

    version = os.environ["STANDIN_VERSION"]
    say(encode(ts=now(), caller="main.go:126", level="info", msg="Starting Loki", version=version), "stderr")
    metrics = f'loki_build_info{{version="{version}"}} 1\n'
    serve(
        int(found.group(1)) if found else 3100,
        {
            "/ready": ready,
            "/metrics": lambda _: Answer(200, metrics),
            "/loki/api/v1/push": lambda _: Answer(204, ""),
        },
        lambda: say(
            encode(ts=now(), caller="signals.go:62", level="info", msg="=== received SIGINT/SIGTERM ==="), "stderr"
        ),
    )


def _value(words: list[str], name: str) -> str | None:
    for position, word in enumerate(words):
        key, sign, value = word.partition("=")
        if key == name:
            return value if sign else next(iter(words[position + 1 :]), None)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
