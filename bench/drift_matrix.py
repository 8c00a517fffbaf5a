"""The drift matrix against what people use: python -m bench drift-matrix, or python -m bench.drift_matrix WORD...
for the rows whose name holds a word.

Every row of tests/drift is done to one host of the rig; ``docker compose up -d``, then the Ansible module
``community.docker.docker_compose_v2`` (state present), then ``batten-host repair`` run once each, over the same
release; what one has changed is done anew for the next. *Found* is what a tool tells: batten's look, a Compose that
does anything, a module that says changed. *Repaired* is for all three that batten's look finds nothing any more; the
tests show that this look can be believed.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.drift.matrix import started_since
from tests.drift.row import CURRENT, SERVICES, STATE, TOP, Row, container
from tests.drift.table import ROWS
from tests.drift.yard import Yard, named
from tests.rig import hosts, images, registry

LAYERS = ("compose.yaml", "compose.prod.yaml", "compose.selfhosted.yaml")
_DID = re.compile(r" (Creat|Recreat|Start|Restart|Remov|Stopp|Kill)\w+\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """What one tool came to at one row. ``touched`` are the services that it started anew."""

    found: bool
    repaired: bool
    touched: tuple[str, ...]
    seconds: float

    def shown(self, row: Row) -> str:
        """In a word or two, with who was interrupted for nothing."""
        if not row.found:
            word = "false alarm" if self.found else "quiet"
        elif self.repaired:
            word = "repaired"
        elif row.refused and self.found:
            word = "told"
        else:
            word = "found only" if self.found else "missed"
        others = sorted(set(self.touched) - row.touched)
        return f"{word}, also restarts {', '.join(others)}" if others else word


Tool = Callable[[Yard, Row], bool]
"""Run it; return whether it found anything."""


def batten(yard: Yard, row: Row) -> bool:
    """The look, and the repair on the host (by site.yml where the row says so)."""
    look = yard.look()
    if row.site:
        yard.up()
    else:
        yard.repair()
    return named(look.found, row.found) == row.found if row.found else bool(look.rows)


def compose(yard: Yard, _row: Row) -> bool:
    """``docker compose up -d`` in the release, as a person types it."""
    files = " ".join(f"-f {CURRENT}/{name}" for name in LAYERS)
    words = f"docker compose -p yard --project-directory {TOP}/base --env-file {CURRENT}/stack.env {files}"
    digest = "".join(f"{name}={value} " for name, value in digests(yard).items())
    done = yard.host.run(f"{digest}{words} --progress plain up -d 2>&1", check=False)
    return bool(_DID.search(done.stdout)) or done.returncode != 0


def docker_compose_v2(yard: Yard, _row: Row) -> bool:
    """The Ansible module, over the same files."""
    task = {
        "community.docker.docker_compose_v2": {
            "project_name": "yard",
            "project_src": f"{TOP}/base",
            "files": [f"{CURRENT}/{name}" for name in LAYERS],
            "env_files": [f"{CURRENT}/stack.env"],
            "state": "present",
        },
        "name": "compose",
        "environment": digests(yard),
    }
    playbook = yard.directory / "compose.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "stack", "gather_facts": False, "tasks": [task]}]))
    run = yard.run(playbook=str(playbook))
    return run.code != 0 or bool(run.task("compose").get("changed"))


TOOLS: dict[str, Tool] = {"docker compose up -d": compose, "docker_compose_v2": docker_compose_v2, "batten": batten}


def digests(yard: Yard) -> dict[str, str]:
    """Return the variables that the layers ask for; without them everything would look changed to Compose."""
    loaded = json.loads(yard.host.run(f"cat {STATE}/loaded.json").stdout)
    return {f"BATTEN_DIGEST_{name.upper()}": digest for name, digest in loaded.items()}


def tried(yard: Yard, row: Row) -> dict[str, Outcome]:
    """Do the row and run each tool once. What one tool left as it was is there for the next."""
    outcomes = {}
    damaged = False
    for name, tool in TOOLS.items():
        if not damaged:
            _first_names(yard)
            yard.hand(row.damage)
        before = yard.starts()
        begun = time.monotonic()
        found = tool(yard, row)
        seconds = round(time.monotonic() - begun, 1)
        touched = started_since(before, yard)
        damaged = not found and not touched and tool is not batten
        repaired = not damaged and yard.look().is_empty
        outcomes[name] = Outcome(found, repaired, tuple(sorted(touched)), seconds)
        if not damaged:
            yard.bring_back(row.undo)
    return outcomes


def _first_names(yard: Yard) -> None:
    """Have the containers by the names that rows call them: of two of a service Compose may have kept the second."""
    there = yard.host.run("docker ps -a --format '{{.Names}}'").stdout.split()
    if {container(service) for service in SERVICES} - {*there}:
        yard.host.run("docker ps -aq | xargs -r docker rm -f")
        yard.up()


def measure(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Return one dictionary a row: its name, and the outcome of each tool."""
    registry.ensure_registry()
    images.ensure_images()
    host = hosts.start("batten-bench-drift", "engine")
    try:
        yard = Yard(host, Path(tempfile.mkdtemp()))
        yard.deploy()
        found = []
        for row in rows:
            one = tried(yard, row)
            shown = {name: outcome.shown(row) for name, outcome in one.items()}
            print(f"{row.name}: {shown}", file=sys.stderr, flush=True)
            found.append(
                {"row": row.name, **{name: outcome.__dict__ | {"shown": shown[name]} for name, outcome in one.items()}}
            )
        return found
    finally:
        host.remove()


def table(measured: Sequence[dict[str, Any]]) -> str:
    """Return the figures as Markdown: the sums, then every row."""
    drifts = [one for one in measured if one["batten"]["shown"] not in ("quiet", "false alarm")]
    head = ["| | " + " | ".join(TOOLS) + " |", "|---" * (len(TOOLS) + 1) + "|"]
    sums = [
        f"| {word} of {len(drifts)} | "
        + " | ".join(str(sum(one[name][word] for one in drifts)) for name in TOOLS)
        + " |"
        for word in ("found", "repaired")
    ]
    rows = [f"| {one['row']} | " + " | ".join(one[name]["shown"] for name in TOOLS) + " |" for one in measured]
    return "\n".join([*head, *sums, "", *head, *rows]) + "\n"


def matrix() -> dict[str, object]:
    """Measure every row."""
    measured = measure(ROWS)
    print(table(measured), file=sys.stderr)
    return {"rows": measured}


if __name__ == "__main__":
    print(table(measure([row for row in ROWS if any(word in row.name for word in sys.argv[1:] or [""])])))
