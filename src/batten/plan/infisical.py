"""Infisical's own settings: the inventory's ``infisical_*`` variables, and the stack that runs it.

batten's own Infisical is a second stack beside the inventory's (``compose/infisical``): planned, released, gated and
verified by the same code. It runs on the hosts of the group ``infisical`` where there is one, else on every host of
``stack``. Names, types and defaults are documented in ``roles/infisical/meta/argument_specs.yml``.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from batten import resources
from batten.plan import schema
from batten.plan.schema import At
from batten.plan.settings import EMAIL, PATH, StackSettings, address, below, certificates

if TYPE_CHECKING:
    from collections.abc import Mapping

STACK = "infisical"
"""The name of the stack, of its Compose project, of its host group."""

HTTPS_PORT = 8443
HTTPS_CA = "https_ca"
"""The secret of its stack that is the authority of its certificate for other hosts."""

# The proxy is on the engine's own networks (RFC 1918, and docker_daemon's default-address-pools).
PROXIED = {"TRUSTED_PROXY_CIDRS": "172.16.0.0/12"}
_MODES = ("selfhosted", "external", "none")
_UUID = schema.pattern(r"[0-9A-Fa-f-]{36}", "the project's id, a UUID (Infisical: Project Settings, Copy Project ID)")
_SLUG = schema.pattern(r"[a-z0-9][a-z0-9-]*", "small letters, digits and -")
_FOLDER = schema.pattern(r"/([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)?", "a folder such as /app")
_CHECKS: Mapping[str, schema.Check] = {
    "infisical_mode": schema.choice(*_MODES),
    "infisical_port": schema.integer(1024, 65535),
    "infisical_image": schema.text,
    "infisical_images": schema.map_of(schema.text),
    "infisical_organization": schema.text,
    "infisical_admin_email": EMAIL,
    "infisical_address": address,
    "infisical_data_directory": PATH,
    "infisical_url": schema.text,
    "infisical_ca": schema.text,
    "infisical_client_id": schema.text,
    "infisical_project": _UUID,
    "infisical_environment": _SLUG,
    "infisical_path": _FOLDER,
}
# What may be handed in instead of being made, by what its value must be. A wrong one is refused before anything starts,
# and never shown.
_PRINTABLE = (re.compile(r"[!-~]{16,512}"), "at least 16 printable characters without blanks")
GIVEN: Mapping[str, tuple[re.Pattern[str], str]] = {
    "infisical_encryption_key": (re.compile(r"[!-~]{32}"), "exactly 32 characters: openssl rand -hex 16"),
    "infisical_auth_secret": _PRINTABLE,
    "infisical_cookie_secret": _PRINTABLE,
    "infisical_db_superuser_password": _PRINTABLE,
    "infisical_db_password": _PRINTABLE,
    "infisical_redis_password": (re.compile(r"[A-Za-z0-9_.~-]{16,512}"), "at least 16 letters, digits, _ . ~ -"),
    "infisical_admin_password": _PRINTABLE,
}


@dataclass(frozen=True)
class InfisicalSettings:
    """Where a host's secrets come from. ``None`` means that the inventory says nothing.

    ``selfhosted``: batten runs it. ``external``: at ``url``, checked against the certificates of the file ``ca``.
    ``none``: values are made and kept on the host alone. ``address`` is the host's own, on which it serves others.
    """

    mode: Literal["selfhosted", "external", "none"] = "selfhosted"
    port: int = 8222
    image: str | None = None
    images: Mapping[str, str] = field(default_factory=dict)
    organization: str = "batten"
    admin_email: str = "admin@batten.invalid"
    address: str | None = None
    data_directory: str | None = None
    url: str | None = None
    ca: Path | None = None
    client_id: str | None = None
    project: str | None = None
    environment: str = "prod"
    path: str = "/"

    @classmethod
    def from_variables(
        cls, variables: Mapping[str, Any], source: str = "inventory", root: Path = Path()
    ) -> InfisicalSettings:
        """Check a host's ``infisical_*`` variables, the handed in secrets among them; empty ones count as not given.

        Raises BattenError for a wrong value, and for settings that contradict one another.
        """
        at = At(source)
        given = {
            name.removeprefix("infisical_"): check(variables[name], at.key(name))
            for name, check in _CHECKS.items()
            if variables.get(name) not in (None, "")
        }
        if "ca" in given:
            given["ca"] = below(root, given["ca"])
        settings = cls(**given)
        settings._check(at)
        check_given(variables, source)
        return settings

    def _check(self, at: At) -> None:
        if self.mode != "external":
            return
        for name, what in (("url", "https://secrets.example.org"), ("project", "ID"), ("client_id", "ID")):
            if not getattr(self, name):
                raise at.error(
                    f"infisical_mode: external needs infisical_{name}",
                    f"set infisical_{name}: {what}, or infisical_mode: selfhosted to have one made",
                )
        check_url(str(self.url), at.key("infisical_url"))

    def ca_text(self) -> str:
        """Return the certificates that ``infisical_ca`` names, empty for those of the system.

        Raises BattenError for a file that is missing or holds none.
        """
        if self.ca is None:
            return ""
        return certificates(self.ca, "infisical_ca")


def check_url(url: str, at: At) -> None:
    """Refuse what is no address of a server, and plain HTTP to anything but this very host."""
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.username:
        raise at.error(f"{url!r} is not the address of a server", "write one such as https://secrets.example.org")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise at.error(
            "plain HTTP would show every secret to the network",
            "write https://, and infisical_ca for an authority of your own",
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_given(variables: Mapping[str, Any], source: str) -> None:
    """Refuse a handed in root secret whose form Infisical, PostgreSQL or Redis would choke on. It is not shown."""
    for name, (form, wanted) in GIVEN.items():
        value = variables.get(name)
        if value not in (None, "") and not form.fullmatch(str(value)):
            raise At(source).key(name).error(f"its value has {len(str(value))} characters and a wrong form", wanted)


def runs_on(host: str, mode: str, groups: Mapping[str, Any]) -> bool:
    """Say whether batten runs an Infisical on this host. ``groups`` is Ansible's: host names by group."""
    return mode == "selfhosted" and host in (groups.get(STACK) or (host,))


def server_of(host: str, groups: Mapping[str, Any]) -> str:
    """Return the host whose Infisical a host's stack uses: the first of the group ``infisical``, else itself."""
    return str(next(iter(groups.get(STACK) or (host,))))


def check_server(server: str, listens_on: Any) -> None:
    """Refuse a host whose Infisical serves others without an address to serve them at."""
    if listens_on in (None, ""):
        raise At(server, "infisical_address").error(
            "it serves other hosts, and nothing says at which of its addresses",
            "set infisical_address to its private address, such as 10.116.0.2",
        )


def url_of(settings: InfisicalSettings, *, local: bool) -> str:
    """Return where a self-hosted Infisical answers: on its own host, or for the others."""
    if local:
        return f"http://127.0.0.1:{settings.port}"
    host = f"[{settings.address}]" if ":" in str(settings.address) else settings.address
    return f"https://{host}:{HTTPS_PORT}"


def infisical_stack(
    settings: InfisicalSettings, variables: Mapping[str, Any], source: str = "inventory", root: Path = Path()
) -> StackSettings:
    """Return the stack that runs Infisical, in the terms of any other; what is the host's own it shares with that."""
    images = {**settings.images, **({STACK: settings.image} if settings.image else {})}
    loopback = {"target": 8080, "published": settings.port, "publish_on": "loopback"}
    services: dict[str, Any] = {STACK: {"ports": [loopback]}}
    own: dict[str, Any] = {
        "stack_name": STACK,
        "stack_project": STACK,
        "stack_base": str(resources.compose() / "infisical" / "compose.yaml"),
        "stack_data_directory": settings.data_directory,
        "stack_images": images,
        "stack_environment": {"INFISICAL_PORT": str(settings.port)},
        "stack_services": services,
        "stack_gate_timeout": "10m",  # hundreds of migrations at the first start
    }
    if settings.address:
        certificate = {"generator": "x509", "ca": HTTPS_CA, "names": [settings.address], "consumers": ["caddy"]}
        own |= {
            "stack_profiles": ["https"],
            "stack_public_addresses": [settings.address],
            "stack_secrets": {HTTPS_CA: {"generator": "ca", "consumers": ["caddy"]}, "https": certificate},
        }
        services |= {
            STACK: {"ports": [loopback], "networks": ["host", "app", "data", "queue"], "environment": PROXIED},
            "caddy": {"reload": ["caddy", "reload", "--config", "/etc/caddy/Caddyfile", "--force"]},
        }
    shared = (
        "stack_target",
        "secrets_sync_interval",
        "stack_capacity",
        "stack_reserve",
        "stack_rebalance",
        "stack_defer_stateful",
        "stack_apply_tunables",
        "stack_drift",
        "stack_drift_timer",
        "digitalocean_size",
        "digitalocean_volume",
        "digitalocean_vpc_address",
    )
    of_host = {name: value for name, value in variables.items() if name in shared or name.startswith("backup_")}
    return replace(StackSettings.from_variables({**of_host, **own}, source, root), prefix="infisical")


def host_stacks(
    variables: Mapping[str, Any], source: str = "inventory", root: Path = Path()
) -> tuple[StackSettings, ...]:
    """Return the stacks of one host, Infisical first, out of its variables.

    ``variables`` holds Ansible's own ``inventory_hostname`` and ``groups`` besides the inventory's; without them it is
    a host of a fleet without a group ``infisical``. Raises BattenError for what cannot be deployed.
    """
    host, groups = str(variables.get("inventory_hostname", "")), variables.get("groups") or {}
    settings = InfisicalSettings.from_variables(variables, source, root)
    stacks = []
    if runs_on(host, settings.mode, groups):
        stacks.append(infisical_stack(settings, variables, source, root))
    alone = host in (groups.get(STACK) or ()) and host not in (groups.get("stack") or ())
    if not alone:
        own = StackSettings.from_variables(variables, source, root)
        if stacks and own.name == STACK:
            raise At(source, "stack_name").error(
                "batten's own Infisical has this name", "choose another, or set infisical_mode: none"
            )
        stacks.append(own)
    return tuple(stacks)
