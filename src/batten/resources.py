"""Where batten's own files lie: the same below the collection in a checkout and in a wheel."""

from __future__ import annotations

from pathlib import Path

COLLECTION = Path(__file__).resolve().parent.parent / "ansible_collections" / "batten" / "core"


def collection() -> Path:
    """Return the directory of the collection ``batten.core``: the checkout's root, or its place in site-packages."""
    return COLLECTION.resolve()


def compose() -> Path:
    """Return the directory with the reference stack, the layer templates and the profiles."""
    return collection() / "compose"


def checkout() -> Path | None:
    """Return the checkout's root, or None when batten was installed from a wheel."""
    root = collection()
    return root if (root / "tests" / "rig").is_dir() and (root / "pyproject.toml").is_file() else None
