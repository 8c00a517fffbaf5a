"""The plan: what batten decided, as plain immutable values.

Sizes are bytes, durations seconds, ``cpus`` fractions of one processor. Every other room reads these types and none
changes them. :func:`to_json` gives the shape that ``batten plan --json`` prints and that a release carries.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from batten.errors import BattenError

Target = Literal["selfhosted", "digitalocean"]
ServiceClass = Literal["database", "proxy", "application", "observability", "batch"]
Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Capacity:
    """What one host has, as the kernel and the engine report it.

    ``memory_bytes`` is MemTotal, or the memory limit of the container that the host is, whichever is smaller.
    ``foreign_bytes`` is what containers outside batten's stacks really use; ``project_bytes`` is the part of it that
    Compose projects use, by name, as one of them may be taken over. ``nofile_hard`` is the highest hard limit
    on open files that a container can be granted here, ``pids_max`` the most processes and threads.
    ``oom_score_adj_min`` is the lowest value the engine may set.
    ``addresses`` are the addresses the host owns, both families. ``volumes`` maps the names of existing Docker
    volumes to their labels; ``projects`` maps running Compose projects to their service names. ``groups`` maps the
    names of the host's system groups that a profile may ask for to their numbers. ``disk_bytes`` and
    ``disk_free_bytes`` are those of the smallest disk that holds data of the stacks.
    """

    memory_bytes: int
    cpus: float
    foreign_bytes: int = 0
    project_bytes: Mapping[str, int] = field(default_factory=dict)
    nofile_hard: int = 1048576
    pids_max: int = 4194304
    oom_score_adj_min: int = -1000
    addresses: tuple[str, ...] = ()
    default_addresses: tuple[str, ...] = ()
    engine_version: str | None = None
    compose_version: str | None = None
    volumes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    projects: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    allocated: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, int] = field(default_factory=dict)
    disk_bytes: int | None = None
    disk_free_bytes: int | None = None
    source: str = "host"
    observed_at: str | None = None


COMES_BACK = ("always", "unless-stopped")
"""Restart policies by which the engine starts also what ended well."""

ANY_HOST = Capacity(memory_bytes=2**50, cpus=1024)
"""A host that has all there is, for questions whose answer does not depend on how much a host has."""


@dataclass(frozen=True)
class Healthcheck:
    """A Compose ``healthcheck``; ``test`` starts with ``CMD`` or ``CMD-SHELL``."""

    test: tuple[str, ...]
    interval_seconds: float = 10
    timeout_seconds: float = 5
    retries: int = 5
    start_period_seconds: float = 30
    start_interval_seconds: float = 2


@dataclass(frozen=True)
class Port:
    """A published port. ``address`` None means that the base named none."""

    target: int
    published: int
    address: str | None = None
    protocol: str = "tcp"


@dataclass(frozen=True)
class Tmpfs:
    """A writable in-memory path of a read-only container. ``mode`` is octal text such as ``"1777"``."""

    path: str
    size_bytes: int
    mode: str = "1777"
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True)
class FilesMount:
    """A directory of rendered files, mounted read-only at ``mount`` from ``/opt/batten/STACK/files/SERVICE/DIGEST``."""

    mount: str
    digest: str = ""


@dataclass(frozen=True)
class Tls:
    """What a service serves TLS with. ``certificate`` is a file of its secrets; ``name`` is what its clients call it.

    ``protocol`` is ``tls``, or ``postgres``, which asks for TLS in its own words first. Without a ``name`` the
    certificate is one that a person gave, and whose authority batten does not know.
    """

    port: int
    certificate: str
    protocol: Literal["tls", "postgres"] = "tls"
    name: str | None = None


@dataclass(frozen=True)
class MemoryRequest:
    """What a limit was shared out by: at least ``floor_bytes``, at most ``cap_bytes``, by ``weight`` in between."""

    floor_bytes: int
    weight: float = 1.0
    cap_bytes: int | None = None


@dataclass(frozen=True)
class Tuning:
    """What a container that was made for a limit of ``memory_bytes`` runs with: its tunables, and where they stand.

    ``disk_bytes`` is the disk that they were made for, 0 where it was not known.
    ``environment`` holds the tuned variables alone, ``command`` is the whole command, None for the image's own.
    """

    memory_bytes: int
    tunables: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    command: tuple[str, ...] | None = None
    disk_bytes: int = 0


@dataclass(frozen=True)
class ServicePlan:
    """All that is decided for one service. None means: leave what the base says.

    Values are literal: variables are filled in, and who writes Compose YAML turns ``$`` into ``$$``. An ``environment``
    value of None removes the base's variable (a password that now comes from a file). ``volumes`` maps named volumes to
    their paths in the container; ``extra_volumes`` are further mounts in Compose's short syntax; ``data_binds`` are
    those directories of the host among them that its user must own. ``secrets`` names the
    files that appear under ``/run/secrets``; ``rotations`` maps the secrets in them to how each is rotated.
    ``one_shot``: it runs once and ends, so nothing starts it again.
    ``migrates`` names the database that is dumped before the image changes.
    ``reload`` is what is done after its secrets changed: a command run in the container, ``("SIGNAL", NAME)``, nothing
    (empty: it reads them at every use), or None to make the container anew.
    ``kept`` names what the layers leave as the base has it: a key that is there is not written, and a list (``tmpfs``,
    ``cap_add``, ``cap_drop``, ``security_opt``) is added to instead of replaced. ``deploy_limits``: the base gives its
    limits under ``deploy.resources``, and Compose refuses them in two places. ``log_driver`` is the engine's.
    ``data_version`` is ``{"env": NAME, "file": NAME}``: the image's variable and the data directory's file that must
    hold the same major version. ``dump`` is the command that writes a dump to its standard output.
    ``cpu_shares`` is its weight where processors are short. ``tunables`` fit a limit of ``tuned_bytes`` and a disk of
    ``tuned_disk_bytes`` (0: not known, or nothing follows from it); a container that still runs with one of
    ``accepted`` need not be made anew for them: they wait for its next recreation. So does a lower limit of a database
    that still has one of ``accepted_limits`` (bytes) and cannot take it live.
    """

    name: str
    profile: str | None
    service_class: ServiceClass
    image: str
    memory_bytes: int
    cpus: float
    pids: int
    memory_reservation_bytes: int = 0
    nofile: int | None = None
    oom_score_adj: int = 0
    shm_bytes: int | None = None
    user: str | None = None
    group_add: tuple[str, ...] = ()
    read_only: bool = True
    tmpfs: tuple[Tmpfs, ...] = ()
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ("ALL",)
    healthcheck: Healthcheck | None = None
    init: bool = True
    restart: str = "unless-stopped"
    one_shot: bool = False
    stop_grace_seconds: int = 10
    stop_signal: str | None = None
    environment: Mapping[str, str | None] = field(default_factory=dict)
    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    networks: tuple[str, ...] = ()
    ports: tuple[Port, ...] = ()
    depends_on: Mapping[str, str] = field(default_factory=dict)
    files: FilesMount | None = None
    secrets: tuple[str, ...] = ()
    rotations: Mapping[str, str] = field(default_factory=dict)
    tls: Tls | None = None
    volumes: Mapping[str, str] = field(default_factory=dict)
    extra_volumes: tuple[str, ...] = ()
    data_binds: tuple[str, ...] = ()
    reload: tuple[str, ...] | None = None
    migrates: str | None = None
    tunables: Mapping[str, str] = field(default_factory=dict)
    log_format: Literal["json", "text"] = "text"
    log_parser: str | None = None
    stateful: bool = False
    data_version: Mapping[str, str] = field(default_factory=dict)
    dump: tuple[str, ...] | None = None
    build: bool = False
    cpu_shares: int | None = None
    memory_request: MemoryRequest | None = None
    tuned_bytes: int = 0
    tuned_disk_bytes: int = 0
    accepted: tuple[Tuning, ...] = ()
    accepted_limits: tuple[int, ...] = ()
    kept: tuple[str, ...] = ()
    deploy_limits: bool = False
    no_new_privileges: bool = True
    log_driver: Literal["journald", "local"] = "journald"


@dataclass(frozen=True)
class VolumePlan:
    """A named volume. ``device`` is the host directory that backs it; None leaves it to the engine (adopted, or base).

    ``uid``, ``gid`` and ``mode`` are what the directory must have; a ``uid`` of None is not known and not enforced.
    ``name`` is the engine's name for it.
    """

    name: str
    device: str | None
    uid: int | None
    gid: int | None
    mode: str = "0700"


@dataclass(frozen=True)
class BackupPlan:
    """Backups of one stack: encrypted to ``recipient`` (age), into ``directory``, at ``schedule`` (systemd.time(7)).

    The newest ``keep`` stay, and the newest of these may be ``max_age_seconds`` old.
    """

    recipient: str
    directory: str
    schedule: str
    keep: int
    max_age_seconds: float


@dataclass(frozen=True)
class DriftRule:
    """What is done about one facet of one service that differs; ``*`` is any. ``until`` is the last day, ISO."""

    facet: str
    service: str
    policy: Literal["ignore", "report", "repair"]
    reason: str | None
    until: str | None


@dataclass(frozen=True)
class StackPlan:
    """One stack on one host.

    ``networks`` maps a network's name to whether it is internal; from those in ``closed``, which are not, nothing gets
    out all the same. ``capacity_bytes`` is the memory that the limits were
    computed from: the next plan keeps it while the kernel's figure stays within 2 %. ``foreign_bytes`` is what was kept
    free for containers outside batten's stacks; the next plan keeps that too while it is enough and not far too much.
    ``expires`` maps secrets to the days that a value of theirs may be old.
    ``drift`` is what people change on purpose.
    ``overlay``: the networks and volumes of the base are its own business (``batten harden``).
    ``backup`` is None where backups are off. ``sync_seconds`` is how often the host looks for changed secrets,
    ``drift_seconds`` how often for drift, None for never.
    """

    name: str
    project: str
    target: Target
    compose_profiles: tuple[str, ...]
    services: Mapping[str, ServicePlan]
    networks: Mapping[str, bool]
    volumes: Mapping[str, VolumePlan] = field(default_factory=dict)
    data_directory: str | None = None
    closed: tuple[str, ...] = ()
    requires_mounts_for: tuple[str, ...] = ()
    start_order: tuple[tuple[str, ...], ...] = ()
    removed: tuple[str, ...] = ()
    capacity_bytes: int = 0
    foreign_bytes: int = 0
    backup: BackupPlan | None = None
    sync_seconds: float | None = None
    drift_seconds: float | None = None
    expires: Mapping[str, int] = field(default_factory=dict)
    overlay: bool = False
    drift: tuple[DriftRule, ...] = ()


@dataclass(frozen=True)
class Finding:
    """Something a person should know of a plan. ``error`` findings stop a deployment."""

    severity: Severity
    where: str
    what: str
    fix: str


def refuse(findings: Iterable[Finding]) -> None:
    """Raise the first of ``findings`` that is an error, as a BattenError."""
    for one in findings:
        if one.severity == "error":
            raise BattenError(one.what, one.where, one.fix)


@dataclass(frozen=True)
class HostPlan:
    """The budget of one host and the stacks planned on it.

    ``overcommitted_bytes`` is how much of ``allocated_bytes`` is promised twice, as ``overcommit`` (by class) allows.
    """

    memory_bytes: int
    cpus: float
    reserved_bytes: int
    foreign_bytes: int
    allocated_bytes: int
    stacks: Mapping[str, StackPlan]
    capacity_source: str = "host"
    overcommitted_bytes: int = 0
    overcommit: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Everything that ``batten plan`` prints."""

    hosts: Mapping[str, HostPlan]
    findings: tuple[Finding, ...] = ()


def to_json(value: Any) -> Any:
    """Return any plan value as plain dicts, lists and scalars, the same for equal plans."""
    return _plain(asdict(value))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in sorted(value.items())}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def stack_from_json(value: Mapping[str, Any]) -> StackPlan:
    """Return the StackPlan that :func:`to_json` wrote. Keys of a later version are passed over.

    Raises BattenError for what is no plan.
    """
    try:
        plan: StackPlan = _revive(StackPlan, value)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise BattenError(f"this is not a plan of batten's: {error}", "plan.json", "run site.yml again") from error
    return plan


def capacity_from_json(value: Mapping[str, Any]) -> Capacity:
    """Return the Capacity that a host reported (``module_utils/capacity.py``)."""
    try:
        capacity: Capacity = _revive(Capacity, value)
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise BattenError(f"this is not a host's capacity: {error}", "capacity", "run site.yml again") from error
    return capacity


def _revive(kind: Any, value: Any) -> Any:
    """Turn plain JSON into what the type annotation ``kind`` says."""
    origin, arguments = get_origin(kind), get_args(kind)
    if value is None or kind is Any or origin is Literal:
        return value
    if origin in (Union, UnionType):
        return _revive(next(item for item in arguments if item is not type(None)), value)
    if origin is Mapping:
        return {key: _revive(arguments[1], item) for key, item in value.items()}
    if origin is tuple:
        return tuple(_revive(arguments[0], item) for item in value)
    if is_dataclass(kind) and isinstance(kind, type):
        hints = get_type_hints(kind)
        return kind(**{name: _revive(hints[name], item) for name, item in value.items() if name in hints})
    return value
