"""In a checkout: a throwaway host, deployed by site.yml, verified, and left running to try things on.

Gets a Docker engine where none answers: shows the commands and asks, or does it with --yes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from batten import resources
from batten.cli import note, print_json, up
from batten.cli.verify import terminal_width, write_html
from batten.errors import BattenError

if TYPE_CHECKING:
    from batten.cli.progress import Summary

HOST = "batten-demo"
HTTPS_PORT = 8443
REPORT = "demo-report.html"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten demo`` takes."""
    parser.add_argument("--yes", action="store_true", help="run the commands that get an engine without asking")
    parser.add_argument(
        "--remove", action="store_true", help="remove the host and what else the rig started, and end; its images stay"
    )
    parser.add_argument(
        "--port", type=int, default=HTTPS_PORT, help="loopback port for the stack's HTTPS; default: 8443"
    )
    parser.add_argument("-v", dest="verbosity", action="count", default=0, help="Ansible's own output; -vvv for more")


def run(args: argparse.Namespace) -> int:
    """Run ``batten demo``."""
    root = resources.checkout()
    if root is None:
        raise BattenError("the demo runs in a checkout only", "", "git clone the project, then ./batten demo")
    sys.path.insert(0, str(root))
    from tests.rig.docker import RigError

    try:
        return _remove(args) if args.remove else _demo(args, root)
    except RigError as error:
        raise BattenError(str(error), "the demo's rig", "python -m tests.rig --help") from error


def _remove(args: argparse.Namespace) -> int:
    from tests.rig.__main__ import down

    down()
    if root := resources.checkout():
        (root / REPORT).unlink(missing_ok=True)
    if args.json:
        print_json({"removed": True})
    return 0


def _demo(args: argparse.Namespace, root: Path) -> int:
    from tests.rig import engine, hosts, images
    from tests.rig.__main__ import up as rig_up
    from tests.rig.docker import inspect

    _agree(engine.commands(), yes=args.yes)
    rig_up()
    if inspect("container", HOST):
        note(f"the host {HOST} is there already: it is brought to what the inventory says")
        host = hosts.get(HOST)
    else:
        host = hosts.start(HOST, "base", publish=[f"127.0.0.1:{args.port}:443"])
    inventory = str(root / "inventories" / "demo")
    deploy = argparse.Namespace(
        inventory=inventory, limit=None, check=False, diff=False, verbosity=args.verbosity, json=args.json
    )
    code, progress = up.play("site", deploy)
    if code:
        if args.json:
            print_json({"ok": False, "up": progress.summary.to_json()})
        return 1
    from batten.verify import run as run_controls
    from batten.verify.report import text

    report = run_controls(inventory)
    page = root / REPORT
    write_html(report, page, "inventories/demo")
    if args.json:
        verified = report.to_json()
        print_json({"ok": True, "up": progress.summary.to_json(), "verify": verified, "report": str(page)})
        return report.exit_code
    print(text(report, width=terminal_width()))
    print(kept(progress.summary))
    print(guide(host.address, args.port, images.stand_ins(), page))
    return report.exit_code


def _agree(commands: list[str], *, yes: bool) -> None:
    """Show the commands that would get an engine, and go on only if the person agrees."""
    if not commands:
        return
    note("no Docker engine answers here; these commands get one:")
    for command in commands:
        note("  " + command.rstrip().replace("\n", "\n  "))
    if yes:
        return
    if not sys.stdin.isatty():
        raise BattenError("nobody is here to agree to them", "batten demo", "./batten demo --yes")
    print("run them? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise BattenError("no engine, no demo", "batten demo", "start a Docker engine, or answer y")


def kept(summary: Summary) -> str:
    """Return where the stack's values are, as the step of the secrets told it."""
    found = [step.result for step in summary.steps if "versions" in step.result]
    if not found:
        return "secrets   kept on the host alone"
    values = len(found[0]["versions"])
    return f"secrets   {values} values, all in Infisical beside the stack, each in memory where it is used"


def guide(address: str, port: int, stand_ins: list[str], report: Path) -> str:
    """Return what to open and what to try, now that the demo's host runs."""
    return "\n".join(
        [
            f"open      https://{HOST}.localhost:{port}/ (Caddy's own authority: the browser warns)",
            f"          or https://{address}/ with the name {HOST}.localhost",
            f"read      {report.as_uri()}: what verify found, as a page for a browser or paper",
            "look at   ./batten tunnel infisical -i inventories/demo (or grafana, prometheus)",
            "          ./batten infisical admin -i inventories/demo shows the login",
            "rotate    ./batten rotate -i inventories/demo --all",
            f"look in   docker exec -it {HOST} bash",
            f"break it  docker exec {HOST} docker kill demo-api-1",
            "repair    ansible-playbook site.yml -i inventories/demo, or ./batten up -i inventories/demo",
            "check     ./batten verify -i inventories/demo",
            "remove    ./batten demo --remove",
            "",
            "The images were built here, under their official names, from Debian's packages of the real software;",
            "these are small servers that only answer its documented endpoints: " + ", ".join(stand_ins),
        ]
    )
