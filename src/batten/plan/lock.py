"""The lock: which digest each image reference of a stack meant when ``batten pin`` last asked its registry.

``images.lock.yaml`` lies beside the user's own definition. The product's stacks (``compose/``) are shared by all
inventories, and tests run them with stand-ins; so their lock lies in the inventory's directory, where ``ansible.cfg``
has Ansible pass it over as it does ``waivers.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from batten import resources
from batten.plan import schema
from batten.plan.model import Finding
from batten.plan.profile import split_image
from batten.plan.schema import At

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

FILE = "images.lock.yaml"
_OLD_DAYS = 90  # our own judgement: by then every base image has had security updates
_SHA256 = schema.pattern(r"sha256:[0-9a-f]{64}", "a digest: sha256: and 64 hexadecimal digits")


def _digest(value: Any, at: At) -> str:
    if isinstance(value, str) and "@" in value:
        raise at.error(f"this is the digest of {value.partition('@')[0]}, written out", "write sha256:... alone")
    return str(_SHA256(value, at))


def _moment(value: Any, at: At) -> str:
    """Accept a date or a time, as text or as YAML's own type; return it as ISO 8601."""
    given = value.isoformat() if isinstance(value, (date, datetime)) else value
    try:
        datetime.fromisoformat(schema.text(given, at))
    except ValueError as error:
        raise at.error(f"{value!r} is no date", "write it as YYYY-MM-DD") from error
    return str(given)


_ENTRY = schema.Record(
    {"digest": _digest, "resolved_at": _moment, "platforms": schema.list_of(schema.text)},
    required=("digest", "resolved_at"),
)
_LOCK = schema.Record({"images": schema.map_of(_ENTRY)}, required=("images",))


@dataclass(frozen=True)
class Pin:
    """What a reference meant at ``resolved_at`` (ISO 8601). ``platforms`` are such as ``linux/arm64/v8``."""

    digest: str
    resolved_at: str
    platforms: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lock:
    """A lock as it was read. ``ages`` has the days since each reference was resolved."""

    source: str = ""
    images: Mapping[str, Pin] = field(default_factory=dict)
    ages: Mapping[str, int] = field(default_factory=dict)

    def pinned(self, image: str) -> str:
        """Return a reference with its digest, if the lock has one and the reference has none already."""
        pin = None if "@" in image else self.images.get(image)
        return f"{image}@{pin.digest}" if pin else image


def beside(base: Path, definition: Path | None, root: Path) -> Path:
    """Return where a stack's lock lies; ``root`` is the directory of its inventory."""
    own = (definition or base).parent
    return (root if own.resolve().is_relative_to(resources.compose()) else own) / FILE


def load_lock(path: Path | None, today: date | None = None) -> Lock:
    """Read a lock; a file that is not there locks nothing. Raises BattenError for one that is malformed."""
    if path is None or not path.exists():
        return Lock(str(path or ""))
    at = At(str(path))
    checked = _LOCK(schema.read_yaml(path), at)
    for reference in checked["images"]:
        if "@" in reference:
            raise at.key("images").error(f"{reference} has a digest already", "name the reference without it")
    pins = {reference: Pin(**entry) for reference, entry in checked["images"].items()}
    day = today or datetime.now(UTC).date()
    ages = {name: (day - datetime.fromisoformat(pin.resolved_at).date()).days for name, pin in pins.items()}
    return Lock(str(path), pins, ages)


def findings(lock: Lock, images: Collection[str], stack: str) -> list[Finding]:
    """Return what a person should know of a lock. ``images`` are the references that the stack runs."""
    used = {image.partition("@")[0] for image in images} & set(lock.images)
    fix = "batten pin -i INVENTORY"
    found = []
    if lock.images and images and not used:
        what = f"{lock.source} holds none of this stack's images: it is another stack's"
        return [Finding("warning", stack, what, fix)]
    owners: dict[str, str] = {}
    for reference in sorted(used):
        digest = lock.images[reference].digest
        other = owners.setdefault(digest, reference)
        if _program(other) != _program(reference):
            what = f"{lock.source} gives {reference} the digest of {other}"
            found.append(Finding("warning", stack, what, fix))
    if used:
        oldest = max(lock.ages[reference] for reference in used)
        what = f"{len(used)} images are pinned by {lock.source}, the oldest {oldest} days ago"
        old = oldest > _OLD_DAYS
        found.append(Finding("warning" if old else "note", stack, what, f"{fix} --check shows what has moved since"))
    return found


def _program(reference: str) -> str:
    """The last part of a repository: a mirror has the same image under another name, but hardly another program's."""
    return split_image(reference)[0].rpartition("/")[2]
