"""What an engine's host has and how to change it: the effects of ``batten.core.docker_engine``."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import atomic, capacity, command, host_live, systemd
from .docker_api import SOCKET, Docker, DockerError
from .engine_packages import (
    APT,
    APT_ENVIRONMENT,
    APT_KEY,
    RPM_KEY_FILE,
    Package,
    PackagePlan,
    key_fingerprint,
    parse_os_release,
    satisfies,
)
from .errors import BattenError
from .paths import HostPaths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DAEMON = Path("/etc/docker/daemon.json")
JOURNAL = Path("/etc/systemd/journald.conf.d/batten.conf")
UNIT = Path("/etc/systemd/system/docker.service.d/batten.conf")


@dataclass(frozen=True)
class Observed:
    """One look at a host. ``info`` is ``GET /info``, None when no engine answers; ``running`` are container names."""

    release: Mapping[str, str]
    architecture: str
    installed: Mapping[str, Package]
    repositories: Mapping[str, str]
    key: str | None
    daemon: Mapping[str, Any]
    record: Mapping[str, Any]
    command: tuple[str, ...]
    enabled: bool
    info: Mapping[str, Any] | None
    running: tuple[str, ...]
    stored: int
    engine_version: str
    compose_version: str
    nofile_limit: int
    members: tuple[str, ...]
    texts: Mapping[str, str] = field(default_factory=dict)


def engine_info() -> dict[str, Any] | None:
    """Return ``GET /info``, or None when no engine answers."""
    try:
        return dict(Docker(timeout=20).info())
    except DockerError:
        return None


# -- observe ---------------------------------------------------------------------------------------------


def observe(systemd_root: Path = Path("/run/systemd/system")) -> Observed:
    """Look at the host once. Raises BattenError where there is no systemd or daemon.json is not JSON."""
    if not systemd_root.is_dir():
        raise BattenError("systemd does not run here", str(systemd_root), "use a host that is booted by systemd")
    info = engine_info()
    # Without a version in the path, so that an engine too old for ours is told apart from none.
    listed = Docker().call("GET", "/containers/json", {"all": 1}, version="") if info else []
    version = (info or {}).get("ServerVersion", "")
    docker = unit()
    compose = command.run(["docker", "compose", "version", "--short"]) if shutil.which("docker") else None
    key_path = next((path for path in (APT_KEY, RPM_KEY_FILE) if Path(path).is_file()), "")
    return Observed(
        release=parse_os_release(Path("/etc/os-release").read_text(encoding="utf-8")),
        architecture=_architecture(),
        installed=installed(),
        repositories=repositories(),
        key=_fingerprint(key_path),
        daemon=read_daemon(DAEMON),
        record=atomic.read_json(HostPaths().docker, {}),
        command=command_line(docker),
        enabled=docker.get("UnitFileState") == "enabled",
        info=info,
        running=tuple(sorted(c["Names"][0].lstrip("/") for c in listed if c["State"] in ("running", "paused"))),
        stored=len(listed) if info else len(list(Path("/var/lib/docker/containers").glob("*"))),
        engine_version=version,
        compose_version=compose.stdout.strip() if compose and compose.returncode == 0 else "",
        nofile_limit=capacity.nofile_hard(),
        members=tuple(host_live.group("docker") or ()),
        texts={str(path): path.read_text(encoding="utf-8") for path in (JOURNAL, UNIT) if path.is_file()},
    )


def read_daemon(path: Path) -> dict[str, Any]:
    """Return the document in ``path``; empty when there is none. Raises BattenError when it is not a JSON object."""
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        return {}
    try:
        document = json.loads(text) if text else {}
    except ValueError as error:
        raise BattenError(
            f"not JSON: {error}", str(path), f"correct it, or move it away: mv {path} {path}.broken"
        ) from error
    if not isinstance(document, dict):
        raise BattenError("not a JSON object", str(path), f"move it away: mv {path} {path}.broken")
    return document


def unit() -> dict[str, str]:
    """Return ``systemctl show`` of docker.service; one that is not there has empty values and MainPID 0."""
    properties = f"ExecStart,EnvironmentFiles,Environment,MainPID,{systemd.STATE}"
    return systemd.show(["docker.service"], properties)[0]


def command_line(unit: Mapping[str, str]) -> tuple[str, ...]:
    """Return the words of a unit's last ``ExecStart=``, with its environment files read and variables put in.

    ``$NAME`` as a word of its own is split at blanks, ``${NAME}`` is not (systemd.service(5), COMMAND LINES).
    """
    found = re.search(r"argv\[\]=(.*?) ; ignore_errors=", unit.get("ExecStart", ""))
    if not found:
        return ()
    variables = dict(pair.split("=", 1) for pair in shlex.split(unit.get("Environment", "")) if "=" in pair)
    path = unit.get("EnvironmentFiles", "").split(" ", 1)[0]
    if path and Path(path).is_file():
        for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
            match = re.match(r"\s*([A-Za-z_]\w*)=(.*)$", line)
            if match:
                variables[match.group(1)] = " ".join(shlex.split(match.group(2), comments=True))
    words: list[str] = []
    for word in found.group(1).split():
        bare = re.fullmatch(r"\$([A-Za-z_]\w*)", word)
        if bare:
            words += variables.get(bare.group(1), "").split()
        else:
            words.append(re.sub(r"\$\{([A-Za-z_]\w*)\}", lambda match: variables.get(match.group(1), ""), word))
    return tuple(words)


def running_command(unit: Mapping[str, str]) -> list[str]:
    """Return the command line of the process of a unit, as :func:`unit` shows it; empty when it does not run."""
    try:
        words = Path(f"/proc/{unit.get('MainPID', '0')}/cmdline").read_bytes()
    except OSError:
        return []
    return words.decode(errors="replace").rstrip("\0").split("\0") if words else []


def installed() -> dict[str, Package]:
    """Return the installed packages by name, from dpkg or rpm."""
    if shutil.which("dpkg-query"):
        done = command.run(
            ["dpkg-query", "-W", "-f", "${Package}\t${Version}\t${db:Status-Want}\t${db:Status-Status}\n"]
        )
        return parse_dpkg(done.stdout)
    done = command.run(["rpm", "-qa", "--qf", "%{NAME}\t%{EPOCHNUM}:%{VERSION}-%{RELEASE}\n"])
    locks = Path("/etc/dnf/plugins/versionlock.list")
    locked = locks.read_text(encoding="utf-8") if locks.is_file() else ""
    rows = (line.split("\t") for line in done.stdout.splitlines())
    return {
        name: Package(version, re.search(rf"^{re.escape(name)}-\d", locked, re.MULTILINE) is not None)
        for name, version in rows
    }


def parse_dpkg(text: str) -> dict[str, Package]:
    """Parse the rows ``name, version, want, status`` of dpkg-query; only what is really installed."""
    rows = (line.split("\t") for line in text.splitlines())
    return {row[0]: Package(row[1], row[2] == "hold") for row in rows if len(row) == 4 and row[3] == "installed"}


def repositories() -> dict[str, str]:
    """Return the text of every repository file, by path."""
    places = (
        ("/etc/apt", "sources.list"),
        ("/etc/apt/sources.list.d", "*.list"),
        ("/etc/apt/sources.list.d", "*.sources"),
        ("/etc/yum.repos.d", "*.repo"),
    )
    found = [path for directory, pattern in places for path in Path(directory).glob(pattern) if path.is_file()]
    return {str(path): path.read_text(encoding="utf-8", errors="replace") for path in found}


def _architecture() -> str:
    machine = os.uname().machine
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf"}.get(machine, machine)


def _fingerprint(path: str) -> str | None:
    try:
        return key_fingerprint(Path(path).read_bytes()) if path else None
    except BattenError:
        return None


# -- act ---------------------------------------------------------------------------------------------


def apply_packages(plan: PackagePlan, family: str) -> None:
    """Delete foreign repository files, fetch the key, remove what conflicts, add the repository, install, hold.

    In that order, so that an upstream that cannot be reached, or has another key, leaves the packages as they were.
    """
    debian = family == "debian"
    manager = APT if debian else ("dnf", "-y", "-q")
    environment = APT_ENVIRONMENT if debian else {"LC_ALL": "C"}
    again = "correct the host's package sources as the lines above say, and run again"
    for path in plan.delete:
        Path(path).unlink()
    key = b""
    if plan.key:
        if debian and not Path("/etc/ssl/certs/ca-certificates.crt").exists():
            command.must([*APT, "update"], again, environment)
            command.must([*APT, "install", "--no-install-recommends", "ca-certificates"], again, environment)
        key = fetch_key(plan.key[1], plan.key[2])
    if plan.unhold:
        _hold("unhold", plan.unhold, debian)
    if plan.remove:
        command.must([*manager, "remove", *plan.remove], again, environment)
    if plan.key:
        atomic.write(Path(plan.key[0]), key, 0o644)
    for path, text in plan.files:
        atomic.write(Path(path), text.encode(), 0o644)
    if plan.install:
        if debian:
            command.must([*APT, "update"], again, environment)
        names = [_exact(name, debian) for name in plan.install]
        extra = ["--no-install-recommends", "--allow-change-held-packages"] if debian else []
        command.must([*manager, "install", *extra, *names], again, environment)
    if plan.hold:
        _hold("hold", plan.hold, debian)


def fetch_key(url: str, fingerprint: str) -> bytes:
    """Fetch a signing key over HTTPS and return it. Raises BattenError unless it is exactly the pinned one."""
    if not url.startswith("https://"):
        raise BattenError("a signing key is fetched over https only", url, "set docker_upstream_url to an https:// URL")
    try:
        with urllib.request.urlopen(url, timeout=30, context=ssl.create_default_context()) as answer:  # noqa: S310 - https only, see above
            key: bytes = answer.read(1 << 20)
    except (urllib.error.URLError, OSError) as error:
        raise BattenError(
            f"cannot fetch Docker's signing key: {error}",
            url,
            "let the host reach it, set docker_upstream_url to a mirror, or set docker_source: distro",
        ) from error
    found = key_fingerprint(key)
    if found != fingerprint:
        raise BattenError(
            f"the signing key there is {found}, not {fingerprint}",
            url,
            "do not install from it; if you run this mirror yourself, set docker_upstream_key to its fingerprint",
        )
    return key


def _exact(name: str, debian: bool) -> str:
    """Turn ``NAME=PREFIX`` into the newest version that the package source has of it."""
    if "=" not in name:
        return name
    package, version = name.split("=", 1)
    if not debian:
        return f"{package}-{version}*"
    rows = [line.split("|") for line in command.run(["apt-cache", "madison", package]).stdout.splitlines()]
    versions = [row[1].strip() for row in rows if len(row) > 1]
    for candidate in versions:
        if satisfies(candidate, version):
            return f"{package}={candidate}"
    offered = ", ".join(dict.fromkeys(versions)) or "nothing"
    raise BattenError(
        f"no {package} {version}; its source has: {offered}", "docker_version", "set docker_version to one of them"
    )


def _hold(verb: str, names: Sequence[str], debian: bool) -> None:
    if debian:
        command.must(["apt-mark", verb, *names], "run it by hand")
    else:
        command.must(["dnf", "-y", "-q", "install", "python3-dnf-plugin-versionlock"], "install it by hand")
        command.must(
            ["dnf", "-y", "-q", "versionlock", "add" if verb == "hold" else "delete", *names], "run it by hand"
        )


def validate(text: str, words: Sequence[str]) -> None:
    """Let dockerd, started by its unit's ``words``, judge a new daemon.json. Raises BattenError with its answer."""
    staged = DAEMON.parent / ".daemon.json.batten"
    atomic.write(staged, text.encode(), 0o644)
    try:
        program = [*words] if words else ["dockerd"]
        done = command.run([*program, "--validate", "--config-file", str(staged)])
    finally:
        staged.unlink()
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).replace(str(staged), str(DAEMON)).splitlines()
        raise BattenError(
            f"dockerd refuses the merged file: {said[-1] if said else 'no reason given'}",
            f"{DAEMON}, which was left as it was",
            "correct that key in docker_daemon, docker_daemon_group or docker_daemon_host, or in the file itself",
        )


def reload_engine(expect_live_restore: bool) -> None:
    """Send SIGHUP and wait until the engine says that it heeds the file. Raises BattenError after 10 s."""
    systemd.systemctl("reload", "docker.service")
    deadline = time.monotonic() + 10
    while True:
        info = engine_info()
        if info and bool(info.get("LiveRestoreEnabled")) == expect_live_restore:
            return
        if time.monotonic() > deadline:
            raise BattenError(
                "the engine does not take live-restore",
                "systemctl reload docker.service",
                "journalctl -u docker.service",
            )
        time.sleep(0.1)


def restart_engine() -> None:
    """(Re)start the engine, enabled at boot, and wait until it answers. Raises BattenError after 60 s."""
    systemd.systemctl("enable", "docker.service")
    systemd.restart("docker.service")
    deadline = time.monotonic() + 60
    while engine_info() is None:
        if time.monotonic() > deadline:
            raise BattenError("the engine does not answer", SOCKET, "journalctl -u docker.service")
        time.sleep(0.1)
