"""What a real engine and a real Compose said of one stack, ``stk`` with services ``db``, ``api`` and ``once``.

``data/engine-26.1.5/stack.json`` is Engine 26.1.5 with Compose 5.6.1; test_engines.py says what the others are.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def read(name: str) -> dict[str, Any]:
    """Return a recording of ``data``, such as ``engine-26.1.5/stack``."""
    found: dict[str, Any] = json.loads((Path(__file__).parent / "data" / f"{name}.json").read_text())
    return found


STACK = read("engine-26.1.5/stack")
CONTAINERS: list[Any] = STACK["containers"]


def container(service: str, among: Iterable[Any] = CONTAINERS) -> Any:
    """Return the inspect document of a service's container."""
    return next(one for one in among if one["Config"]["Labels"]["com.docker.compose.service"] == service)


def changed(service: str, change: Mapping[str, Any]) -> list[Any]:
    """Return the containers with values of one of them replaced, each named by its keys with ``/`` between."""
    containers = copy.deepcopy(CONTAINERS)
    for path, value in change.items():
        part = container(service, containers)
        *keys, last = path.split("/")
        for key in keys:
            part = part[int(key) if isinstance(part, list) else key]
        part[last] = value
    return containers
