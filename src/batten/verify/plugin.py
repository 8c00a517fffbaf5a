"""A pytest plugin that writes what the controls recorded to a file, for `batten verify` to report.

A control that ends without a verdict, whatever the reason, is an error of its host: none gets lost.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batten.verify.session import RESULTS

if TYPE_CHECKING:
    import pytest

BROKEN = "a bug of batten: open an issue with this line and `batten verify --json`"


class Recorder:
    """Collects the properties that ``test_control`` records, in the order in which they ran."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.controls: list[dict[str, Any]] = []
        self.errors: dict[str, dict[str, str]] = {}  # of each host, what ended its controls, and the fix
        self.hosts: list[dict[str, Any]] = []
        self.cases: dict[str, str] = {}  # of the tests, host by id
        self.told: set[str] = set()

    def pytest_itemcollected(self, item: pytest.Function) -> None:
        case: Any = item.callspec.params["case"]
        self.cases[item.nodeid] = case.host

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties: dict[str, Any] = dict(report.user_properties)
        control, error = properties.get("batten_control"), properties.get("batten_error")
        if report.when == "call":
            if control:
                self.told.add(report.nodeid)
                self.controls.append(control | {"stand_in": properties.get("batten_stand_in", "")})
            if host := properties.get("batten_host"):
                self.hosts.append(host)
            if error:
                self._fail(report.nodeid, **error)
            elif report.failed and (control or {}).get("status") != "fail":
                self._fail(report.nodeid, self.cases[report.nodeid], crash(report), BROKEN)
        elif report.failed:
            self._fail(report.nodeid, self.cases[report.nodeid], crash(report), BROKEN)

    def pytest_sessionfinish(self) -> None:
        silent = [host for test, host in self.cases.items() if test not in self.told]
        for host in sorted(set(silent)):
            self._fail("", host, f"{silent.count(host)} of its controls gave no verdict", BROKEN)
        errors = [  # one of each host, as a report has them
            {"host": host, "what": "; ".join(found), "fix": next(iter(found.values()))}
            for host, found in self.errors.items()
        ]
        self.path.write_text(json.dumps({"controls": self.controls, "errors": errors, "hosts": self.hosts}))

    def _fail(self, test: str, host: str, what: str, fix: str) -> None:
        """Note an error, once: where a host cannot be read, each of its controls comes to the same."""
        self.told.add(test)
        self.errors.setdefault(host, {})[what] = fix


def crash(report: pytest.TestReport) -> str:
    """The exception that ended a test, and the line that raised it."""
    found = getattr(report.longrepr, "reprcrash", None)
    if found is None:
        return report.longreprtext.strip().rpartition("\n")[2]
    return f"{found.message.partition(chr(10))[0]} ({Path(found.path).name}, line {found.lineno})"


def pytest_configure(config: pytest.Config) -> None:
    if path := os.environ.get(RESULTS):
        config.pluginmanager.register(Recorder(Path(path)))
