"""What a look for drift costs: on the demo host, over 5, 20 and 50 services of one host, over 1, 5 and 20 hosts."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.timing import BIN, DEMO, Timed, medians, timed
from tests.host.fleet import Fleet
from tests.rig import hosts

ROUNDS = 5


def on_the_demo() -> dict[str, object]:
    """The verb and its part on the host, against a ping; the reference stack with Infisical."""
    host = hosts.get("batten-demo")
    verb = [str(BIN / "batten"), "drift", "-i", str(DEMO), "--json"]
    found = json.loads(subprocess.run(verb, capture_output=True, text=True, check=False).stdout)["hosts"][host.name]
    if found.get("error") or found["drift"] or found["errors"]:
        raise SystemExit(f"the demo host is not as planned, run site.yml first:\n{json.dumps(found, indent=1)}")
    ping = [str(BIN / "ansible"), "all", "-m", "ping", "-i", str(DEMO)]
    whole, pinged, looked = medians(ROUNDS, lambda: timed(*verb), lambda: timed(*ping), lambda: on_the_host(host))
    ratio = round(whole / pinged, 2)
    return {"verb_seconds": whole, "ping_seconds": pinged, "ratio": ratio, "on_the_host_seconds": looked}


def over_services() -> dict[str, object]:
    """Seconds on one host by the number of its services."""
    found: dict[str, object] = {}
    for count in (5, 20, 50):
        with tempfile.TemporaryDirectory() as directory:
            fleet = Fleet([f"batten-bench-services-{count}"], Path(directory), services=count)
            try:
                fleet.up()
                (host,) = fleet.hosts.values()
                (found[str(count)],) = medians(ROUNDS, partial(on_the_host, host))
            finally:
                fleet.remove()
    return found


def over_hosts() -> dict[str, object]:
    """Seconds of the verb by the number of hosts, against a ping of as many."""
    with tempfile.TemporaryDirectory() as directory:
        fleet = Fleet([f"batten-bench-fleet-{number:02}" for number in range(20)], Path(directory))
        try:
            fleet.up()
            return {str(count): _side_by_side(fleet, count) for count in (1, 5, 20)}
        finally:
            fleet.remove()


def _side_by_side(fleet: Fleet, count: int) -> dict[str, float]:
    limit = ["--limit", ",".join(sorted(fleet.hosts)[:count])]
    inventory = ["-i", str(fleet.inventory)]
    verb = [str(BIN / "batten"), "drift", *inventory, *limit, "--json"]
    ping = [str(BIN / "ansible"), "all", "-m", "ping", "--forks", "20", *inventory, *limit]
    whole, pinged = medians(3, lambda: timed(*verb), lambda: timed(*ping))
    return {"verb_seconds": whole, "ping_seconds": pinged, "ratio": round(whole / pinged, 2)}


def on_the_host(host: hosts.Host) -> Timed:
    """One look, from the start of the program to its end."""
    return timed("docker", "exec", host.name, "python3", "/usr/local/lib/batten/batten-host.pyz", "drift")


BENCHMARKS: dict[str, Callable[[], dict[str, object]]] = {
    "drift": on_the_demo,
    "drift-services": over_services,
    "drift-hosts": over_hosts,
}
