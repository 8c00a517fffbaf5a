"""Profiles: what batten knows of one image family. ``compose/profiles/EXAMPLE.yaml`` shows and explains every key."""

from __future__ import annotations

import difflib
import fnmatch
import math
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal

from batten.plan import consistency, matching, schema, tunables
from batten.plan.matching import split_image
from batten.plan.model import Healthcheck, ServiceClass
from batten.plan.schema import At, Record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

__all__ = ["PROFILE", "Match", "Profile", "Profiles", "load_profiles", "parse_profile", "split_image"]

Confidence = Literal["tried", "documented", "observed", "assumed"]
"""How sure a fact is: seen on the real software in our tests, read at its source, watched by batten learn, guessed."""


USER = schema.pattern(r"\d+(:\d+)?", "a numeric uid or uid:gid in quotes")
MODE = schema.pattern(r"[0-7]{3,4}", "an octal mode in quotes such as '1777'")
PIDS = schema.integer(8, 4_194_304)
NOFILE = schema.integer(64, 1_048_576)
CPUS = schema.number(0.01, 1024)
WEIGHT = schema.number(0.01, 1000)
PORT = schema.integer(1, 65535)
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
    "read_only_unless": schema.list_of(schema.pattern(r"/.*", "an absolute path")),
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
    "health": Record({"shallow": HEALTHCHECK, "deep": HEALTHCHECK}),
    "programs": schema.list_of(schema.text),
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
    "admin_ports": schema.list_of(PORT),
    "secret_files": schema.map_of(schema.text),
    "setuid": schema.list_of(schema.text),
    "needs": schema.list_of(schema.text),
    "tls": Record({"port": PORT, "protocol": schema.choice("tls", "postgres")}, required=("port",)),
}

PROFILE = Record(
    {
        "images": schema.list_of(schema.text),
        "match": Record(
            {
                "repositories": schema.list_of(schema.text),
                "entrypoints": schema.list_of(schema.text),
                "ports": schema.list_of(PORT),
            }
        ),
        "confidence": schema.choice("tried", "documented", "observed"),
        "sources": schema.list_of(schema.text),
        "class": schema.choice("database", "proxy", "application", "observability", "batch"),
        "variants": schema.list_of(Record({"tag": schema.text, "image": schema.text, **_VARIANT})),
        **_VARIANT,
    },
    required=("images", "class", "memory"),
)


_SAME_NAME = (
    "user",
    "group_add",
    "read_only",
    "read_only_unless",
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
    "confidence",
    "sources",
    "programs",
    "admin_ports",
    "secret_files",
    "setuid",
    "needs",
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
    read_only_unless: tuple[str, ...] = ()
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
    confidence: Confidence = "assumed"
    sources: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    admin_ports: tuple[int, ...] = ()
    programs: tuple[str, ...] = ()
    health: Mapping[str, Healthcheck] = field(default_factory=dict)
    secret_files: Mapping[str, str] = field(default_factory=dict)
    setuid: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    def secret_file(self, variable: str) -> str | None:
        """Return the variable that names a file for what ``variable`` holds, or None if the software knows none."""
        for known, file in self.secret_files.items():
            if fnmatch.fnmatchcase(variable, known):
                return file.replace("*", variable.removeprefix(known.rstrip("*"))) if "*" in known else file
        return None


@dataclass(frozen=True)
class Match:
    """The profile for an image, how sure that is, and why, in words that follow "taken for NAME, because"."""

    profile: Profile
    confidence: Confidence
    why: str


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
    values: Mapping[str, Any] = {**checked, **(_variant(checked, image) or {})}
    cpus, log = values.get("cpus", {}), values.get("log", {})
    depths = {depth: healthcheck(probe) for depth, probe in values.get("health", {}).items()}
    if "healthcheck" in values:
        depths.setdefault("shallow", healthcheck(values["healthcheck"]))
    given = {
        "cpus_weight": cpus.get("weight"),
        "cpus_cap": cpus.get("cap"),
        "shm_bytes": values.get("shm"),
        "stop_grace_seconds": whole_seconds(values["stop_grace"]) if "stop_grace" in values else None,
        "healthcheck": healthcheck(values["healthcheck"]) if "healthcheck" in values else depths.get("shallow"),
        "health": depths,
        "ports": values.get("match", {}).get("ports"),
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

    @cached_property
    def _owners(self) -> Mapping[str, str]:
        return {split_image(image)[0]: name for name, record in self.records.items() for image in record["images"]}

    @cached_property
    def _forks(self) -> Mapping[str, str]:
        return {split_image(fork)[0]: name for name in self.records for fork in self._said(name, "repositories")}

    @cached_property
    def _evidence(self) -> Mapping[str, matching.Evidence]:
        return {
            name: matching.Evidence.of(record["images"], self._said(name, "entrypoints"), self._said(name, "ports"))
            for name, record in self.records.items()
        }

    def _said(self, name: str, key: str) -> tuple[Any, ...]:
        return tuple(self.records[name].get("match", {}).get(key, ()))

    def family(self, image: str) -> str | None:
        """Return the name of the profile that knows the image by its name, or None. The registry does not matter.

        A fork counts where the profile has a variant for it.
        """
        for name in matching.names(image):
            if name in self._owners:
                return self._owners[name]
            fork = self._forks.get(name)
            if fork and _variant(self.records[fork], image, forks=True):
                return fork
        return None

    def match(
        self, image: str, entrypoint: Sequence[str] | None = None, ports: Iterable[int] = (), instead_of: str = ""
    ) -> Match | None:
        """Return the profile for an image, how sure it is, and why; None if nothing is known of it.

        ``entrypoint`` is the image's entrypoint with its command, None where nobody knows it; ``ports`` are those that
        it exposes. An image known by its name, under whatever registry, has its profile as it is. Of a fork that is
        laid out in its own way, and of one that only its command or name speaks for, :func:`shared` is taken.
        ``instead_of`` is the image in whose place a person has put this one: what they call it comes first.
        """
        asked = [one for one in dict.fromkeys((image, instead_of)) if one]
        for one in asked:
            if found := self._by_name(one, _tag(image)):
                return found
        for one in asked:
            if guess := matching.by_evidence(self._evidence, one, entrypoint, ports):
                made = parse_profile(guess.name, self.records[guess.name], image)
                return Match(made if guess.whole else shared(made), "assumed", guess.why)
        return None

    def _by_name(self, image: str, tag: str) -> Match | None:
        for name in matching.names(image):
            owner, fork = self._owners.get(name), self._forks.get(name)
            if owner:
                found = parse_profile(owner, self.records[owner], name + tag)
                own = split_image(image)[0]
                why = "is one of its images" if own == name else f"mirrors {name}, one of its images"
                return Match(found, found.confidence, f"{own} {why}")
            if fork:
                found = parse_profile(fork, self.records[fork], name + tag)
                if _variant(self.records[fork], name + tag, forks=True):
                    return Match(found, "documented", f"{name} is a fork that its profile knows")
                return Match(shared(found), "assumed", f"{name} is a fork of it, laid out in its own way")
        return None

    def named(self, name: str, image: str, at: At) -> Profile:
        """Return the profile called ``name``, in the variant that fits the image's tag."""
        if name not in self.records:
            near = difflib.get_close_matches(name, self.records, 1) or sorted(self.records)
            raise at.error(f"there is no profile {name!r}", f"write one of: {', '.join(near)}")
        return parse_profile(name, self.records[name], image)


def shared(profile: Profile) -> Profile:
    """Return what is true of software however its image is laid out: what it needs of a host, and its ports.

    Not its user, paths, probe or command line. The capabilities are those that images commonly need which start as
    root and change to a user of their own (chown, and the calls of ``gosu`` and ``su-exec``).
    """
    return replace(
        profile,
        user=None,
        group_add=(),
        read_only=False,
        writable=(),
        cap_add=tuple(sorted({*profile.cap_add, *COMMON_CAPABILITIES})),
        healthcheck=None,
        health={},
        environment={},
        entrypoint=None,
        command=None,
        command_add=(),
        tunables={name: how for name, how in profile.tunables.items() if tunables.is_environment(how)},
        data_version={},
        dump=None,
        reload=None,
        tls=None,
        programs=(),
        secret_files={},
    )


COMMON_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "NET_BIND_SERVICE", "SETGID", "SETUID")


def _tag(image: str) -> str:
    tag = split_image(image)[1]
    return f":{tag}" if tag else ""


def _variant(record: Mapping[str, Any], image: str, *, forks: bool = False) -> dict[str, Any] | None:
    """Return the first variant that fits the image's name and tag; with ``forks``, of those that are for a name."""
    repository, tag = split_image(image)
    for variant in record.get("variants", ()):
        if forks and "image" not in variant:
            continue
        if fnmatch.fnmatchcase(tag or "latest", variant.get("tag", "*")) and fnmatch.fnmatchcase(
            repository, variant.get("image", "*")
        ):
            return dict(variant)
    return None


def load_profiles(directory: Path) -> Profiles:
    """Read ``directory/*.yaml``, one profile a file, named by the file; ``EXAMPLE.yaml`` is documentation.

    Raises BattenError for what is no profile, contradicts itself, or claims an image that another one has.
    """
    files = ((path, path.stat()) for path in sorted(directory.glob("*.yaml")) if path.stem != "EXAMPLE")
    return _load(directory, tuple((path.name, about.st_mtime_ns, about.st_size) for path, about in files))


@lru_cache(maxsize=4)
def _load(directory: Path, files: tuple[tuple[str, int, int], ...]) -> Profiles:
    """Every stack of every host of a run has the same profiles; ``files`` are name, time and size of each."""
    records: dict[str, Mapping[str, Any]] = {}
    owner: dict[str, str] = {}
    for path in (directory / name for name, _, _ in files):
        at = At(str(path))
        record = PROFILE(schema.read_yaml(path), at)
        for place, image in [
            *(("images", image) for image in record["images"]),
            *(("match.repositories", image) for image in record.get("match", {}).get("repositories", ())),
        ]:
            other = owner.setdefault(split_image(image)[0], path.stem)
            if other != path.stem:
                raise at.key(place).error(
                    f"{image!r} is already in profile {other!r}", "name an image in one profile only"
                )
        records[path.stem] = record
    for name, accepted in records.items():
        consistency.review(accepted, At(str(directory / f"{name}.yaml")))
    return Profiles(records)
