"""The release: everything that the controller hands to the host, as one JSON object (docs/architecture.md)."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from batten.errors import BattenError
from batten.plan.base import base_text, load_base
from batten.plan.lock import load_lock
from batten.plan.model import to_json
from batten.plan.secrets import needed
from batten.plan.service import ids
from batten.render import build
from batten.render.files import files, with_digests
from batten.render.layers import layers

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from batten.plan.definition import Definition
    from batten.plan.model import ServicePlan, StackPlan
    from batten.plan.settings import StackSettings
    from batten.render.files import RenderedFiles

_BASE_FILE_LIMIT = 1024 * 1024
_BASE_FILES_LIMIT = 8 * 1024 * 1024 * 4 // 3  # of base64


def release(plan: StackPlan, settings: StackSettings, definition: Definition) -> dict[str, Any]:
    """Return the release payload of one stack: JSON types only, and the same for equal inputs.

    Reads the base, the user's own files that its binds name, and the files of the definition. Secrets are named in it,
    never present. Raises BattenError for a file that cannot be read or a template that is wrong.
    """
    directory = (settings.definition or settings.base).parent / "files"
    rendered = files(plan, settings, directory)
    built = build.builds(plan, settings.base, settings.variables, settings.compose_files)
    complete = build.with_images(with_digests(plan, rendered), built)
    text = base_text(settings.base, settings.compose_files)
    payload = {
        "stack": plan.name,
        "project": plan.project,
        "target": plan.target,
        "compose_profiles": sorted(plan.compose_profiles),
        "layers": [{"name": layer.name, "text": layer.text} for layer in layers(complete, text)],
        "files": {
            name: {"digest": found.digest, "entries": dict(sorted(found.entries.items()))}
            for name, found in sorted(rendered.items())
        },
        "base_files": base_files(complete, settings.base.parent),
        "builds": build.payload(complete, built),
        "environment": dict(sorted(settings.variables.items())),
        "plan": to_json(complete),
        "secrets": secrets(complete, definition, {login["secret"] for login in settings.registries.values()}),
        "postgres": postgres(complete, settings, definition, rendered),
    }
    # Through JSON and back: tuples become lists here, not at the receiver.
    return dict(json.loads(json.dumps(payload, sort_keys=True)))


def secrets(plan: StackPlan, definition: Definition, own: Collection[str] = ()) -> dict[str, Any]:
    """Return what the host makes, and what it delivers to whom. Only services of the plan get anything.

    ``own`` are secrets that the host itself uses: its logins to registries.
    """
    deliveries = {}
    for name, service in sorted(plan.services.items()):
        if not service.secrets:
            continue
        uid, gid = owner(service)
        deliveries[name] = {"uid": uid, "gid": gid, "files": definition.services[name].secrets}
    used = {name for service in plan.services.values() for name in service.rotations} | set(own)
    return {"generate": needed(definition.secrets, used, definition.postgres), "deliveries": deliveries}


def postgres(
    plan: StackPlan, settings: StackSettings, definition: Definition, rendered: Mapping[str, RenderedFiles]
) -> dict[str, Any] | None:
    """Return the spec that ``module_utils/postgres.py`` ensures, or None.

    A managed server is reached with the administrator's secret, the client programs of the image that the base names
    for the service that is not run, and the ``ca.crt`` that some service has mounted.
    """
    wanted = definition.postgres
    if wanted is None:
        return None
    service, managed, image = wanted["service"], None, None
    if settings.managed_postgres and service in definition.removed:
        based = load_base(settings.base, settings.variables, ("*",), settings.compose_files).services[service]
        image = settings.images.get(service) or based.image
        image = load_lock(settings.lock).pinned(image) if image else None
        managed = {
            "host": settings.postgres_host,
            "port": settings.postgres_port,
            "database": settings.postgres_database,
            "user": settings.postgres_user,
            "password_secret": wanted.get("superuser_secret"),
            "ca_file": _ca_file(plan.name, rendered),
        }
    return {
        "service": None if managed else service,
        "managed": managed,
        "client_image": image or plan.services[service].image,
        "superuser": wanted.get("superuser", "postgres"),
        "superuser_secret": wanted.get("superuser_secret"),
        "roles": {name: _role(role, definition) for name, role in wanted.get("roles", {}).items()},
        "databases": wanted.get("databases", {}),
    }


def _role(role: Mapping[str, Any], definition: Definition) -> dict[str, Any]:
    """Return a role as the host ensures it: two login roles take turns where its secret changes hands that way."""
    rotation = definition.secrets[role["secret"]].get("rotation")
    return {**role, "alternate": rotation == "postgres_role"}


def _ca_file(stack: str, rendered: Mapping[str, RenderedFiles]) -> str:
    """Return the host path of the managed server's CA, which its clients have mounted as ``ca.crt``."""
    for name, found in sorted(rendered.items()):
        if "ca.crt" in found.entries:
            return f"/opt/batten/{stack}/files/{name}/{found.digest}/ca.crt"
    raise BattenError(
        "no service mounts the CA of the managed PostgreSQL",
        "batten.yaml: files",
        "put files/SERVICE/ca.crt.j2 with {{ settings.postgres_ca }} beside it, and services.SERVICE.files.mount",
    )


def owner(service: ServicePlan) -> tuple[int, int]:
    """Return the uid and gid that a service's secrets belong to; root's for a service that names no number."""
    uid, gid = ids(service.user)
    return uid or 0, gid or 0


def base_files(plan: StackPlan, directory: Path) -> dict[str, str]:
    """Return the user's own files that binds with a relative source name, as base64 by path below the base.

    Raises BattenError for a bind that leaves the base's directory, a missing one, and a file of more than 1 MiB: data
    does not belong in a release.
    """
    found = {}
    for service in plan.services.values():
        for mount in service.extra_volumes:
            source = mount.split(":")[0]
            if not source.startswith("."):
                continue
            place = (directory / source).resolve()
            if source in service.data_binds and not place.exists():
                continue  # the host makes it, for the service's user
            if not place.is_relative_to(directory.resolve()) or not place.exists():
                raise BattenError(
                    f"{service.name} mounts {source}, which is not beside the base",
                    str(directory),
                    "put it there, or mount an absolute path of the host under `mounts` in batten.yaml",
                )
            for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
                if not path.is_file():
                    continue
                # A link in a stack that somebody else wrote must not carry this machine's own files to a host.
                if not path.resolve().is_relative_to(directory.resolve()):
                    raise BattenError(
                        f"{service.name} mounts a link that leads out of the stack's directory",
                        str(path),
                        "put the file itself there",
                    )
                if path.stat().st_size > _BASE_FILE_LIMIT:
                    raise BattenError("a mounted file is larger than 1 MiB", str(path), "use a named volume for data")
                relative = path.relative_to(directory.resolve()).as_posix()
                found[relative] = base64.b64encode(path.read_bytes()).decode()
                if sum(map(len, found.values())) > _BASE_FILES_LIMIT:
                    raise BattenError(
                        "the mounted files are larger than 8 MiB", str(place), "use a named volume for data"
                    )
    return dict(sorted(found.items()))


def write(payload: Mapping[str, Any], directory: Path) -> tuple[Path, ...]:
    """Write a release's layers and mounted files below ``directory``, for reading; return the paths, sorted.

    ``files/SERVICE/DIGEST/NAME`` lies as on the host. Raises BattenError if the directory cannot be written.
    """
    texts = {layer["name"]: layer["text"] for layer in payload["layers"]}
    for service, found in payload["files"].items():
        texts |= {f"files/{service}/{found['digest']}/{name}": text for name, text in found["entries"].items()}
    written = []
    for name, text in sorted(texts.items()):
        path = directory / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise BattenError(f"cannot write: {error.strerror}", str(path), "choose another --out") from error
        written.append(path)
    return tuple(written)
