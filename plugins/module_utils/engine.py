"""Docker on a host: observe, compare, act. ``compare`` is pure; the rest is in :mod:`engine_host`."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import atomic, engine_host, systemd
from .compare import shown_as
from .engine_config import (
    Change,
    Merge,
    act_for,
    changes,
    conflicts,
    flatten,
    grantable,
    held,
    merge,
    nest,
    unheeded,
    withdraw,
)
from .engine_host import DAEMON, JOURNAL, UNIT, Observed
from .engine_packages import (
    ENGINES,
    MINIMUM_COMPOSE,
    MINIMUM_ENGINE,
    UPSTREAM_URL,
    PackagePlan,
    plan_packages,
    system,
    version_tuple,
)
from .engine_packages import wanted as wanted_packages
from .errors import BattenError
from .paths import HostPaths

if TYPE_CHECKING:
    from collections.abc import Mapping

# What the bridge of running containers keeps until the engine starts with none of them: moby's
# initNetworkController says "there are running containers, updated network configuration will not take affect".
LATER = ("bip", "bridge", "fixed-cidr", "icc", "userland-proxy")
_HERE = HostPaths()


@dataclass(frozen=True)
class Options:
    """What the role asks; the module's parameters. ``daemon`` are the layered entries, the last of a name wins."""

    state: str = "present"
    source: str = "upstream"
    version: str = ""
    hold: bool = False
    upstream_url: str = UPSTREAM_URL
    upstream_key: str = ""
    daemon: tuple[Mapping[str, Any], ...] = ()
    journal_max_use: str = "1G"


@dataclass(frozen=True)
class Difference:
    """One thing that is not as wanted, in the shape of ``batten drift``; ``scope`` is always ``host``."""

    name: str
    facet: str
    desired: Any
    actual: Any
    action: str

    def as_dict(self) -> dict[str, Any]:
        return {"scope": "host", **self.__dict__}


@dataclass(frozen=True)
class Plan:
    """What to do. ``engine`` is ``start``, ``reload``, ``restart`` or None; ``texts`` are drop-ins, None to delete."""

    family: str
    packages: PackagePlan
    merged: Merge
    texts: Mapping[str, str | None]
    engine: str | None
    live_restore_first: bool
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]
    drop_ins: Mapping[str, str | None]

    @property
    def changed(self) -> bool:
        return bool(self.differences)


def journal_text(max_use: str) -> str:
    """The journal keeps what containers log over a reboot, and no more than ``max_use`` (journald.conf(5))."""
    return f"# Managed by batten (role docker).\n[Journal]\nStorage=persistent\nSystemMaxUse={max_use}\n"


def unit_text(shutdown_timeout: int) -> str:
    """Drop-in of docker.service.

    The lines of all containers count as the unit's own, so journald's limit would drop most of a burst. Not
    ``LogRateLimitIntervalSec=0``: systemd 257 hands journald no limit then, and journald falls back to its general one.
    Measured on Debian 13: of 300000 lines 32499 arrived with 0, all with a million a second.

    systemd must wait longer for dockerd than dockerd (``shutdown_timeout``, seconds) for its containers.
    """
    return (
        "# Managed by batten (role docker).\n[Service]\n"
        "LogRateLimitIntervalSec=1s\nLogRateLimitBurst=1000000\n"
        f"TimeoutStopSec={max(90, shutdown_timeout + 30)}\n"
    )


def render(document: Mapping[str, Any]) -> str:
    """Return daemon.json as text, stable and readable."""
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def compare(options: Options, seen: Observed) -> Plan:
    """Return what to do on a host that was ``seen``. Pure. Raises BattenError for what must not be done."""
    present = options.state == "present"
    host = None if options.source == "preinstalled" or not present else system(seen.release)
    packages = PackagePlan()
    if host is not None:
        packages = plan_packages(options, host, seen)
        _refuse_packages(packages, seen)
    merged = _merged(options, packages, seen)
    wanted = _texts(options, merged)
    texts = {path: text for path, text in wanted.items() if seen.texts.get(path) != text}
    changed = changes(seen.daemon, merged.file)
    ignored = unheeded(merged.file, seen.info) if seen.info and present else []
    ignored = [change for change in ignored if change.path[0] not in {one.path[0] for one in changed}]
    engine, later = _engine_action(present, changed + ignored, seen)
    warnings = list(later)
    if seen.info is not None:
        _refuse_holding(seen.daemon, merged.file, seen)
        if present:
            _refuse_restart(engine, merged.file, seen)
    if seen.members:
        warnings.append(
            f"in group docker, as good as root: {', '.join(seen.members)}; gpasswd -d USER docker takes one out"
        )
    differences = [
        *_package_differences(packages),
        *(Difference(path, "text", text, seen.texts.get(path), "rewrite") for path, text in sorted(texts.items())),
        *(Difference(str(DAEMON), one.name, one.after, one.before, _least(one)) for one in changed),
        *(Difference("docker.service", one.name, one.after, one.before, _least(one)) for one in ignored),
    ]
    if engine == "start" or (engine and not changed and not ignored):
        wish, state = "running with its configuration", seen.record.get("pending") or "not running"
        differences.append(Difference("docker.service", "state", wish, state, "restart"))
    if present and seen.info is not None and not seen.enabled and not packages.install:
        differences.append(Difference("docker.service", "enabled", True, False, "none"))
    unsafe = bool(seen.running) and not (seen.info or {}).get("LiveRestoreEnabled")
    return Plan(
        family=host.family if host else "",
        packages=packages,
        merged=merged,
        texts=texts,
        engine=engine,
        live_restore_first=engine == "restart" and unsafe,
        differences=tuple(differences),
        warnings=tuple(warnings),
        drop_ins=wanted,
    )


def _merged(options: Options, packages: PackagePlan, seen: Observed) -> Merge:
    """Return ``daemon.json`` as it should be, with our entries or without; refuse what the engine could not run on."""
    ours, replaced = flatten(seen.record.get("ours", {})), flatten(seen.record.get("replaced", {}))
    if options.state != "present":
        return Merge(withdraw(seen.daemon, ours, replaced), {}, {})
    merged = merge(seen.daemon, grantable(options.daemon, seen.nofile_limit), ours, replaced)
    _refuse_versions(options, packages, seen)
    _refuse_size(options.journal_max_use)
    _refuse_conflicts(merged.file, seen)
    return merged


def _texts(options: Options, merged: Merge) -> dict[str, str | None]:
    """Return our drop-ins by path, None for one that goes."""
    if options.state != "present":
        return {str(JOURNAL): None, str(UNIT): None}
    timeout = merged.file.get("shutdown-timeout", 15)
    unit = unit_text(timeout if isinstance(timeout, int) else 15)
    return {str(JOURNAL): journal_text(options.journal_max_use), str(UNIT): unit}


def _least(change: Change) -> str:
    return act_for([change]) or "none"


def _engine_action(present: bool, found: list[Change], seen: Observed) -> tuple[str | None, list[str]]:
    """Return what to do to the engine and what takes effect later only."""
    action = act_for(found)
    if present and seen.info is None:
        return "start", []
    if not present:
        if action == "restart" and seen.running:
            note = f"taken out of {DAEMON}, in effect from the next start of Docker, as containers run: "
            return None, [note + ", ".join(change.name for change in found)]
        return (action if seen.info is not None else None), []
    pending = seen.record.get("pending")
    if pending == "restart" or action == "restart":
        kept = sorted({change.name for change in found if change.path[0] in LATER})
        late = seen.running and kept
        note = f"the default bridge takes {', '.join(kept)} at the next start of Docker with no container running"
        return "restart", [note] if late else []
    return action or pending, []


def _package_differences(plan: PackagePlan) -> list[Difference]:
    return [
        *(Difference(path, "repository file", None, "foreign", "rewrite") for path in plan.delete),
        *(Difference(name, "package", None, "installed", "none") for name in plan.remove),
        *([Difference(plan.key[0], "signing key", plan.key[2], None, "rewrite")] if plan.key else []),
        *(Difference(path, "repository file", text, None, "rewrite") for path, text in plan.files),
        *(
            Difference(name.split("=")[0], "package", name.partition("=")[2] or "installed", None, "none")
            for name in plan.install
        ),
        *(Difference(name, "held", True, False, "none") for name in plan.hold),
        *(Difference(name, "held", False, True, "none") for name in plan.unhold),
    ]


def _refuse_packages(plan: PackagePlan, seen: Observed) -> None:
    engines = [name for name in plan.remove if name in ENGINES]
    if engines and seen.stored:
        names = f" ({', '.join(seen.running)} run)" if seen.running else ""
        raise BattenError(
            f"{engines[0]} would be replaced by another source's engine, and it holds {seen.stored} containers{names}",
            "docker_source",
            "set docker_source to the source that is installed (distro, or preinstalled), "
            "or remove the containers first: docker ps -a; docker rm",
        )


def _refuse_versions(options: Options, plan: PackagePlan, seen: Observed) -> None:
    if seen.info is None and options.source == "preinstalled" and not seen.command:
        raise BattenError(
            "no Docker Engine on this host", "docker_source: preinstalled", "install it, or set docker_source: upstream"
        )
    renewed = {name.split("=")[0] for name in plan.install} | set(plan.remove)
    if seen.engine_version and not renewed & ENGINES:
        check_engine(seen.engine_version, options.source)
    if seen.command and not renewed & {*ENGINES, "docker-compose", "docker-compose-v2", "docker-compose-plugin"}:
        check_compose(seen.compose_version, options.source)


def check_engine(version: str, source: str) -> None:
    """Raise BattenError for an engine older than batten needs."""
    if version_tuple(version) < MINIMUM_ENGINE:
        raise BattenError(
            f"Docker Engine {version} is too old; batten needs {_dotted(MINIMUM_ENGINE)} or newer",
            "docker.service",
            _upgrade(source, "docker-ce docker-ce-cli containerd.io"),
        )


def check_compose(version: str, source: str) -> None:
    """Raise BattenError for a missing or too old ``docker compose``."""
    if version_tuple(version) < MINIMUM_COMPOSE:
        raise BattenError(
            f"Docker Compose {version or 'is missing'}{' is too old' if version else ''}; batten needs "
            f"{_dotted(MINIMUM_COMPOSE)} or newer",
            "docker compose version",
            _upgrade(source, "docker-compose-plugin"),
        )


def _upgrade(source: str, names: str) -> str:
    if source == "upstream":
        return f"apt-get install --only-upgrade {names} (dnf upgrade on RHEL), or set docker_version"
    return "set docker_source: upstream, or upgrade it yourself"


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in version)


def _refuse_size(text: str) -> None:
    if not re.fullmatch(r"\d+(\.\d+)?[KMGTPE]?", text):
        raise BattenError(
            f"{text!r} is no size that journald knows", "docker_journal_max_use", "write it as 500M or 2G"
        )


def _refuse_conflicts(document: Mapping[str, Any], seen: Observed) -> None:
    both = conflicts(document, seen.command[1:])
    if both:
        key, flag = both[0]
        raise BattenError(
            f"{key} is set by the flag {flag} of docker.service and in daemon.json too; dockerd would not start",
            f"docker.service and {DAEMON}",
            f"take {flag} out of the unit (systemctl edit docker.service, or /etc/default/docker), "
            f"or leave the key to it: docker_daemon_host: [{{name: {key}, state: absent}}]",
        )


def _refuse_holding(before: Mapping[str, Any], after: Mapping[str, Any], seen: Observed) -> None:
    info = seen.info or {}
    containers, images = info.get("Containers", 0), info.get("Images", 0)
    found = held(before, after, info)
    if found and (containers or images):
        one = found[0]
        raise BattenError(
            f"{one.name} would change from {one.before!r} to {one.after!r}, "
            f"and {containers} containers and {images} images would vanish from this engine",
            str(DAEMON),
            f"keep it: docker_daemon_host: [{{name: {one.path[0]}, state: ignore}}]; "
            "or move your data and empty the engine first: docker system prune -a",
        )


def _refuse_restart(action: str | None, document: Mapping[str, Any], seen: Observed) -> None:
    info = seen.info or {}
    swarm = (info.get("Swarm") or {}).get("LocalNodeState", "inactive")
    if document.get("live-restore") is True and swarm not in ("", "inactive"):
        raise BattenError(
            "this host is in a swarm, and dockerd refuses live-restore there",
            str(DAEMON),
            "docker swarm leave, or docker_daemon_host: [{name: live-restore, state: absent}]",
        )
    if action == "restart" and seen.running and document.get("live-restore") is not True:
        raise BattenError(
            f"docker.service must restart, and without live-restore that stops {', '.join(seen.running)}",
            str(DAEMON),
            "leave live-restore on, or stop the containers yourself first: docker stop " + " ".join(seen.running),
        )


# -- act ---------------------------------------------------------------------------------------------


def act(options: Options, plan: Plan, seen: Observed) -> Observed:
    """Carry out ``plan`` and return the host as it is then. Killed anywhere, the next run goes on from there.

    An engine that is there is configured first, so that its containers survive an upgrade by live-restore.
    """
    if seen.info is not None:
        _configure(options, plan, seen.command)
        engine_host.apply_packages(plan.packages, plan.family)
    else:
        engine_host.apply_packages(plan.packages, plan.family)
        _configure(options, plan, engine_host.command_line(engine_host.unit()))
    after = engine_host.observe()
    if options.state == "present":
        check_engine(after.engine_version, options.source)
        check_compose(after.compose_version, options.source)
    return after


def remember(options: Options, plan: Plan, after: Observed) -> list[str]:
    """Keep what this host should have of the engine, for ``batten drift``; an engine that was given back has none.

    Returns what a person must be told: flags of dockerd are its unit's, and nothing here changes them.
    """
    if options.state == "absent":
        _HERE.engine.unlink(missing_ok=True)
        return []
    before = atomic.read_json(_HERE.engine, {}).get("command")
    names = wanted_packages(options.source, system(after.release)) if options.hold else ()
    kept = {
        "daemon": nest(plan.merged.ours),
        "drop_ins": plan.drop_ins,
        "command": engine_host.running_command(engine_host.unit()),
        "version": options.version,
        "held": sorted(name for name in names if name in after.installed and after.installed[name].held),
    }
    atomic.make_directory(_HERE.var, 0o700)
    atomic.write_json(_HERE.engine, kept)
    if not before or before == kept["command"]:
        return []
    ran, runs = shlex.join(before), shlex.join(kept["command"])
    return [f"dockerd runs as {runs!r}, and ran as {ran!r}; systemctl cat docker.service shows who says so"]


def _configure(options: Options, plan: Plan, command: tuple[str, ...]) -> None:
    text = render(plan.merged.file)
    existing = engine_host.read_daemon(DAEMON)
    writes = existing != plan.merged.file
    if writes and plan.merged.file:
        engine_host.validate(text, command)
    record = {"ours": nest(plan.merged.ours), "replaced": nest(plan.merged.replaced)}
    if options.state == "present":
        atomic.make_directory(_HERE.var, 0o700)
        atomic.write_json(_HERE.docker, {**record, "pending": plan.engine} if plan.engine else record)
    if writes and plan.merged.file:
        atomic.write(DAEMON, text.encode(), 0o644)
    elif writes:
        DAEMON.unlink()
    _write_drop_ins(plan.texts)
    if plan.live_restore_first:
        engine_host.reload_engine(True)
    if plan.engine == "reload":
        engine_host.reload_engine(bool(plan.merged.file.get("live-restore", False)))
    elif plan.engine:
        engine_host.restart_engine()
    elif any(one.facet == "enabled" for one in plan.differences):
        systemd.systemctl("enable", "docker.service")
    if options.state == "present":
        atomic.write_json(_HERE.docker, record)
    else:
        _HERE.docker.unlink(missing_ok=True)


def _write_drop_ins(texts: Mapping[str, str | None]) -> None:
    for path, text in sorted(texts.items()):
        if text is None:
            Path(path).unlink(missing_ok=True)
        else:
            atomic.write(Path(path), text.encode(), 0o644)
    if str(UNIT) in texts:
        systemd.systemctl("daemon-reload")
    if str(JOURNAL) in texts:
        systemd.systemctl("restart", "systemd-journald.service")


def diff(plan: Plan, seen: Observed) -> list[dict[str, str]]:
    """Return before and after of every file, and the packages, for ``--diff``."""
    shown = []
    if plan.merged.file != seen.daemon:
        before = render(seen.daemon) if seen.daemon else ""
        shown.append(shown_as(str(DAEMON), before, render(plan.merged.file) if plan.merged.file else ""))
    for path, text in sorted(plan.texts.items()):
        shown.append(shown_as(path, seen.texts.get(path, ""), text or ""))
    for path, text in plan.packages.files:
        shown.append(shown_as(path, seen.repositories.get(path, ""), text))
    shown += [shown_as(path, seen.repositories[path], "") for path in plan.packages.delete]
    others = [
        one
        for one in plan.differences
        if one.facet in ("package", "held", "state", "enabled", "signing key") or one.name == "docker.service"
    ]
    if others:
        before, after = (
            "".join(f"{one.name} {one.facet}: {value}\n" for one, value in rows)
            for rows in ([(one, one.actual) for one in others], [(one, one.desired) for one in others])
        )
        shown.append(shown_as("packages and docker.service", before, after))
    return shown
