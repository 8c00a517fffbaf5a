"""What would be deployed: per service limits, health, privileges, secrets and ports, and each host's memory budget.

Touches nothing, and works before Docker exists. A host's capacity is taken from --memory and --cpus, else from
stack_capacity in the inventory, else from the last run's record, else the host is asked."""

from __future__ import annotations

import argparse

from batten import fleet
from batten.cli import inventory_argument, print_json
from batten.plan import schema
from batten.plan.model import to_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten plan`` takes."""
    inventory_argument(parser)
    capacity_arguments(parser)


def capacity_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--memory`` and ``--cpus``."""
    parser.add_argument("--memory", metavar="SIZE", help="plan for a host with this much memory, such as 8G")
    parser.add_argument("--cpus", metavar="N", help="plan for a host with this many processors, such as 4")


def given(args: argparse.Namespace) -> fleet.Given:
    """Return the capacity that the command line gives."""
    return fleet.Given(
        schema.size(args.memory, schema.At("--memory")) if args.memory else None,
        schema.number(0.1, 1024)(args.cpus, schema.At("--cpus")) if args.cpus else None,
    )


def run(args: argparse.Namespace) -> int:
    """Run ``batten plan``; exit code 1 where a finding would stop a deployment."""
    plan = fleet.plan_inventory(args.inventory, args.limit, given(args))
    if args.json:
        print_json(to_json(plan))
    else:
        from batten import report

        print(report.plan_text(plan))
    return 1 if any(finding.severity == "error" for finding in plan.findings) else 0
