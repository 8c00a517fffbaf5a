"""Profiles: what batten knows of one image family. ``compose/profiles/EXAMPLE.yaml`` shows and explains every key."""

from __future__ import annotations

import difflib
import fnmatch
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from batten.plan import schema
from batten.plan.model import Healthcheck, ServiceClass
from batten.plan.schema import At, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

USER = schema.pattern(r"\d+(:\d+)?", "a numeric uid or uid:gid in quotes")
MODE = schema.pattern(r"[0-7]{3,4}", "an octal mode in quotes such as '1777'")
PIDS = schema.integer(8, 4_194_304)
NOFILE = schema.integer(64, 1_048_576)
CPUS = schema.number(0.01, 1024)
WEIGHT = schema.number(0.01, 1000)
TUNABLE = schema.pattern(r"[a-z_]+( \d+(\.\d+)?)?", "a formula such as 'gomemlimit 0.85'")

HEALTHCHECK = Record(
    {
        "test": schema.command,
        "interval": schema.duration,
        "timeout": schema.duration,
        "retries": schema.integer(1, 100),
        "start_period": schema.duration,
        "start_interval": schema.duration,
    },
    required=("test",),
)

_VARIANT: dict[str, schema.Check] = {
    "user": USER,
    "group_add": schema.list_of(schema.scalar_text),
    "read_only": schema.boolean,
    "writable": schema.list_of(
        Record(
            {
                "path": schema.pattern(r"/.*", "an absolute path"),
                "tmpfs": schema.size,
                "volume": schema.boolean,
                "mode": MODE,
                "owner": USER,
            },
            required=("path",),
        )
    ),
    "cap_add": schema.list_of(schema.pattern(r"[A-Z_]+", "a capability such as NET_BIND_SERVICE")),
    "memory": Record({"floor": schema.size, "weight": WEIGHT, "cap": schema.size}, required=("floor",)),
    "cpus": Record({"weight": WEIGHT, "cap": CPUS}),
    "pids": PIDS,
    "nofile": NOFILE,
    "oom_score_adj": schema.integer(-999, 1000),
    "shm": schema.size,
    "stop_grace": schema.duration,
    "stop_signal": schema.pattern(r"SIG[A-Z0-9]+", "a signal such as SIGINT"),
    "init": schema.boolean,
    "healthcheck": HEALTHCHECK,
    "environment": schema.environment,
    "entrypoint": schema.command,
    "command": schema.command,
    "command_add": schema.command,
    "log": Record({"format": schema.choice("json", "text"), "parser": schema.text}, required=("format",)),
    "tunables": schema.map_of(TUNABLE),
    "migrates": schema.boolean,
    "data_version": Record({"env": schema.text, "file": schema.text}),
    "dump": schema.command,
    "stateful": schema.boolean,
    "reload": schema.command,
    "tls": Record({"port": schema.integer(1, 65535), "protocol": schema.choice("tls", "postgres")}, required=("port",)),
}

PROFILE = Record(
    {
        "images": schema.list_of(schema.text),
        "class": schema.choice("database", "proxy", "application", "observability", "batch"),
        "variants": schema.list_of(Record({"tag": schema.text, **_VARIANT}, required=("tag",))),
        **_VARIANT,
    },
    required=("images", "class", "memory"),
)


_SAME_NAME = (
    "user",
    "group_add",
    "read_only",
    "cap_add",
    "pids",
    "nofile",
    "stop_signal",
    "oom_score_adj",
    "init",
    "environment",
    "entrypoint",
    "command",
    "command_add",
    "tunables",
    "migrates",
    "data_version",
    "dump",
    "stateful",
    "reload",
    "tls",
)


@dataclass(frozen=True)
class Memory:
    """How much memory a service needs (``floor``), may use (``cap``, None for no end), and its share of the rest."""

    floor: int
    weight: float = 1.0
    cap: int | None = None


@dataclass(frozen=True)
class Writable:
    """A path that the software writes: in memory if ``tmpfs_bytes`` is set, else in a volume the base must give."""

    path: str
    tmpfs_bytes: int | None = None
    mode: str | None = None
    owner: str | None = None


@dataclass(frozen=True)
class Profile:
    """One image family. Fields are as in ``compose/profiles/EXAMPLE.yaml``; sizes in bytes, durations in seconds."""

    name: str
    images: tuple[str, ...]
    service_class: ServiceClass
    memory: Memory
    user: str | None = None
    group_add: tuple[str, ...] = ()
    read_only: bool = True
    writable: tuple[Writable, ...] = ()
    cap_add: tuple[str, ...] = ()
    cpus_weight: float = 1.0
    cpus_cap: float | None = None
    pids: int = 256
    nofile: int | None = None
    oom_score_adj: int = 0
    shm_bytes: int | None = None
    stop_grace_seconds: int = 10
    stop_signal: str | None = None
    init: bool = True
    healthcheck: Healthcheck | None = None
    environment: Mapping[str, str | None] = field(default_factory=dict)
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    command_add: tuple[str, ...] = ()
    log_format: Literal["json", "text"] = "text"
    log_parser: str | None = None
    tunables: Mapping[str, str] = field(default_factory=dict)
    migrates: bool = False
    data_version: Mapping[str, str] = field(default_factory=dict)
    dump: tuple[str, ...] | None = None
    stateful: bool = False
    reload: tuple[str, ...] | None = None
    tls: Mapping[str, Any] | None = None


def split_image(image: str) -> tuple[str, str | None]:
    """Return the repository of an image reference without its registry, and its tag if it has one.

    ``docker.io/library/postgres:18@sha256:...`` gives ``("postgres", "18")``. The first part of a reference is a
    registry if it holds a dot or a colon or is ``localhost`` (distribution/reference, ``splitDockerDomain``).
    """
    name = image.split("@", 1)[0]
    head, slash, rest = name.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        name = rest
    name, _, tag = name.partition(":")
    return name.removeprefix("library/"), tag or None


def healthcheck(checked: Mapping[str, Any]) -> Healthcheck:
    """Turn what :data:`HEALTHCHECK` accepted into the plan's type."""
    times = ("interval", "timeout", "start_period", "start_interval")
    given = {f"{name}_seconds": checked[name] for name in times if name in checked}
    if "retries" in checked:
        given["retries"] = checked["retries"]
    return Healthcheck(test=checked["test"], **given)


def writable(checked: Iterable[Mapping[str, Any]]) -> tuple[Writable, ...]:
    """Turn what the schema accepted for ``writable`` into values."""
    return tuple(Writable(item["path"], item.get("tmpfs"), item.get("mode"), item.get("owner")) for item in checked)


def whole_seconds(seconds: float) -> int:
    """Round a grace period up: it is sent to the engine in whole seconds."""
    return math.ceil(seconds)


def parse_profile(name: str, checked: Mapping[str, Any], image: str = "") -> Profile:
    """Build a profile from what :data:`PROFILE` accepted, with the first variant that fits the tag laid over."""
    tag = split_image(image)[1] or "latest"
    fits = (variant for variant in checked.get("variants", ()) if fnmatch.fnmatchcase(tag, variant["tag"]))
    values: dict[str, Any] = {**checked, **next(fits, {})}
    cpus, log = values.get("cpus", {}), values.get("log", {})
    given = {
        "cpus_weight": cpus.get("weight"),
        "cpus_cap": cpus.get("cap"),
        "shm_bytes": values.get("shm"),
        "stop_grace_seconds": whole_seconds(values["stop_grace"]) if "stop_grace" in values else None,
        "healthcheck": healthcheck(values["healthcheck"]) if "healthcheck" in values else None,
        "log_format": log.get("format"),
        "log_parser": log.get("parser"),
        "writable": writable(values.get("writable", ())),
        **{key: values.get(key) for key in _SAME_NAME},
    }
    return Profile(
        name=name,
        images=values["images"],
        service_class=values["class"],
        memory=Memory(**values["memory"]),
        **{key: value for key, value in given.items() if value is not None},
    )


@dataclass(frozen=True)
class Profiles:
    """All profiles of one run, by name, as :data:`PROFILE` accepted them."""

    records: Mapping[str, Mapping[str, Any]]

    def family(self, image: str) -> str | None:
        """Return the name of the profile for the image's repository, or None. The registry does not matter."""
        repository = split_image(image)[0]
        for name, record in self.records.items():
            if any(split_image(known)[0] == repository for known in record["images"]):
                return name
        return None

    def match(self, image: str) -> Profile | None:
        """Return the profile for an image, in the variant that fits its tag, or None."""
        name = self.family(image)
        return parse_profile(name, self.records[name], image) if name else None

    def named(self, name: str, image: str, at: At) -> Profile:
        """Return the profile called ``name``, in the variant that fits the image's tag."""
        if name not in self.records:
            near = difflib.get_close_matches(name, self.records, 1) or sorted(self.records)
            raise at.error(f"there is no profile {name!r}", f"write one of: {', '.join(near)}")
        return parse_profile(name, self.records[name], image)


def load_profiles(directory: Path) -> Profiles:
    """Read ``directory/*.yaml``, one profile a file, named by the file; ``EXAMPLE.yaml`` is documentation."""
    records: dict[str, Mapping[str, Any]] = {}
    owner: dict[str, str] = {}
    for path in sorted(directory.glob("*.yaml")):
        if path.stem == "EXAMPLE":
            continue
        at = At(str(path))
        record = PROFILE(schema.read_yaml(path), at)
        for image in record["images"]:
            other = owner.setdefault(split_image(image)[0], path.stem)
            if other != path.stem:
                raise at.key("images").error(
                    f"{image!r} is already in profile {other!r}", "name an image in one profile only"
                )
        records[path.stem] = record
    return Profiles(records)
