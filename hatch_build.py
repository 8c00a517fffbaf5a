"""The wheel's layout: the checkout's root is the collection ``batten.core``, so its folders go there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COLLECTION = "ansible_collections/batten/core"
PARTS = ("ansible.cfg", "compose", "examples", "galaxy.yml", "meta", "playbooks", "plugins", "roles", "site.yml")


class Layout(BuildHookInterface[Any]):
    """Adds the collection to a standard wheel. An editable one has src/ on sys.path and must hold no copies."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            build_data["force_include"] |= {str(Path(self.root, name)): f"{COLLECTION}/{name}" for name in PARTS}
