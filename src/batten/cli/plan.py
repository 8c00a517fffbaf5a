"""What would be deployed: per service limits, health, privileges, secrets and ports, and each host's memory budget.

Touches nothing, and works before Docker exists. A host's capacity is taken from --memory and --cpus, else from
stack_capacity in the inventory, else from the last run's record, else the host is asked."""

from __future__ import annotations

import argparse
from pathlib import Path

from batten import fleet
from batten.cli import check_directory, inventory_argument, print_json, write
from batten.errors import BattenError
from batten.plan import schema
from batten.plan.model import to_json
from batten.plan.spec import side_by_side, smallest


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten plan`` takes."""
    inventory_argument(parser)
    capacity_arguments(parser)
    parser.add_argument("--min-spec", action="store_true", help="the smallest host for these stacks, and droplet sizes")
    parser.add_argument("--compare", metavar="SIZES", help="the plans of new hosts side by side, such as 4G,8G,16G")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw each host's memory into FILE")


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
    if args.min_spec:
        return _min_spec(args)
    if args.compare:
        return _compare(args)
    if args.svg:
        check_directory(args.svg)
    plan = fleet.plan_inventory(args.inventory, args.limit, given(args))
    if args.svg:
        from batten import report

        write(args.svg, report.budget_svg(plan))
    if args.json:
        print_json(to_json(plan))
    else:
        from batten import report

        print(report.plan_text(plan))
    return 1 if any(finding.severity == "error" for finding in plan.findings) else 0


def _min_spec(args: argparse.Namespace) -> int:
    found = {host: smallest(stacks) for host, stacks in fleet.settings_of(args.inventory, args.limit).items()}
    if args.json:
        print_json({"hosts": {host: to_json(spec) for host, spec in found.items()}})
    else:
        from batten import report

        print("\n".join(report.spec_text(host, spec) for host, spec in sorted(found.items())))
    return 0


def _compare(args: argparse.Namespace) -> int:
    """Exit code 1 where the stacks fit none of the sizes."""
    at = schema.At("--compare")
    memories = [schema.size(text.strip(), at) for text in args.compare.split(",") if text.strip()]
    cpus = given(args).cpus or 4.0
    settings = fleet.settings_of(args.inventory, args.limit)
    found = {host: side_by_side(stacks, memories, cpus) for host, stacks in settings.items()}
    if args.json:
        print_json(
            {
                "hosts": {
                    host: {
                        str(memory): {"error": one.what} if isinstance(one, BattenError) else to_json(one)
                        for memory, one in plans.items()
                    }
                    for host, plans in found.items()
                }
            }
        )
    else:
        from batten import report

        print("\n\n".join(report.compared_text(host, plans) for host, plans in sorted(found.items())))
    fits = (not isinstance(one, BattenError) for plans in found.values() for one in plans.values())
    return 0 if any(fits) else 1
