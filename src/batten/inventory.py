"""Inventories as text and names: which variables exist, and what `batten init` writes."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import yaml

from batten.errors import BattenError

PREFIXES = ("stack_", "docker_", "digitalocean_", "batten_")


def known_names(roles: Path) -> frozenset[str]:
    """Return the variables that some role's ``argument_specs`` document, over all entry points."""
    names: set[str] = set()
    for file in sorted(roles.glob("*/meta/argument_specs.yml")):
        specs: dict[str, Any] = yaml.load(file.read_bytes(), Loader=_YamlLoader)["argument_specs"]
        for entry in specs.values():
            names.update(entry.get("options", {}))
    return frozenset(names)


_YamlLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def check_names(names: Iterable[str], known: Collection[str], where: str) -> None:
    """Raise :class:`BattenError` for the first variable that has one of our prefixes and that no role documents."""
    for name in names:
        if name.startswith(PREFIXES) and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            fix = f"write {near[0]}" if near else "remove it; docs/variables.md lists what there is"
            if known: raise BattenError(f"unknown variable {name!r}{hint}", where, fix)
