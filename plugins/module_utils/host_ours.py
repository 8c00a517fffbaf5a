"""What batten itself put on a host, beside containers and secrets: units, the program, owners and modes, leftovers.

Each function returns differences and reads only; what a run of site.yml does about them is in the modules that made
these things (units.py, release.py, program.py), and :func:`own` for owners and modes.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import atomic, release, systemd, units
from .compare import Difference
from .observed import by_service
from .paths import HostPaths, SharedPaths, StackPaths

UNIT, DROP_IN, TIMER, OWNER, MODE, CURRENT, LEFTOVER, ORPHAN = (
    "unit",
    "drop_in",
    "timer",
    "owner",
    "mode",
    "current",
    "leftover",
    "orphan",
)
_PROPERTIES = f"{systemd.STATE},NeedDaemonReload,DropInPaths,After"
_ROOT = "0:0"


@dataclass(frozen=True)
class Place:
    """A file or directory of ours and the mode that it has to have. All belong to root."""

    path: Path
    mode: int
    scope: str = "host"


Live = Mapping[str, Mapping[str, str]]
"""What systemd says of units, by name: property to value."""


def of_stack(
    paths: StackPaths, payload: Mapping[str, Any], containers: Sequence[Mapping[str, Any]] | None, live: Live
) -> list[Difference]:
    """Return how what belongs to one stack differs from its release ``payload``.

    ``containers`` are those of the Compose project, inspected; None where the engine does not answer. ``live`` is of
    the units that :func:`watched` names.
    """
    return [
        *_files(paths, payload),
        *_leftovers(paths, payload, containers),
        *owned(paths.stack, places(paths, payload)),
        *_units(paths, payload["plan"], live),
        *(_orphans(paths.stack, containers) if containers is not None else []),
    ]


def of_host(root: str, program: str, live: Live, known: Iterable[str]) -> list[Difference]:
    """Return how what all stacks share differs. ``known`` are the stacks here; ``program`` is the digest that
    batten-host.pyz should have, by default the one that its last installation recorded."""
    paths = HostPaths(root)
    shared = units.shared_files(paths, {})
    found = [
        *owned(None, shared_places(paths)),
        *_program(paths, program),
        *_texts(paths, None, shared),
        *_of_nobody(paths, known),
    ]
    if shared and live:
        found += compare_unit(paths, None, units.DRIFT_TIMER, live.get(units.DRIFT_TIMER, {}), shared)
    return found


def current(paths: StackPaths) -> list[Difference]:
    """Return a difference where the symlink to the running release is gone, or names another than the last good one."""
    good = release.last_good(paths)
    there = release.running(paths)
    if good is None or there == good:
        return []
    return [Difference(paths.stack, "host", str(paths.current), CURRENT, good, there or "absent", "rewrite")]


def _files(paths: StackPaths, payload: Mapping[str, Any]) -> list[Difference]:
    """The release's files on disk, and what lies beside them in the state directory."""
    wrong = release.differences(paths, payload)
    state = ((paths.plan, payload["plan"]), (paths.secrets_spec, payload["secrets"]), (paths.release, payload))
    wrong += [str(path) for path, value in state if atomic.read_json(path, None) != value]
    return other_contents(paths.stack, wrong)


def other_contents(stack: str, files: Iterable[str]) -> list[Difference]:
    """Return what is said of files that are not the release's."""
    words = ("content", "the release's", "other or missing", "rewrite")
    return [Difference(stack, "file", path, *words) for path in files]


def _leftovers(
    paths: StackPaths, payload: Mapping[str, Any], containers: Sequence[Mapping[str, Any]] | None
) -> list[Difference]:
    keep = {release.identity(payload), *filter(None, [release.last_good(paths)])}
    return [
        Difference(paths.stack, "host", str(path), LEFTOVER, "absent", "of a release that is not kept", "remove")
        for path in release.unused(paths, keep, containers)
    ]


def _orphans(stack: str, containers: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """Containers of our project that are of no service, such as those that ``docker compose run`` leaves."""
    known = {one.id for found in by_service(containers).values() for one in found}
    names = sorted(str(one["Name"]).lstrip("/") for one in containers if one["Id"] not in known)
    fix = "it may be somebody's work; docker rm -f {} when it is not needed"
    return [
        Difference(stack, "host", name, ORPHAN, "absent", "a container of no service", "none", reason=fix.format(name))
        for name in names
    ]


# Owners and modes


def places(paths: StackPaths, payload: Mapping[str, Any]) -> list[Place]:
    """Return what of one stack has to have an owner and a mode; what is not there is another difference."""
    directories = [(path, 0o755) for path in (paths.top, paths.releases, paths.base, paths.files)]
    state = [(path, 0o600) for path in sorted(paths.state.glob("*")) if path.suffix in (".json", ".cred")]
    files = [path / name for path, entries in release.trees(paths, payload).items() for name in entries]
    files += [paths.base / name for name in release.base_files(payload)]
    return [
        *_there([*directories, (paths.state, 0o700), *state]),
        *_there(((path, 0o644) for path in files), "file"),
    ]


def shared_places(paths: SharedPaths) -> list[Place]:
    """Return what all stacks share and has to have an owner and a mode."""
    return _there(
        [
            (paths.stacks, 0o755),
            (paths.var, 0o700),
            (paths.audit.parent, 0o750),
            (paths.audit, 0o640),
            (paths.program.parent, 0o755),
            (paths.program, 0o755),
        ]
    )


def _there(wanted: Iterable[tuple[Path, int]], scope: str = "host") -> list[Place]:
    return [Place(path, mode, scope) for path, mode in wanted if path.exists() and not path.is_symlink()]


def owned(stack: str | None, wanted: Iterable[Place]) -> list[Difference]:
    """Return the places that belong to somebody else than root, or have another mode."""
    found = []
    for place in wanted:
        status = place.path.lstat()
        name, owner, mode = str(place.path), f"{status.st_uid}:{status.st_gid}", stat.S_IMODE(status.st_mode)
        if owner != _ROOT:
            found.append(Difference(stack, place.scope, name, OWNER, _ROOT, owner, "rewrite"))
        if mode != place.mode:
            found.append(Difference(stack, place.scope, name, MODE, f"{place.mode:04o}", f"{mode:04o}", "rewrite"))
    return found


def own(paths: StackPaths, payload: Mapping[str, Any], check: bool) -> list[str]:
    """Give everything of a stack, and what all stacks share, its owner and mode; return what changed."""
    changes = []
    for one in owned(paths.stack, [*shared_places(paths), *places(paths, payload)]):
        changes.append(f"{one.name}: {one.facet} {one.desired}")
        if check:
            continue
        _set(one.name, None if one.facet == OWNER else int(str(one.desired), 8))
    return changes


def _set(path: str, mode: int | None) -> None:
    """Give a file or directory a mode, or root as its owner where that is None. Not through a link: whose directory it
    is in may put one to any file there after it was looked at."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if mode is None:
            os.fchown(handle, 0, 0)
        else:
            os.fchmod(handle, mode)
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(handle)


# Units


def _of_nobody(paths: SharedPaths, known: Iterable[str]) -> list[Difference]:
    """Units of stacks that are not here: a drop-in of the engine's that waits for one keeps it from starting."""
    instance = rf"batten-(?:{'|'.join(units.KINDS)})@(?P<instance>.+?)\.(?:timer|service\.d)"
    names = rf"{instance}|batten-(?P<stack>.+)\.conf"
    there = [*paths.units.glob("batten-*@?*"), *paths.units.glob("docker.service.d/batten-*.conf")]
    found = []
    for path in sorted(there):
        match = re.fullmatch(names, path.name)
        stack = match and (match["instance"] or match["stack"])
        if stack and stack not in known:
            why = f"stack {stack} is not here; if it does not come back: rm -r {path}; systemctl daemon-reload"
            name = str(path.relative_to(paths.units))
            found.append(Difference(None, "host", name, LEFTOVER, "absent", "of no stack", "none", reason=why))
    return found


def watched(paths: StackPaths, plan: Mapping[str, Any]) -> list[str]:
    """Return the units that a look at this stack needs to know of."""
    return [*units.instances(paths, plan), units.DRIFT_TIMER, "docker.service"]


def live_units(names: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return what systemd says of each unit, by name (systemctl(1), show). Raises BattenError where it says nothing."""
    asked = sorted(set(names))
    return dict(zip(asked, systemd.show(asked, _PROPERTIES, must=True)))


def _units(paths: StackPaths, plan: Mapping[str, Any], live: Live) -> list[Difference]:
    """Unit files whose text is not ours, and units that systemd does not have as they are meant, if it told of any."""
    files = units.files(paths, plan)
    found = _texts(paths, paths.stack, files)
    if not live:
        return found
    for unit in units.instances(paths, plan):
        found += compare_unit(paths, paths.stack, unit, live.get(unit, {}), files)
    return [*found, *_order(paths, live)]


def _texts(paths: SharedPaths, stack: str | None, files: Mapping[Path, str]) -> list[Difference]:
    """Return the unit files of ours that are gone or were edited."""
    found = []
    for path, text in files.items():
        actual = _text(path)
        if actual != text:
            name, what = str(path.relative_to(paths.units)), "absent" if actual is None else "another text"
            found.append(Difference(stack, "host", name, _kind(path), "as installed", what, "rewrite"))
    return found


def compare_unit(
    paths: SharedPaths, stack: str | None, unit: str, live: Mapping[str, str], files: Iterable[Path]
) -> list[Difference]:
    """Return how one unit differs, as systemd has it (``live``, its properties). ``files`` are those that are ours."""
    facet = TIMER if unit.endswith(".timer") else UNIT
    wanted, actual = "enabled, active", systemd.state(live)
    foreign = _drop_ins(paths, unit, live) - {str(path) for path in files}
    found = []
    if actual != wanted:
        found.append(Difference(stack, "host", unit, facet, wanted, actual, "rewrite"))
    elif live.get("NeedDaemonReload") == "yes" and not foreign:
        found.append(Difference(stack, "host", unit, facet, "as on disk", "as before a change", "reload"))
    for path in sorted(foreign):
        why = f"batten did not write it; to remove it: rm {path}; systemctl daemon-reload"
        found.append(Difference(stack, "host", unit, DROP_IN, "none but batten's", path, "none", reason=why))
    return found


def _drop_ins(paths: SharedPaths, unit: str, live: Mapping[str, str]) -> set[str]:
    """Return the drop-ins of a unit that systemd has read, and those that it will read (systemd.unit(5))."""
    name, separator, rest = unit.partition("@")
    template = f"{name}@.{rest.rpartition('.')[2]}" if separator else unit
    there = {str(path) for one in {unit, template} for path in paths.units.glob(f"{one}.d/*.conf")}
    return there | set((live.get("DropInPaths") or "").split())


def _order(paths: StackPaths, live: Mapping[str, Mapping[str, str]]) -> list[Difference]:
    """Whether systemd really starts the engine after this stack's secrets."""
    secrets = f"batten-secrets@{paths.stack}.service"
    if secrets in (live.get("docker.service") or {}).get("After", "").split():
        return []
    return [Difference(paths.stack, "host", "docker.service", UNIT, f"after {secrets}", "in no order", "reload")]


def _kind(path: Path) -> str:
    if path.parent.name.endswith(".d"):
        return DROP_IN
    return TIMER if path.suffix == ".timer" else UNIT


def _text(path: Path) -> str | None:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return None


# The program


def _program(paths: SharedPaths, wanted: str) -> list[Difference]:
    """The program's bytes against ``wanted``, or against what its installation recorded."""
    path = paths.program
    wanted = wanted or str(atomic.read_json(paths.program_record, {}).get("sha256", ""))
    if not wanted:
        return []
    actual = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "absent"
    if actual == wanted:
        return []
    return [Difference(None, "host", str(path), "program", wanted[:12], actual[:12], "rewrite")]
