"""Is the program that a health check runs in the image? Looked up among the image's files; nothing of it is run.

Images lose their shell or their curl at a minor version (Loki 3.6 did), and a probe that cannot run looks like a sick
service. A container that is made and never started shows the image's files (Docker API, HEAD /containers/ID/archive).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

from . import atomic
from .desired import Desired
from .docker_api import Docker, DockerError
from .paths import StackPaths
from .preflight import Problem

# moby oci/defaults.go, DefaultPathEnv: where neither the image nor the service sets PATH.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SHELL = "/bin/sh"  # moby daemon/health.go runs CMD-SHELL with the image's shell, this one unless SHELL says another
_PLAIN = re.compile(r"[A-Za-z0-9_./+-]+")
# What a POSIX shell knows by itself (IEEE 1003.1, 2.14 and 2.9), and what only leads to another word.
_WORDS = """. : [ break case cd command continue echo eval exec exit export false for getopts hash if printf pwd read
readonly return set shift test times trap true type ulimit umask unset until wait while"""
_OF_THE_SHELL = frozenset(_WORDS.split())


def programs(desired: Desired) -> list[str]:
    """Return the programs that the plan's health check needs; none where the check is the image's own."""
    check = desired.service.get("healthcheck") or {}
    test = list(check.get("test") or [])
    if check.get("disable") or len(test) < 2:
        return []
    if test[0] == "CMD":
        return [test[1]]
    if test[0] != "CMD-SHELL":
        return []
    words = test[1].split()
    first = words[0] if words and _PLAIN.fullmatch(words[0]) and words[0] not in _OF_THE_SHELL else ""
    shell = list(desired.image_config.get("Shell") or [SHELL])[:1]
    return [*shell, first] if first else shell


def candidates(program: str, desired: Desired) -> list[str]:
    """Return where a program may lie, none where that cannot be told: a relative path, or one below a mount."""
    if program.startswith("/"):
        places = [program]
    elif "/" in program:
        return []
    else:
        image = dict(pair.partition("=")[::2] for pair in desired.image_config.get("Env") or [])
        path = desired.environment.get("PATH") or image.get("PATH") or DEFAULT_PATH
        places = [f"{directory.rstrip('/')}/{program}" for directory in path.split(":") if directory.startswith("/")]
    targets = [mount[2].rstrip("/") for mount in desired.mounts]
    return [] if any(place.startswith(f"{target}/") for place in places for target in targets) else places


def missing(
    docker: Docker, paths: StackPaths, desired: Mapping[str, Desired], services: Collection[str], *, look: bool
) -> list[Problem]:
    """Return the services of which the image has not the program of their health check.

    What an image has is looked up once and kept by its ID; without ``look`` only what is known already is judged.
    """
    known: dict[str, dict[str, bool]] = atomic.read_json(paths.probes, {})
    wanted: dict[str, set[str]] = {}
    for name in services:
        one = desired[name]
        if one.image:
            places = {place for program in programs(one) for place in candidates(program, one)}
            wanted.setdefault(str(one.image["Id"]), set()).update(places)
    new = {image: places - set(known.get(image, {})) for image, places in wanted.items()}
    if look and any(new.values()):
        for image, places in sorted(new.items()):
            if places:
                known[image] = {**known.get(image, {}), **_look(docker, image, places)}
        atomic.write_json(paths.probes, known)
    return [problem for name in sorted(services) for problem in judge(desired[name], known)]


def judge(desired: Desired, known: Mapping[str, Mapping[str, bool]]) -> list[Problem]:
    """Return a problem for each program that is in none of its places; what is not known is none."""
    has = known.get(str(desired.image.get("Id")), {})
    found = []
    for program in programs(desired):
        places = candidates(program, desired)
        if places and all(has.get(place) is False for place in places):
            image = desired.service.get("image")
            what = f"its health check runs {program}, and {image} has no such program"
            fix = f"set services.{desired.name}.healthcheck in batten.yaml to one that it has, or take another image"
            found.append(Problem(what, f"service {desired.name}", fix))
    return found


def _look(docker: Docker, image: str, places: Collection[str]) -> dict[str, bool]:
    """Say of each path whether the image has it. The container is gone afterwards, with volumes that it declares."""
    name = f"batten-look-{image.rpartition(':')[2][:12]}"
    body: dict[str, Any] = {"Image": image, "Entrypoint": ["/batten"], "Cmd": [], "NetworkDisabled": True}
    _drop(docker, name)  # what a killed run left
    docker.call("POST", "/containers/create", {"name": name}, body)
    try:
        return {place: _has(docker, name, place) for place in sorted(places)}
    finally:
        _drop(docker, name)


def _has(docker: Docker, name: str, place: str) -> bool:
    try:
        docker.call("HEAD", f"/containers/{name}/archive", {"path": place})
    except DockerError as error:
        if error.status != 404:
            raise
        return False
    return True


def _drop(docker: Docker, name: str) -> None:
    try:
        docker.call("DELETE", f"/containers/{name}", {"force": 1, "v": 1})
    except DockerError as error:
        if error.status != 404:
            raise
