"""import: take the credentials of a .env file, or of Compose files, over into batten's keeping.

The values go to the host on standard input and are printed nowhere; the next run of site.yml stores them in Infisical
and delivers them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from batten import dotenv, fleet
from batten.cli import inventory_argument, print_json
from batten.connection import Connection, carried_program, of_inventory
from batten.errors import BattenError
from batten.plan.definition import Definition
from batten.plan.settings import StackSettings
from batten.plan.stack import load_inputs


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten secrets`` takes."""
    parser.add_argument("what", choices=["import"], help="import: the values of a .env file or of Compose files")
    inventory_argument(parser)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--env-file", metavar="FILE", help="the .env file of the stack as it ran until now")
    source.add_argument(
        "--compose-file",
        action="append",
        metavar="FILE",
        help="its Compose files, with credentials under environment, in the order of docker compose -f; may come again",
    )
    parser.add_argument("--stack", metavar="NAME", help="for which stack; the inventory's own unless given")
    parser.add_argument("--dry-run", action="store_true", help="say what would be taken over, and touch nothing")


def run(args: argparse.Namespace) -> int:
    """Run ``batten secrets import``."""
    hosts = {
        host: stack
        for host, stacks in fleet.settings_of(args.inventory, args.limit).items()
        if (stack := _stack(stacks, args.stack)) is not None
    }
    if not hosts:
        raise BattenError(f"no host has a stack named {args.stack}", args.inventory, "leave --stack out")
    definition = load_inputs(next(iter(hosts.values()))).definition
    if args.env_file:
        source, found = args.env_file, _of_env_file(Path(args.env_file), definition)
    else:
        source, found = ", ".join(args.compose_file), _of_compose_files(args.compose_file, definition)
    if problem := dotenv.disagreement(found):
        raise BattenError(problem.what, f"{source}: {problem.where}", problem.fix)
    if not args.dry_run and found:
        connections = of_inventory(args.inventory, args.limit)
        values = json.dumps({each.secret: each.value for each in found}).encode()
        for host, stack in hosts.items():
            _put(connections[host], stack.name, values)
    report = {
        "file": source,
        "hosts": sorted(hosts),
        "dry_run": args.dry_run,
        "found": [_described(each) for each in found],
        "stack_secrets": proposal(found),
    }
    if args.json:
        print_json(report)
    else:
        print(text(report))
    return 0


def _described(found: dotenv.Found) -> dict[str, Any]:
    return {
        "name": found.entry.name,
        "lines": [found.entry.first, found.entry.last],
        "why": found.why,
        "secret": found.secret,
        "declared": found.declared,
    }


def _of_env_file(path: Path, definition: Definition) -> list[dotenv.Found]:
    try:
        entries = dotenv.parse(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise BattenError(f"cannot read it: {error}", str(path), "name a .env file, in UTF-8") from error
    deliveries = {name: service.secrets for name, service in definition.services.items()}
    return dotenv.assign(entries, definition.secrets, deliveries)


def _of_compose_files(files: list[str], definition: Definition) -> list[dotenv.Found]:
    """Return what ``batten harden`` finds in Compose files, under the names that its ``batten.yaml`` has."""
    from batten.harden import credentials_of

    return [
        dotenv.Found(
            dotenv.Entry(f"{each.service}: {each.variable}", each.value, 0, 0),
            each.secret,
            each.value,
            each.secret in definition.secrets,
            each.why,
        )
        for each in credentials_of([Path(name) for name in files])
    ]


def proposal(found: list[dotenv.Found]) -> dict[str, Any]:
    """Return what to add to ``stack_secrets``: values come from people, so that none is ever made in their place."""
    return {each.secret: {"generator": "provided"} for each in found if not each.declared}


def text(report: Mapping[str, Any]) -> str:
    """Return the report for people; it holds names and lines, no values."""
    found = report["found"]
    if not found:
        return f"nothing in {report['file']} looks like a credential"
    rows = [("VARIABLE", "LINE", "WHY", "SECRET")]
    for each in found:
        declared = each["secret"] + ("" if each["declared"] else " (not declared yet)")
        rows.append((each["name"], _lines(each["lines"]), each["why"], declared))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    table = ["  ".join([*(row[column].ljust(widths[column]) for column in range(3)), row[3]]) for row in rows]
    parts = ["\n".join(table)]
    if report["stack_secrets"]:
        declaration = yaml.safe_dump({"stack_secrets": report["stack_secrets"]}, sort_keys=True).rstrip()
        parts.append(f"add to the inventory, and name their consumers:\n\n{declaration}")
    lines = ("line " if len(found) == 1 else "lines ") + ", ".join(_lines(each["lines"]) for each in found)
    of_env_file = any(each["lines"][0] for each in found)
    if report["dry_run"]:
        parts.append("nothing was touched; without --dry-run the values go to: " + ", ".join(report["hosts"]))
    else:
        parts.append(
            "kept, sealed, on: " + ", ".join(report["hosts"]) + "; the next run of site.yml takes them from there"
        )
        what = lines if of_env_file else "these variables"
        parts.append(f"after that run take {what} out of {report['file']}, and out of every copy of it")
    return "\n\n".join(parts)


def _lines(pair: list[int]) -> str:
    if not pair[0]:
        return "-"
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}-{pair[1]}"


def _stack(stacks: tuple[StackSettings, ...], name: str | None) -> StackSettings | None:
    if name is None:
        return stacks[-1]
    return next((stack for stack in stacks if stack.name == name), None)


def _put(connection: Connection, stack: str, values: bytes) -> None:
    """Keep values on a host, also one where the stack has never run: its database may want these very passwords."""
    from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths

    paths = StackPaths(stack)
    connection.run(["install", "-d", "-m", "700", str(paths.var), str(paths.state)])
    words, program = carried_program("put", stack)
    connection.run(words, stdin=program + values)
