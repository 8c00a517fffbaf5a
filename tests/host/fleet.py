"""Many small hosts: each runs a stack of containers that only sleep, of an image made on it from its own programs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.host import site
from tests.rig import hosts

IMAGE = "batten-test/idle:1"
# Nothing is pulled: a program, the C library and its loader are all that a container needs to sleep.
MAKE_IMAGE = f"""set -e
files=$(ldd /bin/sleep /bin/true | grep -o '/[^ ]*' | sort -u | grep -v ':')
tar -ch --absolute-names /bin/sleep /bin/true $files | docker import -c 'CMD ["/bin/sleep", "infinity"]' - {IMAGE}
"""


class Fleet:
    """Hosts of the rig in one inventory; ``services`` is how many containers each runs."""

    def __init__(self, names: Sequence[str], directory: Path, services: int = 2) -> None:
        self.directory = directory
        self.services = services
        with ThreadPoolExecutor(5) as pool:
            self.hosts = dict(zip(names, pool.map(_started, names), strict=True))

    @property
    def inventory(self) -> Path:
        """The inventory, with the stack that it names."""
        base = self.directory / "compose.yaml"
        idle = {"image": IMAGE, "healthcheck": {"test": ["CMD", "/bin/true"], "interval": "60s", "start_period": "5s"}}
        names = [f"idle-{number}" for number in range(self.services)]
        base.write_text(json.dumps({"services": dict.fromkeys(names, idle)}))
        stack = {
            "stack_name": "idle",
            "stack_base": str(base),
            "stack_drift_timer": "12h",
            "stack_capacity": {"memory": "20G", "cpus": 2},
            "infisical_mode": "none",
        }
        return site.inventory(self.directory, dict.fromkeys(self.hosts, stack))

    def up(self, *options: str) -> None:
        """Deploy on all hosts; AssertionError with all that was said if one fails."""
        process = site.play("playbooks/stack.yml", self.inventory, self.directory, ["--forks", "5", *options], {})
        report, output = site.read(process)
        assert process.returncode == 0, json.dumps(report["stats"]) + output

    def drift(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``batten drift`` over all hosts."""
        command = [sys.executable, "-m", "batten", "drift", "-i", str(self.inventory), *words]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(site.ROOT / "ansible.cfg"), "TMPDIR": str(self.directory)}
        return subprocess.run(command, cwd=site.ROOT, env=environment, capture_output=True, text=True, check=False)

    def remove(self) -> None:
        for host in self.hosts.values():
            host.remove()


def _started(name: str) -> hosts.Host:
    host = hosts.start(name, "engine")
    host.run(MAKE_IMAGE)
    return host
