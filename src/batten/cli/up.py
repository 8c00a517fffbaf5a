"""Bring hosts to what the inventory says: runs site.yml, with live progress.

Running it again repairs what drifted. Exit code 0 done, 1 something failed."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Mapping
from typing import Any

from batten.cli import inventory_argument, note, print_json
from batten.cli.progress import Progress

_CHOICES = {
    "defer_stateful": "stack_defer_stateful",
    "apply_tunables": "stack_apply_tunables",
    "rebalance": "stack_rebalance",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten up`` takes."""
    inventory_argument(parser)
    parser.add_argument("--check", action="store_true", help="say what would change, and change nothing")
    parser.add_argument("--diff", action="store_true", help="show the differences")
    parser.add_argument(
        "--defer-stateful", action="store_true", help="leave for later what would make a service with data anew"
    )
    parser.add_argument(
        "--apply-tunables", action="store_true", help="make anew what waits for new tunables, or for a lower limit"
    )
    parser.add_argument("--rebalance", action="store_true", help="share the memory out anew; limits stay otherwise")
    parser.add_argument("-v", dest="verbosity", action="count", default=0, help="Ansible's own output; -vvv for more")


def run(args: argparse.Namespace) -> int:
    """Run ``batten up``."""
    code, progress = play("site", args, {name: True for flag, name in _CHOICES.items() if getattr(args, flag)} or None)
    if args.json:
        print_json({"ok": code == 0, "check": args.check, **progress.summary.to_json()})
    return 1 if code else 0


def play(name: str, args: argparse.Namespace, extra: Mapping[str, Any] | None = None) -> tuple[int, Progress]:
    """Run a playbook with progress on standard error; return Ansible's exit code and what came of it.

    The inventory is read first: a misspelt variable is told before any host is touched.
    """
    from batten import runner

    runner.load_hosts(args.inventory, args.limit, extra)
    note(f"batten runs: {shlex.join(_command(name, args, extra if name == 'site' else None))}")
    progress = Progress(verbosity=args.verbosity)
    code = 1
    try:
        with progress.clock():
            code = runner.run_playbook(
                name,
                args.inventory,
                check=args.check,
                diff=args.diff,
                limit=args.limit,
                extra=extra,
                verbosity=args.verbosity,
                on_event=progress,
            )
    finally:
        progress.close(code)
    return code, progress


def _command(name: str, args: argparse.Namespace, extra: Mapping[str, Any] | None = None) -> list[str]:
    """Return the command line that does the same without batten."""
    playbook = "site.yml" if name == "site" else f"playbooks/{name}.yml"
    return [
        "ansible-playbook",
        playbook,
        "-i",
        args.inventory,
        *(["--check"] if args.check else []),
        *(["--diff"] if args.diff else []),
        *(["--limit", args.limit] if args.limit else []),
        *(["-e", json.dumps(dict(extra))] if extra else []),
    ]
