"""The docker command line, and the one label by which the rig finds what is its own."""

from __future__ import annotations

import json
import subprocess
from typing import Any

LABEL = "batten.rig=true"
REPOSITORY = "batten-rig"
"""Every local image of the rig is named `batten-rig/NAME:TAG`."""


class RigError(RuntimeError):
    """What failed in the rig, and what to do about it."""


def docker(*words: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run `docker WORDS...`; RigError with its last words if it fails and `check` is set."""
    done = subprocess.run(["docker", *words], input=stdin, text=True, capture_output=True, check=False)
    if check and done.returncode != 0:
        said = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-20:])
        raise RigError(f"docker {' '.join(words[:4])} … ended with {done.returncode}:\n{said}")
    return done


def answers() -> bool:
    """Whether an engine answers on the default socket (or on DOCKER_HOST)."""
    try:
        return docker("version", "--format", "{{.Server.Version}}", check=False).returncode == 0
    except FileNotFoundError:
        return False


def inspect(kind: str, name: str) -> dict[str, Any] | None:
    """`docker KIND inspect NAME` as a dict, or None where there is no such thing."""
    done = docker(kind, "inspect", name, check=False)
    if done.returncode != 0:
        return None
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found[0]


def exists(kind: str, name: str) -> bool:
    """Whether the engine holds this container, image, network or volume."""
    return inspect(kind, name) is not None


def labelled(kind: str) -> list[str]:
    """Ids of all containers, networks, volumes or images that carry the rig's label."""
    listing = {
        "container": ("ps", "--all", "--quiet", "--no-trunc"),
        "network": ("network", "ls", "--quiet", "--no-trunc"),
        "volume": ("volume", "ls", "--quiet"),
        "image": ("images", "--quiet", "--no-trunc"),
    }[kind]
    return sorted(set(docker(*listing, "--filter", f"label={LABEL}").stdout.split()))
