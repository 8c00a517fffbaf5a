"""What stays on one worker when tests run side by side."""

from __future__ import annotations

import pytest


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks (xdist/remote.py)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests share hosts and often are a story; scenarios and linters stand alone."""
    for item in items:
        alone = item.path.parent.name in ("molecule", "lint")
        item.add_marker(pytest.mark.xdist_group(item.nodeid if alone else item.nodeid.split("::")[0]))
