"""Make an encrypted backup of every stack on every host, and fetch it.

It is made on the host, encrypted there to backup_recipient, and read back before it counts; the file comes as it is.
Infisical's data, every database, all credentials are in it; whoever has the private key of backup_recipient opens it.
Exit code 0 all fetched, 1 something failed."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from batten import fleet
from batten.cli import inventory_argument, note, print_json
from batten.connection import Connection, host_program, of_inventory
from batten.errors import BattenError

_BLOCK = 1024 * 1024
_TOLD_EVERY_SECONDS = 5.0


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten backup`` takes."""
    inventory_argument(parser)
    parser.add_argument("--to", required=True, metavar="DIR", help="directory here; files go to DIR/HOST/")
    parser.add_argument("--stack", metavar="NAME", help="only this stack")


def run(args: argparse.Namespace) -> int:
    """Run ``batten backup``."""
    connections = of_inventory(args.inventory, args.limit)
    made: list[dict[str, Any]] = []
    problems: list[BattenError] = []
    for host, stacks in fleet.settings_of(args.inventory, args.limit).items():
        for stack in stacks:
            if args.stack in (None, stack.name):
                try:
                    made.append(_backup(connections[host], stack.name, Path(args.to) / host))
                except BattenError as problem:
                    problems.append(problem)
                    note(f"batten: {problem}")
    if not made and not problems:
        raise BattenError(f"no host has a stack named {args.stack}", args.inventory, "leave --stack out")
    if args.json:
        failed = [{"what": one.what, "where": one.where, "fix": one.fix} for one in problems]
        print_json({"backups": made, "errors": failed})
    else:
        for one in made:
            print(f"{one['path']}  {_size(one['bytes'])}, {len(one['parts'])} parts, verified")
    return 1 if problems else 0


def _backup(connection: Connection, stack: str, directory: Path) -> dict[str, Any]:
    """Have the host make a backup, fetch it, and return its description."""
    made = _make(connection, stack)
    source = made.pop("path")
    path = directory / file_name(made, stack, connection.host)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    note(f"{connection.host}: fetching {source}, {_size(made['bytes'])}")
    _fetch(connection, source, path, made["bytes"], made["sha256"])
    described = {**made, "inventory_host": connection.host}
    path.with_suffix(".json").write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
    return {**described, "path": str(path)}


def file_name(made: Mapping[str, Any], stack: str, host: str) -> str:
    """Return the name of a backup that ``host`` has made, ``STACK-TIME.age``.

    Raises BattenError for any other: a host that somebody else holds would write where it likes on this machine.
    """
    name = str(made.get("file"))
    if not re.fullmatch(re.escape(stack) + r"-[0-9]{8}T[0-9]{6}Z\.age", name):
        what = f"the host names its backup {name[:80]!r}, which is none of stack {stack}; nothing was fetched"
        raise BattenError(what, host, "see what this host is: batten verify; do not trust its backups until then")
    return name


def _make(connection: Connection, stack: str) -> dict[str, Any]:
    note(f"{connection.host}: backing up {stack}")
    said: list[bytes] = []
    with connection.open(host_program("backup", stack)) as process:
        stdout, stderr = process.stdout, process.stderr
        if stdout is None or stderr is None:
            raise BattenError("the command has no output", connection.host)

        def listen() -> None:
            for line in stderr:
                said.append(line)
                if line.startswith(b"dumping "):
                    note(f"{connection.host}: {line.decode(errors='replace').strip()}")

        listener = threading.Thread(target=listen)
        listener.start()
        output = stdout.read()
        listener.join()
    if process.returncode:
        raise connection.failure(process.returncode, b"".join(said))
    return dict(json.loads(output))


def _fetch(connection: Connection, source: str, path: Path, size: int, digest: str) -> None:
    """Copy a file of the host to ``path``, which appears only when every byte of it is the right one."""
    part = path.with_suffix(".part")
    state, done, told = hashlib.sha256(), 0, time.monotonic()
    try:
        with connection.open(["cat", source]) as process, part.open("wb") as file:
            stdout = process.stdout
            for block in iter(lambda: stdout.read(_BLOCK) if stdout else b"", b""):
                file.write(block)
                state.update(block)
                done += len(block)
                if time.monotonic() - told > _TOLD_EVERY_SECONDS:
                    told = time.monotonic()
                    note(f"{connection.host}: {done * 100 // max(size, 1)} % of {_size(size)}")
            os.fsync(file.fileno())
            said = process.stderr.read() if process.stderr else b""
        if process.returncode:
            raise connection.failure(process.returncode, said)
        if state.hexdigest() != digest:
            raise BattenError("the file was changed on its way", source, "fetch it again: batten backup")
        part.rename(path)
    except OSError as error:
        raise BattenError(f"cannot write the backup: {error.strerror}", str(path), "see: df -h") from error
    finally:
        part.unlink(missing_ok=True)


def _size(count: int) -> str:
    """Return bytes for people."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
