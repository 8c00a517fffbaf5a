"""One row of the drift matrix, and the words that rows are written in."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

STACK = "yard"
SERVICES = ("db", "api", "proxy", "worker")
CURRENT = f"/opt/batten/{STACK}/current"
TOP = f"/opt/batten/{STACK}"
STATE = f"/var/lib/batten/{STACK}"

Difference = tuple[str, str, str]
"""``(scope, name, facet)``."""


@dataclass(frozen=True)
class Row:
    """One thing that a hand does to the host.

    ``damage`` and ``undo`` are shell. ``found`` is exactly what a look must find, nothing of it for what is no drift;
    in its names ``*`` stands for what differs from host to host, such as a digest. ``touched`` are the services whose
    container the repair starts, restarts or makes anew, and no other. ``controls`` are those of ``batten verify`` that
    must fail then. ``refused`` are words of what a person is told where batten repairs nothing by itself; ``undo`` is
    then what that person does, else it clears away what is left. ``ignored`` are found and left by the policy, and by
    the repair too. ``site`` repairs by site.yml, not on the host alone.
    """

    name: str
    damage: str
    found: frozenset[Difference]
    touched: frozenset[str] = frozenset()
    controls: tuple[str, ...] = ()
    refused: str = ""
    undo: str = ""
    ignored: frozenset[Difference] = frozenset()
    site: bool = False


def row(
    name: str,
    damage: str,
    found: Iterable[Difference],
    touched: Iterable[str] = (),
    **more: Any,
) -> Row:
    """Return a row; shorter to write than the class."""
    return Row(name, damage, frozenset(found), frozenset(touched), **more)


def slug(row: Row) -> str:
    """The row's name as a test's."""
    return row.name.replace(" ", "-")


def container(service: str) -> str:
    return f"{STACK}-{service}-1"


def services(name: str, *facets: str) -> list[Difference]:
    """Differences of one service."""
    return [("service", name, facet) for facet in facets]


def remake(service: str, changes: Mapping[str, Any], *, kept_labels: bool = False) -> str:
    """Make a service's container again by hand, with values of its inspect document changed; see hand.py."""
    words = [f"{path}={json.dumps(value)}" for path, value in changes.items()]
    return shlex.join(["hand", "remake", container(service), *(["--kept-labels"] if kept_labels else []), *words])


def cgroup(service: str, controller: str, name: str, value: str, unified: str, unified_value: str) -> str:
    """Write a value into a container's control group, behind the engine's back: cgroup v1's file, or v2's."""
    return f"""
id=$(docker inspect -f '{{{{.Id}}}}' {container(service)})
if [ -e /sys/fs/cgroup/cgroup.controllers ]
then echo {unified_value} >/sys/fs/cgroup/system.slice/docker-$id.scope/{unified}
else echo {value} >/sys/fs/cgroup/{controller}/docker/$id/{name}; fi"""
