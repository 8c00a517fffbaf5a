"""``batten-host.pyz``: the program that units and people call on a host, built from this very package.

Every verb imports what it needs when it runs: a boot waits for the imports.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import re
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import atomic
from .errors import BattenError
from .immutable import explained
from .paths import PROGRAM, StackPaths
from .version import VERSION

if TYPE_CHECKING:
    from . import drift

PACKAGE = "batten_host"
UNHEALTHY = 3  # some service could not be brought up; the unit counts it as started
_MAIN = f"import sys\n\nfrom {PACKAGE}.program import main\n\nsys.exit(main())\n"
_DRIFT = "how this host differs from what was put on it; changes nothing; exit code 0 nothing, 2 drift, 1 error"
_IMPORTS = re.compile(r"^\s*from \.(\w*) import (?:\(([^)]*)\)|(.+))$", re.MULTILINE)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that a zip file can hold


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit code. An error is one line on standard error."""
    verbs: dict[str, tuple[Callable[[StackPaths], int], str]] = {
        "unlock": (_unlock, "mount memory and deliver the stack's secrets into it"),
        "boot": (_boot, "start the stack in health order; retry for five minutes"),
        "shutdown": (_shutdown, "stop the stack in reverse order, each service with its own signal and grace"),
        "observe": (_observe, "print what runs, as JSON"),
        "compare": (_compare, "print how what runs differs from the release, as JSON; changes nothing"),
        "repair": (_repair, "bring this host back to its release; prints what was done, as JSON"),
        "sync": (_sync, "bring what was changed in Infisical to its consumers; finish rotations that wait"),
        "access": (_access, "keep how to reach Infisical, JSON on standard input; prints changed or unchanged"),
        "put": (_put, "keep secret values, JSON {name: value} on standard input; prints the names that changed"),
        "backup": (_backup, "make an encrypted backup now; prints what was made, as JSON"),
        "restore": (_restore, "judge and keep a backup from standard input; use: batten restore"),
        "digests": (_digests, "ask registries with logins that are sealed here; JSON in, digests as JSON out"),
        "admin": (_admin, "print the administrator's password of Infisical, as JSON"),
    }
    parser = argparse.ArgumentParser(prog="batten-host", description="What batten does on a host.")
    commands = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, (_, purpose) in verbs.items():
        commands.add_parser(name, help=purpose, description=purpose).add_argument("stack", metavar="STACK")
    drift = commands.add_parser("drift", help=_DRIFT, description=_DRIFT)
    drift.add_argument("stack", metavar="STACK", nargs="?", default="all", help="one stack alone; default: the host")
    drift.add_argument("--json", action="store_true", help="print the report as JSON")
    drift.add_argument("--record", action="store_true", help="keep the report, for the timer: files, history, metrics")
    commands.add_parser("version", help="print the digest of this program")
    options = parser.parse_args(arguments)
    try:
        if options.verb == "version":
            _say(digest(Path(sys.argv[0]).read_bytes()))
            return 0
        if options.verb == "drift":
            return _drift(options)
        # A restore comes onto a host that knows nothing of the stack yet.
        paths = StackPaths(options.stack) if options.verb == "restore" else _paths(options.stack)
        return verbs[options.verb][0](paths)
    except BattenError as error:
        line = ". ".join(part.strip() for part in str(error).splitlines())
        sys.stderr.write(f"batten-host {options.verb}: {line}\n")
    except PermissionError as error:
        told = ". ".join(part.strip() for part in str(explained(error) or f"{error}. Run it as root").splitlines())
        sys.stderr.write(f"batten-host {options.verb}: {told}\n")
    except OSError as error:
        sys.stderr.write(f"batten-host {options.verb}: {error}. See that the disk is not full: df -h; df -i\n")
    return 1


def _say(line: str) -> None:
    """Print a line; of a name that is no text, such as a file's in another encoding, the bytes."""
    sys.stdout.write(line.encode(errors="backslashreplace").decode() + "\n")
    sys.stdout.flush()


def _paths(stack: str) -> StackPaths:
    paths = StackPaths(stack)
    known = sorted(path.name for path in paths.var.iterdir() if path.is_dir()) if paths.var.is_dir() else []
    if stack not in known:
        raise BattenError(
            f"no stack {stack} is on this host", str(paths.var), f"use one of: {', '.join(known) or '(none)'}"
        )
    return paths


def _unlock(paths: StackPaths) -> int:
    from .credentials import unlock

    for change in unlock(paths).changes:
        _say(change)
    return 0


def _boot(paths: StackPaths) -> int:
    from .boot import boot

    return 0 if boot(paths, _say) else UNHEALTHY


def _shutdown(paths: StackPaths) -> int:
    from .boot import shutdown

    shutdown(paths, _say, boot_pid=int(os.environ.get("MAINPID") or 0))
    return 0


def _observe(paths: StackPaths) -> int:
    from . import observed
    from .docker_api import Docker

    plan = atomic.read_json(paths.plan, {"project": paths.stack})
    docker = Docker()
    there = observed.by_service(docker.inspect_all(each["Id"] for each in docker.list(plan["project"])))
    shown = {
        service: [{"container": one.container, "state": one.state, "health": one.health} for one in containers]
        for service, containers in there.items()
    }
    _say(json.dumps(shown, indent=1, sort_keys=True))
    return 0


def _compare(paths: StackPaths) -> int:
    from . import credentials, release, survey
    from .docker_api import Docker
    from .engine_view import View

    payload = release.read(paths, release.running(paths) or "(none)")
    digests = credentials.deliver(paths, payload["secrets"], check=True).digests
    model = survey.with_digests(survey.merged_model(paths, payload), digests)
    seen = survey.look(View.read(Docker()), paths, payload, model, digests)
    _say(json.dumps([difference.to_json() for difference in seen.differences], indent=1, sort_keys=True))
    return 0


def _repair(paths: StackPaths) -> int:
    from . import apply, drift, host
    from .docker_api import Docker

    payload = drift.planned(paths)
    failure = None
    try:
        found = host.again()
    except BattenError as error:  # the stack is repaired all the same
        found, failure = (), error
    result = apply.apply(payload, apply.Options(), Docker(), paths)
    result.differences += [one.to_json() for one in found]
    result.changed = result.changed or bool(found)
    _say(json.dumps(result.to_json(), indent=1, sort_keys=True))
    if failure:
        raise failure
    return 0


def _drift(options: argparse.Namespace) -> int:
    from . import drift
    from .docker_api import Docker

    report = drift.look(Docker(), stack=None if options.stack == "all" else options.stack)
    if options.record:
        return _record(report)
    _say(json.dumps(report.to_json(), indent=1, sort_keys=True) if options.json else drift.text(report))
    return report.exit_code


def _record(report: drift.Report) -> int:
    from . import drift_history
    from .paths import HostPaths

    if report.busy:  # the timer comes again
        _say(f"<6>left for the next time: {report.errors[0]['what']}")
        return 0
    drift_history.record(HostPaths(), report)
    _say(drift_history.journal(report))
    return report.exit_code


def _sync(paths: StackPaths) -> int:
    from . import lock

    try:
        with lock.held(paths.lock, brief=True):
            return _look(paths)
    except lock.Busy as busy:  # the timer comes again
        _say(f"left for the next time: {busy.what}")
        return 0


def _look(paths: StackPaths) -> int:
    from . import metrics, release, rotation, sync
    from .docker_api import Docker

    docker = Docker()
    payload = release.read(paths, release.running(paths) or "(none)")
    finished = rotation.Rotation(docker, paths, say=_say).finish()
    vault = sync.vault(paths) if paths.access.exists() else None
    found = sync.Sync(paths, payload["secrets"]["generate"], docker, vault, say=_say).run()
    for line in (*(f"{name}: rotation finished" for name in finished.finished), *found.changes):
        _say(line)
    if found.stale:
        _say(f"not refreshed: {found.stale}")
    metrics.write(paths, found, finished.waiting)
    return 0


def _access(paths: StackPaths) -> int:
    from . import infisical_access

    try:
        given = json.load(sys.stdin)
    except ValueError:
        raise BattenError("standard input is not JSON", "access", 'type: {"url": "https://...", ...}') from None
    _say("changed" if infisical_access.save(paths, infisical_access.from_json(given)) else "unchanged")
    return 0


def _put(paths: StackPaths) -> int:
    from .credentials import put

    try:
        given = json.load(sys.stdin)
    except ValueError:
        raise BattenError("standard input is not JSON", "put", 'type: {"api_key": "..."}') from None
    for name in put(paths, given):
        _say(name)
    return 0


def _backup(paths: StackPaths) -> int:
    from .backup import run
    from .docker_api import Docker

    def progress(line: str) -> None:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()

    _say(json.dumps(run(paths, Docker(), progress), sort_keys=True))
    return 0


def _restore(paths: StackPaths) -> int:
    from . import age
    from .docker_api import Docker
    from .restore import asked, run

    given = asked(sys.stdin.fileno())
    age.ensure(check=False)
    _say(json.dumps(run(paths, Docker(), sys.stdin.fileno(), given), sort_keys=True))
    return 0


def _digests(paths: StackPaths) -> int:
    from . import credentials, digests
    from .docker_api import Docker

    try:
        images = digests.asked(json.load(sys.stdin))
    except ValueError:
        raise BattenError("standard input is not JSON", "digests", "use: batten pin") from None
    _say(json.dumps(digests.resolve(Docker(), images, credentials.load(paths).values), sort_keys=True))
    return 0


def _admin(paths: StackPaths) -> int:
    from .credentials import load

    password = load(paths).values.get("admin_password")
    if password is None:
        raise BattenError("there is no administrator yet", f"stack {paths.stack}", "run site.yml")
    _say(json.dumps({"password": password}))
    return 0


def digest(content: bytes) -> str:
    """Return the sha256 of a program, in hex."""
    return hashlib.sha256(content).hexdigest()


def install(check: bool, path: Path = PROGRAM) -> bool:
    """Write the program to ``path`` if it is not already this one, and beside it its digest, by which the host alone
    knows an edited one. Returns whether anything changes."""
    content, record = build(), path.with_suffix(".json")
    known = {"sha256": digest(content), "version": VERSION}
    if path.is_file() and path.read_bytes() == content and atomic.read_json(record, None) == known:
        return False
    if not check:
        atomic.write(path, content, 0o755)
        atomic.write_json(record, known, 0o644)
    return True


def build() -> bytes:
    """Return the program as bytes: the same from a folder of sources, from AnsiballZ's zip and from itself."""
    sources = {f"{PACKAGE}/{name}.py": text for name, text in _closure("program").items()}
    sources.update({"__main__.py": _MAIN, f"{PACKAGE}/__init__.py": ""})
    archive = io.BytesIO()
    archive.write(b"#!/usr/bin/python3\n")
    # Stored, not deflated: the bytes then depend on no version of zlib, and an import reads them faster.
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_STORED) as program:
        for name, text in sorted(sources.items()):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            program.writestr(entry, text.encode())
    return archive.getvalue()


def _closure(name: str) -> dict[str, str]:
    """Return the sources of module ``name`` and of all siblings that it imports, at any depth."""
    found: dict[str, str] = {}
    waiting = [name]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found[module] = _source(module)
            waiting += siblings(found[module])
    return found


def siblings(source: str) -> list[str]:
    """Return what ``source`` imports from its own package, by ``from .x import`` and ``from . import x``.

    Every run asks this of all our sources; a parser would take fifty times as long.
    """
    found = []
    for module, several, one in _IMPORTS.findall(source):
        names = (name.strip() for name in re.sub(r"#.*", "", several or one).split(","))
        found += [module] if module else [name.partition(" as ")[0] for name in names if name]
    return found


def _source(module: str) -> str:
    """Return the source of a sibling from wherever this package was imported: a folder, a zip, by Ansible's loader."""
    path = os.path.join(os.path.dirname(__file__), f"{module}.py")
    try:
        content: bytes = __loader__.get_data(path)  # type: ignore[name-defined]  # every module has it (PEP 302)
    except OSError:
        raise BattenError(f"{path} is not here", "building batten-host.pyz", "report this as a defect") from None
    return content.decode()
