"""A service apart from everything: its part of a Compose project, without ports, ways out, other people's data, or
credentials."""

from __future__ import annotations

import copy
import secrets
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from batten import dotenv
from batten.errors import BattenError

LABEL = "io.batten.learn"
"""Everything that a session makes has this label; its value is the session's project name."""

LOGGING = {"driver": "json-file", "options": {"max-size": "8m", "max-file": "1"}}
MEMORY_BYTES = 1024**3
PIDS = 1024
# What a container may be told without reaching anything else.
_KEPT = (
    "image", "command", "entrypoint", "environment", "user", "working_dir", "healthcheck", "hostname",
    "expose", "stop_signal", "stop_grace_period", "shm_size", "ulimits", "group_add", "tty", "stdin_open", "configs",
    "secrets", "extra_hosts", "platform",
)  # fmt: skip
# What batten decides anyway, or what only other hosts and people see: leaving it out needs no word.
_UNSAID = (
    "build", "ports", "container_name", "networks", "depends_on", "restart", "logging", "deploy", "labels", "profiles",
    "init", "mem_limit", "memswap_limit", "mem_reservation", "cpus", "cpu_shares", "pids_limit", "oom_score_adj",
    "read_only", "tmpfs", "cap_drop", "security_opt", "env_file", "pull_policy", "scale", "develop", "annotations",
    "links", "volumes",
)  # fmt: skip
_NEVER_MOUNTED = ("/", "/proc", "/sys", "/dev", "/run", "/var/run", "/var/lib/docker", "/boot")


@dataclass(frozen=True)
class Bind:
    """A bind mount of the project: what lies at ``source`` is copied to ``place`` before anything starts."""

    source: str
    place: str
    read_only: bool = False


@dataclass(frozen=True)
class Isolated:
    """A Compose model to run, what to copy and build for it (by image), files of throw-away secrets, what was left out,
    and which variables got throw-away values."""

    model: Mapping[str, Any]
    binds: tuple[Bind, ...]
    builds: Mapping[str, Mapping[str, Any]]
    secret_files: tuple[str, ...]
    left_out: tuple[str, ...]
    replaced: tuple[str, ...]


def chosen(model: Mapping[str, Any], service: str, *, dependencies: bool) -> tuple[str, ...]:
    """Return the services to run, ``service`` first. Raises BattenError for one that the project does not have."""
    services = model.get("services") or {}
    if service not in services:
        raise BattenError(
            f"there is no service {service!r}", str(model.get("name", "")), f"one of: {', '.join(services)}"
        )
    found = [service]
    for name in found:  # grows while it is walked
        needs = services[name].get("depends_on") or {} if dependencies else {}
        found += [other for other in needs if other in services and other not in found]
    return tuple(found)


def isolate(
    model: Mapping[str, Any],
    services: Iterable[str],
    project: str,
    directory: str,
    alike: Callable[[str], str] | None = None,
) -> Isolated:
    """Return what to run of a project as Compose resolved it (``config --format json``).

    ``directory`` is where binds are copied to; ``alike`` makes a throw-away value in the form of a real one.
    """
    names = tuple(services)
    tokens = credentials({name: model["services"][name].get("environment") or {} for name in names}, alike or like)
    made: dict[str, Any] = {}
    binds: list[Bind] = []
    builds: dict[str, Any] = {}
    left_out: list[str] = []
    for name in names:
        given = model["services"][name]
        left_out += [f"{name}: {key}" for key in sorted(given) if key not in (*_KEPT, *_UNSAID) and given[key]]
        own = {key: copy.deepcopy(given[key]) for key in _KEPT if given.get(key) is not None}
        own["environment"] = {key: replaced(value, tokens) for key, value in (given.get("environment") or {}).items()}
        if build := given.get("build"):
            own["image"] = f"{project}-{name}:learn"
            builds[own["image"]] = build
        mounts, copied, refused = _mounts(given.get("volumes") or (), f"{directory}/binds/{name}")
        binds += copied
        left_out += [f"{name}: {what}" for what in refused]
        needs = {key: value for key, value in (given.get("depends_on") or {}).items() if key in names}
        made[name] = {
            **own,
            "volumes": mounts,
            "networks": {"default": None},
            **({"depends_on": needs} if needs else {}),
        }
    volumes = sorted(
        {mount["source"] for one in made.values() for mount in one["volumes"] if mount["type"] == "volume"}
    )
    wanted = _used(made, "secrets")
    result: dict[str, Any] = {
        "name": project,
        "services": made,
        "volumes": {name: {"labels": {LABEL: project}} for name in volumes},
        "secrets": {name: {"file": f"{directory}/secrets/{name}"} for name in wanted},
        "configs": {name: (model.get("configs") or {}).get(name) or {} for name in _used(made, "configs")},
    }
    shown = sorted({f"{name}: {key}" for name in names for key in _holding(model["services"][name], tokens)})
    return Isolated(result, tuple(binds), builds, tuple(wanted), tuple(left_out), tuple(shown))


def apart(names: Iterable[str], project: str) -> dict[str, Any]:
    """Return the overlay that keeps services apart, for a plain run and over batten's layers alike."""
    service = {
        "restart": "no",
        "labels": {LABEL: project},
        "logging": LOGGING,
    }
    return {
        "services": dict.fromkeys(names, service),
        "networks": {"default": {"internal": True, "labels": {LABEL: project}}},
    }


def watched() -> dict[str, Any]:
    """Return what the first run adds: limits of our own, and an ordinary root that shows what is written."""
    return {"mem_limit": MEMORY_BYTES, "memswap_limit": MEMORY_BYTES, "pids_limit": PIDS, "cpus": 1.0, "init": False}


def credentials(environments: Mapping[str, Mapping[str, Any]], alike: Callable[[str], str]) -> dict[str, str]:
    """Return a throw-away value for each credential: one for the same everywhere, so that services still agree."""
    made: dict[str, str] = {}
    forms: dict[str, str] = {}
    for environment in environments.values():
        for name, value in environment.items():
            text = str(value or "").replace("$$", "$")
            if not text or not dotenv.suspicion(dotenv.Entry(name, text, 0, 0)):
                continue
            real = dotenv.url_password(text) or text
            token = made.setdefault(real, alike(real))
            # As it is, as this URL spells it, as others may; and each as Compose writes a dollar sign.
            spelled = {real, quote(real, safe=""), urlsplit(text).password or real if real != text else real}
            forms |= {form: token for one in spelled for form in (one, one.replace("$", "$$"))}
    return forms


def replaced(value: Any, tokens: Mapping[str, str]) -> Any:
    """Return an environment value with every credential in it replaced, the longest first."""
    if not isinstance(value, str):
        return value
    for real in sorted(tokens, key=len, reverse=True):
        value = value.replace(real, tokens[real])
    return value


def like(real: str) -> str:
    """Return a random text of the same form: a key of 32 hexadecimal digits stays one."""
    kinds = (string.digits, "abcdef", string.ascii_lowercase, "ABCDEF", string.ascii_uppercase)
    return "".join(next((secrets.choice(kind) for kind in kinds if sign in kind), "x") for sign in unquote(real))


def _holding(service: Mapping[str, Any], tokens: Mapping[str, str]) -> list[str]:
    environment = service.get("environment") or {}
    return [name for name, value in environment.items() if replaced(value, tokens) != value]


def _used(services: Mapping[str, Any], kind: str) -> list[str]:
    return sorted({str(item["source"]) for one in services.values() for item in one.get(kind) or ()})


def _mounts(volumes: Iterable[Mapping[str, Any]], place: str) -> tuple[list[dict[str, Any]], list[Bind], list[str]]:
    """Return the mounts, each with a source of its own, what to copy, and what is not mounted."""
    mounts: list[dict[str, Any]] = []
    binds: list[Bind] = []
    refused: list[str] = []
    for number, volume in enumerate(volumes):
        target, source = str(volume["target"]), volume.get("source")
        if volume["type"] == "volume":
            mounts.append({"type": "volume", "source": str(source or f"anonymous-{number}"), "target": target})
        elif volume["type"] == "bind" and not _reaches_the_host(str(source)):
            copied = f"{place}/{number}/{PurePosixPath(str(source)).name}"
            read_only = bool(volume.get("read_only"))
            binds.append(Bind(str(source), copied, read_only))
            mounts.append({"type": "bind", "source": copied, "target": target, "read_only": read_only})
        elif volume["type"] != "tmpfs":
            refused.append(f"the mount {source} at {target}")
    return mounts, binds, refused


def _reaches_the_host(source: str) -> bool:
    path = PurePosixPath(source)
    under = [PurePosixPath(one) for one in _NEVER_MOUNTED if one != "/"]
    return path == PurePosixPath("/") or any(path == one or one in path.parents for one in under)
