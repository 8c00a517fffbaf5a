"""Jinja as batten uses it: an undefined name is an error, and every value is quoted for the language it goes into."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import jinja2

from batten.errors import BattenError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from batten.plan.model import Port, Tmpfs

_UNITS = (("G", 1024**3), ("M", 1024**2), ("K", 1024))


def yaml_value(value: Any) -> str:
    """Return ``value`` as one line that YAML reads back the same, and Compose too: ``$`` doubled.

    JSON is YAML (YAML 1.2, section 1.3), and with ``ensure_ascii`` no character can end the line or the quotes. An
    integral float is written without its ``.0``. A dollar sign is doubled as Compose's interpolation wants it
    (compose-spec, "Interpolation": ``$$`` is a literal dollar sign).
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, tuple):
        value = list(value)
    return json.dumps(value, ensure_ascii=True, sort_keys=True).replace("$", "$$")


_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# What YAML 1.1 and 1.2 read as something else than text (yaml.org/type/bool.html, null.html).
_NO_TEXT = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])


def key(name: str) -> str:
    """Return a mapping's key: as it is where every reader takes it for text, else quoted."""
    return name if _PLAIN_KEY.fullmatch(name) and name.lower() not in _NO_TEXT else json.dumps(name, ensure_ascii=True)


def json_value(value: Any) -> str:
    """Return ``value`` as JSON on one line, for files that Compose does not read; Alloy's strings are JSON's."""
    return json.dumps(value, ensure_ascii=True, sort_keys=True)


def size(count: int) -> str:
    """Return bytes in Compose's largest exact unit (compose-spec, "Specifying byte values"; powers of 1024)."""
    return next((f"{count // unit}{letter}" for letter, unit in _UNITS if count and count % unit == 0), str(count))


def seconds(count: float) -> str:
    """Return a duration in Compose's notation, exact to the millisecond."""
    return f"{count:g}s" if float(count).is_integer() else f"{round(count * 1000)}ms"


def tmpfs(mount: Tmpfs) -> str:
    """Return a tmpfs in Compose's short syntax. Nothing in it can be run or be a device (compose-lint CL-0022)."""
    options = ["rw", "noexec", "nosuid", "nodev", f"size={mount.size_bytes}", f"mode={mount.mode}"]
    options += [f"uid={mount.uid}"] if mount.uid is not None else []
    options += [f"gid={mount.gid}"] if mount.gid is not None else []
    return f"{mount.path}:{','.join(options)}"


def port(published: Port) -> str:
    """Return a port in Compose's short syntax; an IPv6 address stands in brackets (compose-spec, "ports")."""
    address = published.address
    host = "" if address is None else f"[{address}]:" if ":" in address else f"{address}:"
    protocol = "" if published.protocol == "tcp" else f"/{published.protocol}"
    number = f"{published.published}:" if published.published else ":" if host else ""  # none: the engine chooses
    return f"{host}{number}{published.target}{protocol}"


def digest_variable(service: str) -> str:
    """Return the variable that carries the digest of a service's secrets into its label; the host fills it in."""
    return "BATTEN_DIGEST_" + service.upper().replace("-", "_").replace(".", "_")


FILTERS: Mapping[str, Callable[..., str]] = {
    "yaml": yaml_value,
    "key": key,
    "json": json_value,
    "size": size,
    "seconds": seconds,
    "tmpfs": tmpfs,
    "port": port,
    "digest_variable": digest_variable,
}


def environment(directory: Path) -> jinja2.Environment:
    """Return the Jinja environment for templates below ``directory``."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(directory),
        undefined=jinja2.StrictUndefined,
        autoescape=False,  # noqa: S701 - YAML and configuration files, not HTML; every value goes through a filter
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(FILTERS)
    return made


def render(made: jinja2.Environment, name: str, **values: Any) -> str:
    """Render one template; what goes wrong in it is an error that names the file and the line."""
    try:
        return made.get_template(name).render(**values)
    except jinja2.TemplateNotFound as error:
        raise BattenError(f"the template {error.name} does not exist", name, "restore the file in compose/") from error
    except jinja2.TemplateSyntaxError as error:
        raise BattenError(
            f"the template is not valid: {error.message}", f"{name}:{error.lineno}", "correct it"
        ) from error
    except jinja2.UndefinedError as error:
        raise BattenError(
            f"the template uses a name that is not there: {error.message}",
            name,
            "correct the name, or set the variable",
        ) from error
