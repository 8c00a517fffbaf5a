"""A backup of one stack: its credentials, its plan and release, and the roles and a dump of every database.

It is encrypted to the operator's public key before any of it touches a disk, and it counts only when every dump was
read back from end to end by pg_restore, age has ended well, and the file lies there under its name. What fails leaves
no half file, and the older backups as they were.

Two files come of it: ``STACK-TIME.age``, and beside it ``STACK-TIME.json``, which says in plain, and without any
secret, what it is. A backup without its JSON file was not finished.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from . import age, archive, atomic, audit, credentials, infisical_access, lock, postgres_dumps, release
from .docker_api import Docker
from .errors import BattenError
from .paths import StackPaths
from .version import VERSION

LOCK_SECONDS = 900.0
Payload = Mapping[str, Any]


def run(paths: StackPaths, docker: Docker, say: Callable[[str], None]) -> dict[str, Any]:
    """Make a backup now; return its description (the JSON file). Raises BattenError; both ends are audited."""
    begun = time.monotonic()
    try:
        made = _run(paths, docker, say, begun)
    except (BattenError, OSError) as error:
        why = error.what if isinstance(error, BattenError) else str(error)
        audit.append(paths.audit, [{"stack": paths.stack, "action": "backup", "result": "failed", "why": why}])
        if isinstance(error, BattenError):
            raise
        raise BattenError(why, f"stack {paths.stack}", "see: df -h; older backups are as they were") from error
    audit.append(paths.audit, [{"stack": paths.stack, "action": "backup", "result": "done", "why": made["file"]}])
    return made


def settings(plan: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return ``backup`` of a plan as JSON. Raises BattenError where backups are off."""
    wanted: Mapping[str, Any] | None = plan.get("backup")
    if not wanted:
        fix = "make a key with age-keygen -o backup.key, set backup_recipient to its public key, and run site.yml"
        raise BattenError("backups are off: no key to encrypt them to", "backup_recipient", fix)
    return wanted


def kept(directory: Path, stack: str) -> list[Path]:
    """Return the finished backups of a stack, oldest first: their JSON files."""
    pattern = _pattern(stack)
    found = [path for path in directory.glob("*.json") if pattern.match(path.name)]
    return sorted(path for path in found if path.with_suffix(".age").is_file())


def _run(paths: StackPaths, docker: Docker, say: Callable[[str], None], begun: float) -> dict[str, Any]:
    with lock.held(paths.backup_lock):
        with _patiently(paths.lock):
            payload, header, small = _take(paths)
        wanted = settings(payload["plan"])
        directory = Path(wanted["directory"])
        atomic.make_directory(directory, 0o700)
        _sweep(directory, paths.stack)
        name = f"{paths.stack}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
        handle, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".part", dir=str(directory))
        try:
            with os.fdopen(handle, "wb") as file:
                parts = _write(file, wanted["recipient"], docker, payload, header, small, say)
                os.fsync(file.fileno())
            if release.running(paths) != header["release"]:
                raise BattenError("a run changed the stack meanwhile", f"stack {paths.stack}", "make the backup again")
            size, digest = _sum(Path(temporary))
            os.rename(temporary, directory / f"{name}.age")
        except BaseException:
            Path(temporary).unlink()
            raise
        atomic.sync_directory(directory)
        made = {
            **header,
            "file": f"{name}.age",
            "bytes": size,
            "sha256": digest,
            "parts": parts,
            "recipient": wanted["recipient"],
            "seconds": round(time.monotonic() - begun, 1),
            "verified": lock.now(),
        }
        atomic.write_json(directory / f"{name}.json", made)
        _retire(directory, paths.stack, int(wanted["keep"]), name)
        return {**made, "path": str(directory / f"{name}.age")}


@contextmanager
def _patiently(path: Path) -> Iterator[None]:
    """Hold the stack's lock for the block; wait for a run that is at work. A backup at night must not lose to one."""
    deadline = time.monotonic() + LOCK_SECONDS
    with ExitStack() as held:
        while not _take_lock(path, held, time.monotonic() > deadline):
            time.sleep(1)
        yield


def _take_lock(path: Path, held: ExitStack, last: bool) -> bool:
    try:
        held.enter_context(lock.held(path))
    except lock.Busy:
        if last:
            raise
        return False
    return True


def _take(paths: StackPaths) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the release that runs, the header, and the small parts: all of one moment."""
    payload = release.read(paths, release.running(paths) or "(none)")
    bundle = credentials.load(paths)
    reached = infisical_access.load(paths)
    header = {
        "format": archive.FORMAT,
        "stack": paths.stack,
        "project": payload["project"],
        "host": socket.gethostname(),
        "created": lock.now(),
        "batten": VERSION,
        "release": release.identity(payload),
        "images": {name: service["image"] for name, service in payload["plan"]["services"].items()},
        "migrates": sorted(name for name, one in payload["plan"]["services"].items() if one.get("migrates")),
    }
    small: dict[str, Any] = {"credentials.json": bundle.to_json(), "release.json": payload}
    if reached is not None:
        small["access.json"] = dict(reached.__dict__)
    return payload, header, small


def _write(
    file: IO[bytes],
    recipient: str,
    docker: Docker,
    payload: Payload,
    header: Mapping[str, Any],
    small: Mapping[str, Any],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Write the encrypted stream into ``file``; return its parts by name."""
    services = {name: one for name, one in payload["plan"]["services"].items() if one.get("dump")}
    servers = {
        name: postgres_dumps.server(docker, payload, name)
        for name, one in services.items()
        if postgres_dumps.dumps(one)
    }
    majors = {name: server.major(docker) for name, server in servers.items()}
    with age.encrypting(recipient, file) as stream:
        writer = archive.Writer(stream, {**header, "postgres": majors})
        roles = {"roles.json": {name: server.roles(docker) for name, server in servers.items()}}
        for name, value in sorted({**small, **roles}.items()):
            writer.json(name, value)
        for name, service in sorted(services.items()):
            if name in servers:
                for database in servers[name].databases(docker):
                    say(f"dumping {name}/{database}")
                    _postgres(writer, servers[name], database)
            else:
                say(f"dumping {name}")
                container = postgres_dumps.running(docker, payload["project"], name)
                words = ["docker", "exec", "-i", container, *service["dump"]]
                _stream(writer, f"dumps/{name}/dump", words, f"service {name}")
        writer.close()
    return {name: part.to_json() for name, part in sorted(writer.parts.items())}


def _postgres(writer: archive.Writer, server: postgres_dumps.Server, database: str) -> None:
    """Dump one database, and let pg_restore read every byte of it as it goes by."""
    if "/" in database or database.startswith("."):
        raise BattenError(f"a database is named {database!r}, which no file can be", f"service {server.service}")
    where = f"database {database} of service {server.service}"
    words = server.words("pg_dump", postgres_dumps.dump_words(database))
    check = ["docker", "exec", "-i", server.container, "pg_restore", *postgres_dumps.CHECK_WORDS]
    _stream(writer, f"dumps/{server.service}/{database}.dump", words, where, check)


def _stream(
    writer: archive.Writer, name: str, words: Sequence[str], where: str, check: Sequence[str] | None = None
) -> None:
    """Add what ``words`` print as part ``name``; ``check`` reads the same and must end well too."""
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as judged:
        dump = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said)
        judge = subprocess.Popen(check or ["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=judged)
        source: Any = dump.stdout
        reader: Any = judge.stdin
        try:
            number = 0
            for content in iter(lambda: source.read(archive.PIECE_BYTES), b""):
                writer.piece(name, number, content)
                number += 1
                with suppress(BrokenPipeError):  # it gave up; its exit status, below, says so
                    reader.write(content)
            with suppress(BrokenPipeError):
                reader.close()
            if dump.wait() or number == 0:
                raise BattenError(f"the dump failed: {_last(said) or 'it is empty'}", where, "older backups are kept")
            if judge.wait():
                fix = "make the backup again; if it stays so, see the server's log"
                raise BattenError(f"the dump cannot be read back: {_last(judged)}", where, fix)
        finally:
            for process in (dump, judge):
                process.kill()  # nothing, where it has ended
                process.wait()


def _last(said: IO[bytes]) -> str:
    said.seek(0)
    return (said.read().decode(errors="replace").strip().splitlines() or [""])[-1]


def _sum(path: Path) -> tuple[int, str]:
    """Return length and sha256 of a file as it lies on the disk."""
    state, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        for block in iter(lambda: file.read(1024 * 1024), b""):
            state.update(block)
            size += len(block)
    return size, state.hexdigest()


def _retire(directory: Path, stack: str, keep: int, made: str) -> None:
    """Remove all but the newest ``keep``, and never the one just ``made``, the oldest by a clock that was set back.

    The JSON file goes first: what it names must be there.
    """
    for path in kept(directory, stack)[:-keep]:
        if path.stem == made:
            continue
        path.unlink()
        path.with_suffix(".age").unlink()


def _sweep(directory: Path, stack: str) -> None:
    """Remove what a killed backup of this stack left: half files, and files that never got their JSON."""
    pattern = _pattern(stack)
    for path in directory.iterdir():
        half = path.suffix == ".part" and pattern.match(path.name[1:].partition(".")[0] + ".age")
        nameless = path.suffix == ".age" and pattern.match(path.name) and not path.with_suffix(".json").exists()
        if half or nameless:
            path.unlink()


def _pattern(stack: str) -> re.Pattern[str]:
    return re.compile(re.escape(stack) + r"-\d{8}T\d{6}Z\.(age|json)\Z")
