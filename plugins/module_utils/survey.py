"""One look at a stack: the merged model, what runs, what differs, what follows. Reads only, and only in one batch."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import atomic, compare, desired, observed, release
from .actions import Action, decide
from .compose import Compose
from .desired import Desired, Engine
from .docker_api import Docker
from .observed import Observed
from .paths import StackPaths

Payload = Mapping[str, Any]
_MARK = "batten-digest-of-"


@dataclass(frozen=True)
class Survey:
    """What :func:`look` found. ``ends`` are the one-shot services."""

    model: Mapping[str, Any]
    desired: Mapping[str, Desired]
    observed: Mapping[str, Sequence[Observed]]
    networks: Sequence[Mapping[str, Any]]
    differences: Sequence[compare.Difference]
    actions: Mapping[str, Action]
    ends: frozenset[str]

    @property
    def missing_images(self) -> list[str]:
        """Services that will be made anew and whose image is not on this host."""
        made = [name for name, one in self.actions.items() if one.action in ("create", "recreate")]
        return sorted(name for name in made if name in self.desired and not self.desired[name].image)

    @property
    def images(self) -> dict[str, str]:
        return {name: str(one.image.get("Id", "")) for name, one in self.desired.items()}


def digest_variable(service: str) -> str:
    """Return the variable that a layer names for the digest of a service's secrets."""
    return "BATTEN_DIGEST_" + service.upper().replace("-", "_").replace(".", "_")


def merged_model(paths: StackPaths, payload: Payload) -> dict[str, Any]:
    """Return Compose's own merge of the layers, from a scratch copy: nothing on the host is touched before it agrees.

    The digests of secrets are not known yet, so marks stand for them; :func:`with_digests` fills them in.
    """
    with tempfile.TemporaryDirectory(prefix="batten-") as scratch:
        where = Path(scratch).resolve()
        release.stage(where, payload)
        variables = {digest_variable(name): _MARK + name for name in payload["plan"]["services"]}
        model = compose(paths, payload, variables, where / "release", where / "base").config()
        return dict(json.loads(json.dumps(model).replace(str(where / "base"), str(paths.base))))


def with_digests(model: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
    """Put the digests of secrets where the layers name them."""
    text = json.dumps(model)
    for name in sorted(model.get("services") or {}, key=len, reverse=True):
        text = text.replace(json.dumps(_MARK + name), json.dumps(digests.get(name, "")))
    return dict(json.loads(text))


def compose(
    paths: StackPaths,
    payload: Payload,
    variables: Mapping[str, str],
    where: Path | None = None,
    base: Path | None = None,
) -> Compose:
    """Return Compose for a release: where it lies on the host, or below ``where`` and ``base``."""
    there = where or release.directory(paths, payload)
    layers = release.layers(there, payload)
    profiles = tuple(payload.get("compose_profiles") or ())
    return Compose(payload["project"], base or paths.base, layers, there / "stack.env", profiles, variables)


def look(
    docker: Docker, paths: StackPaths, payload: Payload, model: Mapping[str, Any], digests: Mapping[str, str]
) -> Survey:
    """Inspect everything once and compare. ``model`` comes from :func:`with_digests`."""
    stack, project = payload["stack"], payload["project"]
    info = docker.info()
    engine = Engine(info.get("LoggingDriver") or "json-file", bool(info.get("SwapLimit", True)))
    references = {str(service.get("image", "")) for service in model["services"].values()}
    images = {reference: found for reference in references if (found := docker.image(reference))}
    wanted = desired.services(project, model, images, engine)
    there = observed.by_service(docker.inspect_all(one["Id"] for one in docker.list(project)))
    networks = docker.networks(project)
    ends = desired.one_shots(model)
    found = [
        *compare.compare_networks(stack, model, networks),
        *compare.compare(stack, wanted, there, ends),
        *_unloaded(stack, paths, payload, there, digests),
        *_stale_files(stack, paths, wanted, there),
    ]
    return Survey(model, wanted, there, networks, found, decide(found, wanted, there), frozenset(ends))


def from_plan(payload: Payload) -> list[compare.Difference]:
    """Return what would be created, on a host that has no engine yet."""
    return [
        compare.Difference(payload["stack"], "service", name, compare.PRESENCE, "present", "absent", "recreate")
        for name in sorted(payload["plan"]["services"])
    ]


def bind_digest(paths: StackPaths, one: Desired) -> str | None:
    """Return a digest of the user's own files that a service mounts from the base, or None when it mounts none."""
    sources = sorted(Path(mount[1]) for mount in one.mounts if mount[0] == "bind")
    sources = [source for source in sources if source.is_relative_to(paths.base)]
    if not sources:
        return None
    content = {}
    for source in sources:
        for path in [source] if source.is_file() else sorted(source.rglob("*")):
            if path.is_file():
                content[str(path)] = atomic.digest(path.read_bytes().hex())
    return atomic.digest(content)


def _unloaded(
    stack: str,
    paths: StackPaths,
    payload: Payload,
    there: Mapping[str, Sequence[Observed]],
    digests: Mapping[str, str],
) -> list[compare.Difference]:
    """Services that take changed secrets by a reload and have not loaded the current ones."""
    loaded = atomic.read_json(paths.loaded, {})
    services = payload["plan"]["services"]
    return [
        compare.Difference(stack, "secret", name, "secrets", digest[:12], str(loaded.get(name, ""))[:12], "reload")
        for name, digest in sorted(digests.items())
        if name in there and (services.get(name) or {}).get("reload") and loaded.get(name) != digest
    ]


def _stale_files(
    stack: str, paths: StackPaths, wanted: Mapping[str, Desired], there: Mapping[str, Sequence[Observed]]
) -> list[compare.Difference]:
    """Containers that were made when a mounted file of the user had other content; see :mod:`apply` for the record.

    A bind of a single file pins its inode, so the container would go on reading the old one.
    """
    recorded = atomic.read_json(paths.mounted, {})
    found = []
    for name, one in wanted.items():
        containers = there.get(name)
        digest = bind_digest(paths, one) if containers else None
        if not containers or digest is None:
            continue
        old = recorded.get(containers[0].id)
        if old is not None and old != digest:
            found.append(compare.Difference(stack, "service", name, "files", digest[:12], old[:12], "recreate"))
    return found
