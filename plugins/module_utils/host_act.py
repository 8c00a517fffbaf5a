"""Making a host what its items say, and undoing it. Each step may be cut off; the next run compares and goes on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import atomic, command, engine_packages, host_items, host_live, host_rollback
from .errors import BattenError
from .host_items import Item, Live
from .host_rollback import FIREWALL, RULES_FILE
from .paths import HostPaths

TAKEN = ("file", "unit", "table", "sysctl", "audit")
"""The kinds that a host is rid of when they are no longer wanted. Packages stay, and so do owners, modes and groups."""


class Actor:
    """Changes one host. ``live`` is what was seen of every item before."""

    def __init__(self, items: Sequence[Item], live: Live, debian: bool, root: str = "/") -> None:
        self.items, self.live, self.debian, self.root = items, live, debian, root
        # A file that is not the rules' is one with them: it is what was confirmed.
        differs = any(self._differs(one) for one in items if one.kind == "table" or one.name == RULES_FILE)
        self.table = next((one for one in items if one.kind == "table" and differs), None)

    def run(self, gone: Sequence[Item], record: Mapping[str, Any], kept: Mapping[str, Any], seconds: int) -> str:
        """Do all that differs, and record it, with what else is ``kept``.

        Returns the digest of new rules that wait ``seconds`` to be confirmed; with 0 they do not. Raises BattenError.
        """
        before = {**self._sysctls_now(), **record.get("before", {})}
        take(gone, before, self.root)
        self._packages()
        self._files()
        for kind, act in self._acts().items():
            changed = self._changed(kind)
            if changed:
                act(changed)
        self._units()
        armed = self._firewall(seconds)
        items = [replace(one, value=listed(one.value)) if one.kind == "table" else one for one in self.items]
        names = {one.name for one in items if one.kind == "sysctl"}
        atomic.make_directory(HostPaths(self.root).var, 0o700)
        atomic.write_json(
            HostPaths(self.root).host,
            {
                **kept,
                **({"armed": armed} if armed else {}),
                "items": [one.to_json() for one in items],
                "before": {name: value for name, value in before.items() if name in names},
            },
        )
        return armed

    def _differs(self, item: Item) -> bool:
        return not host_items.holds(item, self.live[item.key])

    def _changed(self, kind: str) -> list[Item]:
        return [one for one in self.items if one.kind == kind and self._differs(one)]

    def _acts(self) -> Mapping[str, Callable[[Sequence[Item]], None]]:
        return {
            "sysctl": self._sysctls,
            "group": self._groups,
            "owner": self._own,
            "mode": self._modes,
            "audit": lambda _changed: load_audit(),
            "keeper": self._keep_clock,
            "swap": lambda _changed: _swap_off(),
        }

    def _packages(self) -> None:
        missing = [one.name for one in self._changed("package")]
        if not missing:
            return
        if not self.debian:
            command.must(["dnf", "-y", "-q", "install", *missing], "correct the host's package sources")
            return
        install = [*engine_packages.APT, "install", "--no-install-recommends", *missing]
        if command.run(install, engine_packages.APT_ENVIRONMENT).returncode:
            again = "correct the host's package sources as the lines above say, and run again"
            command.must([*engine_packages.APT, "update"], again, engine_packages.APT_ENVIRONMENT)
            command.must(install, again, engine_packages.APT_ENVIRONMENT)

    def _files(self) -> None:
        changed = [one for one in self._changed("file") if not (self.table and one.name == RULES_FILE)]
        for one in changed:
            atomic.write(host_live.at(one.name, self.root), one.value.encode(), 0o644)
        if any(one.name.startswith("/etc/systemd/system/") for one in changed):
            command.must(["systemctl", "daemon-reload"], "journalctl -b")
        for place in (one.name for one in changed if one.name.startswith("/etc/tmpfiles.d/")):
            command.must(["systemd-tmpfiles", "--create", place], f"systemd-tmpfiles --create {place}")

    def _units(self) -> None:
        # Seen anew: packages bring units that run already.
        states = (
            host_live.units([one.name for one in self.items if one.kind == "unit"]) if self._changed("unit") else {}
        )
        for one in self._changed("unit"):
            if states[one.name] == one.value:
                continue
            if one.value == "masked":
                command.must(["systemctl", "mask", "--quiet", "--now", one.name], f"systemctl status {one.name}")
                continue
            waits = self.table and one.name == FIREWALL  # it starts when its rules are confirmed
            words = ["systemctl", "enable", "--quiet", *([] if waits else ["--now"]), one.name]
            command.must(words, f"journalctl -b -u {one.name}")

    def _firewall(self, seconds: int) -> str:
        if not self.table:
            return ""
        text = next(str(one.value) for one in self.items if one.name == RULES_FILE)
        return host_rollback.load(text, seconds, self.root)

    def _groups(self, changed: Sequence[Item]) -> None:
        for one in changed:
            members = self.live[one.key]
            for user in members:
                if user not in one.value:
                    command.must(["gpasswd", "-d", user, one.name], f"run it by hand: gpasswd -d {user} {one.name}")
            for user in one.value:
                if user not in members:
                    fix = "make the user first, or take it out of host_docker_group_members"
                    command.must(["gpasswd", "-a", user, one.name], fix)

    def _sysctls(self, changed: Sequence[Item]) -> None:
        for one in changed:
            write_sysctl(one.name, one.value, self.root)

    def _sysctls_now(self) -> dict[str, str]:
        """Return the kernel settings, also those that are right already: they may drift, and be repaired, and go."""
        names = [one.name for one in self.items if one.kind == "sysctl"]
        return {name: value for name in names if (value := host_live.sysctl(name, self.root)) is not None}

    def _modes(self, changed: Sequence[Item]) -> None:
        for one in changed:
            path = host_live.at(one.name, self.root)
            path.chmod(path.stat().st_mode & int(one.value, 8))

    def _own(self, changed: Sequence[Item]) -> None:
        for one in changed:
            user, group = one.value.split(":")
            shutil.chown(host_live.at(one.name, self.root), user, group)

    def _keep_clock(self, _changed: Sequence[Item]) -> None:
        states = host_live.units([f"{name}.service" for name in host_live.KEEPERS])
        unit = next((name for name, state in states.items() if state not in ("missing", "masked")), None)
        if unit is None:
            raise BattenError("no service that keeps the clock is installed", "host_time", "install chrony")
        command.must(["systemctl", "enable", "--quiet", "--now", unit], f"journalctl -b -u {unit}")


def listed(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the value of our rules with their listing, if the kernel has these."""
    there = host_live.table()
    return dict(there) if there and there["digest"] == value["digest"] else dict(value)


def take(gone: Sequence[Item], before: Mapping[str, Any], root: str = "/") -> None:
    """Rid the host of what is not wanted any more. Kernel settings get the values back that they had ``before``."""
    for one in gone:
        if one.kind == "unit" and one.value == "masked":
            command.must(["systemctl", "unmask", "--quiet", one.name], f"systemctl status {one.name}")
        elif one.kind == "unit" and one.name.startswith("batten-"):  # others were there before us, and stay
            command.run(["systemctl", "disable", "--quiet", "--now", one.name])
        elif one.kind == "table" and host_live.table() is not None:
            command.must(["nft", "delete", "table", *host_live.TABLE], "nft list ruleset")
        elif one.kind == "sysctl" and before.get(one.name) is not None:
            write_sysctl(one.name, before[one.name], root)
    files = [host_live.at(one.name, root) for one in gone if one.kind == "file"]
    for path in files:
        path.unlink(missing_ok=True)
    if any(path.parent == host_live.at("/etc/systemd/system", root) for path in files):
        command.must(["systemctl", "daemon-reload"], "journalctl -b")
    if any(one.kind == "audit" for one in gone):
        load_audit()


def write_sysctl(name: str, value: Any, root: str) -> None:
    """Set a kernel setting now. Raises BattenError where the kernel refuses it."""
    path = host_live.at("/proc/sys/" + name.replace(".", "/"), root)
    try:
        path.write_text(f"{value}\n", encoding="ascii")
    except OSError as error:
        fix = f"leave it alone: host_sysctls: {{{name}: null}}"
        raise BattenError(f"the kernel does not take {value}: {os.strerror(error.errno or 0)}", name, fix) from None


def load_audit() -> None:
    """Have the kernel take the rules of /etc/audit/rules.d. Raises BattenError where it does not, until a reboot."""
    if not shutil.which("augenrules"):
        return
    done = command.run(["augenrules", "--load"])
    if done.returncode or "immutable" in done.stdout + done.stderr:
        said = (done.stderr or done.stdout).strip().splitlines()
        fix = "if the rules are locked (-e 2 in /etc/audit/rules.d), reboot; they are loaded then"
        raise BattenError(f"augenrules: {said[-1] if said else 'failed'}", "audit rules", fix)
    if not host_live.listens():
        command.must(["auditctl", "-e", "1"], "auditctl -s")


def _swap_off() -> None:
    command.must(["swapoff", "--all"], "free memory first: what is swapped out has to fit")


def forget(root: str = "/") -> None:
    """Remove the record, and what was made for it alone."""
    HostPaths(root).host.unlink(missing_ok=True)
    for directory in (Path("/etc/batten"), Path("/opt/batten"), Path("/etc/systemd/coredump.conf.d")):
        path = host_live.at(str(directory), root)
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
