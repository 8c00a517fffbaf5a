"""What a container runs: image, command, environment, health check, how it ends."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from typing import Any

from .desired import Desired
from .observed import Observed
from .quantities import seconds

# Docker's client passes these from its own configuration (~/.docker/config.json, "proxies") to every new container.
_PROXIES = {"http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy"}


def name(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Compose makes a new container beside the old one as ``ID_NAME`` and renames it last; cut off, it keeps that name
    (docker/compose pkg/compose/convergence.go, recreateContainer)."""
    wanted, actual = desired.service.get("container_name"), observed.container
    if wanted or re.fullmatch(rf"{re.escape(desired.project)}-{re.escape(desired.name)}-\d+", actual):
        return (wanted, actual) if wanted else (None, None)
    return f"{desired.project}-{desired.name}-1", actual


def image(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    reference, actual = desired.service.get("image", ""), str(observed.config.get("Image", ""))
    identifier = desired.image.get("Id")
    if identifier is None or identifier == observed.inspect["Image"]:
        return reference, actual
    return f"{reference} ({_short(identifier)})", f"{actual} ({_short(observed.inspect['Image'])})"


def command(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    known = desired.image or desired.service.get("command") is not None or desired.service.get("entrypoint")
    return (desired.command, list(observed.config.get("Cmd") or [])) if known else (None, None)


def entrypoint(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    known = desired.image or desired.service.get("entrypoint") is not None
    return (desired.entrypoint, list(observed.config.get("Entrypoint") or [])) if known else (None, None)


def environment(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """Names with digests, never values, and only of what differs. What the image provides and the model does not set is
    ignored."""
    wanted, actual = desired.environment, observed.environment
    image = dict(pair.split("=", 1) for pair in desired.image_config.get("Env") or [] if "=" in pair)
    left = {
        name: value
        for name, value in actual.items()
        if name in wanted or (name not in image and desired.image and name.lower() not in _PROXIES)
    }
    same = {name for name, value in wanted.items() if left.get(name) == value}
    ours, theirs = ({name: _sealed(one[name]) for name in sorted(set(one) - same)} for one in (wanted, left))
    return ours, theirs


def labels(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    wanted = {str(name): str(value) for name, value in (desired.service.get("labels") or {}).items()}
    image = desired.image_config.get("Labels") or {}
    actual = {
        name: value
        for name, value in observed.labels.items()
        if not name.startswith("com.docker.") and (name in wanted or (desired.image and image.get(name) != value))
    }
    return wanted, actual


def healthcheck(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    known = desired.image or desired.service.get("healthcheck")
    return (desired.healthcheck, observed.healthcheck) if known else (None, None)


def stop_grace(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    wanted = desired.service.get("stop_grace_period")
    return None if wanted is None else round(seconds(wanted)), observed.config.get("StopTimeout")


def hostname(desired: Desired, observed: Observed) -> tuple[Any, Any]:
    """One that nobody chose is the beginning of the container's ID, or of the namespace that it shares."""
    wanted, there = desired.service.get("hostname"), str(observed.config.get("Hostname") or "")
    mode = str(observed.host.get("NetworkMode") or "")
    shared = observed.host.get("UTSMode") or mode == "host" or mode.startswith("container:")
    if not wanted and (shared or observed.id.startswith(there)):
        return None, None
    return wanted or observed.id[:12], there


def _short(identifier: str) -> str:
    return identifier.rpartition(":")[2][:12]


def _sealed(value: str) -> str:
    """Return what stands for a value that must not be shown. Under a key that ends with this process: a digest without
    one gives a short password away to whoever reads the report and tries."""
    return "hmac:" + hmac.new(_KEY, value.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()[:16]


_KEY = os.urandom(32)


def digest(value: str) -> str:
    """Return what stands for a value that is too long to be shown."""
    return "sha256:" + hashlib.sha256(value.encode()).hexdigest()[:16]
