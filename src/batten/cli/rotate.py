"""New values for secrets, while the stack keeps answering.

Names are those of batten.yaml; infisical/NAME is a secret of the Infisical on the host, infisical_identity the host's
own login to it. Exit code 0 done, 1 something failed: then the old values are in use, or running it again finishes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from batten.cli import inventory_argument, print_json
from batten.errors import BattenError
from batten.plan import schema
from batten.plan.schema import At

if TYPE_CHECKING:
    from batten.cli.progress import Step


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten rotate`` takes."""
    inventory_argument(parser)
    parser.add_argument("names", nargs="*", metavar="NAME", help="secrets to rotate")
    parser.add_argument("--all", action="store_true", help="all that can be rotated")
    parser.add_argument("--older-than", metavar="AGE", help="those that are older, such as 90d")
    parser.add_argument("--check", action="store_true", help="say which would be rotated")
    parser.add_argument("-v", dest="verbosity", action="count", default=0, help="Ansible's own output; -vvv for more")


def run(args: argparse.Namespace) -> int:
    """Run ``batten rotate``."""
    from batten.cli import up

    if [bool(args.names), args.all, bool(args.older_than)].count(True) != 1:
        raise BattenError(
            "say which secrets to rotate, in one way",
            "batten rotate",
            "name them, or --all, or --older-than 90d; batten plan lists the secrets by how they are rotated",
        )
    given = {"rotate_names": args.names, "rotate_everything": args.all}
    if args.older_than:
        given["rotate_older_than"] = schema.days(args.older_than, At("batten rotate", "--older-than")) * 86400
    args.diff = False
    code, progress = up.play("rotate", args, given)
    stacks = {step.host: step.result.get("stacks", {}) for step in progress.summary.steps}
    if args.json:
        hosts = {step.host: _result(step) for step in progress.summary.steps}
        print_json({"ok": code == 0, "check": args.check, "hosts": hosts, "messages": progress.summary.messages})
    else:
        print("\n".join(_lines(stacks, args.check)))
    return 1 if code else 0


def _result(step: Step) -> dict[str, Any]:
    """Return what came of one host, as ``--json`` prints it."""
    failed = step.status in ("failed", "unreachable")
    return {"stacks": step.result.get("stacks", {}), **({"error": step.result.get("msg")} if failed else {})}


def _lines(hosts: dict[str, Any], check: bool) -> list[str]:
    """Return what a person reads."""
    lines = []
    for host, stacks in sorted(hosts.items()):
        for stack, one in sorted(stacks.items()):
            names = ", ".join([*one["rotated"], *(f"{name} (begun before)" for name in one["finished"])])
            verb = "would be rotated" if check else "rotated"
            lines.append(f"{host} {stack}: {verb}: {names}" if names else f"{host} {stack}: nothing to rotate")
            for role, sessions in sorted(one["waiting"].items()):
                lines.append(f"  {role} still has {sessions} session(s); it loses its login when they have ended")
            if one["seconds"]:
                lines.append("  " + ", ".join(f"{state} {seconds:.1f} s" for state, seconds in one["seconds"].items()))
    return lines
