"""From secret values to the files that a container reads. Where values come from is not known here."""

from __future__ import annotations

import hashlib
import hmac
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import atomic
from .errors import BattenError

DIRECTORY_MODE = 0o711
FILE_MODE = 0o400
_TOKEN = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>[A-Za-z0-9_.-]+)(?::(?P<encoding>[a-z0-9]+))?\}|)")


def _pgbouncer(value: str) -> str:
    """Quote for userlist.txt, where a double quote is doubled (pgbouncer(5), "Authentication file format")."""
    return '"' + value.replace('"', '""') + '"'


def _url(value: str) -> str:
    return quote(value, safe="")


# ``sh`` and ``pgbouncer`` give a complete word with the quotes it needs.
ENCODINGS: Mapping[str, Callable[[str], str]] = {"sh": shlex.quote, "url": _url, "pgbouncer": _pgbouncer}


@dataclass(frozen=True)
class Consumer:
    """The files of one service and who may read them."""

    uid: int
    gid: int
    files: Mapping[str, bytes]


def render(template: str, values: Mapping[str, str]) -> str:
    """Return ``template`` with ``${NAME}`` and ``${NAME:ENCODING}`` replaced and ``$$`` as ``$``.

    Raises BattenError for an unknown name or encoding and for a ``$`` that is none of these. It never shows a value.
    """

    def replace(token: re.Match[str]) -> str:
        if token["dollar"]:
            return "$"
        name, encoding = token["name"], token["encoding"]
        if name is None:
            raise BattenError("a lone $ in a template", f"at character {token.start()}", "write $$ for a dollar sign")
        if name not in values:
            raise BattenError(f"no secret is named {name}", "template", "name it under secrets in batten.yaml")
        if encoding is None:
            return values[name]
        if encoding not in ENCODINGS:
            raise BattenError(f"unknown encoding {encoding} of {name}", "template", f"one of {', '.join(ENCODINGS)}")
        return ENCODINGS[encoding](values[name])

    return _TOKEN.sub(replace, template)


def consumers(deliveries: Mapping[str, Any], values: Mapping[str, str]) -> dict[str, Consumer]:
    """Return what each service gets. ``deliveries`` is the release's ``secrets.deliveries`` (docs/architecture.md)."""
    result = {}
    for service, delivery in sorted(deliveries.items()):
        files = {}
        for name, source in sorted(delivery["files"].items()):
            template = source["template"] if "template" in source else "${" + source["secret"] + "}"
            try:
                files[_file_name(name)] = render(template, values).encode()
            except BattenError as error:
                raise BattenError(error.what, f"secret file {name} of service {service}", error.fix) from None
        result[_file_name(service)] = Consumer(delivery["uid"], delivery["gid"], files)
    return result


def digest(key: bytes, consumer: Consumer) -> str:
    """Return HMAC-SHA256, in hex, of a consumer's names and contents: it tells of change and of nothing else."""
    state = hmac.new(key, digestmod=hashlib.sha256)
    for name, content in sorted(consumer.files.items()):
        for part in (name.encode(), content):
            state.update(len(part).to_bytes(8, "big") + part)
    return state.hexdigest()


def write(directory: Path, wanted: Mapping[str, Consumer], check: bool) -> list[str]:
    """Make ``directory`` hold exactly the files of ``wanted``; return the changes, by name only.

    Files change by rename inside a directory that stays, so that a running container sees the new one. A directory of a
    service that is gone stays, empty: a container may still have it mounted, and may come back.
    """
    changes = []
    for service, consumer in sorted(wanted.items()):
        place = directory / service
        for name, content in sorted(consumer.files.items()):
            path = place / name
            if not _same(path, content, consumer):
                changes.append(f"{service}/{name}: {'rewritten' if path.exists() else 'written'}")
                if not check:
                    atomic.make_directory(place, DIRECTORY_MODE, 0, 0)
                    atomic.write(path, content, FILE_MODE, consumer.uid, consumer.gid)
        if not check:
            atomic.make_directory(place, DIRECTORY_MODE, 0, 0)
    for place in sorted(directory.iterdir()) if directory.is_dir() else []:
        files = wanted[place.name].files if place.name in wanted else {}
        for path in sorted(place.iterdir()) if place.is_dir() else [place]:
            if path == place or path.name not in files:
                changes.append(f"{path.relative_to(directory)}: removed")
                if not check:
                    path.unlink()
    return changes


def _same(path: Path, content: bytes, consumer: Consumer) -> bool:
    if path.is_symlink() or not path.is_file() or path.read_bytes() != content:
        return False
    status = path.stat()
    return (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (FILE_MODE, consumer.uid, consumer.gid)


def _file_name(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or name.startswith("."):
        raise BattenError(
            f"{name!r} cannot be a file's name", "deliveries", "use letters, digits, _, - and dots within"
        )
    return name
