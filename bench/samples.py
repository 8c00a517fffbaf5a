"""What `batten harden` makes of public sample stacks: python bench/samples.py DIRECTORY [--image ...] [--write FILE].

DIRECTORY holds one sample a folder, each with a compose.yaml, such as a checkout of docker/awesome-compose. None of
them is in this repository, so this is no part of CI. For each: Compose merges its files with the overlays, nothing is
lost, and compose-lint's findings before and after. With `--image 'postgres*=registry.example/postgres:17'` services
whose image fits the pattern are started with that image, without and then with the overlays.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batten import compose
from batten.errors import BattenError
from batten.harden import Hardened, harden, save
from batten.harden.decide import ADMIN_PORTS, LOOPBACK
from batten.plan.model import Capacity
from batten.plan.profile import Profiles

LINTER = Path(sys.executable).parent / "compose-lint"
NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
# What an overlay mends without knowing the image; CL-0005 counts where the port is a database's or a console's.
FIXABLE = ("CL-0003", "CL-0005", "CL-0006", "CL-0014", "CL-0026")
WATCH_SECONDS = 60
GIB = 1024**3


@dataclass
class Row:
    """One sample. ``open`` are findings of the fixable rules that stay, each with the reason that the report gives."""

    name: str
    services: int = 0
    assumed: int = 0
    before: int = 0
    after: int = 0
    open: list[str] = field(default_factory=list)
    lost: Sequence[str] = ()
    credentials: int = 0
    started: str = "-"
    problem: str = ""


def samples(directory: Path) -> Iterator[tuple[str, Path]]:
    """Yield every folder with a Compose file, by name."""
    for folder in sorted(path for path in directory.rglob("*") if path.is_dir()):
        found = next((folder / name for name in NAMES if (folder / name).is_file()), None)
        if found:
            yield str(folder.relative_to(directory)), found


def lint(files: Sequence[Path]) -> list[Mapping[str, Any]]:
    """Return compose-lint's findings of what Compose merges."""
    words = [word for path in files for word in ("-f", str(path))]
    merged = _run([*compose.program(), *words, "--profile", "*", "config"])
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(merged.stdout)
        file.flush()
        answer = json.loads(_run([str(LINTER), "--format", "json", file.name]).stdout)
    return [item for item in answer["findings"] if not item.get("suppressed")]


def look(
    name: str, file: Path, host: Capacity, out: Path, known: Profiles | None
) -> tuple[Row, Hardened | None, list[Path]]:
    """Harden one sample and say what came of it."""
    row = Row(name)
    try:
        made = harden([file], host, known=known)
        saved = save(made, out)
    except BattenError as error:
        row.problem = error.what.splitlines()[0]
        return row, None, []
    layers = [file, *(out / layer.name for layer in made.layers)]
    before, after = lint([file]), lint(layers)
    row.services, row.before, row.after = len(made.decisions), len(before), len(after)
    row.assumed = sum(decision.confidence == "assumed" for decision in made.decisions.values())
    row.credentials, row.lost = len(made.credentials), saved.lost
    row.open = sorted(
        {
            f"{item['rule_id']} {item['service']}: {why}"
            for item in after
            if item["rule_id"] in FIXABLE
            for why in [_why(made, item)]
            if why
        }
    )
    return row, made, layers


def _why(made: Hardened, finding: Mapping[str, Any]) -> str:
    """Why a finding stays; empty for a port that is neither a database's nor a console's."""
    if finding["rule_id"] == "CL-0005":
        ports = made.stack.services[finding["service"]].ports
        left = [port.target for port in ports if port.target in ADMIN_PORTS and port.address != LOOPBACK]
        return f"{left} is on every address" if left else ""
    facets = {"CL-0003": "security_opt", "CL-0006": "cap_drop"}
    facet = facets.get(finding["rule_id"])
    notes = made.decisions[finding["service"]].left_open
    return next((note.text for note in notes if note.facet == facet), "nobody knows why")


def start(made: Hardened, layers: Sequence[Path], stand_ins: Mapping[str, str], out: Path) -> str:
    """Bring up what of a sample has an image here, first as its files say, then under the overlays, and compare.

    Under the overlays each service is restarted once and watched for a minute. No port is published: samples run side
    by side. A service that does not stay up by its own files alone is named, and does not count.
    """
    services = made.project.services
    images = {name: found for name, service in services.items() if (found := _stand_in(service, stand_ins))}
    if not images:
        return "not here"
    here = out / "here.yaml"
    lines = [
        f'  {name}: {{image: "{image}", ports: !reset [], labels: {{batten.rig: "true"}}}}'
        for name, image in images.items()
    ]
    here.write_text("services:\n" + "\n".join(lines) + "\n")
    alone = _watch(made, [layers[0], here], sorted(images), 10)
    under = _watch(made, [*layers, here], sorted(images), WATCH_SECONDS)
    fit = [name for name in images if name not in alone]
    broken = [f"{name}: {why}" for name, why in under.items() if name in fit]
    absent = len(services) - len(images)
    words = f"{len(fit) - len(broken)} of {len(fit)}"
    words += f"; {absent} without an image here" if absent else ""
    words += "".join(f"; {name} stays up in neither" for name in images if name in alone)
    return words + "".join(f"; **{each}**" for each in broken)


def _stand_in(service: Mapping[str, Any], stand_ins: Mapping[str, str]) -> str | None:
    image = str(service.get("image") or "")
    fitting = (there for pattern, there in stand_ins.items() if fnmatch.fnmatchcase(image, pattern))
    return next(fitting, None) if image and not service.get("build") else None


def _watch(made: Hardened, layers: Sequence[Path], services: Sequence[str], seconds: int) -> dict[str, str]:
    """Return the services that do not stay up, with what they say."""
    name = f"sample-{made.project.name}"
    words = [*compose.program(), *(word for path in layers for word in ("-f", str(path))), "-p", name]
    try:
        up = _run([*words, "up", "-d", "--no-build", "--pull", "missing", "--no-deps", *services])
        if up.returncode:
            return dict.fromkeys(services, up.stderr.strip().splitlines()[-1][:160])
        time.sleep(15)
        _run([*words, "restart", "--no-deps", *services])
        time.sleep(seconds)
        return _bad(words)
    finally:
        _run([*words, "down", "-v", "-t", "2"])


def _bad(words: Sequence[str]) -> dict[str, str]:
    """Return what does not run, has been started again by the engine, or is not healthy."""
    bad = {}
    for line in _run([*words, "ps", "-a", "-q"]).stdout.split():
        state = json.loads(_run(["docker", "inspect", line]).stdout)[0]
        name = state["Config"]["Labels"]["com.docker.compose.service"]
        health = (state["State"].get("Health") or {}).get("Status", "")
        if state["State"]["Status"] != "running" or state["RestartCount"] or health not in ("", "healthy"):
            last = _run(["docker", "logs", "--tail", "2", line])
            said = " ".join((last.stdout + last.stderr).split())[-160:]
            bad[name] = f"{state['State']['Status']} {health} {said}"
    return bad


def table(rows: Sequence[Row]) -> str:
    """Return the rows as Markdown, with the sums below."""
    lines = [
        "| sample | services | assumed | findings before | after | credentials | started |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        if row.problem:
            lines.append(f"| {row.name} | - | - | - | - | - | {row.problem} |")
        else:
            lines.append(
                f"| {row.name} | {row.services} | {row.assumed} | {row.before} | {row.after} "
                f"| {row.credentials} | {row.started} |"
            )
    good = [row for row in rows if not row.problem]
    lines.append(
        f"| **{len(good)} of {len(rows)}** | {sum(row.services for row in good)} | {sum(row.assumed for row in good)} "
        f"| {sum(row.before for row in good)} | {sum(row.after for row in good)} "
        f"| {sum(row.credentials for row in good)} | {_sum(good)} |"
    )
    lost = [f"- {row.name}: {what}" for row in good for what in row.lost]
    left = [f"- {row.name}: {what}" for row in good for what in row.open]
    lines += ["", f"Lost ports, mounts, dependencies, variables, networks: {len(lost)}.", *lost]
    lines += ["", f"Of the rules {', '.join(FIXABLE)}, {len(left)} findings stay:", "", *left]
    return "\n".join(lines) + "\n"


def _sum(rows: Sequence[Row]) -> str:
    counts = [tuple(map(int, match.groups())) for row in rows if (match := re.match(r"(\d+) of (\d+)", row.started))]
    return f"{sum(up for up, _ in counts)} of {sum(fit for _, fit in counts)}" if counts else "-"


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False)


def main() -> int:
    """Look at every sample; exit code 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--image", action="append", default=[], metavar="PATTERN=IMAGE", help="start these; see above")
    parser.add_argument("--cpus", type=float, default=4, help="no more than the engine has, where it starts anything")
    parser.add_argument("--assumed", action="store_true", help="as if no profile knew any image")
    parser.add_argument("--only", help="only samples with this in their name")
    parser.add_argument("--jobs", type=int, default=1, help="how many samples at once")
    parser.add_argument("--write", type=Path, help="put the table below the line `<!-- table -->` of this file")
    # An engine in a container can often set no negative score and grants few open files: say so, as a host would.
    parser.add_argument("--oom-score-adj-min", type=int, default=-1000)
    parser.add_argument("--nofile", type=int, default=1048576)
    args = parser.parse_args()
    host = Capacity(16 * GIB, args.cpus, nofile_hard=args.nofile, oom_score_adj_min=args.oom_score_adj_min)
    stand_ins = dict(item.partition("=")[::2] for item in args.image)
    chosen = [(name, file) for name, file in samples(args.directory) if not args.only or args.only in name]

    def one(name: str, file: Path) -> Row:
        with tempfile.TemporaryDirectory() as out:
            row, made, layers = look(name, file, host, Path(out), Profiles({}) if args.assumed else None)
            if made and stand_ins:
                row.started = start(made, layers, stand_ins, Path(out))
        print(row, file=sys.stderr, flush=True)
        return row

    with ThreadPoolExecutor(args.jobs) as pool:
        rows = list(pool.map(lambda item: one(*item), chosen))
    text = table(rows)
    if args.write:
        head = args.write.read_text().partition("<!-- table -->")[0]
        args.write.write_text(f"{head}<!-- table -->\n\n{text}")
    else:
        print(text)
    rules = Counter(item.split()[0] for row in rows for item in row.open)
    print(dict(rules), file=sys.stderr)
    return 1 if any(row.lost for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
