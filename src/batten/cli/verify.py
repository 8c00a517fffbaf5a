"""Run the controls on the live hosts. Exit code 0 all hold, 2 some fail, 1 a host could not be judged."""

from __future__ import annotations

import argparse

from batten import runner
from batten.cli import inventory_argument, print_json


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten verify`` takes."""
    inventory_argument(parser)
    parser.add_argument("--all", action="store_true", help="list the controls that hold as well")


def run(args: argparse.Namespace) -> int:
    """Run ``batten verify``."""
    from batten.verify import run as run_controls
    from batten.verify.report import text

    report = run_controls(runner.inventory_source(args.inventory), limit=args.limit)
    if args.json:
        print_json(report.to_json())
    else:
        print(text(report, every=args.all), end="")
    return report.exit_code
