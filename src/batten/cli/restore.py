"""Put backups onto a new host, and bring its stacks up with the same credentials and data.

The private key goes to the host's memory and is kept nowhere. A wrong key, a file that is cut short or changed, and a
backup of something newer than what would run are refused, and nothing is changed; so is a host that has credentials or
data that would be lost. Run again after a failure, it goes on where it was. A host that lost its credentials alone, or
cannot open them any more, gets them back; its data stay.
Exit code 0 done, 1 something failed."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batten import fleet
from batten.cli import inventory_argument, note, print_json
from batten.connection import Connection, carried_program, of_inventory
from batten.errors import BattenError
from batten.plan.model import Plan

_NAME = re.compile(r"(?P<stack>.+)-\d{8}T\d{6}Z\.age\Z")
_BLOCK = 1024 * 1024


@dataclass(frozen=True)
class Source:
    """One backup file, the stack that it is of, and the host of the inventory that it goes to."""

    path: Path
    stack: str
    host: str


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten restore`` takes."""
    inventory_argument(parser)
    parser.add_argument(
        "--from", dest="files", required=True, nargs="+", metavar="FILE", help="backups, STACK-TIME.age"
    )
    parser.add_argument("--identity", required=True, metavar="KEYFILE", help="the private key that age-keygen wrote")
    parser.add_argument("--keep-only", action="store_true", help="put the backups there; do not run site.yml")
    parser.set_defaults(check=False, diff=False, verbosity=0)


def run(args: argparse.Namespace) -> int:
    """Run ``batten restore``."""
    identity = _identity(Path(args.identity))
    connections = of_inventory(args.inventory, args.limit)
    sources = [source(Path(name), list(connections), args.inventory) for name in args.files]
    plan = fleet.plan_inventory(args.inventory, args.limit)
    wanted = [(one, images(plan, one)) for one in sources]  # what no host would run is refused before any is touched
    kept = []
    for one, planned in wanted:
        note(f"{one.host}: {one.path.name} is read and judged there")
        header = _hand_over(connections[one.host], one, identity, planned)
        kept.append(
            {"host": one.host, "stack": one.stack, "created": header["created"], "left": header.get("left", [])}
        )
        note(
            f"{one.host}: stack {one.stack} as of {header['created']}"
            + (", there already" if header["already"] else "")
            + (", its credentials alone: they were lost, and its data are here" if header["credentials_only"] else "")
        )
        for part in header.get("left", []):
            note(f"{one.host}: {part} is of software that batten cannot load; age -d and tar bring it out of the file")
    code = 0
    if not args.keep_only:
        from batten.cli.up import play

        code, _ = play("site", args)
    if args.json:
        print_json({"ok": code == 0, "restored": kept})
    return 1 if code else 0


def source(path: Path, hosts: list[str], inventory: str) -> Source:
    """Return what a file is and where it goes: what its JSON file says, else its name and the only host there is.

    Raises BattenError for a file that is not there, and where it is not clear which host it is for.
    """
    if not path.is_file():
        raise BattenError("this file does not exist", str(path), "name a STACK-TIME.age that batten backup fetched")
    described: Mapping[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        described = json.loads(path.with_suffix(".json").read_text())
    named = _NAME.match(path.name)
    stack = str(described.get("stack") or (named["stack"] if named else ""))
    if not stack:
        raise BattenError("its name does not say of which stack it is", str(path), "name it STACK-TIME.age, as it was")
    if len(hosts) == 1:
        return Source(path, stack, hosts[0])
    host = str(described.get("inventory_host", ""))
    if host not in hosts:
        what = f"it does not say for which of {len(hosts)} hosts it is" if not host else f"no host is named {host}"
        raise BattenError(what, str(path), f"add --limit HOST, one of: {', '.join(sorted(hosts))} (in {inventory})")
    return Source(path, stack, host)


def images(plan: Plan, one: Source) -> dict[str, str]:
    """Return the images that the inventory would run, by service. Raises BattenError where it runs no such stack."""
    stacks = plan.hosts[one.host].stacks
    if one.stack not in stacks:
        fix = f"the inventory has {', '.join(stacks)}; give it a stack named {one.stack}, or another file"
        raise BattenError(f"stack {one.stack} is not planned on {one.host}", str(one.path), fix)
    return {name: service.image for name, service in stacks[one.stack].services.items()}


def _identity(path: Path) -> str:
    try:
        text = path.expanduser().read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BattenError(f"cannot read the private key: {error}", str(path), "name the file of age-keygen") from error
    if "AGE-SECRET-KEY-" not in text:
        raise BattenError("this is no age private key", str(path), "name the file that age-keygen -o wrote")
    return text


def _hand_over(connection: Connection, one: Source, identity: str, planned: Mapping[str, str]) -> dict[str, Any]:
    """Pipe program, key and backup to the host; return the backup's header."""
    words, program = carried_program("restore", one.stack)
    asked = json.dumps({"identity": identity, "images": dict(planned)}).encode() + b"\n"
    with connection.open(words, stdin=subprocess.PIPE) as process, one.path.open("rb") as file:
        target, stdout, stderr = process.stdin, process.stdout, process.stderr
        if target is None or stdout is None or stderr is None:
            raise BattenError("the command has no pipes", connection.host)
        with contextlib.suppress(BrokenPipeError):  # it has refused, and says why
            target.write(program + asked)
            for block in iter(lambda: file.read(_BLOCK), b""):
                target.write(block)
        with contextlib.suppress(BrokenPipeError):
            target.close()
        output, said = stdout.read(), stderr.read()
    if process.returncode:
        raise connection.failure(process.returncode, said)
    return dict(json.loads(output))
