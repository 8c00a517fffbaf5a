"""The form of a backup: one tar stream, which age encrypts as it is written. Nothing of it lies on a disk in plain.

Members, in this order, so that a reader can refuse early and a writer needs no sizes ahead::

    backup.json             what this is a backup of, and what made it
    credentials.json, ...   small parts, one member each
    dumps/SERVICE/DATABASE.dump/000000, 000001, ...    a dump, in pieces; put together they are pg_dump's own format
    manifest.json           {"parts": {NAME: {"bytes", "sha256"}}} of all before; without it a backup is not complete

So a person without batten opens one with ``age -d -i KEY FILE | tar x`` and ``cat NAME.dump/* | pg_restore``.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

from .errors import BattenError

FORMAT = 1
HEADER, MANIFEST = "backup.json", "manifest.json"
PIECE_BYTES = 4 * 1024 * 1024
SMALL_BYTES = 32 * 1024 * 1024
_BLOCK = 512  # tar(5)
_PIECE = re.compile(r"(?P<part>dumps/.+)/(?P<number>\d{6,})\Z")


@dataclass
class Part:
    """What is known of a part so far: its length, and the running sha256 of its content."""

    size: int = 0
    state: Any = field(default_factory=hashlib.sha256)

    def add(self, content: bytes) -> None:
        self.size += len(content)
        self.state.update(content)

    def to_json(self) -> dict[str, Any]:
        return {"bytes": self.size, "sha256": self.state.hexdigest()}


class Writer:
    """Writes the tar stream. ``target`` is the pipe that encrypts."""

    def __init__(self, target: IO[bytes], header: Mapping[str, Any]) -> None:
        self._target = target
        self.parts: dict[str, Part] = {}
        self.json(HEADER, header)

    def json(self, name: str, value: Any) -> None:
        """Add a small part."""
        content = (json.dumps(value, sort_keys=True) + "\n").encode()
        self._count(name, content)
        self._member(name, content)

    def piece(self, name: str, number: int, content: bytes) -> None:
        """Add the next piece of a part whose length is not known yet."""
        self._count(name, content)
        self._member(f"{name}/{number:06}", content)

    def close(self) -> None:
        """Add the manifest and the end of the tar (two empty blocks)."""
        manifest = {"parts": {name: part.to_json() for name, part in sorted(self.parts.items())}}
        self._member(MANIFEST, json.dumps(manifest, sort_keys=True).encode())
        self._target.write(b"\0" * _BLOCK * 2)
        self._target.flush()

    def _count(self, name: str, content: bytes) -> None:
        self.parts.setdefault(name, Part()).add(content)

    def _member(self, name: str, content: bytes) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(content), 0o400
        self._target.write(member.tobuf(tarfile.PAX_FORMAT))
        self._target.write(content)
        self._target.write(b"\0" * (-len(content) % _BLOCK))


@dataclass(frozen=True)
class Member:
    """One member of a backup as it comes: of part ``part``, the ``number``-th piece of it (None for a small part)."""

    part: str
    number: int | None
    content: bytes


def read(source: IO[bytes]) -> Iterator[Member]:
    """Yield a backup's members. Raises BattenError for what is no backup; checks sums at the end, and its completeness.

    Nothing may be trusted before the end: age has then authenticated every byte, and the manifest has matched.
    """
    parts: dict[str, Part] = {}
    manifest: Any = None
    try:
        with tarfile.open(fileobj=source, mode="r|") as tar:
            for entry in tar:
                if not parts and entry.name != HEADER:
                    raise _not_ours(f"it begins with {entry.name[:60]!r}")
                if manifest is not None or not entry.isfile() or entry.size > SMALL_BYTES:
                    raise _not_ours(f"it holds {entry.name[:60]!r}")
                stream = tar.extractfile(entry)
                content = stream.read() if stream else b""
                if entry.name == MANIFEST:
                    manifest = json.loads(content)
                    continue
                match = _PIECE.match(entry.name)
                member = Member(
                    match["part"] if match else entry.name, int(match["number"]) if match else None, content
                )
                parts.setdefault(member.part, Part()).add(content)
                yield member
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise _not_ours(str(error) or "it is empty") from None
    if manifest is None:
        raise _not_ours("it has no manifest: whoever made it was cut off")
    found = {name: part.to_json() for name, part in parts.items()}
    if manifest != {"parts": found}:
        named = manifest.get("parts") if isinstance(manifest, dict) else None
        wrong = sorted(name for name in {*found, *(named or {})} if (named or {}).get(name) != found.get(name))
        raise _not_ours(f"its manifest does not fit {', '.join(wrong) or 'it'}")


def _not_ours(why: str) -> BattenError:
    return BattenError(f"this is no complete backup of batten's: {why}", "backup", "take another one")
