"""The small stack `shop` (stacks/shop) on a host of the rig, deployed as a user does it: by playbooks/stack.yml."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.host import site
from tests.rig import hosts

ROOT = site.ROOT
BASE = Path(__file__).parent / "stacks" / "shop" / "compose.yaml"
HOLDER = """p=$(sed -n 's/.*"pid": \\([0-9]*\\).*/\\1/p' /run/lock/batten-shop.lock) && test -n "$p" && kill -0 $p"""
"""Shell: succeeds while a run holds the stack; ``$p`` is its process."""


@dataclass(frozen=True)
class Container:
    """One container: ``life`` is its ID and the time of its last start, so that equal lives mean untouched."""

    life: str
    status: str
    health: str
    image: str


@dataclass(frozen=True)
class Run:
    """What one run of the playbook came to; ``result`` is the module's."""

    code: int
    result: Mapping[str, Any]
    output: str

    @property
    def done(self) -> list[tuple[str, str]]:
        """``(service, action)`` in order."""
        return [(one["service"], one["action"]) for one in self.result.get("actions", [])]

    @property
    def message(self) -> str:
        return str(self.result.get("msg", ""))

    @property
    def changed(self) -> bool:
        return bool(self.result.get("changed"))


class Shop:
    """The stack on one host. ``variables`` are the inventory's; every run lays its own over them."""

    def __init__(self, host: hosts.Host, directory: Path, **variables: Any) -> None:
        self.host = host
        self.project = variables.get("stack_project") or "shop"
        self.directory = directory
        self.variables = {"stack_capacity": {"memory": "6G", "cpus": 2}, "stack_base": str(BASE), **variables}

    @property
    def inventory(self) -> Path:
        """The inventory, as it is now."""
        return site.inventory(self.directory, {self.host.name: {"stack_name": "shop", **self.variables}})

    def up(self, **variables: Any) -> Run:
        """Run the playbook; AssertionError with all it said if it fails."""
        run = self.run(**variables)
        assert run.code == 0, run.message or run.output
        return run

    def refused(self, **variables: Any) -> Run:
        """Run the playbook, which must fail with a message of ours."""
        run = self.run(**variables)
        assert run.code == 2, run.output
        assert run.message, run.output
        return run

    def run(self, *options: str, **variables: Any) -> Run:
        """Run the playbook with what ``variables`` lay over the inventory."""
        return self.finish(self.start(*options, **variables))

    def start(self, *options: str, **variables: Any) -> subprocess.Popen[str]:
        """Start the playbook in a process group of its own."""
        return site.play("playbooks/stack.yml", self.inventory, self.directory, options, variables)

    def finish(self, process: subprocess.Popen[str]) -> Run:
        """Wait for a run and read what it said."""
        report, output = site.read(process)
        result = report["plays"][0]["tasks"][-1]["hosts"][self.host.name]
        return Run(process.returncode, result, output)

    def containers(self) -> dict[str, Container]:
        """Return what is there of the project, by service."""
        return {
            site.service(one): Container(
                site.life(one),
                one["State"]["Status"],
                one["State"].get("Health", {}).get("Status", ""),
                one["Config"]["Image"],
            )
            for one in site.containers(self.host, self.project)
        }

    def touched_since(self, before: Mapping[str, Container]) -> set[str]:
        """Return the services whose container is another, gone, new, or was started again."""
        now = self.containers()
        lives = {name: one.life for name, one in now.items()}
        old = {name: one.life for name, one in before.items()}
        return {name for name in {*old, *lives} if old.get(name) != lives.get(name)}

    def all_healthy(self) -> bool:
        found = self.containers()
        return bool(found) and {one.health for one in found.values()} == {"healthy"}

    def name(self, service: str) -> str:
        return f"{self.project}-{service}-1"

    def sql(self, statement: str, database: str = "app") -> str:
        words = ["docker", "exec", self.name("db"), "psql", "-U", "postgres", "-d", database, "-Atqc", statement]
        return self.host.run(words).stdout.strip()

    def get(self, path: str) -> str:
        """What the stack answers on its public port, through proxy and API."""
        return site.get(self.host, path)

    def current(self) -> str:
        """The ID of the release that ``current`` names, or nothing."""
        return Path(self.host.run("readlink /opt/batten/shop/current", check=False).stdout.strip()).name

    def good(self) -> str:
        """The ID of the last good release, or nothing."""
        text = self.host.run("cat /var/lib/batten/shop/good.json", check=False).stdout
        return str(json.loads(text)["release"]) if text else ""

    def works(self) -> bool:
        """Whether a run is at work on the host."""
        return self.host.run(HOLDER, check=False).returncode == 0

    def audit(self) -> list[dict[str, Any]]:
        text = self.host.run("cat /var/log/batten/audit.jsonl", check=False).stdout
        return [json.loads(line) for line in text.splitlines()]

    def wipe(self) -> None:
        """Take away all of the stack, its data too, for a new first run."""
        self.host.run(
            "systemctl disable -q --now batten-stack@shop batten-secrets@shop 2>/dev/null;"
            "docker ps -aq | xargs -r docker rm -f -v >/dev/null;"
            "docker volume ls -q | xargs -r docker volume rm >/dev/null; docker network prune -f >/dev/null;"
            "umount /opt/batten/shop/secrets 2>/dev/null; rm -rf /opt/batten /srv/shop /var/lib/batten/shop;"
            "rm -rf /var/log/batten /etc/systemd/system/docker.service.d/batten-shop.conf;"
            "systemctl daemon-reload"
        )


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Poll until ``condition`` holds; AssertionError naming ``what`` if it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come in {seconds:.0f} s"
        time.sleep(0.1)


def services(differences: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return the services that a run found different."""
    return {one["name"] for one in differences if one["scope"] == "service"}
