"""Learn the profile of a service by watching it: run it apart from everything, see what it does, propose, and try.

It runs on the engine of this machine in a Compose project of its own: no ports, no way out, copies of what it mounts,
throw-away values for credentials. What is proposed is then run through batten's own layers, from the least privilege
up, and must be healthy (or run, where nothing asks), also after a restart. Everything but pulled images is removed.
Exit code 0 a profile was written, 1 error."""

from __future__ import annotations

import argparse
import signal
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batten.cli import note, print_json
from batten.errors import BattenError

if TYPE_CHECKING:
    from batten.learn import Learned


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten learn`` takes."""
    parser.add_argument("compose", metavar="COMPOSE.yaml", help="the Compose file; -f adds more")
    parser.add_argument("service", metavar="SERVICE", help="the service to learn")
    parser.add_argument("-f", "--file", action="append", default=[], metavar="FILE", help="a Compose file laid over it")
    parser.add_argument("--seconds", type=float, default=30, metavar="N", help="how long it is watched; default: 30")
    parser.add_argument("--with-dependencies", action="store_true", help="start what it depends on, too")
    parser.add_argument("-o", "--out", metavar="PROFILE.yaml", help="where the profile goes; default: standard output")


def run(args: argparse.Namespace) -> int:
    """Run ``batten learn``."""
    from batten.learn import learn

    if not 0 < args.seconds <= 3600:
        raise BattenError("watch it for 1 to 3600 seconds", "batten learn --seconds", "--seconds 30")
    # A session must clean up when it is ended by `kill`, too, as it does on Ctrl-C.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        files = [Path(args.compose), *map(Path, args.file)]
        learned = learn(files, args.service, seconds=args.seconds, dependencies=args.with_dependencies, note=note)
    finally:
        signal.signal(signal.SIGTERM, before)
    if args.out:
        _write(Path(args.out), learned.text)
        note(f"wrote {args.out}; review it, then put it at compose/profiles/{learned.name}.yaml")
    if args.json:
        print_json(_plain(learned, args.out))
    elif not args.out:
        print(learned.text, end="")
    return 0


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BattenError(f"cannot write the profile: {error.strerror}", str(path), "choose another -o") from error


def _plain(learned: Learned, path: str | None) -> dict[str, Any]:
    tries = [
        {
            "user": one.shape.user,
            "cap_add": list(one.shape.cap_add),
            "read_only": one.shape.read_only,
            "writable": [place.path for place in one.shape.writable],
            "ok": one.ok,
            "why": one.why,
        }
        for one in learned.tries
    ]
    return {**asdict(learned), "tries": tries, "path": path}
