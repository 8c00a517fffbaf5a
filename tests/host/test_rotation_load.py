"""Every rotatable secret of the reference stack is rotated while it works: nobody who can reload notices."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.site import Site
from tests.rig import hosts, images, registry

LOAD = (Path(__file__).parent / "load.py").read_text()
DOMAIN = "rotation.localhost"
RECREATED_AT_MOST = 5.0  # seconds that a service that has to be made anew may be away


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    registry.ensure_registry()
    images.ensure_images()
    host = hosts.start("batten-rotation", "base")
    try:
        found = Site(
            host,
            tmp_path_factory.mktemp("rotation"),
            stack_name="demo",
            stack_domain=DOMAIN,
            stack_profiles=["observability", "auth"],
            stack_images={"api": "batten/sample-api:1.0.0"},
        )
        found.up()
        yield found
    finally:
        host.remove()


class Load:
    """The load of load.py, on the host."""

    def __init__(self, site: Site) -> None:
        self.site, host = site, site.host
        # A stream: the engine itself remembers 256 events, and every health check is some.
        events = "docker events --filter event=die --filter event=health_status --format '{{json .}}' >/run/events"
        host.run(f"touch /run/load; systemd-run -q --unit=watch-events sh -c {shlex.quote(events)}")
        self.process = subprocess.Popen(
            ["docker", "exec", "-i", host.name, "python3", "-", site.stack, DOMAIN, host.address, "/run/load"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin
        self.process.stdin.write(LOAD)
        self.process.stdin.close()
        time.sleep(3)

    def end(self) -> dict[str, Any]:
        """Return what the load found."""
        time.sleep(1)
        self.site.host.run("rm -f /run/load")
        assert self.process.stdout
        found: dict[str, Any] = json.loads(self.process.stdout.read())
        assert self.process.wait() == 0
        return {**found, "away": self.away()}

    def away(self) -> dict[str, float]:
        """Return the seconds from a container's end until its service was healthy again, by ``project/service``."""
        ended: dict[str, float] = {}
        away: dict[str, float] = {}
        for line in self.site.host.run("systemctl stop watch-events; cat /run/events").stdout.splitlines():
            event = json.loads(line)
            labels = event["Actor"]["Attributes"]
            name = f"{labels.get('com.docker.compose.project')}/{labels.get('com.docker.compose.service')}"
            at = event["timeNano"] / 1e9
            if event["Action"] == "die":
                ended.setdefault(name, at)
            if event["Action"] == "health_status: healthy" and name in ended:
                away[name] = round(max(away.get(name, 0), at - ended.pop(name)), 1)
        assert not ended, f"never came back: {ended}"
        return away


def test_all_at_once_under_load(site: Site) -> None:
    before, infisical = site.lives(), site.lives("infisical")
    old = {name: site.secret(name) for name in ("app_password", "postgres_tls_certificate", "webhook_signing_key")}
    load = Load(site)
    rotated = site.batten("rotate", "--all")["hosts"][site.host.name]
    found = load.end()
    (site.directory / "load.json").write_text(json.dumps({**found, "rotated": rotated}, indent=1))
    assert found["requests_a_second"] >= 40
    assert found["transactions_a_second"] >= 200
    assert found["failed_requests"] == []
    assert found["failed_transactions"] == []
    assert found["users"] == ["app_a", "app_b"]
    assert {name for name, value in old.items() if site.secret(name) == value} == set()
    assert {name: away for name, away in found["away"].items() if away > RECREATED_AT_MOST} == {}
    after = site.lives()
    untouched = {name for name in before if before[name] == after[name]}
    assert {"postgres", "pgbouncer", "api", "caddy", "prometheus", "loki"} <= untouched
    assert site.lives("infisical")["redis"] == infisical["redis"]
    assert site.lives("infisical")["db"] == infisical["db"]
    assert {"app_password", "postgres_tls", "infisical_identity"} <= set(rotated["demo"]["rotated"])
    assert "redis_password" in rotated["infisical"]["rotated"]
    assert not site.up().changed
