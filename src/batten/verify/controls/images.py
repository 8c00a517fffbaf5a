"""Images: what runs is what the reference means, by digest, and no credential is baked in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batten.verify.catalogue import control
from batten.verify.controls.privileges import secret_variables
from batten.verify.model import LiveContainer, Verdict, fails, holds, not_applicable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batten.plan.model import ServicePlan


@control("images.digest", "The image has the planned digest", cis="4.5")
def digest(expected: ServicePlan, live: LiveContainer) -> Verdict:
    """Content trust left Docker's client with Engine 29; a digest says the same of one image, for good."""
    planned = expected.image.partition("@")[2]
    if not planned:
        return not_applicable("the plan names no digest: batten pin writes them")
    found = [one.partition("@")[2] for one in (_image(live) or {}).get("RepoDigests") or ()]
    return holds(planned) if planned in found else fails(f"digests {', '.join(found) or 'none'}, planned {planned}")


@control("images.current", "The container runs what its image's name means now", cis="5.28")
def current(expected: ServicePlan, live: LiveContainer) -> Verdict:
    """A newer image that was pulled or built under the same name runs only in a new container."""
    named = next((one for one in live.host.images if is_named(one, expected.image)), None)
    running = str(live.inspect["Image"])
    if named is None:
        return fails(f"{expected.image} is not on this host any more: the container cannot be made anew without it")
    return (
        holds(running[:19]) if named["Id"] == running else fails(f"runs {running[:19]}, the name is {named['Id'][:19]}")
    )


@control("images.environment", "No credential is baked into the image", cis="4.10")
def environment(expected: ServicePlan, live: LiveContainer) -> Verdict:
    image = _image(live)
    if image is None:
        return not_applicable("the image is gone: images.current says so")
    found = secret_variables(image["Config"].get("Env") or ())
    return fails(f"a literal in {', '.join(found)}") if found else holds("none in its variables")


def is_named(image: Mapping[str, Any], reference: str) -> bool:
    """True if ``reference`` means this image here. A digest beside a tag overrules it (distribution/reference)."""
    name, _, digest = _familiar(reference).partition("@")
    if not digest:
        tagged = name if ":" in name.rpartition("/")[2] else f"{name}:latest"
        return tagged in map(_familiar, image.get("RepoTags") or ())
    directory, slash, last = name.rpartition("/")
    bare = f"{directory}{slash}{last.partition(':')[0]}@{digest}"
    return bare in map(_familiar, image.get("RepoDigests") or ())


def _familiar(reference: str) -> str:
    return reference.removeprefix("docker.io/").removeprefix("library/")


def _image(live: LiveContainer) -> Mapping[str, Any] | None:
    return next((one for one in live.host.images if one["Id"] == live.inspect["Image"]), None)
