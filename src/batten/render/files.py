"""The configuration files that are mounted into services: ``files/SERVICE/*`` beside the stack's definition."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from batten.errors import BattenError
from batten.plan import schema
from batten.render import template

if TYPE_CHECKING:
    from pathlib import Path

    from batten.plan.model import StackPlan


@dataclass(frozen=True)
class RenderedFiles:
    """What is mounted into one service: file names and texts."""

    entries: Mapping[str, str]

    @property
    def digest(self) -> str:
        """SHA-256, in hex and cut to 128 bits, over names and bytes in order, each with its length before it."""
        state = hashlib.sha256()
        for name, text in sorted(self.entries.items()):
            for part in (name.encode(), text.encode()):
                state.update(len(part).to_bytes(8, "big") + part)
        return state.hexdigest()[:32]


def files(plan: StackPlan, settings: Any, directory: Path) -> dict[str, RenderedFiles]:
    """Render ``directory/SERVICE/*`` for every service of the plan that has a files mount.

    A template (``*.j2``) sees ``stack`` (the plan), ``service`` (its own part), ``settings`` (the inventory) and
    ``data`` (what the ``*.data.yaml`` files beside it hold). A template that renders to nothing gives no file: so a
    file can be there in one target only. Raises BattenError naming the service or the template.
    """
    made = template.environment(directory)
    rendered = {}
    for name, service in sorted(plan.services.items()):
        if service.files is None:
            continue
        place = directory / name
        if not place.is_dir():
            raise BattenError(
                f"{name} has a files mount but no files",
                str(place),
                f"make the directory, or take services.{name}.files out",
            )
        data = {path.name.split(".")[0]: schema.read_yaml(path) for path in sorted(place.glob("*.data.yaml"))}
        values = {"stack": plan, "service": service, "settings": settings, "data": data}
        entries = {}
        for path in sorted(place.iterdir()):
            if not path.is_file() or path.name.endswith(".data.yaml") or path.name.startswith("."):
                continue
            if path.suffix == ".j2":
                entries[path.stem] = template.render(made, f"{name}/{path.name}", **values)
            else:
                entries[path.name] = path.read_text(encoding="utf-8")
        rendered[name] = RenderedFiles({file: text for file, text in entries.items() if text.strip()})
    return rendered


def with_digests(plan: StackPlan, rendered: Mapping[str, RenderedFiles]) -> StackPlan:
    """Return the plan with the digest of what is mounted into each service."""
    services = {
        name: replace(service, files=replace(service.files, digest=rendered[name].digest)) if service.files else service
        for name, service in plan.services.items()
    }
    return replace(plan, services=services)
