"""Write a new inventory, from a few questions or from flags; what lies there is never overwritten."""

from __future__ import annotations

import argparse
import ipaddress
import re
import sys
from collections.abc import Callable
from pathlib import Path

from batten.cli import note, print_json
from batten.errors import BattenError
from batten.inventory import NewInventory, inventory_files, write_inventory

TARGETS = ("selfhosted", "digitalocean")
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", re.IGNORECASE)


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten init`` takes."""
    parser.add_argument("--out", metavar="DIR", help="the inventory's directory; default: inventories/NAME")
    parser.add_argument("--target", choices=TARGETS, help="your own server, or a droplet")
    parser.add_argument("--host", help="address or name that SSH reaches")
    parser.add_argument("--user", help="the SSH user, root or one with sudo; default: root")
    parser.add_argument("--domain", help="where people will reach the stack")
    parser.add_argument("--name", help="the stack's name; default: app")
    parser.add_argument("--base", metavar="COMPOSE", help="your compose.yaml; default: the reference stack")
    parser.add_argument("--acme-email", metavar="EMAIL", help="get public certificates; default: an internal authority")
    parser.add_argument("--postgres-host", metavar="HOST", help="digitalocean: the managed cluster's private host")
    parser.add_argument("--postgres-ca", metavar="FILE", help="digitalocean: the cluster's CA certificate")
    parser.add_argument("--vpc-address", metavar="ADDRESS", help="digitalocean: the droplet's address on its VPC")
    parser.add_argument("--volume", metavar="NAME", help="digitalocean: the block volume for the data")


def run(args: argparse.Namespace) -> int:
    """Run ``batten init``."""
    interactive = sys.stdin.isatty() and not args.json
    new = collect(args, _ask if interactive else None)
    directory = Path(args.out or f"inventories/{new.name}")
    files = inventory_files(new, directory)
    write_inventory(directory, files)
    written = [str(directory / name) for name in files]
    if args.json:
        print_json({"inventory": str(directory), "files": written})
        return 0
    for path in written:
        note(f"wrote {path}")
    note(f"next: batten plan -i {directory}")
    note(f"then: ansible-playbook site.yml -i {directory}")
    return 0


def collect(args: argparse.Namespace, ask: Callable[[str, str | None], str] | None) -> NewInventory:
    """Return the answers: from flags, else by ``ask(question, default)``, else the default.

    Raises :class:`BattenError` where there is no answer, or one that cannot be right.
    """

    def answer(flag: str, question: str, default: str | None, valid: Callable[[str], bool], wanted: str) -> str:
        given = getattr(args, flag)
        value: str | None = given if given is not None else ask(question, default) if ask else default
        option = "--" + flag.replace("_", "-")
        if not value:
            raise BattenError(f"{question} is not said", "batten init", f"give {option}")
        if not valid(value):
            raise BattenError(f"{value!r} is not {wanted}", f"batten init {option}", f"write {wanted}")
        return value

    target = answer(
        "target", "target (selfhosted or digitalocean)", "selfhosted", TARGETS.__contains__, " or ".join(TARGETS)
    )
    name = answer("name", "name of the stack", "app", _matches(_NAME), "small letters, digits, - and _")
    host = answer("host", "host that SSH reaches", None, _is_host, "an address or a host name")
    user = answer("user", "SSH user", "root", _matches(re.compile(r"[^\s:]+")), "a user name")
    domain = answer("domain", "domain", None, _matches(_DOMAIN), "a domain name")
    if target == "digitalocean" and args.postgres_host and not args.postgres_ca:
        raise BattenError(
            "the managed cluster's CA is not said", "batten init", "give --postgres-ca, the file its page downloads"
        )
    return NewInventory(
        target=target,
        host=host,
        user=user,
        domain=domain,
        name=name,
        base=args.base,
        acme_email=args.acme_email,
        postgres_host=args.postgres_host,
        postgres_ca=args.postgres_ca,
        vpc_address=args.vpc_address,
        volume=args.volume,
    )


def _ask(question: str, default: str | None) -> str:
    print(f"{question}{f' [{default}]' if default else ''}: ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip() or default or ""


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda value: pattern.fullmatch(value) is not None


def _is_host(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return _matches(_DOMAIN)(value)
    return True
