"""The three layers and the mounted files of every stack, as files below --out/HOST; needs no host.

batten's own Infisical lies below --out/HOST/infisical.

Capacity comes from where `batten plan` takes it; give --memory and --cpus to be sure that no host is asked."""

from __future__ import annotations

import argparse
from pathlib import Path

from batten import fleet
from batten.cli import inventory_argument, note, print_json
from batten.cli.plan import capacity_arguments, given
from batten.plan.infisical import STACK


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten render`` takes."""
    inventory_argument(parser)
    capacity_arguments(parser)
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="where to write; files of the same name are replaced"
    )


def run(args: argparse.Namespace) -> int:
    """Run ``batten render``."""
    from batten.plan import load_inputs
    from batten.render import release, write

    settings = fleet.settings_of(args.inventory, args.limit)
    plan = fleet.plan_fleet(args.inventory, settings, given(args))
    written: dict[str, list[str]] = {}
    for host, stacks in settings.items():
        written[host] = []
        for stack in stacks:
            payload = release(plan.hosts[host].stacks[stack.name], stack, load_inputs(stack).definition)
            written[host] += [str(path) for path in write(payload, _place(args.out, host, stack.name))]
    if args.json:
        print_json({"hosts": written})
    else:
        for path in (path for paths in written.values() for path in paths):
            print(path)
    for finding in plan.findings:
        note(f"{finding.severity}: {finding.where}: {finding.what}\n  fix: {finding.fix}")
    return 1 if any(finding.severity == "error" for finding in plan.findings) else 0


def _place(out: str, host: str, stack: str) -> Path:
    return Path(out) / host / stack if stack == STACK else Path(out) / host
