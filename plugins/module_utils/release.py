"""Releases on disk: written only where bytes differ, found edited or deleted, and which one was last good."""

from __future__ import annotations

import base64
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import atomic
from .errors import BattenError
from .lock import now
from .paths import StackPaths

KEPT = 3
Payload = Mapping[str, Any]


def identity(payload: Payload) -> str:
    """Return the release's ID: the same content has the same ID on every host and at every time."""
    return atomic.digest(payload)[:12]


def directory(paths: StackPaths, payload: Payload) -> Path:
    return paths.releases / identity(payload)


def layers(where: Path, payload: Payload) -> tuple[Path, ...]:
    """Return the layer files below ``where``, in ``-f`` order."""
    return tuple(where / layer["name"] for layer in payload["layers"])


def trees(paths: StackPaths, payload: Payload) -> dict[Path, dict[str, bytes]]:
    """Return ``{directory: {name: content}}`` for each directory that must hold exactly these files."""
    found = {
        paths.files / service / files["digest"]: {name: text.encode() for name, text in files["entries"].items()}
        for service, files in payload.get("files", {}).items()
    }
    found[directory(paths, payload)] = {
        **{layer["name"]: layer["text"].encode() for layer in payload["layers"]},
        "stack.env": environment(payload).encode(),
        "release.json": (atomic.canonical(payload) + "\n").encode(),
    }
    return found


def base_files(payload: Payload) -> dict[str, bytes]:
    """Return the user's own files by relative path. Raises :class:`BattenError` for one outside the directory."""
    found = {}
    for name, text in payload.get("base_files", {}).items():
        if name.startswith("/") or ".." in Path(name).parts:
            raise BattenError(
                f"{name!r} lies outside the stack's own directory", "base_files", "move it beside compose.yaml"
            )
        found[name] = base64.b64decode(text)
    return found


def environment(payload: Payload) -> str:
    """Return Compose's env file. Double-quoted values with ``\\``, ``"`` and ``$`` escaped are taken literally
    (https://docs.docker.com/compose/how-tos/environment-variables/variable-interpolation/#env-file-syntax)."""
    lines = []
    for name, text in sorted(payload.get("environment", {}).items()):
        value = str(text)
        for plain, escaped in (("\\", "\\\\"), ('"', '\\"'), ("$", "\\$"), ("\n", "\\n")):
            value = value.replace(plain, escaped)
        lines.append(f'{name}="{value}"\n')
    return "".join(lines)


def differences(paths: StackPaths, payload: Payload) -> list[str]:
    """Return the paths that :func:`write` would write or remove; empty when the host has this release, unedited."""
    found = [
        str(path / name)
        for path, entries in sorted(trees(paths, payload).items())
        for name in atomic.tree_differences(path, entries)
    ]
    for name, content in sorted(base_files(payload).items()):
        path = paths.base / name
        if not atomic.holds(path, content):
            found.append(str(path))
    return found


def write(paths: StackPaths, payload: Payload) -> list[str]:
    """Write the release and all that it mounts. Returns the paths that changed. Nothing running notices."""
    os.umask(0o022)
    for path in (paths.top, paths.releases, paths.base, paths.files):
        atomic.make_directory(path)
    atomic.make_directory(paths.var, 0o700)
    atomic.make_directory(paths.state, 0o700)
    changed = []
    for path, entries in sorted(trees(paths, payload).items()):
        changed += [str(path / name) for name in atomic.write_tree(path, entries)]
    for name, content in sorted(base_files(payload).items()):
        if atomic.write(paths.base / name, content):
            changed.append(str(paths.base / name))
    return changed


def stage(where: Path, payload: Payload) -> None:
    """Write what Compose needs to judge the layers into an empty scratch directory: ``release/`` and ``base/``."""
    for name, content in base_files(payload).items():
        atomic.write(where / "base" / name, content)
    (where / "base").mkdir(exist_ok=True)
    for layer in payload["layers"]:
        atomic.write(where / "release" / layer["name"], layer["text"].encode())
    atomic.write(where / "release" / "stack.env", environment(payload).encode())


def read(paths: StackPaths, identifier: str) -> dict[str, Any]:
    """Return the payload of an earlier release, that of the running one also when its file is gone or was edited: it
    lies in the state directory too. Raises :class:`BattenError` when it is nowhere whole."""
    path = paths.releases / identifier / "release.json"
    for one in (path, paths.release):
        payload = atomic.read_json(one, None)
        if payload is not None and identity(payload) == identifier:
            return dict(payload)
    fix = "only the controller has it still: ansible-playbook site.yml -i INVENTORY"
    raise BattenError(f"release {identifier} is gone or was edited", str(path), fix)


def running(paths: StackPaths) -> str | None:
    """Return the ID that ``current`` points at, or None."""
    return Path(os.readlink(paths.current)).name if paths.current.is_symlink() else None


def activate(paths: StackPaths, payload: Payload) -> bool:
    """Make this the release that runs: the plan first, so that ``current`` never names one whose plan is not there."""
    changed = atomic.write_json(paths.plan, payload["plan"])
    changed = atomic.write_json(paths.release, payload) or changed
    return atomic.point(paths.current, directory(paths, payload)) or changed


def last_good(paths: StackPaths) -> str | None:
    """Return the ID of the last release whose gate passed, or None."""
    good: str | None = atomic.read_json(paths.good, {}).get("release")
    return good


def mark_good(paths: StackPaths, payload: Payload, images: Mapping[str, str]) -> bool:
    """Record that the gate passed, with the image of each service. Returns whether that is news."""
    record = atomic.read_json(paths.good, {})
    if record.get("release") == identity(payload) and record.get("images") == images:
        return False
    record = {"release": identity(payload), "at": now(), "images": dict(images)}
    return atomic.write_json(paths.good, record)


def unused(paths: StackPaths, keep: Iterable[str], containers: Sequence[Mapping[str, Any]] | None) -> list[Path]:
    """Return all releases but ``keep`` and the newest few, and mounted files that none of the kept ones uses.

    ``containers`` are the project's, inspected: a service that is not made anew for now, such as a database, goes on
    with the files of a release that is gone, and does not start again without them. None is not known: no files then.
    """
    if not paths.releases.is_dir():
        return []
    found = sorted((path for path in paths.releases.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    kept = {*keep, *(path.name for path in found[-KEPT:])}
    gone = [path for path in found if path.name not in kept]
    if containers is None:
        return gone
    used: set[Path] = set()
    for name in kept:
        with suppress(BattenError):
            payload = read(paths, name)
            used |= {paths.files / service / files["digest"] for service, files in payload.get("files", {}).items()}
    for one in containers:
        for mount in one.get("Mounts") or ():
            source = Path(mount.get("Source") or "/")
            used |= {source, *source.parents}
    return [*gone, *(path for path in sorted(paths.files.glob("*/*")) if path.is_dir() and path not in used)]


def prune(paths: StackPaths, keep: Iterable[str], containers: Sequence[Mapping[str, Any]]) -> list[str]:
    """Remove what is :func:`unused`; return its paths."""
    gone = unused(paths, keep, containers)
    for path in gone:
        shutil.rmtree(path)
    return sorted(map(str, gone))
