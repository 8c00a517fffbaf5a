"""How a stack of this host reaches its secrets in Infisical; sealed beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import atomic, systemd_creds
from .errors import BattenError
from .paths import StackPaths


@dataclass(frozen=True)
class Access:
    """``ca`` is the PEM text of the only authority to trust, empty over loopback and for public ones."""

    url: str
    client_id: str
    client_secret: str
    project_id: str
    environment: str = "prod"
    path: str = "/"
    ca: str = ""


def load(paths: StackPaths) -> Access | None:
    """Return what was saved; None where there is nothing yet."""
    if not paths.access.exists():
        return None
    return from_json(systemd_creds.read(paths.access, _sealed_name(paths)))


def save(paths: StackPaths, access: Access) -> bool:
    """Seal ``access``; return whether it is another than before."""
    if load(paths) == access:
        return False
    atomic.make_directory(paths.var, 0o700)
    atomic.make_directory(paths.state, 0o700)
    systemd_creds.write(paths.access, _sealed_name(paths), dict(access.__dict__))
    return True


def from_json(given: Any) -> Access:
    """Return an Access out of JSON. Raises BattenError, which names no value, when it is none."""
    try:
        access = Access(**given)
    except TypeError:
        raise _not_one() from None
    if not all(isinstance(value, str) for value in access.__dict__.values()):
        raise _not_one()
    if not (access.url and access.client_id and access.client_secret and access.project_id):
        raise _not_one()
    return access


def _sealed_name(paths: StackPaths) -> str:
    return f"batten-{paths.stack}-infisical"


def _not_one() -> BattenError:
    fix = "give url, client_id, client_secret and project_id as texts; environment, path and ca may be left out"
    return BattenError("this says not how to reach Infisical", "access", fix)
