"""Pin the images of an inventory by digest: ask the registries what every tag means, and keep it in images.lock.yaml.

The lock lies beside your own stack's definition; for the stacks that batten brings, in the inventory's directory.
Layers name every image that is in it by digest; an image that stack_images names with a digest is left alone.
Registries are asked through the mirrors of docker_daemon (registry-mirrors), with the logins of `docker login`.
Those of stack_registries are asked by a host that has the login from Infisical; only digests come back. Another login:
pass show TOKEN | batten pin -i INV --login registry.example.org=USER
Exit code 0 done, 2 with --check where something moved or is new, or where a host's platform is missing; 1 error."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from batten.cli import inventory_argument, note, print_json
from batten.errors import BattenError

if TYPE_CHECKING:
    from pathlib import Path

    from batten.pin import Change, HostLogin
    from batten.registry import Resolved

_SHOWN = 19  # sha256: and twelve digits, as docker images shows them


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten pin`` takes."""
    inventory_argument(parser)
    parser.add_argument("--check", action="store_true", help="only show what moved; write nothing")
    parser.add_argument("--mirror", action="append", metavar="URL", help="ask this mirror of Docker Hub first")
    parser.add_argument("--platform", metavar="OS/ARCH", help="what the hosts are, such as linux/arm64")
    parser.add_argument("--login", metavar="REGISTRY=USER", help="log in there; the password is read on standard input")


def run(args: argparse.Namespace) -> int:
    """Run ``batten pin``."""
    from batten import fleet, pin, runner
    from batten.registry import Registries, docker_credentials

    stacks = fleet.settings_of(args.inventory, args.limit)
    daemon = daemon_entries(runner.load_hosts(args.inventory, args.limit).values())
    given = _login(args.login)
    client = Registries(
        [*(args.mirror or ()), *daemon["registry-mirrors"]],
        daemon["insecure-registries"],
        lambda registry: given.get(registry) or docker_credentials(registry),
    )
    locks = pin.wanted(stacks, args.platform)
    names = sorted({name for entry in locks.values() for name in entry.used_by})
    if not args.json:
        note(f"asking for {len(names)} images")
    there = {name: login for name, login in pin.host_logins(stacks).items() if name not in given}
    resolved, problems = pin.resolve([one for one in names if pin.registry_of(one) not in there], client.resolve)
    for registry, login in there.items():
        if private := [one for one in names if pin.registry_of(one) == registry]:
            _ask_host(args, login, private, resolved, problems)
    if problems:
        return _failed(problems, args.json)
    found = {path: pin.changes(entry, resolved) for path, entry in locks.items()}
    if not args.check:
        today = datetime.now(UTC).date()
        for path, entry in locks.items():
            pin.write_lock(path, pin.lock_text(entry.lock, found[path], today))
    _show(found, args.json, written=not args.check)
    every = [change for changed in found.values() for change in changed]
    moved = any(change.status != "same" for change in every)
    return 2 if any(change.missing for change in every) or (args.check and moved) else 0


def _ask_host(
    args: argparse.Namespace,
    login: HostLogin,
    names: list[str],
    resolved: dict[str, Resolved],
    problems: list[BattenError],
) -> None:
    """Add what a host answers for ``names``, over a connection of batten's own."""
    from batten import pin
    from batten.connection import host_program, of_inventory

    try:
        connection = of_inventory(args.inventory, login.host)[login.host]
        words = host_program("digests", login.stack)
        answers = pin.ask_host(login, names, lambda given: connection.run(words, stdin=given))
    except BattenError as error:
        problems.append(error)
        return
    for name, answer in zip(names, answers, strict=True):
        if isinstance(answer, BattenError):
            problems.append(answer)
        else:
            resolved[name] = answer


def daemon_entries(hosts: Any) -> dict[str, tuple[str, ...]]:
    """Return ``registry-mirrors`` and ``insecure-registries`` of all hosts; the last entry of a name wins on a host."""
    found: dict[str, dict[str, None]] = {"registry-mirrors": {}, "insecure-registries": {}}
    for variables in hosts:
        last: dict[str, Mapping[str, Any]] = {}
        for level in ("docker_daemon_default", "docker_daemon", "docker_daemon_group", "docker_daemon_host"):
            entries = variables.get(level) or ()
            last |= {str(entry.get("name")): entry for entry in entries if isinstance(entry, Mapping)}
        for name, kept in found.items():
            entry = last.get(name, {})
            if entry.get("state", "present") == "present":
                kept.update(dict.fromkeys(map(str, entry.get("value") or ())))
    return {name: tuple(kept) for name, kept in found.items()}


def _login(given: str | None) -> dict[str, tuple[str, str]]:
    if given is None:
        return {}
    registry, equals, user = given.partition("=")
    password = sys.stdin.readline().rstrip("\n")
    if not equals or not registry or not user or not password:
        raise BattenError(
            "a login needs a registry, a user, and a password on standard input",
            "batten pin --login",
            "pass show TOKEN | batten pin -i INV --login registry.example.org=USER",
        )
    return {registry: (user, password)}


def _failed(problems: list[BattenError], as_json: bool) -> int:
    for problem in problems:
        note(f"batten: {problem}")
    note("the lock is as it was")
    if as_json:
        print_json({"errors": [{"what": one.what, "where": one.where, "fix": one.fix} for one in problems]})
    return 1


def _show(found: Mapping[Path, list[Change]], as_json: bool, *, written: bool) -> None:
    if as_json:
        print_json({"locks": [{"path": str(path), "images": _plain(every)} for path, every in found.items()]})
        return
    from batten.report.plan import table

    for path, every in found.items():
        rows = [
            (one.reference, one.status, (one.before or "-")[:_SHOWN], one.after[:_SHOWN], " ".join(one.platforms))
            for one in every
        ]
        moved = sum(one.status == "moved" for one in every)
        new = sum(one.status == "new" for one in every)
        print(f"{path}: {len(every)} images, {moved} moved, {new} new{'' if written else '; nothing written'}")
        print(table(("image", "", "before", "after", "platforms"), rows))
        for one in every:
            if one.missing:
                print(f"  {one.reference} is not made for {one.missing}, which {', '.join(one.used_by)} needs")


def _plain(every: list[Change]) -> list[dict[str, Any]]:
    return [
        {
            "reference": one.reference,
            "status": one.status,
            "before": one.before,
            "after": one.after,
            "platforms": list(one.platforms),
            "missing_platform": one.missing,
            "used_by": list(one.used_by),
        }
        for one in every
    ]
