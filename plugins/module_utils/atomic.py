"""Files that are either the old or the new, never half of one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def make_directory(path: Path, mode: int = 0o755, uid: int = -1, gid: int = -1) -> bool:
    """Make ``path`` and its parents; give ``path`` alone ``mode`` and owner. Returns whether anything changed."""
    changed = not path.is_dir()
    if changed:
        path.mkdir(parents=True, mode=0o755, exist_ok=True)
    return _own(path, mode, uid, gid) or changed


def write(path: Path, content: bytes, mode: int = 0o644, uid: int = -1, gid: int = -1) -> bool:
    """Write ``content`` durably by rename, only if bytes, mode or owner differ. Returns whether anything changed."""
    if holds(path, content):
        return _own(path, mode, uid, gid)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            os.fchmod(stream.fileno(), mode)
            if uid >= 0 or gid >= 0:
                os.fchown(stream.fileno(), uid, gid)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_directory(path.parent)
    return True


def holds(path: Path, content: bytes) -> bool:
    """Return whether ``path`` is a file with ``content``, and no link to one, which somebody else may change."""
    return path.is_file() and not path.is_symlink() and path.read_bytes() == content


def write_json(path: Path, value: Any, mode: int = 0o600) -> bool:
    """Write ``value`` as stable, readable JSON; see :func:`write`."""
    return write(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode(), mode)


def read_json(path: Path, default: Any) -> Any:
    """Return the JSON in ``path``, or ``default`` when the file is missing or is not JSON (a disk that was full)."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return default


def point(link: Path, target: Path) -> bool:
    """Make symlink ``link`` point at ``target`` atomically, with a relative text. Returns whether it changed."""
    text = os.path.relpath(target, link.parent)
    if link.is_symlink() and os.readlink(link) == text:
        return False
    temporary = link.parent / f".{link.name}.new"
    if temporary.is_symlink() or temporary.exists():
        temporary.unlink()
    os.symlink(text, temporary)
    os.rename(temporary, link)
    sync_directory(link.parent)
    return True


def write_tree(path: Path, entries: Mapping[str, bytes]) -> list[str]:
    """Make directory ``path`` hold exactly ``entries`` (relative names), mode 0644. Return what was written or removed.

    A missing directory appears whole, by rename, so that a killed run leaves none that is half filled.
    """
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            os.chmod(staging, 0o755)  # noqa: S103 - mkdtemp makes 0700, and services read these as their own users
            for name, content in entries.items():
                write(staging / name, content, 0o644)
            os.rename(staging, path)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        sync_directory(path.parent)
        return sorted(entries)
    changed = [name for name, content in sorted(entries.items()) if write(path / name, content, 0o644)]
    for found in sorted(item for item in path.rglob("*") if not item.is_dir() or item.is_symlink()):
        name = str(found.relative_to(path))
        if name not in entries:
            found.unlink()
            changed.append(name)
    return changed


def tree_differences(path: Path, entries: Mapping[str, bytes]) -> list[str]:
    """Return the names in which directory ``path`` differs from ``entries``; what :func:`write_tree` would touch."""
    found = (
        {str(item.relative_to(path)) for item in path.rglob("*") if item.is_symlink() or not item.is_dir()}
        if path.is_dir()
        else set()
    )
    same = {name for name in found & set(entries) if holds(path / name, entries[name])}
    return sorted((found | set(entries)) - same)


def sync_directory(path: Path) -> None:
    """Make a rename in ``path`` survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def canonical(value: Any) -> str:
    """Return ``value`` as JSON that is the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def digest(value: Any) -> str:
    """Return the sha256, in hex, of ``value``'s canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def _own(path: Path, mode: int, uid: int, gid: int) -> bool:
    status = path.stat()
    changed = False
    if (uid not in (-1, status.st_uid)) or (gid not in (-1, status.st_gid)):
        os.chown(path, uid, gid)
        changed = True
    if (status.st_mode & 0o7777) != mode:
        os.chmod(path, mode)
        changed = True
    return changed
