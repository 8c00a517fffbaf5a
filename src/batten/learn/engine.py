"""The local engine as learning needs it: Compose runs our own project, the API and ``docker cp`` look into it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ansible_collections.batten.core.plugins.module_utils.docker_api import Docker, DockerError
from batten import compose
from batten.errors import BattenError
from batten.learn.isolate import LABEL

_ROUNDS, _PAUSE_SECONDS = 5, 0.3
_COMPOSE_SECONDS = 900  # a pull or a build is part of it


@dataclass(frozen=True)
class Place:
    """One session's project on the engine: its name, its directory here, and how to ask."""

    project: str
    directory: Path
    docker: Docker


def local(project: str, directory: Path) -> Place:
    """Return a place on the engine of this machine. Raises BattenError if it does not answer or is elsewhere."""
    host = _host()
    if not host.startswith("unix://"):
        raise BattenError(
            "learning needs an engine on this machine: it copies files to it and reads /proc",
            f"DOCKER_HOST={host}",
            "unset DOCKER_HOST, or run batten learn there",
        )
    docker = Docker(host.removeprefix("unix://"))
    if not docker.answers():
        raise BattenError(
            "no Docker engine answers here", docker.path, "systemctl start docker, or ./batten demo gets one"
        )
    return Place(project, directory, docker)


def up(place: Place, files: list[Path], service: str) -> None:
    """Start a service of our project and what it needs. Raises BattenError with Compose's own words."""
    options = ["up", "--detach", "--quiet-pull", "--force-recreate", "--renew-anon-volumes"]
    done = _compose(place, files, [*options, service])
    if done.returncode:
        raise BattenError(_last(done.stderr), service, "see the image's documentation for what it needs")


def build(place: Place, image: str, wanted: Mapping[str, Any]) -> None:
    """Build an image as a service's ``build`` says, with ``docker build``: Compose's own needs a newer buildx than
    distributions have. Raises BattenError with the last words of the build."""
    words = ["build", "--quiet", "--tag", image, "--label", f"{LABEL}={place.project}"]
    context = str(wanted.get("context", "."))
    if inline := wanted.get("dockerfile_inline"):
        file = place.directory / "Dockerfile"
        file.write_text(inline, encoding="utf-8")
        words += ["--file", str(file)]
    elif dockerfile := wanted.get("dockerfile"):
        words += ["--file", str(Path(context) / dockerfile)]
    for name, value in (wanted.get("args") or {}).items():
        words += ["--build-arg", name if value is None else f"{name}={value}"]
    if target := wanted.get("target"):
        words += ["--target", target]
    done = _docker(*words, context)
    if done.returncode:
        raise BattenError(f"the image does not build: {_last(done.stderr)}", context, f"docker build {context}")


def down(place: Place, *, volumes: bool = True) -> None:
    """Remove our containers, networks and volumes, found by the project's own label; images that we built stay."""
    ids = _ids(place, "container")
    if ids:
        _docker("rm", "--force", "--volumes", *ids)
    for kind in ("network", *(("volume",) if volumes else ())):
        if found := _ids(place, kind):
            _docker(kind, "rm", *found)


def remove_all(place: Place) -> None:
    """Remove all that this session made, images that it built too.

    Looks again until nothing is found: what was asked for just before an interruption may still come into being.
    """
    for _ in range(_ROUNDS):
        down(place)
        time.sleep(_PAUSE_SECONDS)
        if not any(_ids(place, kind) for kind in ("container", "network", "volume")):
            break
    if images := _ids(place, "image"):
        _docker("rmi", "--force", *images)


def container(place: Place, service: str) -> dict[str, Any] | None:
    """Return what the engine knows of our service's container, or None."""
    for found in place.docker.list(place.project):
        if found["Labels"].get("com.docker.compose.service") == service:
            inspected: dict[str, Any] | None = place.docker.inspect(found["Id"])
            return inspected
    return None


def exists(place: Place, identifier: str, path: str) -> bool:
    """Say whether a container has a path: the archive endpoint's HEAD, which copies nothing."""
    try:
        place.docker.call("HEAD", f"/containers/{quote(identifier)}/archive?path={quote(path)}")
    except DockerError:
        return False
    return True


def changes(place: Place, identifier: str) -> list[tuple[int, str]]:
    """Return ``docker diff``: kind (0 changed, 1 added, 2 deleted) and path."""
    found = place.docker.call("GET", f"/containers/{quote(identifier)}/changes") or []
    return [(int(one["Kind"]), str(one["Path"])) for one in found]


def top(place: Place, identifier: str) -> list[list[str]]:
    """Return pid, uid, gid and name of each process; pids are those of the engine's host."""
    answer = place.docker.call("GET", f"/containers/{quote(identifier)}/top", {"ps_args": "-eo pid,uid,gid,comm"})
    return [list(row) for row in answer["Processes"] or ()]


@contextlib.contextmanager
def created(place: Place, image: str) -> Iterator[str]:
    """A container of an image that is never started, to look at what the image has."""
    done = _docker("create", "--label", f"{LABEL}={place.project}", "--network", "none", image, "none")
    try:
        yield done.stdout.strip()
    finally:
        _docker("rm", "--force", "--volumes", done.stdout.strip())


def entries(place: Place, identifier: str, path: str, most: int = 2000) -> list[tarfile.TarInfo]:
    """Return the first entries of a path in a container, itself first; none if it is not there."""
    words = ["docker", "cp", f"{identifier}:{path}", "-"]
    found: list[tarfile.TarInfo] = []
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
                for entry in archive:
                    found.append(entry)
                    if len(found) >= most:
                        break
        except tarfile.TarError:
            pass  # nothing there, or cut off by us
        finally:
            process.kill()
    return found


def write(path: Path, document: Mapping[str, Any]) -> Path:
    """Write a Compose file as JSON, which is YAML."""
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return path


def _ids(place: Place, kind: str) -> list[str]:
    listing = {
        "container": ("ps", "--all", "--quiet", "--no-trunc"),
        "network": ("network", "ls", "--quiet", "--no-trunc"),
        "volume": ("volume", "ls", "--quiet"),
        "image": ("images", "--quiet", "--no-trunc"),
    }[kind]
    ours = _docker(*listing, "--filter", f"label={LABEL}={place.project}").stdout.split()
    # Compose gives this one to volumes and networks that an overlay only names.
    composed = [] if kind == "image" else _docker(
        *listing, "--filter", f"label=com.docker.compose.project={place.project}"
    ).stdout.split()  # fmt: skip
    return sorted({*ours, *composed})


def _compose(place: Place, files: list[Path], words: list[str]) -> subprocess.CompletedProcess[str]:
    named = [word for path in files for word in ("-f", str(path))]
    options = ["--project-name", place.project, "--project-directory", str(place.directory), "--profile", "*"]
    return _run([*compose.program(), *options, *named, *words])


def _docker(*words: str) -> subprocess.CompletedProcess[str]:
    return _run(["docker", *words])


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    try:
        # In a session of its own: a Ctrl-C is ours to handle, and cleaning up must not be cut short by it.
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            timeout=_COMPOSE_SECONDS,
            start_new_session=True,
            env={**os.environ, "DOCKER_HOST": _host()},  # the same engine as the API's, whatever `docker context` says
        )
    except FileNotFoundError as error:
        raise BattenError(f"there is no {words[0]} here", "PATH", "install Docker's command line") from error
    except subprocess.TimeoutExpired as error:
        raise BattenError(
            f"{words[0]} did not end in {_COMPOSE_SECONDS} s", words[1], "run it by hand to see why"
        ) from error


def _host() -> str:
    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def _last(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip() and "level=warning" not in line]
    return " ".join(lines[-3:]) or "Compose gave no reason"
