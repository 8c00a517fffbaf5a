"""`batten drift` over many hosts at once: one host's trouble never hides another's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from batten.report.drift import drift_text
from tests.host.fleet import Fleet

CLEAN, DRIFTED, BUSY, ENGINE_OFF, OFF = (f"batten-fleet-{os.getpid()}-{number}" for number in range(5))
DAMAGE = "docker update --pids-limit 77 idle-idle-0-1; chmod 0755 /var/lib/batten/idle"
FACETS = {("service", "pids"), ("host", "mode")}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    found = Fleet([CLEAN, DRIFTED, BUSY, ENGINE_OFF, OFF], tmp_path_factory.mktemp("fleet"))
    try:
        found.up()
        yield found
    finally:
        found.remove()


def test_five_hosts_at_once_each_with_a_line_of_its_own(fleet: Fleet) -> None:
    hosts = fleet.hosts
    hosts[DRIFTED].run(DAMAGE)
    hosts[BUSY].run("setsid -f flock /run/lock/batten-idle.lock sleep 600 >/dev/null 2>&1 </dev/null")
    hosts[BUSY].run('printf \'{"pid": 4711, "since": "now", "brief": false}\' >/run/lock/batten-idle.lock')
    hosts[ENGINE_OFF].run("systemctl stop docker.socket docker.service")
    hosts[OFF].power_off()

    done = fleet.drift("--json")
    assert done.returncode == 1, done.stdout + done.stderr
    found = json.loads(done.stdout)["hosts"]
    first, *lines = drift_text(found).splitlines()
    assert first == "5 hosts: 1 drifted, 1 without drift, 2 not looked at in full, 1 gave no answer"
    line = {text.split()[0]: text for text in lines[:5]}
    assert set(line) == set(hosts)
    assert " no drift (idle " in line[CLEAN]
    assert " 2 differences (idle " in line[DRIFTED]
    assert "ERROR another run holds this stack (pid 4711 since now)" in line[BUSY]
    assert "engine does not answer" in line[ENGINE_OFF]
    assert "this host's container does not run" in line[OFF]

    assert {name for name, one in found.items() if "error" in one} == {OFF}
    assert f"docker start {OFF}" in found[OFF]["error"]["fix"]
    rows = {(row["scope"], row["facet"]) for row in found[DRIFTED]["drift"]}
    assert rows == FACETS
    assert found[CLEAN]["drift"] == found[CLEAN]["errors"] == []


def test_a_host_tells_by_itself_what_drifted_and_that_a_run_repaired_it(fleet: Fleet) -> None:
    host = fleet.hosts[DRIFTED]
    assert host.run("systemctl is-active batten-drift.timer").stdout == "active\n"
    host.run(DAMAGE)
    host.run("systemctl start batten-drift.service")
    report = json.loads(host.run("cat /run/batten/drift.json").stdout)
    assert {(row["scope"], row["facet"]) for row in report["drift"]} == FACETS
    metrics = host.run("cat /run/batten/metrics/host.prom").stdout
    assert 'batten_drift{stack="idle",scope="service",facet="pids"} 1\n' in metrics
    told = host.run("journalctl -u batten-drift.service -p warning -o cat --no-pager").stdout
    assert "2 differences: " in told

    fleet.up("--limit", DRIFTED)
    host.run("systemctl start batten-drift.service")
    lines = [json.loads(line) for line in host.run("cat /var/log/batten/drift.jsonl").stdout.splitlines()]
    assert lines[-1]["drift"] == 0
    assert FACETS in [{(row["scope"], row["facet"]) for row in line["rows"]} for line in lines]
