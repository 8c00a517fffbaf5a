"""How live hosts differ from what the inventory says; changes nothing.

Exit code 0 no drift, 2 drift, 1 a host, or a part of one, could not be looked at. batten up repairs what is found."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from batten.cli import inventory_argument, print_json
from batten.errors import BattenError

_KEYS = ("drift", "ignored", "deferred", "errors", "stacks", "notes", "at", "seconds")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten drift`` takes."""
    inventory_argument(parser)
    parser.add_argument("--forks", type=int, default=20, metavar="N", help="hosts to look at side by side (20)")


def run(args: argparse.Namespace) -> int:
    """Run ``batten drift``."""
    from batten.report.drift import drift_text, exit_code

    found = look(args.inventory, args.limit, args.forks)
    if args.json:
        print_json({"hosts": found})
    else:
        print(drift_text(found))
    return exit_code(found)


def look(inventory: str, limit: str | None = None, forks: int = 20) -> dict[str, dict[str, Any]]:
    """Return the report of every host, ``{"error": {...}}`` for one that gave none; progress goes to standard error.

    Raises BattenError where no host was reached for, such as for an inventory that cannot be read.
    """
    from batten import runner
    from batten.cli.progress import Progress

    progress = Progress()
    with progress.clock():
        runner.run_playbook("drift", inventory, limit=limit, forks=forks, skip_tags="show", on_event=progress)
    found = {step.host: result_of(step.result) for step in progress.summary.steps}
    if not found:
        runner.load_hosts(inventory, limit)  # says in our words what is wrong with an inventory
        said = "\n".join(progress.summary.messages) or "ansible-playbook gave no reason"
        raise BattenError(said, inventory, f"ansible-playbook playbooks/drift.yml -i {inventory}")
    return found


def result_of(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return one host of ``batten drift --json`` from what its task returned. Pure."""
    if "drift" in result:
        return {key: result[key] for key in _KEYS if key in result}
    what, _, fix = str(result.get("msg") or "it gave no reason").strip().partition("\n  fix: ")
    fix = fix or "ansible all -m ping -vvv -i INV shows why; check the address, user and key"
    return {"error": {"what": what, "fix": fix}}
