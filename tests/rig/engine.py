"""Gets a Docker engine on a Debian or Ubuntu machine where none answers. Where one answers, nothing is done.

Debian 12 gets Debian 13's engine, alone from trixie by pins: its own (20.10) cannot run privileged containers on a
machine that lacks a capability, and plain `-t trixie` would replace the C library.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import time
from pathlib import Path

from . import machine
from .docker import RigError, answers
from .progress import step

SOURCE = Path("/etc/apt/sources.list.d/batten-rig.sources")
PINS = Path("/etc/apt/preferences.d/batten-rig")
LOG = Path("/var/log/batten-rig-dockerd.log")
START_SECONDS = 60
_PINNED = "docker.io docker-cli docker-buildx containerd"
_TOOLS = ("iptables", "debootstrap", "debian-archive-keyring")

_PINS_TEXT = f"""\
Package: *
Pin: release n=trixie
Pin-Priority: 100

Package: {_PINNED}
Pin: release n=trixie
Pin-Priority: 990
"""


def commands() -> list[str]:
    """The shell commands that `ensure_engine` would run, in order; none if an engine and debootstrap are there.

    `batten demo` shows these and asks.
    """
    needed: list[str] = []
    if answers():
        return [] if shutil.which("debootstrap") else ["apt-get update -qq", _install(_TOOLS)]
    if not shutil.which("dockerd") or not shutil.which("debootstrap"):
        system = platform.freedesktop_os_release()
        if system.get("VERSION_CODENAME") == "bookworm":
            needed += [_write(PINS, _PINS_TEXT), _write(SOURCE, _source(machine.read().mirror))]
        # Ubuntu's docker.io holds the client; Debian's has a package for it.
        engine = ("docker.io", "docker-buildx") + (() if system.get("ID") == "ubuntu" else ("docker-cli",))
        needed += ["apt-get update -qq", _install(engine + _TOOLS)]
    # apt cannot start it where there is no systemd, so it is started here, detached from this terminal.
    started = (
        "systemctl start docker"
        if Path("/run/systemd/system").is_dir()
        else f"setsid -f dockerd </dev/null >{LOG} 2>&1"
    )
    return [*needed, started]


def ensure_engine() -> None:
    """Run `commands()` and wait for the engine. RigError if not root, not Debian-like, or if it does not start."""
    todo = commands()
    if not todo:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise RigError(
            "the rig needs a Docker engine and debootstrap; it installs them only as root, on Debian or Ubuntu"
        )
    for command in todo:
        with step(command.splitlines()[0]):
            done = subprocess.run(["/bin/sh", "-ec", command], text=True, capture_output=True, check=False)
        if done.returncode:
            raise RigError(f"{command.splitlines()[0]} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    deadline = time.monotonic() + START_SECONDS
    while not answers():
        if time.monotonic() > deadline:
            raise RigError(f"dockerd did not answer in {START_SECONDS} s; see {LOG}")
        time.sleep(0.2)


def _install(packages: tuple[str, ...]) -> str:
    return f"DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends {' '.join(packages)}"


def _write(path: Path, text: str) -> str:
    return f"cat >{shlex.quote(str(path))} <<'EOF'\n{text}EOF\n"


def _source(mirror: str) -> str:
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    return f"Types: deb\nURIs: {mirror}\nSuites: trixie\nComponents: main\nSigned-By: {keyring}\n"
