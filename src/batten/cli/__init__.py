"""The command line: one module per verb, imported only when it is typed.

It is built on argparse: importing it takes 10 ms where typer with rich takes 0.3 s, a tenth of everything `batten plan`
may cost, and the verbs are few and flat.

Exit codes of every verb: 0 done and all holds, 2 something does not hold, 1 error, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

from batten.errors import BattenError

if TYPE_CHECKING:
    from pathlib import Path

VERBS = {
    "demo": "in a checkout: a throwaway host, deployed, verified and left running to try things on",
    "test": "in a checkout: everything CI runs",
    "init": "write a new inventory",
    "plan": "what would be deployed, and the host's budget; touches nothing",
    "learn": "the profile of a service, by watching it run apart from everything",
    "pin": "which digest every image tag means now, kept in images.lock.yaml; what moved",
    "render": "the three layers as files, with no host",
    "harden": "overlays for anyone's Compose files: limits, health, privileges, with a report",
    "up": "bring hosts to what the inventory says (site.yml), with live progress",
    "drift": "how live hosts differ from what the inventory says; changes nothing",
    "verify": "run the controls on the live hosts",
    "rotate": "new values for secrets, while the stack keeps answering",
    "tunnel": "reach Infisical, Grafana, Prometheus: a port on this machine, until Ctrl-C",
    "infisical": "admin: show the administrator's login of Infisical on this terminal",
    "secrets": "import: take the credentials of a .env file over",
    "backup": "an encrypted backup of every stack, fetched",
    "restore": "backups onto a new host",
    "version": "the versions of batten and of what it stands on",
}


class Parser(argparse.ArgumentParser):
    """argparse, with our errors: exit code 2 means something else here."""

    def error(self, message: str) -> NoReturn:
        raise BattenError(message, self.prog, f"{self.prog} --help")


def main(argv: list[str]) -> int:
    """Run one verb and return the exit code."""
    as_json = "--json" in argv
    try:
        return _run(argv)
    except BattenError as error:
        if as_json:
            print_json({"error": {"what": error.what, "where": error.where, "fix": error.fix}})
        said = str(error)  # its place may be the verb
        print(said if said.startswith("batten ") else f"batten: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        if as_json:
            print_json({"error": {"what": "stopped by Ctrl-C", "where": "", "fix": "run it again: it continues"}})
        print("\nbatten: stopped; run it again to continue where it was", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader, such as `head`, has gone: nothing more to say (Python's documentation of SIGPIPE).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    verb = "version" if argv[0] == "--version" else argv[0]
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise BattenError(f"unknown verb {verb!r}{hint}", "", "batten --help lists the verbs")
    module = importlib.import_module(f"batten.cli.{verb}")
    parser = Parser(prog=f"batten {verb}", description=module.__doc__, formatter_class=argparse.RawTextHelpFormatter)
    module.arguments(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON document on standard output, nothing else")
    code: int = module.run(parser.parse_args(argv[1:]))
    return code


def usage() -> str:
    """Return the text of ``batten --help``."""
    lines = [f"  {verb:9} {what}" for verb, what in VERBS.items()]
    return "\n".join(
        ["usage: batten VERB [options]; batten VERB --help says which", "", *lines, "", "Every verb takes --json."]
    )


def inventory_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``-i`` and ``--limit``, which mean what they mean to ansible-playbook."""
    parser.add_argument("-i", "--inventory", required=True, metavar="INV", help="inventory directory or file")
    parser.add_argument("--limit", metavar="PATTERN", help="only these hosts of the inventory")


def print_json(value: Any) -> None:
    """Print the one JSON document of a verb on standard output."""
    print(json.dumps(value, indent=2, default=str))


def check_directory(path: Path) -> None:
    """Raise BattenError if a file cannot be written for want of its directory: told before the work, not after it."""
    if not path.absolute().parent.is_dir():
        raise BattenError("there is no such directory", str(path.parent), f"mkdir -p {path.parent}")


def write(path: Path, text: str) -> None:
    """Write a file that a person named; raises BattenError where that is not possible."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BattenError(f"cannot be written: {error.strerror}", str(path), "name another file") from error


def note(text: str = "") -> None:
    """Say something that is not the result: on standard error."""
    print(text, file=sys.stderr, flush=True)
