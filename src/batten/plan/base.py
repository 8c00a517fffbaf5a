"""The base: what planning must know of a stack's own ``compose.yaml``.

This does not replace Compose's parser: the host validates every release with Compose before it touches anything.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batten import compose
from batten.errors import BattenError
from batten.plan import schema
from batten.plan.interpolate import interpolate_all
from batten.plan.model import Port
from batten.plan.schema import At

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class BaseService:
    """One service of the base. ``volumes`` maps named volumes to paths, ``binds`` are mounts in short syntax.

    ``joins`` are services whose namespaces, names or volumes it uses: Compose starts those first, unasked.
    ``deploy_limits``: it says limits or reservations under ``deploy.resources``, where ours must then stand, too.
    """

    name: str
    image: str | None = None
    build: bool = False
    user: str | None = None
    environment: Mapping[str, str | None] = field(default_factory=dict)
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    depends_on: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    volumes: Mapping[str, str] = field(default_factory=dict)
    binds: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    joins: tuple[str, ...] = ()
    has_healthcheck: bool = False
    deploy_limits: bool = False


@dataclass(frozen=True)
class Base:
    """A base under some Compose profiles. ``volumes`` maps its named volumes to what the file says of them.

    ``always`` names the services that no profile turns off.
    """

    source: str
    name: str | None
    services: Mapping[str, BaseService]
    volumes: Mapping[str, Mapping[str, Any]]
    all_services: tuple[str, ...]
    always: tuple[str, ...] = ()


def load_base(
    path: Path, environment: Mapping[str, str], profiles: tuple[str, ...] = (), files: tuple[Path, ...] = ()
) -> Base:
    """Read a base: a ``compose.yaml``, or what Compose makes of several ``files``."""
    source = ", ".join(map(str, files)) if files else str(path)
    return parse_base(schema.load_yaml(base_text(path, files), source), source, environment, profiles)


def base_text(path: Path, files: tuple[Path, ...] = ()) -> str:
    """Return a base as one file: its own text, or what Compose makes of several ``files``, variables unfilled.

    Raises BattenError for what cannot be read, what Compose refuses, and an ``env_file``, which no release has.
    """
    if files:
        return _merged(files)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        fix = "correct the path or the file's mode"
        raise BattenError(f"cannot read the file: {reason}", str(path), fix) from error


def _merged(files: tuple[Path, ...]) -> str:
    source = ", ".join(map(str, files))
    document = schema.load_yaml(compose.merged_text(files), source)
    for name, service in document["services"].items():
        at = At(source).key("services").key(name)
        if service.get("env_file"):
            fix = "write them under environment, or give secrets to `batten secrets import`"
            raise at.key("env_file").error("its variables do not come along to the host", fix)
        for mount in service.get("volumes") or ():
            if mount.get("type") == "bind" and not mount["source"].startswith((".", "/", "~", "$")):
                mount["source"] = f"./{mount['source']}"  # what an included file in a folder of its own mounts
    return schema.dump_yaml(document)


def parse_base(raw: Any, source: str, environment: Mapping[str, str], profiles: tuple[str, ...] = ()) -> Base:
    """Understand a base, with ``environment`` for its variables, as far as ``profiles`` enable its services.

    A service without ``profiles`` is always enabled (compose-spec, "profiles"); ``*`` enables all of them.
    """
    at = At(source)
    if not isinstance(raw, Mapping) or not isinstance(raw.get("services"), Mapping):
        raise at.error("this is not a Compose file: it has no services", "point stack_base at a compose.yaml")
    if "include" in raw:
        raise at.error("`include` is not followed", "write the merged file: docker compose config --no-interpolate")
    document = interpolate_all(raw, environment, at)
    services = {}
    known: set[str] = set()
    always = []
    for name, value in document["services"].items():
        here = at.key("services").key(name)
        if not _SERVICE.fullmatch(str(name)):  # it becomes the name of directories, too
            raise here.error(f"{name!r} cannot be a service's name", "use letters, digits, ., - and _")
        _check_shape(value, here)
        if "extends" in value:
            raise here.error(
                "`extends` is not followed", "write the merged file: docker compose config --no-interpolate"
            )
        own = tuple(value.get("profiles") or ())
        known.update(own)
        if not own:
            always.append(str(name))
        if not own or "*" in profiles or set(own) & set(profiles):
            services[str(name)] = _service(str(name), value, here)
    for profile in profiles:
        if profile != "*" and profile not in known:
            raise schema.unknown_key(profile, known, At(f"stack_profiles against {source}"))
    volumes = {str(name): value or {} for name, value in _volumes_of(document, at)}
    return Base(
        source, document.get("name"), services, volumes, tuple(sorted(map(str, document["services"]))), tuple(always)
    )


_SERVICE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")  # Compose's schema, but for a dot in front
_LIST = ((list,), "a list")
_MAPPING = ((Mapping,), "a mapping")
_EITHER = ((list, Mapping), "a list or a mapping")
_COMMAND = ((str, list), "text or a list")
# What of Compose's own schema planning relies on; the rest is Compose's to refuse, on the host.
_SHAPES: Mapping[str, tuple[tuple[type, ...], str]] = {
    "image": ((str,), "text"),
    "build": ((str, Mapping), "text or a mapping"),
    "user": ((str, int), "text"),
    "profiles": _LIST,
    "environment": _EITHER,
    "command": _COMMAND,
    "entrypoint": _COMMAND,
    "depends_on": _EITHER,
    "links": _LIST,
    "volumes_from": _LIST,
    "ports": _LIST,
    "volumes": _LIST,
    "networks": _EITHER,
    "healthcheck": _MAPPING,
    "deploy": _MAPPING,
}
_OF_TEXT = ("profiles", "networks", "depends_on")


def _check_shape(service: Any, at: At) -> None:
    """Refuse what the code below could not read; the merged file is Compose's to judge."""
    fix = f"correct it; docker compose -f {at.source} config -q checks the file"
    if not isinstance(service, Mapping):
        raise schema.expected("a mapping", service, at, fix)
    for key, (kinds, wanted) in _SHAPES.items():
        value = service.get(key)
        if value is not None and not isinstance(value, kinds):
            raise schema.expected(wanted, value, at.key(key), fix)
        if key in _OF_TEXT and isinstance(value, list):
            for index, item in enumerate(value):
                if not isinstance(item, str):
                    raise schema.expected("text", item, at.key(key).item(index), fix)


def _volumes_of(document: Mapping[str, Any], at: At) -> Iterable[tuple[Any, Mapping[str, Any] | None]]:
    volumes = document.get("volumes") or {}
    if not isinstance(volumes, Mapping):
        raise schema.expected("a mapping", volumes, at.key("volumes"))
    for name, value in volumes.items():
        if value is not None and not isinstance(value, Mapping):
            raise schema.expected("a mapping", value, at.key("volumes").key(name))
        yield name, value


def _service(name: str, value: Mapping[str, Any], at: At) -> BaseService:
    if not value.get("image") and not value.get("build"):
        raise at.error("the service has neither an image nor a build", "add image: to the base")
    named, binds = _volumes(value.get("volumes") or (), at.key("volumes"))
    healthcheck = value.get("healthcheck") or {}
    return BaseService(
        name=name,
        image=value.get("image"),
        build=bool(value.get("build")),
        user=str(value["user"]) if value.get("user") is not None else None,
        environment=_environment(value.get("environment") or {}, at.key("environment")),
        command=_words(value.get("command"), at.key("command")),
        entrypoint=_words(value.get("entrypoint"), at.key("entrypoint")),
        depends_on=_depends_on(value.get("depends_on") or (), at.key("depends_on")),
        joins=_joins(value),
        ports=tuple(
            port
            for index, item in enumerate(value.get("ports") or ())
            for port in _ports(item, at.key("ports").item(index))
        ),
        volumes=named,
        binds=binds,
        networks=tuple(map(str, value.get("networks") or ())),
        deploy_limits=bool((value.get("deploy") or {}).get("resources")),
        has_healthcheck=bool(healthcheck.get("test")) and not healthcheck.get("disable"),
    )


def _environment(value: Any, at: At) -> dict[str, str | None]:
    if isinstance(value, list):
        pairs = (str(item).partition("=") for item in value)
        return {key: text if equals else None for key, equals, text in pairs}
    return dict(schema.environment(value, at))


def _words(value: Any, at: At) -> tuple[str, ...] | None:
    """Compose splits a text as a shell would, without running one (compose-go, ``ShellCommand``)."""
    if value is None:
        return None
    try:
        return tuple(shlex.split(value)) if isinstance(value, str) else tuple(map(str, value))
    except ValueError as error:
        raise at.error(f"{value!r} is no command: {error}", 'write [program, "argument", ...]') from error


def _depends_on(value: Any, at: At) -> dict[str, str]:
    if not isinstance(value, Mapping):
        return dict.fromkeys(map(str, value), "service_started")
    conditions = {}
    for name, rule in value.items():
        if rule is not None and not isinstance(rule, Mapping):
            raise schema.expected("a mapping", rule, at.key(name), "write {condition: service_healthy}")
        conditions[str(name)] = schema.text((rule or {}).get("condition", "service_started"), at.key(name))
    return conditions


def _joins(value: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what Compose starts before a service without being told (compose-go, loader/normalize.go)."""
    used = [str(item) for key in ("links", "volumes_from") for item in value.get(key) or ()]
    shared = [str(value.get(key)) for key in ("network_mode", "ipc", "pid")]
    names = [item.partition(":")[0] for item in used if not item.startswith("container:")]
    return (*names, *(item.removeprefix("service:") for item in shared if item.startswith("service:")))


_PORT = re.compile(
    r"(?:(?P<address>\[[^]]+\]|\d+\.\d+\.\d+\.\d+):)?(?:(?P<published>[\d-]*):)?(?P<target>[\d-]+)(?:/(?P<protocol>\w+))?"
)


def _ports(value: Any, at: At) -> tuple[Port, ...]:
    if isinstance(value, Mapping):
        target, published = str(value.get("target")), str(value.get("published") or value.get("target"))
        address, protocol = value.get("host_ip"), value.get("protocol", "tcp")
    else:
        match = _PORT.fullmatch(str(value))
        if not match:
            raise at.error(f"{value!r} is not a port", 'write "published:target", for example "8080:80"')
        target, published = match["target"], match["published"] or match["target"]
        address, protocol = (match["address"] or "").strip("[]") or None, match["protocol"] or "tcp"
    try:
        pairs = zip(_range(target), _range(published), strict=True)
        return tuple(Port(inside, outside, address, protocol) for inside, outside in pairs)
    except ValueError as error:
        raise at.error(f"{value!r} is not a port", "give both ranges the same length, numbers 1 to 65535") from error


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    numbers = range(int(first), int(last or first) + 1)
    if not numbers or numbers[0] < 1 or numbers[-1] > 65535:
        raise ValueError(text)
    return numbers


def _volumes(items: Any, at: At) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return named volumes with their paths, and binds in short syntax; anonymous volumes and tmpfs are neither."""
    named, binds = {}, []
    for index, item in enumerate(items):
        if isinstance(item, Mapping):
            kind, source, target = item.get("type", "volume"), item.get("source"), item.get("target")
            mode = ":ro" if item.get("read_only") else ""
        else:
            source, _, rest = str(item).partition(":")
            target, _, options = rest.partition(":")
            if not rest:
                source, target = "", source
            kind = "bind" if source.startswith((".", "/", "~")) else "volume"
            mode = f":{options}" if options else ""
        if not isinstance(target, str) or not target.startswith("/"):
            raise at.item(index).error(f"{item!r} names no absolute path in the container", "write source:/path")
        if kind == "bind":
            binds.append(f"{source}:{target}{mode}")
        elif kind == "volume" and source:
            named[str(source)] = target
    return named, tuple(binds)


def check_services(names: Mapping[str, object], base: Base, at: At) -> None:
    """Refuse names that the base does not have, with the nearest one it has."""
    for name in names:
        if name not in base.all_services:
            raise schema.unknown_key(name, base.all_services, at)
