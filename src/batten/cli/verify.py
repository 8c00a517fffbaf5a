"""Run the controls on the live hosts. Exit code 0 all hold, 2 some fail, 1 a host could not be judged."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from batten import runner
from batten.cli import inventory_argument, note, print_json

if TYPE_CHECKING:
    from batten.verify.model import Control, Report

_MARKS = {"pass": "ok", "fail": "FAIL", "waived": "waived", "not_applicable": "n/a"}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten verify`` takes."""
    inventory_argument(parser)
    parser.add_argument("--all", action="store_true", help="list the controls that hold as well")


def run(args: argparse.Namespace) -> int:
    """Run ``batten verify``."""
    from batten import verify

    source = runner.inventory_source(args.inventory)
    report = verify.run(source, limit=args.limit)
    if args.json:
        print_json(report.to_json())
    else:
        print(text(report, everything=args.all))
    for error in report.errors:
        note("batten: " + ": ".join(str(value) for value in error.values()))
    return report.exit_code


def text(report: Report, *, everything: bool = False) -> str:
    """Return the report for a person: what does not hold, with its evidence, then the counts and what to know."""
    shown = [control for control in report.controls if everything or control.status in ("fail", "waived")]
    lines = [_line(control) for control in shown]
    counts = ", ".join(f"{number} {status.replace('_', ' ')}" for status, number in report.counts.items() if number)
    lines.append(f"{counts or 'no control ran'} in {report.seconds:.1f} s")
    lines += report.notes
    if report.stand_ins:
        lines.append("stand-ins, not the real software: " + ", ".join(_stand_in(one) for one in report.stand_ins))
    return "\n".join(lines)


def _line(control: Control) -> str:
    where = "/".join(part for part in (control.host, control.stack, control.service) if part)
    cis = f" (CIS Docker {control.cis})" if control.cis else ""
    return f"{_MARKS[control.status]:7} {control.id}  {where}  {control.title}{cis}: {control.evidence}"


def _stand_in(one: object) -> str:
    return f"{one['service']} ({one['image']})" if isinstance(one, dict) else str(one)
