"""A comparable property of a container, and the ways of reading one that many share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .desired import Desired
from .observed import Observed

UPDATE = "update"
RECREATE = "recreate"

Read = Callable[[Desired, Observed], "tuple[Any, Any]"]


def never(wanted: Any, actual: Any) -> bool:
    """A change of this needs a new container."""
    return False


def always(wanted: Any, actual: Any) -> bool:
    """The engine changes this live, whatever to."""
    return True


def if_set(wanted: Any, actual: Any) -> bool:
    """The engine changes this live, but cannot take it away: in an update it reads zero as "keep"."""
    return bool(wanted)


@dataclass(frozen=True)
class Facet:
    """``read`` returns (desired, actual), each JSON-able and fit to be shown; two None stand for "not compared".

    ``live`` says of two that differ whether a running container can take the desired one.
    """

    name: str
    read: Read
    live: Callable[[Any, Any], bool] = never

    def action(self, wanted: Any, actual: Any) -> str:
        return UPDATE if self.live(wanted, actual) else RECREATE


def listed(ours: str, theirs: str) -> Callable[[Desired, Observed], tuple[Any, Any]]:
    def read(desired: Desired, observed: Observed) -> tuple[Any, Any]:
        return sorted(map(str, desired.service.get(ours) or [])), sorted(map(str, observed.host.get(theirs) or []))

    return read


def flag(ours: str, theirs: str) -> Callable[[Desired, Observed], tuple[Any, Any]]:
    def read(desired: Desired, observed: Observed) -> tuple[Any, Any]:
        return bool(desired.service.get(ours)), bool(observed.host.get(theirs))

    return read


def number(ours: str, theirs: str) -> Callable[[Desired, Observed], tuple[Any, Any]]:
    def read(desired: Desired, observed: Observed) -> tuple[Any, Any]:
        return int(desired.service.get(ours) or 0), int(observed.host.get(theirs) or 0)

    return read


def mapping(ours: str, theirs: str) -> Read:
    """Names with texts, none where either side has nothing."""

    def read(desired: Desired, observed: Observed) -> tuple[Any, Any]:
        return texts(desired.service.get(ours)), texts(observed.host.get(theirs))

    return read


def from_image(ours: str, theirs: str) -> Callable[[Desired, Observed], tuple[Any, Any]]:
    """A text that the engine takes from the image when the model leaves it out."""

    def read(desired: Desired, observed: Observed) -> tuple[Any, Any]:
        wanted = desired.service.get(ours) or desired.image_config.get(theirs) or ""
        if not desired.service.get(ours) and not desired.image:
            return None, None
        return str(wanted), str(observed.config.get(theirs) or "")

    return read


def text(ours: str, theirs: str) -> Read:
    def read(desired: Desired, observed: Observed) -> tuple[Any, Any]:
        return str(desired.service.get(ours) or ""), str(observed.host.get(theirs) or "")

    return read


def setting(ours: str, theirs: str) -> Read:
    """A switch or a text of what runs, rather than of how it is kept apart; off or empty unless set."""

    def read(desired: Desired, observed: Observed) -> tuple[Any, Any]:
        return desired.service.get(ours) or None, observed.config.get(theirs) or None

    return read


def texts(values: Mapping[str, Any] | None) -> dict[str, str]:
    return {str(name): str(value) for name, value in (values or {}).items()}
