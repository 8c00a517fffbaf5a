"""What image references mean today, asked of private registries by this host, with logins that it keeps sealed.

The controller names the secret; its value goes to the engine and to the registry, and what comes back is digests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .docker_api import Docker, DockerError
from .errors import BattenError

HUB = "docker.io"
_HUB_ADDRESS = "https://index.docker.io/v1/"  # what an engine calls it (moby registry, IndexServer)


def asked(given: Any) -> dict[str, Any]:
    """Return what was asked for; raises BattenError for what is no ``{"images": {REFERENCE: {...}}}``."""
    keys = ("registry", "user", "secret")
    images = given.get("images") if isinstance(given, dict) else None
    if not isinstance(images, dict) or not all(
        isinstance(one, dict) and all(isinstance(one.get(key), str) for key in keys) for one in images.values()
    ):
        raise BattenError("standard input does not say which images", "digests", "use: batten pin")
    return images


def resolve(docker: Docker, images: Mapping[str, Mapping[str, str]], values: Mapping[str, str]) -> dict[str, Any]:
    """Return ``{"digest", "platforms"}`` of each reference, or ``{"what", "fix"}`` where its registry gives none.

    ``images`` maps references to their ``registry``, the ``user`` and the name of the ``secret`` among ``values``.
    """
    return {reference: _one(docker, reference, how, values) for reference, how in sorted(images.items())}


def _one(docker: Docker, reference: str, how: Mapping[str, str], values: Mapping[str, str]) -> dict[str, Any]:
    name = how["secret"]
    if not values.get(name):
        return {
            "what": f"the secret {name} has no value on this host",
            "fix": f"put {name} into Infisical; run site.yml",
        }
    address = _HUB_ADDRESS if how["registry"] == HUB else how["registry"]
    login = {"username": how["user"], "password": values[name], "serveraddress": address}
    try:
        found = docker.distribution(reference, login)
        platforms = {_platform(one) for one in found.get("Platforms") or ()}
        return {
            "digest": str(found["Descriptor"]["digest"]),
            "platforms": sorted(one for one in platforms if one and not one.startswith("unknown")),
        }
    except DockerError as error:
        said = error.what.replace(values[name], "***")
        fix = f"is {how['user']} right, and {name} in Infisical? On the host: docker pull {reference}"
        return {"what": f"{how['registry']} gives no {reference}: {said}", "fix": fix}
    except (KeyError, TypeError, AttributeError) as error:
        return {"what": f"the engine says nothing of {reference}: {error!r}", "fix": "is the engine 25.0 or newer?"}


def _platform(value: Mapping[str, Any]) -> str:
    return "/".join(str(value[key]) for key in ("os", "architecture", "variant") if value.get(key))
