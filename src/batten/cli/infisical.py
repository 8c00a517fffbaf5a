"""admin: show the administrator's login of Infisical on this terminal, and nowhere else.

It is read from the host's sealed credentials over a connection of its own; Ansible sees nothing of it."""

from __future__ import annotations

import argparse
import json
import sys

from batten import runner
from batten.cli import inventory_argument, print_json
from batten.connection import host_program, of_inventory, one
from batten.errors import BattenError
from batten.plan.infisical import STACK


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten infisical`` takes."""
    parser.add_argument("what", choices=["admin"], help="admin: the administrator's login")
    inventory_argument(parser)
    parser.add_argument("--show", action="store_true", help="print the password though this is no terminal")


def run(args: argparse.Namespace) -> int:
    """Run ``batten infisical admin``. A password goes into no pipe or file unless that is said."""
    if not (sys.stdout.isatty() or args.show or args.json):
        raise BattenError(
            "standard output is no terminal, and a password would go into a pipe or a file",
            "batten infisical admin",
            "run it in a terminal; --show or --json, if that is what you want",
        )
    hosts = runner.load_hosts(args.inventory, args.limit)
    apart = any(values["groups"].get(STACK) for values in hosts.values())
    connection = one(of_inventory(args.inventory, args.limit, STACK if apart else ""), args.inventory)
    variables = hosts[connection.host]
    if variables.get("infisical_mode", "selfhosted") != "selfhosted":
        what = f"infisical_mode is {variables['infisical_mode']}: batten runs no Infisical here"
        raise BattenError(what, connection.host, "ask whoever runs it")
    password = json.loads(connection.run(host_program("admin", STACK)))["password"]
    login = {"email": variables.get("infisical_admin_email", ""), "password": password}
    tunnel = f"batten tunnel -i {args.inventory} infisical" + (f" --limit {args.limit}" if args.limit else "")
    if args.json:
        print_json({**login, "host": connection.host, "tunnel": tunnel})
    else:
        print(f"e-mail    {login['email']}\npassword  {login['password']}\nto reach it: {tunnel}")
    return 0
