"""The definition of a stack: ``batten.yaml`` beside a base ``compose.yaml``.

It says what batten must know of this stack that its ``compose.yaml`` does not say. ``compose/batten.yaml`` is the
commented example. Top level::

    networks: {NAME: {internal: true}}          # networks that batten makes; `egress` is the one with a way out.
                                                # {egress: false}: ports are published on it, and nothing gets out
    secrets:                                    # made on the host, once; never on the controller
      NAME: {generator: alnum, length: 32}      # or {from: VARIABLE}: handed in by the operator, never in a plan;
                                                # `secrets.py` beside this lists all that can be said of one
    postgres:                                   # roles and databases to ensure once PostgreSQL runs, or left out
      service: postgres
      superuser: postgres
      superuser_secret: SECRET                  # its password; on managed PostgreSQL the administrator's
      roles: {NAME: {secret: SECRET, member_of: [pg_monitor], connection_limit: 40}}
      databases: {NAME: {owner: ROLE}}
    services: {NAME: SERVICE}
    targets:                                    # laid over the above where the name fits the inventory
      selfhosted: {remove: [SERVICE], services: {...}, networks: {...}, secrets: {...}, postgres: {...}}
      digitalocean: ...
      digitalocean_managed_postgres: ...        # on digitalocean with digitalocean_managed_postgres: true
      tls_provided: ...                         # with stack_tls: provided

SERVICE::

    profile: postgres             # default: by the image's repository
    networks: [app, data]         # replaces the base's networks
    egress: true                  # may open connections to the outside: joins the network `egress`
    ports: [{target: 443, published: 443, protocol: tcp, publish_on: public}]   # instead of the base's
                                  # public: the host's own public addresses; private: the VPC address;
                                  # loopback: 127.0.0.1, for the host itself and for tunnels
    environment: {NAME: value}    # null removes the base's variable; ${NAME} as in the base
    command: [...]                # replaces the base's; ${NAME} as in the base
    command_add: [...]            # added at the end
    entrypoint: [...]
    files: {mount: /etc/app}      # compose/files/SERVICE is rendered and mounted there
    secrets: {FILE: {secret: NAME} or {template: "text with ${NAME} or ${NAME:url}"}}   # under /run/secrets
    volumes: {VOLUME: /path}      # named volumes besides the base's
    mounts: [/var/log/journal:/var/log/journal:ro]   # Compose's short syntax; replaces the base's binds, also if empty
    depends_on: {SERVICE: service_healthy}           # replaces the base's
    healthcheck: {test: [...]}    # replaces the profile's
    health: shallow               # which of the profile's checks: shallow, it answers; deep, what it needs answers too
    limits: {memory: 512M, cpus: 1, pids: 200, nofile: 1024}   # memory: a fixed size, or {floor, weight, cap}
    user, group_add, read_only, cap_add, writable, init, stop_grace, oom_score_adj, reload, tls   # as in a profile
    migrates: DATABASE            # the database that is dumped before this service's image changes
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from batten.errors import BattenError
from batten.plan import schema
from batten.plan import secrets as declared_secrets
from batten.plan.profile import CPUS, HEALTHCHECK, NOFILE, PIDS, PROFILE, Memory, healthcheck
from batten.plan.schema import At, Record

if TYPE_CHECKING:
    from pathlib import Path

    from batten.plan.model import Healthcheck

_NAME = schema.text
_NETWORK = Record({"internal": schema.boolean, "egress": schema.boolean})
_POSTGRES = Record(
    {
        "service": _NAME,
        "superuser": _NAME,
        "superuser_secret": _NAME,
        "roles": schema.map_of(
            Record(
                {
                    "secret": _NAME,
                    "member_of": schema.list_of(_NAME),
                    "connection_limit": schema.integer(-1, 100_000),
                },
                required=("secret",),
            )
        ),
        "databases": schema.map_of(Record({"owner": _NAME}, required=("owner",))),
    },
    required=("service",),
)


def _memory(value: Any, at: At) -> Memory:
    """A fixed size is a floor that is its own cap."""
    if isinstance(value, Mapping):
        memory = Memory(**PROFILE.keys["memory"](value, at))
        if memory.cap is not None and memory.cap < memory.floor:
            raise at.error("the cap is below the floor", "raise cap, or lower floor")
        return memory
    size = schema.size(value, at)
    return Memory(size, 1.0, size)


def _delivery(value: Any, at: At) -> dict[str, str]:
    checked: dict[str, str] = Record({"secret": schema.text, "template": schema.text})(value, at)
    if len(checked) != 1:
        raise at.error("a delivered file is a secret or a template", "write {secret: NAME} or {template: text}")
    return checked


# Keys of a service that stand in for the profile's, and those that go into ServiceDefinition as they are.
_GIVEN = (
    *("user", "group_add", "read_only", "cap_add", "writable", "init", "stop_grace", "oom_score_adj"),
    *("reload", "tls"),
)
_OWN = (
    *("profile", "networks", "egress", "environment", "command", "command_add", "entrypoint", "secrets", "volumes"),
    *("mounts", "depends_on", "migrates", "health"),
)
_SERVICE = Record(
    {
        "profile": schema.text,
        "networks": schema.list_of(schema.text),
        "egress": schema.boolean,
        "ports": schema.list_of(
            Record(
                {
                    "target": schema.integer(1, 65535),
                    "published": schema.integer(1, 65535),
                    "protocol": schema.choice("tcp", "udp"),
                    "publish_on": schema.choice("public", "private", "loopback"),
                },
                required=("target",),
            )
        ),
        "environment": schema.environment,
        "command": schema.command,
        "command_add": schema.command,
        "entrypoint": schema.command,
        "files": Record({"mount": schema.pattern(r"/.+", "an absolute path")}, required=("mount",)),
        "secrets": schema.map_of(_delivery),
        "volumes": schema.map_of(schema.pattern(r"/.+", "an absolute path")),
        "mounts": schema.list_of(schema.text),
        "depends_on": schema.map_of(
            schema.choice("service_healthy", "service_started", "service_completed_successfully")
        ),
        "healthcheck": HEALTHCHECK,
        "health": schema.choice("shallow", "deep"),
        "limits": Record({"memory": _memory, "cpus": CPUS, "pids": PIDS, "nofile": NOFILE}),
        "migrates": schema.text,
        **{key: PROFILE.keys[key] for key in _GIVEN},
    }
)
_PARTS: dict[str, schema.Check] = {
    "networks": schema.map_of(lambda value, at: _NETWORK(value or {}, at), keep_null=True),
    "secrets": schema.map_of(declared_secrets.declaration),
    "postgres": _POSTGRES,
    "services": schema.map_of(lambda value, at: _SERVICE(value or {}, at), keep_null=True),
}
SECTIONS = ("selfhosted", "digitalocean", "digitalocean_managed_postgres", "tls_provided")
DEFINITION = Record(_PARTS)


def _raw_mapping(value: Any, at: At) -> dict[str, Any]:
    return dict(schema.map_of(schema.any_value, keep_null=True)(value, at))


_RAW: dict[str, schema.Check] = dict.fromkeys(_PARTS, _raw_mapping)
_SECTION = Record({"remove": schema.list_of(schema.text), **_RAW})
_FILE = Record({**_RAW, "targets": Record(dict.fromkeys(SECTIONS, _SECTION))})


@dataclass(frozen=True)
class PublicPort:
    """A port to publish, on the host's public addresses, on its private one, or for the host alone."""

    target: int
    published: int
    protocol: str = "tcp"
    publish_on: Literal["public", "private", "loopback"] = "public"


@dataclass(frozen=True)
class ServiceDefinition:
    """What the definition says of one service; None and empty mean that it says nothing.

    ``given`` holds the keys that stand in for the profile's, as the profile schema returns them. ``secret_variables``
    maps variables to the values that an entrypoint before the service's own reads from a file. ``rotations`` maps the
    secrets that it uses to the kinds of their rotation, ``certificates`` the files of those that it has the key of to
    the first name that each was made for.
    """

    profile: str | None = None
    networks: tuple[str, ...] | None = None
    egress: bool = False
    ports: tuple[PublicPort, ...] = ()
    environment: Mapping[str, str | None] = field(default_factory=dict)
    command: tuple[str, ...] | None = None
    command_add: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    files_mount: str | None = None
    secrets: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    volumes: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[str, ...] | None = None
    depends_on: Mapping[str, str] | None = None
    healthcheck: Healthcheck | None = None
    health: Literal["shallow", "deep"] | None = None
    memory: Memory | None = None
    cpus: float | None = None
    pids: int | None = None
    nofile: int | None = None
    migrates: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)
    secret_variables: Mapping[str, str] = field(default_factory=dict)
    rotations: Mapping[str, str] = field(default_factory=dict)
    certificates: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Definition:
    """One stack's definition for one inventory: target sections and inventory overrides are laid over it.

    ``secrets`` are the rules that the host knows; ``consumers`` the services that each one's declaration names.
    """

    networks: Mapping[str, bool] = field(default_factory=dict)
    closed: tuple[str, ...] = ()
    secrets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    postgres: Mapping[str, Any] | None = None
    services: Mapping[str, ServiceDefinition] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    source: str = "batten.yaml"
    consumers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def _service(checked: Mapping[str, Any]) -> ServiceDefinition:
    limits = checked.get("limits", {})
    ports = (PublicPort(**{"published": port["target"], **port}) for port in checked.get("ports", ()))
    return ServiceDefinition(
        ports=tuple(ports),
        files_mount=checked.get("files", {}).get("mount"),
        healthcheck=healthcheck(checked["healthcheck"]) if "healthcheck" in checked else None,
        memory=limits.get("memory"),
        cpus=limits.get("cpus"),
        pids=limits.get("pids"),
        nofile=limits.get("nofile"),
        given={key: checked[key] for key in _GIVEN if key in checked},
        **{key: checked[key] for key in _OWN if key in checked},
    )


def parse_definition(
    raw: Any,
    source: str,
    sections: tuple[str, ...] = (),
    services: Mapping[str, Any] | None = None,
    secrets: Mapping[str, Any] | None = None,
) -> Definition:
    """Check a definition and lay the named target ``sections`` and the inventory's overrides over it.

    ``services`` is the inventory's ``stack_services``, ``secrets`` its ``stack_secrets``. Every target section is
    checked, also those that do not fit this inventory.
    """
    checked = _FILE(raw or {}, At(source))
    targets = checked.pop("targets", {})
    for name in targets:
        _resolve(checked, [targets[name]], At(f"{source} with targets.{name}"))
    overrides = {"services": services or {}, "secrets": secrets or {}}
    if services or secrets:
        _resolve({}, [overrides], At("the inventory's stack_services and stack_secrets"))
    fitting = [targets[name] for name in SECTIONS if name in sections and name in targets]
    values = _resolve(checked, [*fitting, overrides], At(source))
    removed = tuple(sorted({name for section in fitting for name in section.get("remove", ())}))
    postgres = values.get("postgres")
    # With the service taken away the server is elsewhere, or nowhere.
    here = postgres and (postgres["service"] not in removed or "digitalocean_managed_postgres" in sections)
    declared = {name: _without(item, removed) for name, item in values.get("secrets", {}).items()}
    own = {name: _service(item) for name, item in values.get("services", {}).items() if name not in removed}
    own = declared_secrets.deliver(declared, own, ServiceDefinition())
    rules = declared_secrets.rules(declared, postgres if here else None, own)
    definition = Definition(
        networks={name: network.get("internal", False) for name, network in values.get("networks", {}).items()},
        closed=tuple(sorted(name for name, one in values.get("networks", {}).items() if not one.get("egress", True))),
        secrets=rules,
        postgres=postgres if here else None,
        services={
            name: replace(
                item,
                rotations=declared_secrets.check_use(name, item, rules, At(source, "services")),
                certificates=declared_secrets.certificates(item, rules),
            )
            for name, item in own.items()
        },
        removed=removed,
        source=source,
        consumers={name: tuple(item.consumers) for name, item in declared.items()},
    )
    _check_references(definition)
    return definition


def _without(declared: declared_secrets.Declaration, removed: tuple[str, ...]) -> declared_secrets.Declaration:
    consumers = {name: target for name, target in declared.consumers.items() if name not in removed}
    return replace(declared, consumers=consumers)


def _resolve(below: Mapping[str, Any], above: list[Mapping[str, Any]], at: At) -> dict[str, Any]:
    merged: Any = below
    for layer in above:
        merged = schema.merge(merged, {key: value for key, value in layer.items() if key in _PARTS}, ("secrets",))
    return dict(DEFINITION(merged, at))


def _check_references(definition: Definition) -> None:
    at = At(definition.source, "services")
    networks = {*definition.networks, "egress"} if definition.networks else None
    for name, service in definition.services.items():
        for mount in service.mounts or ():
            if re.match(r"/opt/batten/[^/]+/secrets(/|:|$)", mount):
                raise (
                    at.key(name)
                    .key("mounts")
                    .error(
                        "the secrets of another service belong to another user, and are nobody else's",
                        f"add {name} to the consumers of each secret that it needs",
                    )
                )
        for network in service.networks or ():
            if networks is not None and network not in networks:
                raise schema.unknown_key(network, networks, at.key(name).key("networks"))


def load_definition(path: Path | None, **overrides: Any) -> Definition:
    """Read a definition file; None gives the empty definition (a base that has no ``batten.yaml``)."""
    if path is None:
        return parse_definition({}, "no batten.yaml", **overrides)
    if not path.exists():
        raise BattenError("the stack definition does not exist", str(path), "correct stack_definition")
    return parse_definition(schema.read_yaml(path), str(path), **overrides)
