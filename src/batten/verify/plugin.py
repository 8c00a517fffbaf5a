"""A pytest plugin that writes what the controls recorded to a file, for `batten verify` to report."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batten.verify.session import RESULTS

if TYPE_CHECKING:
    import pytest


class Recorder:
    """Collects the properties that ``test_control`` records, in the order in which they ran."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.controls: list[dict[str, Any]] = []
        self.errors: list[dict[str, str]] = []
        self.hosts: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        properties: dict[str, Any] = dict(report.user_properties)
        if control := properties.get("batten_control"):
            self.controls.append(control | {"stand_in": properties.get("batten_stand_in", "")})
        if host := properties.get("batten_host"):
            self.hosts.append(host)
        if (error := properties.get("batten_error")) and error not in self.errors:
            self.errors.append(error)

    def pytest_sessionfinish(self) -> None:
        self.path.write_text(json.dumps({"controls": self.controls, "errors": self.errors, "hosts": self.hosts}))


def pytest_configure(config: pytest.Config) -> None:
    if path := os.environ.get(RESULTS):
        config.pluginmanager.register(Recorder(Path(path)))
