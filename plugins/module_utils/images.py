"""Images that are built on the host: the context comes with the release, the tag names its content."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import tarfile
import time
from collections.abc import Iterable, Mapping
from typing import Any

from .docker_api import Docker
from .errors import BattenError

MEMORY = "1g"


_FIX_PULL = "check its name, or log in on this host: docker login"


def build_missing(
    docker: Docker, builds: Mapping[str, Mapping[str, Any]], services: Iterable[str]
) -> list[tuple[str, float]]:
    """Build the images of ``services`` that the release brings a context for and that are not here.

    The tag is the context's digest (src/batten/render/build.py), so an image that is here is the right one. Returns
    each service that was built, and the seconds that it took.
    """
    built = []
    for name in sorted(set(services) & set(builds)):
        if docker.image(builds[name]["image"]) is None:
            begun = time.monotonic()
            build(name, builds[name])
            built.append((name, round(time.monotonic() - begun, 1)))
    return built


def pull(references: Iterable[str]) -> None:
    """Pull images, as whoever logged in on this host (``docker login``)."""
    for reference in sorted(set(references)):
        done = subprocess.run(
            ["docker", "pull", "--quiet", reference],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            said = done.stderr.strip().splitlines()
            full = "no space left" in done.stderr
            fix = "docker image prune -a, or a larger disk (df -h)" if full else _FIX_PULL
            raise BattenError(
                f"it cannot be pulled: {said[-1] if said else 'no reason given'}", f"image {reference}", fix
            )


def build(service: str, wanted: Mapping[str, Any], memory: str = MEMORY) -> None:
    """Build one image; its steps may use ``memory``.

    With the classic builder: BuildKit passes over ``--memory`` (docs.docker.com, "docker buildx build").
    """
    command = ["docker", "build", "--quiet", "--memory", memory, "--memory-swap", memory, "--tag", wanted["image"]]
    command += ["--file", wanted["dockerfile"]]
    for name, value in sorted((wanted.get("arguments") or {}).items()):
        command += ["--build-arg", f"{name}={value}"]
    if wanted.get("stage"):
        command += ["--target", wanted["stage"]]
    done = subprocess.run(
        [*command, "-"],
        input=archive(wanted["entries"]),
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
        capture_output=True,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()[-15:]
        fix = f"correct its Dockerfile, or set stack_images.{service} to an image that can be pulled"
        raise BattenError("building its image failed:\n" + "\n".join(said), f"service {service}", fix)


def archive(entries: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return a context as a tar, the same bytes for the same entries."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for path, entry in sorted(entries.items()):
            content = base64.b64decode(entry["content"])
            member = tarfile.TarInfo(path)
            member.size, member.mode = len(content), 0o755 if entry.get("executable") else 0o644
            tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()
