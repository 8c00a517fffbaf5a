"""Everything CI runs, in a checkout: linters, tests of units, contracts, hosts and drift, molecule. Asks nothing.

batten test                 all stages
batten test lint unit       some of them
batten test unit -k NAME    tests whose name holds NAME
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from batten import resources
from batten.cli import print_json
from batten.errors import BattenError

STAGES = {
    "lint": "tests/lint",
    "unit": "tests/unit",
    "contract": "tests/contract",
    "host": "tests/host",
    "drift": "tests/drift",
    "molecule": "tests/molecule",
}
NEED_RIG = ("host", "drift", "molecule")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten test`` takes."""
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"{', '.join(STAGES)}; default: all, in this order")
    parser.add_argument("-k", dest="expression", metavar="NAME", help="only tests whose name matches, as pytest's -k")
    parser.add_argument("-x", dest="first", action="store_true", help="stop at the first failure")


def run(args: argparse.Namespace) -> int:
    """Run ``batten test``; pytest's own summary is the last line."""
    root = resources.checkout()
    if root is None:
        raise BattenError("tests run in a checkout only", "", "git clone the project, then ./batten test")
    for stage in args.stages:
        if stage not in STAGES:
            raise BattenError(f"unknown stage {stage!r}", "batten test", f"stages: {', '.join(STAGES)}")
    import pytest

    os.chdir(root)
    sys.path.insert(0, str(root))
    chosen = [stage for stage in STAGES if not args.stages or stage in args.stages]
    folders = [STAGES[stage] for stage in chosen if (root / STAGES[stage]).is_dir()]
    options = [*(["-k", args.expression] if args.expression else []), *(["-x"] if args.first else [])]
    # Hosts mostly wait, so three workers keep two processors busy. A file's tests share hosts and stay on one worker;
    # what takes longest begins first.
    parallel = ["--numprocesses=3", "--dist=loadfile", "--no-loadscope-reorder"]
    timing = Timing()
    with _standard_output_is_standard_error(args.json):
        if set(chosen) & set(NEED_RIG):
            timing.rig()
        code = pytest.main([*parallel, *options, *reversed(folders)], plugins=[timing])
    if args.json:
        print_json({"ok": code == 0, "seconds": timing.seconds(), "outcomes": dict(timing.outcomes)})
    return 1 if code else 0


class Timing:
    """Gets the rig up, and as a pytest plugin says where the time went: seconds of all workers together, by stage."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self._spent: dict[str, float] = {}

    def seconds(self) -> dict[str, float]:
        """Return the seconds spent, by stage."""
        return {stage: round(seconds, 1) for stage, seconds in self._spent.items()}

    def rig(self) -> None:
        """Make what the tests of hosts stand on."""
        from tests.rig.__main__ import up

        started = time.monotonic()
        up()
        self._spent["rig"] = time.monotonic() - started

    def pytest_runtest_logreport(self, report: Any) -> None:
        stage = next((stage for stage, folder in STAGES.items() if report.nodeid.startswith(folder)), "other")
        self._spent[stage] = self._spent.get(stage, 0) + report.duration
        if report.when == "call" or report.outcome != "passed":
            self.outcomes[report.outcome] += 1

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.section("where the time went")
        for stage, seconds in self._spent.items():
            terminalreporter.line(f"{stage:10} {int(seconds) // 60:3} min {seconds % 60:4.1f} s")


@contextmanager
def _standard_output_is_standard_error(wanted: bool) -> Iterator[None]:
    """Send what pytest and its children print to standard error, so that standard output holds the JSON alone."""
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
