"""The stack `yard` (stack/) on a host of the rig: looked at, repaired and judged, and brought back when a row fails."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from batten.plan.model import StackPlan, stack_from_json
from batten.verify.catalogue import cases, judge
from batten.verify.live import endpoints, read, sysctl_names
from tests.drift.row import STACK, STATE, Difference
from tests.host.site import Site, lives
from tests.rig import hosts

HERE = Path(__file__).parent
ROLE = yaml.safe_load((HERE.parents[1] / "roles/host/defaults/main.yml").read_text())
BASE = HERE / "stack" / "compose.yaml"
_RULE = {"facet": "restart", "reason": "a trial of another policy", "until": "2999-12-31"}
POLICY = [{**_RULE, "service": "proxy", "policy": "ignore"}, {**_RULE, "service": "worker", "policy": "report"}]


@dataclass(frozen=True)
class Look:
    """What ``batten-host drift --json`` said."""

    rows: tuple[Mapping[str, Any], ...]
    errors: tuple[Mapping[str, str], ...]
    left: tuple[Mapping[str, Any], ...] = ()

    @property
    def found(self) -> frozenset[Difference]:
        return _names(self.rows)

    @property
    def ignored(self) -> frozenset[Difference]:
        """What the policy of the inventory leaves out."""
        return _names(self.left)

    @property
    def is_empty(self) -> bool:
        """Whether all could be looked at, and nothing was found."""
        return not self.rows and not self.errors

    def __str__(self) -> str:
        return json.dumps({"drift": self.rows, "errors": self.errors}, indent=1)


class Yard(Site):
    """One host with the stack on it."""

    def __init__(self, host: hosts.Host, directory: Path, **variables: Any) -> None:
        ours = {
            "stack_name": STACK,
            "stack_base": str(BASE),
            "stack_drift": POLICY,
            "docker_hold": True,
            "infisical_mode": "none",
        }
        super().__init__(host, directory, **ours, stack_capacity={"memory": "6G", "cpus": 2}, **variables)

    def deploy(self) -> None:
        """Run site.yml, and put on the host what the rows need."""
        self.up()
        self.host.run("docker pull -q batten/sample-api:1.0.1")
        self.host.put("/usr/local/bin/hand", (HERE / "hand.py").read_text(), "0755")
        plan = self.host.run(f"cat {STATE}/plan.json").stdout
        self.plans: dict[str, StackPlan] = {STACK: stack_from_json(json.loads(plan))}
        self.waived = self.failing()

    def hand(self, script: str) -> None:
        """Run shell on the host, as a person would; RigError if any of it fails."""
        self.host.run(f"set -e\n{script}")

    def look(self) -> Look:
        """Return what a look at the host finds. It changes nothing."""
        done = self.ask("drift", "all", "--json")
        assert done.stdout, done.stderr
        report = json.loads(done.stdout)
        return Look(tuple(report["drift"]), tuple(report["errors"]), tuple(report["ignored"]))

    def repair(self) -> subprocess.CompletedProcess[str]:
        """Bring the host back to its release, without a controller."""
        return self.ask("repair", STACK)

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Call the host's own program."""
        return self.host.run(["python3", "/usr/local/lib/batten/batten-host.pyz", *words], check=False)

    def starts(self) -> dict[str, str]:
        """Return the service of each container of ours, by its ID and the time of its last start."""
        return {start: service for service, start in lives(self.host, STACK)}

    def failing(self) -> set[str]:
        """The controls of ``batten verify`` that fail now."""
        live = read(
            self.host.name,
            self.host.answer,
            {STACK: STACK},
            more=[*endpoints(self.plans), *sysctl_names(ROLE)],
        )
        found = cases(self.host.name, self.plans)
        return {case.entry.id for case in found if judge(case, self.plans, live, ROLE).status == "fail"}

    def bring_back(self, undo: str = "") -> None:
        """Whatever it takes to have the host clean again. AssertionError if it cannot be."""
        self.host.run(undo or "true", check=False)
        if self.look().is_empty or (self.repair().returncode == 0 and self.look().is_empty):
            return
        self.run()
        if self.look().is_empty:
            return
        self.host.run("docker ps -aq | xargs -r docker rm -f; docker network prune -f")
        self.up()
        again = self.look()
        assert again.is_empty, f"the host cannot be brought back: {again}"


def named(found: Iterable[Difference], expected: Iterable[Difference]) -> frozenset[Difference]:
    """Return ``found`` with the names that a pattern of ``expected`` matches written as that pattern."""
    patterns = [one for one in expected if "*" in one[1]]

    def name(one: Difference) -> Difference:
        for scope, pattern, facet in patterns:
            if (one[0], one[2]) == (scope, facet) and fnmatchcase(one[1], pattern):
                return scope, pattern, facet
        return one

    return frozenset(map(name, found))


def _names(rows: Iterable[Mapping[str, Any]]) -> frozenset[Difference]:
    return frozenset((one["scope"], one["name"], one["facet"]) for one in rows)
