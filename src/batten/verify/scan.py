"""Which ports of a host answer from outside: plain TCP connects from the controller, else from another host."""

from __future__ import annotations

import json
import resource
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import BoundedSemaphore
from typing import TYPE_CHECKING

from batten.errors import BattenError
from batten.verify.live import PROBE, Run
from batten.verify.probe import BATCH, attempts

if TYPE_CHECKING:
    from batten.plan.model import StackPlan
    from batten.verify.model import LiveHost

Vantage = Callable[[list[tuple[str, int]]], list[str]]
Outside = Mapping[str, Mapping[int, str]]
"""Address to port to ``open``, ``refused``, ``unreachable`` or ``silent``; only addresses that gave an answer."""

MOST_ADDRESSES, MOST_PORTS, SECONDS = 4, 300, 3.0
MOST_SCANS, OTHER_FILES = 32, 400  # at once; files for what else is under way: an ssh with its pipes for each host
# What is looked for on every host: remote administration, engines, databases, queues, dashboards, exporters.
KNOWN = (
    *(21, 22, 23, 25, 53, 80, 111, 443, 445, 631, 2049, 2375, 2376, 2377, 2379, 3000, 3100, 3306, 3389, 4243, 5000),
    *(5432, 5601, 5672, 5900, 6379, 6432, 6443, 7946, 8000, 8080, 8081, 8086, 8123, 8222, 8443, 8500, 8888, 9000, 9090),
    *(9092, 9093, 9100, 9121, 9187, 9200, 10250, 11211, 12345, 15672, 19999, 27017),
)


def slots(files: int) -> int:
    """How many scans this process may make side by side, of the number of files that it may open (RLIMIT_NOFILE)."""
    return max(1, (files - OTHER_FILES) // BATCH) if files > 0 else MOST_SCANS


_scanning = BoundedSemaphore(min(MOST_SCANS, slots(resource.getrlimit(resource.RLIMIT_NOFILE)[0])))


def from_here(targets: list[tuple[str, int]]) -> list[str]:
    """Connect from this machine; hosts that are read side by side take turns.

    :raises BattenError: too many files are open.
    """
    try:
        with _scanning:
            return attempts(targets, SECONDS)
    except OSError as error:
        raise BattenError(f"ports cannot be tried: {error.strerror}", "this machine", "ulimit -n 4096") from error


def from_host(run: Run) -> Vantage:
    """Connect from a host. ``run`` runs a shell command there; one that cannot answer sees nothing."""

    def look(targets: list[tuple[str, int]]) -> list[str]:
        words = shlex.join(["python3", "-I", "-c", PROBE.read_text(), json.dumps([SECONDS, targets])])
        try:
            done = run(words)
            return list(json.loads(done.stdout)) if done.rc == 0 else ["silent"] * len(targets)
        except Exception:  # noqa: BLE001 - each testinfra backend raises its own kind; a host may be down
            return ["silent"] * len(targets)

    return look


def outside(live: LiveHost, stacks: Iterable[StackPlan], vantages: Sequence[Vantage]) -> Outside:
    """Return what the first vantage that reaches the host saw; nothing if none shares a route with it."""
    ports = wanted(live, stacks)
    targets = [(address, port) for address in live.addresses[:MOST_ADDRESSES] for port in ports]
    for look in vantages:
        found: dict[str, dict[int, str]] = {}
        for (address, port), word in zip(targets, look(targets), strict=True):
            found.setdefault(address, {})[port] = word
        answered = {address: words for address, words in found.items() if {"open", "refused"} & set(words.values())}
        if answered:
            return answered
    return {}


def wanted(live: LiveHost, stacks: Iterable[StackPlan]) -> list[int]:
    """The ports that are tried: planned, listened on by anything here or in a container, and well known ones."""
    planned = [port.published for stack in stacks for one in stack.services.values() for port in one.ports]
    listened = [one.port for one in live.listeners if one.protocol == "tcp"]
    inside = [port for one in live.tried.values() for port in one.get("network", {}).get("listens", ())]
    return sorted(dict.fromkeys([*planned, *listened, *inside, *KNOWN]))[:MOST_PORTS]
