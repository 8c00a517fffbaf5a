"""Run the controls on the live hosts. Exit code 0 all hold, 2 some fail, 1 a host could not be judged."""

from __future__ import annotations

import argparse
import shutil
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from batten import runner
from batten.cli import check_directory, inventory_argument, note, print_json, write

if TYPE_CHECKING:
    from batten.verify.model import Report


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten verify`` takes."""
    inventory_argument(parser)
    parser.add_argument("--all", action="store_true", help="list the controls that hold as well")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as one page to read, print or send")
    parser.add_argument("--junit", type=Path, metavar="FILE", help="write the report as JUnit XML, for CI")


def run(args: argparse.Namespace) -> int:
    """Run ``batten verify``."""
    from batten.verify import run as run_controls
    from batten.verify.report import text

    for path in filter(None, (args.html, args.junit)):
        check_directory(path)
    report = run_controls(runner.inventory_source(args.inventory), limit=args.limit)
    if args.html:
        write_html(report, args.html, str(args.inventory))
    if args.junit:
        from batten.report.junit import junit

        _write(args.junit, junit(report, inventory=str(args.inventory)))
    if args.json:
        print_json(report.to_json())
    else:
        print(text(report, every=args.all, width=terminal_width()), end="")
    return report.exit_code


def terminal_width() -> int | None:
    """Return the columns of the terminal, None where standard output is a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def write_html(report: Report, path: Path, inventory: str) -> None:
    """Write the report as a page, and say so on standard error.

    :raises BattenError: it cannot be written there.
    """
    from batten.report.html import html

    _write(path, html(report, inventory=inventory, version=version("batten")))


def _write(path: Path, text: str) -> None:
    write(path, text)
    note(f"report written to {path}")
