"""The registry that hosts pull from: Debian's docker-registry, pushed to over loopback, read as a mirror of Docker Hub.

An engine asks a mirror for Docker Hub's names only, so compose files keep the official names (docker.io/library/…).
"""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request

from . import base
from .docker import LABEL, RigError, docker, inspect
from .networks import PUBLIC, REGISTRY_ADDRESS, ensure
from .progress import step

CONTAINER = "batten-rig-registry"
VOLUME = "batten-rig-registry"
PORT = int(os.environ.get("BATTEN_RIG_REGISTRY_PORT", "5000"))
"""The port on this machine's loopback that images are pushed to."""


def mirror_url() -> str:
    """What a host on the rig's network writes under `registry-mirrors` in its daemon.json."""
    return f"http://{REGISTRY_ADDRESS}:5000"


def ensure_registry() -> None:
    """Start the registry if it does not run, and wait until it answers."""
    image = base.layer("registry", base.debian(), extra=["context/registry.yml"])
    shown = inspect("container", CONTAINER)
    if shown and (shown["Config"]["Image"] != image or not shown["State"]["Running"]):
        docker("rm", "--force", CONTAINER)
        shown = None
    if not shown:
        ensure(PUBLIC)
        docker("volume", "create", "--label", LABEL, VOLUME)
        words = ["run", "--detach", "--name", CONTAINER, "--label", LABEL, "--restart", "unless-stopped"]
        words += ["--network", PUBLIC.name, "--ip", REGISTRY_ADDRESS, "--publish", f"127.0.0.1:{PORT}:5000"]
        with step("registry"):
            docker(*words, "--volume", f"{VOLUME}:/var/lib/docker-registry", image)
    _wait()


def name_in_registry(image: str) -> str:
    """Where an image of Docker Hub is pushed to: `postgres:17` to `127.0.0.1:PORT/library/postgres:17`."""
    path = image if "/" in image else f"library/{image}"
    return f"127.0.0.1:{PORT}/{path}"


def push(image: str) -> None:
    """Push what is tagged for the registry under an image's Docker Hub name."""
    docker("push", "--quiet", name_in_registry(image))


def holds(image: str) -> bool:
    """Whether the registry has the image that is tagged for it here, and not an older one of that name."""
    shown = inspect("image", name_in_registry(image))
    pushed = {there.partition("@")[2] for there in shown["RepoDigests"]} if shown else set()
    return digest(image) in pushed


def digest(image: str) -> str | None:
    """The digest (`sha256:…`) of an image in the registry, or None if it is not there."""
    name, _, tag = name_in_registry(image).partition("/")[2].rpartition(":")
    kinds = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
    url = f"http://127.0.0.1:{PORT}/v2/{name}/manifests/{tag}"
    request = urllib.request.Request(url, method="HEAD", headers={"Accept": kinds})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            found: str | None = answer.headers.get("Docker-Content-Digest")
            return found
    except urllib.error.HTTPError:
        return None


def _wait(seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/v2/", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise RigError(f"the registry did not answer in {seconds:.0f} s; see: docker logs {CONTAINER}")
