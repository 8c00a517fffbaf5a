"""The form of a backup: one tar stream, encrypted with age as it is written. Nothing of it lies on a disk in plain.

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
import os
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, Any

from .errors import BattenError

FORMAT = 1
HEADER, MANIFEST = "backup.json", "manifest.json"
PIECE_BYTES = 4 * 1024 * 1024
SMALL_BYTES = 32 * 1024 * 1024
_BLOCK = 512  # tar(5)
_PIECE = re.compile(r"(?P<part>dumps/.+)/(?P<number>\d{6,})\Z")
_RECIPIENT = re.compile(r"age1[a-z0-9]+", re.MULTILINE)


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


@contextmanager
def encrypting(recipient: str, target: IO[bytes]) -> Iterator[IO[bytes]]:
    """Give a stream whose content lands in ``target``, encrypted. Raises BattenError where age could not write it."""
    with tempfile.TemporaryFile() as said:
        process = _age(["--encrypt", "--recipient", recipient], subprocess.PIPE, target, said)
        stream: Any = process.stdin
        try:
            yield stream
            stream.close()
        except BrokenPipeError:
            pass  # age has ended before us, and tells why
        except BaseException:
            process.kill()
            _drain(process)
            raise
        _drain(process)
        if process.returncode:
            raise BattenError(f"age failed: {_last_line(said)}", "backup", "see: df -h")


@contextmanager
def decrypting(identity: str, source: IO[bytes] | int, path: str = "") -> Iterator[IO[bytes]]:
    """Give the plain content of ``source``, an encrypted stream, or of the file ``path``.

    The key goes to age through a pipe. Raises BattenError with age's own words for a wrong key, and for a stream that
    was cut short or changed, which is certain only when all of it was read (age authenticates chunk by chunk).
    """
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as said:
        try:
            os.write(writer, identity.encode())  # a pipe takes 64 KiB at once (pipe(7)); callers keep to less
        finally:
            os.close(writer)
        try:
            words = ["--decrypt", "--identity", f"/dev/fd/{reader}", *([path] if path else [])]
            process = _age(words, source, subprocess.PIPE, said, reader)
        finally:
            os.close(reader)
        stream: Any = process.stdout
        try:
            yield stream
            while stream.read(PIECE_BYTES):
                pass  # what follows the tar's end is authenticated too
        except BaseException:
            with suppress(OSError):
                stream.close()
            process.wait()
            if process.returncode not in (0, -13):  # SIGPIPE: we stopped reading, and our own reason is the better one
                raise _refused(said) from None
            raise
        process.wait()
        if process.returncode:
            raise _refused(said)


def new_identity() -> tuple[str, str]:
    """Return a new private key and its public key (age-keygen(1))."""
    try:
        done = subprocess.run(["age-keygen"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise _no_age() from None
    public = _RECIPIENT.search(done.stdout)
    if done.returncode or not public:
        raise BattenError(f"age-keygen failed: {done.stderr.strip()}", "this host", "install the package age anew")
    return done.stdout, public[0]


def _age(
    words: list[str], source: IO[bytes] | int, target: IO[bytes] | int, said: IO[bytes], *keep: int
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(["age", *words], stdin=source, stdout=target, stderr=said, pass_fds=keep)
    except FileNotFoundError:
        raise _no_age() from None


def _no_age() -> BattenError:
    return BattenError(
        "age is not installed", "this host", "set backup_recipient and run site.yml, or: apt install age"
    )


def _drain(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        if process.stdin:
            process.stdin.close()
    process.wait()


def _refused(said: IO[bytes]) -> BattenError:
    words = _last_line(said)
    fix = "give the private key that belongs to backup_recipient" if "no identity matched" in words else "take another"
    return BattenError(f"age cannot open it: {words}", "backup", fix)


def _last_line(said: IO[bytes]) -> str:
    """Return the last thing that age said of what is wrong; it ends with an invitation to report bugs."""
    said.seek(0)
    lines = [line.strip() for line in said.read().decode(errors="replace").splitlines()]
    told = [line for line in lines if line and "report unexpected or unhelpful errors" not in line]
    return (told or ["it gave no reason"])[-1].removeprefix("age: ").removeprefix("error: ")
