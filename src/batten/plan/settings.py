"""Settings: the inventory's variables for one host, as one checked value.

Names, types and defaults are documented in ``roles/stack/meta/argument_specs.yml``. Secrets that the operator hands in
are not settings: they never come here, nor into a plan.
"""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from batten import resources
from batten.plan import drift, lock, schema, targets
from batten.plan.model import BackupPlan, ServiceClass
from batten.plan.schema import At

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batten.plan.model import DriftRule, Target


def address(value: Any, at: At) -> str:
    try:
        return str(ipaddress.ip_address(schema.text(value, at)))
    except ValueError as error:
        raise at.error(f"{value!r} is not an IP address", "write an IPv4 or IPv6 address the host owns") from error


def below(root: Path, path: str | Path) -> Path:
    """Return ``path`` as people read it in an error: without the ``..`` of an inventory beside the base."""
    return Path(os.path.normpath(root / Path(path).expanduser()))


def certificates(file: Path, variable: str) -> str:
    """Return the certificates of the file that ``variable`` names. Raises BattenError for one that holds none."""
    try:
        text = file.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise At(str(file)).error(f"cannot read the certificates: {error}", f"correct {variable}") from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise At(str(file)).error("no certificate is in this file", f"name a PEM file in {variable}")
    return text


def overcommit(value: Any, at: At) -> dict[str, float]:
    """Check how often the memory of a class may be promised, such as ``{observability: 1.5}``."""
    factors = schema.map_of(schema.number(1, 4))(value, at)
    for name in factors:
        if name not in get_args(ServiceClass):
            raise schema.unknown_key(name, get_args(ServiceClass), at)
    return dict(factors)


def _duration(value: Any, at: At) -> float:
    """Inventories often give numbers as text."""
    return schema.duration(float(value) if isinstance(value, str) and value.isdigit() else value, at)


# These stand unquoted in configuration files, systemd units and commands that people copy, so they are held to what
# cannot end a line, a block or a word there.
_DOMAIN = schema.pattern(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", "a domain name, such as app.example.org")
_HOST = schema.pattern(r"[A-Za-z0-9:]([A-Za-z0-9._:-]*[A-Za-z0-9])?", "a host name or an IP address")
EMAIL = schema.pattern(r"[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+", "an e-mail address")
_ROLE = schema.pattern(r"[A-Za-z0-9_][A-Za-z0-9_-]*", "letters, digits, - and _")
PATH = schema.pattern(r"/[A-Za-z0-9._/+@-]+", "an absolute path of letters, digits and . _ - + @")
_VOLUME = schema.pattern(r"/?[A-Za-z0-9][A-Za-z0-9._/+@-]*", "a volume's name, or the absolute path of its mount")
_NAME = schema.pattern(r"[a-z0-9][a-z0-9_-]*", "a Compose project name: small letters, digits, - and _")
# The host has a lock and a file of metrics beside those of its stacks, by this name.
_STACK = schema.pattern(
    r"(?!host$)[a-z0-9][a-z0-9_-]*", "a Compose project name: small letters, digits, - and _; not host"
)
_RECIPIENT = schema.pattern(r"age1[02-9ac-hj-np-z]{58}", "an age public key, which age-keygen prints: age1...")
# The unit that makes backups sees none of these, or a /tmp of its own (timers.py).
_OUTSIDE = r"(?!/(home|root|tmp|var/tmp|run|usr|etc|boot|efi|dev|proc|sys)(/|$))"
_BACKUPS = schema.pattern(
    _OUTSIDE + r"/[A-Za-z0-9._/+@-]+", "an absolute path, not below /home, /root, /tmp or a system's"
)
_CALENDAR = schema.pattern(r"[A-Za-z0-9*,./:~ +-]+", "a time as in systemd.time(7), such as daily or 03:30")
_CHECKS: Mapping[str, schema.Check] = {
    "stack_name": _STACK,
    "stack_base": schema.text,
    "stack_compose_files": schema.list_of(schema.text),
    "stack_definition": schema.text,
    "stack_target": schema.choice("selfhosted", "digitalocean"),
    "stack_profiles": schema.list_of(schema.text),
    "stack_images": schema.map_of(schema.text),
    "stack_registries": schema.map_of(
        schema.Record({"user": schema.text, "secret": schema.text}, required=("user", "secret"))
    ),
    "stack_build": schema.choice("host"),
    "stack_environment": schema.map_of(schema.scalar_text),
    "stack_domain": _DOMAIN,
    "stack_tls": schema.choice("internal", "acme", "provided"),
    "stack_acme_email": EMAIL,
    "stack_data_directory": PATH,
    "stack_public_addresses": schema.list_of(address),
    "stack_services": schema.map_of(schema.any_value, keep_null=True),
    "stack_secrets": schema.map_of(schema.any_value, keep_null=True),
    "stack_capacity": schema.Record({"memory": schema.size, "cpus": schema.number(0.1, 1024)}),
    "stack_project": _NAME,
    "stack_adopt_chown": schema.boolean,
    "stack_gate_timeout": _duration,
    "stack_reserve": schema.size,
    "stack_overcommit": overcommit,
    "stack_rebalance": schema.boolean,
    "stack_defer_stateful": schema.boolean,
    "stack_apply_tunables": schema.boolean,
    "stack_drift": drift.stack_rules,
    "stack_drift_timer": _duration,
    "secrets_sync_interval": _duration,
    "backup_recipient": _RECIPIENT,
    "backup_directory": _BACKUPS,
    "backup_schedule": _CALENDAR,
    "backup_keep": schema.integer(1, 1000),
    "backup_max_age": _duration,
    "digitalocean_managed_postgres": schema.boolean,
    "digitalocean_postgres_host": _HOST,
    "digitalocean_postgres_port": schema.integer(1, 65535),
    "digitalocean_postgres_database": _ROLE,
    "digitalocean_postgres_user": _ROLE,
    "digitalocean_postgres_ca": schema.text,
    "digitalocean_size": schema.text,
    "digitalocean_postgres_size": schema.text,
    "digitalocean_vpc_address": address,
    "digitalocean_volume": _VOLUME,
}


@dataclass(frozen=True)
class StackSettings:
    """One stack of one host. Sizes in bytes, times in seconds; None means that the inventory says nothing.

    ``postgres_ca`` is the text of the certificates. ``services`` and ``secrets`` are raw: they are laid over the
    definition and checked with it.
    """

    name: str
    base: Path
    definition: Path | None
    target: Target = "selfhosted"
    profiles: tuple[str, ...] = ()
    images: Mapping[str, str] = field(default_factory=dict)
    build: Literal["host"] | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    domain: str | None = None
    tls: Literal["internal", "acme", "provided"] = "internal"
    acme_email: str | None = None
    data_directory: str | None = None
    public_addresses: tuple[str, ...] = ()
    services: Mapping[str, Any] = field(default_factory=dict)
    secrets: Mapping[str, Any] = field(default_factory=dict)
    capacity_memory_bytes: int | None = None
    capacity_cpus: float | None = None
    project: str | None = None
    adopt_chown: bool = False
    gate_timeout_seconds: float = 300
    reserve_bytes: int | None = None
    overcommit: Mapping[str, float] = field(default_factory=dict)
    rebalance: bool = False
    defer_stateful: bool = False
    apply_tunables: bool = False
    drift: tuple[DriftRule, ...] = ()
    drift_timer_seconds: float = 0
    sync_interval_seconds: float = 300
    backup_recipient: str | None = None
    backup_directory: str = "/var/backups/batten"
    backup_schedule: str = "daily"
    backup_keep: int = 14
    backup_max_age_seconds: float = 36 * 3600
    managed_postgres: bool = False
    postgres_host: str | None = None
    postgres_port: int = 25060
    postgres_database: str = "defaultdb"
    postgres_user: str = "doadmin"
    postgres_ca: str | None = None
    postgres_connections: int | None = None
    size: targets.Size | None = None
    vpc_address: str | None = None
    volume: str | None = None
    profiles_directory: Path = field(default_factory=lambda: resources.compose() / "profiles")
    source: str = "inventory"
    prefix: Literal["stack", "infisical"] = "stack"
    compose_files: tuple[Path, ...] = ()
    lock: Path | None = None
    registries: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def from_variables(
        cls, variables: Mapping[str, Any], source: str = "inventory", root: Path = Path()
    ) -> StackSettings:
        """Check a host's Ansible variables; others than ours are passed over, empty ones count as not given.

        ``source`` names the host in errors; relative paths are below ``root``. Raises BattenError for a wrong type or
        value and for settings that contradict one another.
        """
        at = At(source)
        given = {
            name: check(variables[name], at.key(name))
            for name, check in _CHECKS.items()
            if variables.get(name) is not None and variables[name] != ""
        }
        capacity = given.pop("stack_capacity", {})
        if slug := given.pop("digitalocean_size", None):
            given["size"] = targets.digitalocean().size(slug, at.key("digitalocean_size"))
        if slug := given.pop("digitalocean_postgres_size", None):
            granted = targets.digitalocean().postgres_size(slug, at.key("digitalocean_postgres_size"))
            given["postgres_connections"] = granted.connections
        authority = given.pop("digitalocean_postgres_ca", None)
        if authority and given.get("digitalocean_managed_postgres"):
            given["digitalocean_postgres_ca"] = certificates(below(root, authority), "digitalocean_postgres_ca")
        files = tuple(below(root, name) for name in given.pop("stack_compose_files", ()))
        if files and "stack_base" in given:
            raise at.error("stack_base and stack_compose_files both name the base", "keep one of them")
        base = files[0] if files else below(root, given.pop("stack_base", resources.compose() / "compose.yaml"))
        named = given.pop("stack_definition", None)
        beside = base.parent / "batten.yaml"
        definition = below(root, named) if named else beside if beside.is_file() else None
        renamed = {
            "stack_profiles": "profiles",
            "stack_gate_timeout": "gate_timeout_seconds",
            "stack_reserve": "reserve_bytes",
            "stack_drift_timer": "drift_timer_seconds",
            "secrets_sync_interval": "sync_interval_seconds",
            "backup_max_age": "backup_max_age_seconds",
        }
        values = {
            renamed.get(name, name.removeprefix("stack_").removeprefix("digitalocean_")): value
            for name, value in given.items()
        }
        if "name" not in values:
            raise at.error("stack_name is missing", "set stack_name, for example stack_name: app")
        settings = cls(
            **values,
            base=base,
            compose_files=files,
            definition=definition,
            lock=lock.beside(base, definition, root),
            capacity_memory_bytes=capacity.get("memory"),
            capacity_cpus=capacity.get("cpus"),
            source=source,
        )
        settings._check(at)
        return settings

    def _check(self, at: At) -> None:
        if domain := self.environment.get("STACK_DOMAIN"):
            _DOMAIN(domain, at.key("stack_environment").key("STACK_DOMAIN"))
        if self.tls == "acme" and not (self.domain and self.acme_email):
            raise at.error(
                "stack_tls: acme needs a domain and an address",
                "set stack_domain and stack_acme_email, or stack_tls: internal",
            )
        if self.tls == "provided" and not self.domain:
            raise at.error(
                "stack_tls: provided needs the domain that the certificate is for",
                "set stack_domain, or stack_tls: internal",
            )
        if not self.managed_postgres:
            return
        if self.target != "digitalocean":
            raise at.error(
                "digitalocean_managed_postgres is true but the target is selfhosted",
                "set stack_target: digitalocean, or digitalocean_managed_postgres: false",
            )
        for name in ("postgres_host", "postgres_ca"):
            if not getattr(self, name):
                raise at.error(
                    f"digitalocean_{name} is missing for the managed PostgreSQL",
                    f"set digitalocean_{name}, or digitalocean_managed_postgres: false to run the container",
                )

    @property
    def sections(self) -> tuple[str, ...]:
        """The definition's target sections that fit."""
        managed = ("digitalocean_managed_postgres",) if self.managed_postgres else ()
        return (self.target, *managed, *(("tls_provided",) if self.tls == "provided" else ()))

    @property
    def variables(self) -> dict[str, str]:
        """What ``${NAME}`` can name in the base and the definition; ``stack_environment`` comes first."""
        own = {
            "STACK_NAME": self.name,
            "STACK_TARGET": self.target,
            "STACK_DOMAIN": self.domain or "localhost",
            "STACK_TLS": self.tls,
            "STACK_ACME_EMAIL": self.acme_email or "",
        }
        if self.managed_postgres:
            own |= {
                "DIGITALOCEAN_POSTGRES_HOST": self.postgres_host or "",
                "DIGITALOCEAN_POSTGRES_PORT": str(self.postgres_port),
                "DIGITALOCEAN_POSTGRES_DATABASE": self.postgres_database,
                "DIGITALOCEAN_POSTGRES_USER": self.postgres_user,
            }
        return {**own, **self.environment}

    @property
    def backup(self) -> BackupPlan | None:
        """What backups are made; None without a key to encrypt them to."""
        if not self.backup_recipient:
            return None
        return BackupPlan(
            self.backup_recipient,
            self.backup_directory,
            self.backup_schedule,
            self.backup_keep,
            self.backup_max_age_seconds,
        )

    @property
    def volume_mount(self) -> str | None:
        """Where the block volume is mounted: DigitalOcean's convention is ``/mnt/NAME`` with ``-`` as ``_``."""
        if self.target != "digitalocean" or not self.volume:
            return None
        return self.volume if self.volume.startswith("/") else "/mnt/" + self.volume.replace("-", "_")

    @property
    def data(self) -> str | None:
        """The directory below which named volumes lie; None leaves them to the engine."""
        return self.data_directory or (f"{self.volume_mount}/{self.name}" if self.volume_mount else None)
