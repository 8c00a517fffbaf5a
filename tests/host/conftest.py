"""Hosts that test modules share: booting one costs seconds, and its engine keeps the images that it pulled."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from tests.host.shop import Shop
from tests.rig import hosts, images, registry


@pytest.fixture(scope="session")
def shop_host() -> Iterator[hosts.Host]:
    """A host with Debian's engine, for modules that take away all of their stack in the end."""
    registry.ensure_registry()
    images.ensure_images()
    host = hosts.start(f"batten-shop-{os.getpid()}", "engine")
    try:
        daemon = {"live-restore": True, "log-driver": "journald", "registry-mirrors": [registry.mirror_url()]}
        host.put("/etc/docker/daemon.json", json.dumps(daemon))
        host.run("systemctl restart docker")
        yield host
    finally:
        host.remove()


@pytest.fixture(scope="module")
def shop(shop_host: hosts.Host, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """The small stack, not yet deployed. A module's tests are a story: each leaves the stack healthy."""
    found = Shop(shop_host, tmp_path_factory.mktemp("shop"))
    yield found
    found.wipe()
