"""How each kind of item is on this host now. Reads, never writes."""

from __future__ import annotations

import grp
import os
import pwd
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from . import command, systemd
from .errors import BattenError
from .host_items import Item, Live

AUDIT_KEY = "batten"
TABLE = ("inet", "batten")
KEEPERS = ("systemd-timesyncd", "chrony", "chronyd", "ntpsec", "ntpd", "openntpd")
"""Units that keep a clock, the first that a distribution brings first."""


def read(items: Iterable[Item], root: str = "/") -> Live:
    """Return the live value of every item by its key; commands are run once for all items of a kind.

    Raises BattenError where this process may not see what it should (not root, or a unit without the capability).
    """
    by_kind: dict[str, list[str]] = {}
    for item in items:
        by_kind.setdefault(item.kind, []).append(item.name)
    found: dict[tuple[str, str], Any] = {}
    for kind, names in by_kind.items():
        found.update({(kind, name): value for name, value in _READERS[kind](names, root).items()})
    return found


def _each(one: Callable[[str, str], Any]) -> Callable[[list[str], str], dict[str, Any]]:
    return lambda names, root: {name: one(name, root) for name in names}


def text(path: str, root: str = "/") -> str | None:
    """Return the text of a file, None where there is none."""
    try:
        return at(path, root).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def at(path: str, root: str) -> Path:
    """Return where an absolute path lies below ``root``."""
    return Path(root) / path.lstrip("/")


def sysctl(name: str, root: str = "/") -> str | None:
    """Return a kernel setting, None where this kernel has it not."""
    value = text("/proc/sys/" + name.replace(".", "/"), root)
    return None if value is None else " ".join(value.split())


def _owner(path: str, root: str) -> str | None:
    try:
        status = at(path, root).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return f"{_name(pwd.getpwuid, status.st_uid)}:{_name(grp.getgrgid, status.st_gid)}"


def _name(look_up: Callable[[int], Any], number: int) -> str:
    try:
        return str(look_up(number)[0])
    except KeyError:
        return str(number)


def _mode(path: str, root: str) -> str | None:
    try:
        return f"{at(path, root).stat().st_mode & 0o7777:04o}"
    except (FileNotFoundError, NotADirectoryError):
        return None


def group(name: str, root: str = "/") -> list[str] | None:
    """Return who is in a group by ``/etc/group``, None where there is no such group."""
    for line in (text("/etc/group", root) or "").splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) == 4:
            return sorted(member for member in fields[3].split(",") if member)
    return None


def swaps(root: str = "/") -> list[str]:
    """Return what the kernel swaps to (proc(5), swaps)."""
    return sorted(line.split()[0] for line in (text("/proc/swaps", root) or "").splitlines()[1:])


def _mounted(path: str, root: str) -> str:
    points = [line.split()[4] for line in (text("/proc/self/mountinfo", root) or "").splitlines()]
    below = [point for point in points if point != "/" and os.path.commonpath([point, path]) == point]
    return "mounted" if below else "on the system's disk"


def _packages(names: list[str], _root: str) -> dict[str, Any]:
    if shutil.which("dpkg-query"):
        words = ["dpkg-query", "-W", "-f", "${Package}\t${db:Status-Status}\n", *names]
        rows = [line.split("\t") for line in command.run(words).stdout.splitlines()]
        there = {row[0] for row in rows if row[1:] == ["installed"]}
    else:
        there = set(command.run(["rpm", "-q", "--qf", "%{NAME}\n", *names]).stdout.split())
    return {name: "installed" if name in there else "missing" for name in names}


def units(names: list[str], _root: str = "/") -> dict[str, Any]:
    """Return the state of each unit (:func:`systemd.state`). Raises BattenError where systemd does not answer."""
    return {name: systemd.state(shown) for name, shown in zip(names, systemd.show(names, systemd.STATE, must=True))}


def _keeper(names: list[str], _root: str) -> dict[str, Any]:
    states = units([f"{name}.service" for name in KEEPERS])
    kept = any(state.endswith(", active") for state in states.values())
    return dict.fromkeys(names, "kept" if kept else "not kept")


def _apt(names: list[str], _root: str) -> dict[str, Any]:
    dumped = command.run(["apt-config", "dump"]).stdout
    values = dict(re.findall(r'^(\S+) "(.*)";$', dumped, re.MULTILINE))
    return {name: values.get(name, "") for name in names}


def _audit(names: list[str], _root: str) -> dict[str, Any]:
    done = command.run(["auditctl", "-l"])
    if done.returncode not in (0, 127):
        raise BattenError(f"auditctl -l: {done.stderr.strip()}", "audit rules", "run as root: auditctl -l")
    return dict.fromkeys(names, watched(done.stdout) if listens() else [])


def listens() -> bool:
    """Return whether the kernel records anything at all; rules stay listed where it does not (auditctl(8), -e 0)."""
    return not re.search(r"^enabled 0$", command.run(["auditctl", "-s"]).stdout, re.MULTILINE)


def watched(listed: str) -> list[str]:
    """Return the paths that ``auditctl -l`` lists under our key."""
    ours = [line for line in listed.splitlines() if re.search(rf"(-k |-F key=){AUDIT_KEY}\b", line)]
    return sorted(
        found.group(1) for line in ours for found in [re.search(r"(?:-F (?:path|dir)=|-w )(\S+)", line)] if found
    )


def _table(names: list[str], _root: str) -> dict[str, Any]:
    return dict.fromkeys(names, table())


def table() -> dict[str, Any] | None:
    """Return our rules as the kernel has them, None where it has none: the digest that their comment holds, nft's
    listing of them without counts, and which nft listed them."""
    if not shutil.which("nft"):
        return None
    done = command.run(["nft", "--stateless", "list", "table", *TABLE])
    if done.returncode:
        if "No such file" in done.stderr:
            return None
        raise BattenError(f"nft: {done.stderr.strip()}", "table inet batten", "run as root: nft list ruleset")
    version = command.run(["nft", "--version"]).stdout.split()
    return {**listing(done.stdout), "version": version[1] if len(version) > 1 else ""}


def listing(listed: str) -> dict[str, Any]:
    """Return digest and lines of what ``nft list table`` printed."""
    found = re.search(r'^\s*comment "batten ([0-9a-f]+)"$', listed, re.MULTILINE)
    return {"digest": found.group(1) if found else "", "listing": [line.strip() for line in listed.splitlines()]}


_READERS: dict[str, Callable[[list[str], str], dict[str, Any]]] = {
    "apt": _apt,
    "audit": _audit,
    "file": _each(text),
    "group": _each(group),
    "keeper": _keeper,
    "mode": _each(_mode),
    "mount": _each(_mounted),
    "owner": _each(_owner),
    "package": _packages,
    "swap": _each(lambda _name, root: swaps(root)),
    "sysctl": _each(sysctl),
    "table": _table,
    "unit": units,
}
