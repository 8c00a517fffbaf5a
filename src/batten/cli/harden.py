"""Overlays for anyone's Compose files: limits, health, privileges, ports, logs. No host is asked, no file changed.

Writes into --out: compose.prod.yaml and the target's layer, which Compose merges with your files; batten.yaml, what
batten would have to know to deploy them; plan.json; and REPORT.md, which says per service what changed, why, how sure
that is, and what was left open."""

from __future__ import annotations

import argparse
from pathlib import Path

from batten.cli import note, print_json
from batten.plan import schema


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten harden`` takes."""
    parser.add_argument(
        "files", nargs="+", metavar="COMPOSE.yaml", help="Compose files, as docker compose -f takes them"
    )
    parser.add_argument("--memory", metavar="SIZE", required=True, help="the host's memory, such as 8G")
    parser.add_argument("--cpus", metavar="N", required=True, help="the host's processors, such as 4")
    parser.add_argument("--target", choices=["selfhosted", "digitalocean"], default="selfhosted")
    parser.add_argument(
        "--profile",
        action="append",
        metavar="NAME",
        help="plan only the services of this Compose profile, and those of none; all unless given; may come twice",
    )
    parser.add_argument("-o", "--out", required=True, metavar="DIR", help="where to write")


def run(args: argparse.Namespace) -> int:
    """Run ``batten harden``; exit code 2 where something of the files would be lost, which is an error of ours."""
    from batten.harden import harden, save
    from batten.plan.model import Capacity

    capacity = Capacity(
        schema.size(args.memory, schema.At("--memory")),
        schema.number(0.1, 1024)(args.cpus, schema.At("--cpus")),
        source="the command line",
    )
    made = harden([Path(name) for name in args.files], capacity, args.target, args.profile or ("*",))
    saved = save(made, Path(args.out))
    if args.json:
        print_json(saved.as_json(made))
    else:
        for path in saved.paths:
            print(path)
        note(saved.summary(made))
    for what in saved.lost:
        note(f"error: this would be lost: {what}; do not use these overlays, and report it")
    return 2 if saved.lost else 0
