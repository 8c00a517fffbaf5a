"""The reference stack under load (load.py) while something is done to it, and what that cost it."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.host.site import Site

LOAD = (Path(__file__).parent / "load.py").read_text()


class Load:
    """The load of load.py, on the host."""

    def __init__(self, site: Site) -> None:
        self.site, host = site, site.host
        # A stream: the engine itself remembers 256 events, and every health check is some.
        events = "docker events --filter event=die --filter event=health_status --format '{{json .}}' >/run/events"
        host.run(f"touch /run/load; systemd-run -q --unit=watch-events sh -c {shlex.quote(events)}")
        self.process = subprocess.Popen(
            ["docker", "exec", "-i", host.name, "python3", "-", site.stack, site.domain, host.address, "/run/load"],
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
