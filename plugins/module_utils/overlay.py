"""What a running container has written over its image, read where the kernel keeps it: overlayfs's upper directory.

The engine's own answer (``/containers/ID/changes``) compares two whole trees, seconds for an image of some hundred MB
(moby daemon/graphdriver/overlay2: Changes is the naive one unless the parent is asked for). The upper directory holds
what was written, and a character device 0/0 for what was deleted
(kernel, filesystems/overlayfs.rst, "whiteouts and opaque directories").
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

CHANGED, ADDED, DELETED = 0, 1, 2  # as the engine numbers them
_OPAQUE = "trusted.overlay.opaque"


def changes(pid: int, within: Iterable[str], root: str = "/") -> list[dict[str, Any]] | None:
    """Return what differs below the directories ``within``, in the form of the engine's answer: ``{"Path", "Kind"}``.

    None where the container's root is no overlay whose directories this process can reach.
    """
    layers = _layers(pid, root)
    if layers is None:
        return None
    upper, lowers = layers
    found = []
    for top in within:
        for path in _walk(upper, top):
            try:
                kind = _kind(f"{upper}{path}", [f"{lower}{path}" for lower in lowers])
            except (FileNotFoundError, NotADirectoryError):  # the container goes on writing
                continue
            if kind is not None:
                found.append({"Path": path, "Kind": kind})
            found += [{"Path": gone, "Kind": DELETED} for gone in _hidden(upper, lowers, path)]
    return found


def _layers(pid: int, root: str) -> tuple[str, list[str]] | None:
    """Return the upper and the lower directories of a process's root (proc_pid_mountinfo(5))."""
    try:
        told = (Path(root) / f"proc/{pid}/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return None
    for line in told.split("\n"):  # not splitlines(): a name may hold what that splits at, too
        words, separator, rest = line.partition(" - ")
        if not separator:
            continue
        kind, _, options = rest.split(" ", 2)
        if words.split(" ")[4] != "/" or kind != "overlay":
            continue
        named = dict(option.partition("=")[::2] for option in options.split(","))
        places = [named.get("upperdir", ""), *named.get("lowerdir", "").split(":")]
        # Relative to a directory that nobody knows, escaped, or cut off: then the engine is asked.
        if not all(place.startswith("/") and "\\" not in place for place in places):
            return None
        upper, *lowers = (str(Path(root) / place.lstrip("/")) for place in places)
        return (upper, lowers) if all(map(os.path.isdir, (upper, *lowers))) else None
    return None


def _walk(upper: str, top: str) -> Iterator[str]:
    """Yield ``top`` and every path below it that the upper directory has, as the container sees them.

    No link is followed, also not one in the place of ``top``: the container made it, and it may lead out of it.
    """
    if os.path.lexists(f"{upper}{top}"):
        yield top
    if os.path.islink(f"{upper}{top}"):
        return
    for directory, names, files in os.walk(f"{upper}{top}"):
        inside = directory[len(upper) :]
        yield from (f"{inside}/{name}" for name in (*names, *files))


def _kind(written: str, before: Iterable[str]) -> int | None:
    """Return how a path differs from the image; None for one that was only opened for writing, or made the same."""
    now = os.lstat(written)
    if _is_whiteout(now):
        return DELETED
    was = _first(before)
    if was is None:
        return ADDED
    same = (now.st_mode, now.st_uid, now.st_gid) == (was.st_mode, was.st_uid, was.st_gid)
    if same and not stat.S_ISDIR(now.st_mode):
        same = (now.st_size, now.st_mtime_ns) == (was.st_size, was.st_mtime_ns)
    return None if same else CHANGED


def _first(paths: Iterable[str]) -> os.stat_result | None:
    """Return what the topmost layer that knows of a path has there; None where that says that it is deleted."""
    for path in paths:
        try:
            found = os.lstat(path)
        except OSError:
            continue
        return None if _is_whiteout(found) else found
    return None


def _hidden(upper: str, lowers: list[str], path: str) -> list[str]:
    """Return what the image has in a directory that was removed and made again."""
    if not _is_opaque(f"{upper}{path}"):
        return []
    names: set[str] = set()
    for lower in lowers:
        names |= set(os.listdir(f"{lower}{path}")) if os.path.isdir(f"{lower}{path}") else set()
    return [f"{path}/{name}" for name in sorted(names) if not os.path.lexists(f"{upper}{path}/{name}")]


def _is_opaque(path: str) -> bool:
    try:
        return os.getxattr(path, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _is_whiteout(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
