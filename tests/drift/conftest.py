"""A host with the stack for each half of the matrix; they run side by side."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.drift.yard import Yard
from tests.rig import hosts, images, registry


@pytest.fixture(scope="module")
def yard(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    registry.ensure_registry()
    images.ensure_images()
    half = request.module.__name__.rpartition("_")[2]
    host = hosts.start(f"batten-drift-{half}-{os.getpid()}", "engine")
    try:
        found = Yard(host, tmp_path_factory.mktemp("drift"))
        found.deploy()
        yield found
    finally:
        host.remove()


@pytest.fixture
def brought_back(yard: Yard, request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever happens in a row, the next one begins on a clean host."""
    failures = request.session.testsfailed
    yield
    if request.session.testsfailed > failures:
        yard.bring_back(request.getfixturevalue("row").undo)
        # What no look sees may be left, in a container.
        if not yard.failing() <= yard.waived:
            yard.host.run("docker ps -aq | xargs -r docker rm -f")
            yard.bring_back()
