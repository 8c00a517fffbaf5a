#!/usr/bin/python3
"""Stands in for Grafana Alloy: `run` with /-/ready, /-/healthy and /metrics. It ships no logs."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from server import Answer, as_json, logfmt, now, say, serve


def main(arguments: list[str]) -> int:
    version = os.environ["STANDIN_VERSION"]
    if arguments[:1] in (["--version"], ["-v"]):
        print(f"alloy, version {version}")
        return 0
    if arguments[:1] != ["run"]:
        say("Error: this stand-in of alloy knows `run` alone", "stderr")
        return 1
    options = dict(word[2:].partition("=")[::2] for word in arguments[1:] if word.startswith("--"))
    configs = [Path(word) for word in arguments[1:] if not word.startswith("--")]
    if len(configs) != 1 or not configs[0].exists():
        say(f"Error: could not read configuration {' '.join(map(str, configs))}", "stderr")
        return 1
    files = sorted(configs[0].glob("*.alloy")) if configs[0].is_dir() else configs
    text = "".join(file.read_text() for file in files)
    storage = Path(options.get("storage.path", "data-alloy/"))
    storage.mkdir(parents=True, exist_ok=True)
    (storage / "alloy_seed.json").write_text('{"UID":"00000000-0000-0000-0000-000000000000"}\n')
    encode = as_json if re.search(r'^\s*format\s*=\s*"json"', text, re.MULTILINE) else logfmt
    address = options.get("server.http.listen-addr", "127.0.0.1:12345")
    say(encode(ts=now(), level="info", msg="now listening for http traffic", service="http", addr=address), "stderr")
    serve(
        int(address.rpartition(":")[2]),
        {
            "/-/ready": lambda _: Answer(200, "Alloy is ready.\n"),
            "/-/healthy": lambda _: Answer(200, "All Alloy components are healthy.\n"),
            "/metrics": lambda _: Answer(200, f'alloy_build_info{{version="{version}"}} 1\n'),
        },
        lambda: say(encode(ts=now(), level="info", msg="interrupt received"), "stderr"),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
