"""What the controls read and what they say: plain values, built from one batch of live reads."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batten.plan.model import ServicePlan, StackPlan
    from batten.verify.hosts import HostReport

Status = Literal["pass", "fail", "waived", "not_applicable"]


@dataclass(frozen=True)
class Verdict:
    """What one control found. ``evidence`` is one line for a person; it never holds a secret's value."""

    status: Status
    evidence: str


def holds(evidence: str) -> Verdict:
    return Verdict("pass", evidence)


def fails(evidence: str) -> Verdict:
    return Verdict("fail", evidence)


def not_applicable(evidence: str) -> Verdict:
    return Verdict("not_applicable", evidence)


def equal(name: str, planned: Any, live: Any) -> Verdict:
    """Hold if both are equal; the evidence gives both values either way."""
    return holds(f"{name} {live}") if live == planned else fails(f"{name} is {live}, planned {planned}")


def all_of(*verdicts: Verdict) -> Verdict:
    """The failures if there are any; otherwise what held; ``not_applicable`` only if nothing else was said."""
    for status in ("fail", "pass"):
        chosen = [verdict.evidence for verdict in verdicts if verdict.status == status]
        if chosen:
            return Verdict(status, "; ".join(chosen))
    return not_applicable("; ".join(verdict.evidence for verdict in verdicts))


@dataclass(frozen=True)
class HostPlan:
    """What is expected of one host: its stacks, and what its inventory tells role ``host`` (its README has them)."""

    stacks: tuple[StackPlan, ...]
    variables: Mapping[str, Any]

    def wants(self, name: str) -> bool:
        """True if a part of role ``host`` is on. One that the inventory says nothing of is off."""
        return bool(self.variables.get(name))


@dataclass(frozen=True)
class ProcessStatus:
    """One process of a container, from ``/proc/PID/status``. Capability sets are bit masks."""

    name: str
    pid: int
    parent: int
    uid: int
    cap_bounding: int
    cap_effective: int
    no_new_privileges: bool
    seccomp: int


@dataclass(frozen=True)
class LiveProcess:
    """What the kernel enforces on a running container.

    ``cgroup`` holds the files of its control group by name (v1 or v2), ``nofile`` and ``core`` soft and hard limit of
    its first process, ``processes`` every process in the control group.
    """

    cgroup: Mapping[str, str]
    nofile: tuple[str, str]
    core: tuple[str, ...]
    oom_score_adj: int
    apparmor: str
    processes: tuple[ProcessStatus, ...]


@dataclass(frozen=True)
class LiveContainer:
    """One container: the engine's account (``inspect``) and the kernel's (``process``, None unless it runs).

    ``stack`` is the one as whose service it is judged.
    """

    inspect: Mapping[str, Any]
    process: LiveProcess | None
    host: LiveHost
    stack: str = ""

    @property
    def id(self) -> str:
        return str(self.inspect["Id"])

    @property
    def name(self) -> str:
        return str(self.inspect["Name"]).lstrip("/")

    @property
    def labels(self) -> Mapping[str, str]:
        return self.inspect["Config"].get("Labels") or {}

    @property
    def project(self) -> str:
        return self.labels.get("com.docker.compose.project", "")

    @property
    def service(self) -> str:
        return self.labels.get("com.docker.compose.service", "")

    @property
    def tried(self) -> Mapping[str, Any]:
        """What ``probe.py`` found of it: ``log`` and, if it runs, ``network``."""
        return self.host.tried.get(self.id, {})

    @property
    def config(self) -> Mapping[str, Any]:
        return self.inspect["Config"]  # type: ignore[no-any-return]

    @property
    def host_config(self) -> Mapping[str, Any]:
        return self.inspect["HostConfig"]  # type: ignore[no-any-return]

    @property
    def state(self) -> Mapping[str, Any]:
        return self.inspect["State"]  # type: ignore[no-any-return]


def memory_limit(expected: ServicePlan, live: LiveContainer) -> int:
    """The planned limit in bytes, or a larger one that the plan lets a database keep until it is made anew."""
    found = int(live.host_config["Memory"])
    return found if found in expected.accepted_limits else expected.memory_bytes


@dataclass(frozen=True)
class FileStat:
    """``kind`` is ``find``'s letter or ``stat``'s words; ``mode`` the permission bits."""

    path: str
    kind: str
    mode: int
    uid: int
    gid: int
    user: str = ""
    group: str = ""

    def __str__(self) -> str:
        return f"{self.path} {self.user or self.uid}:{self.group or self.gid} {self.mode:04o}"


@dataclass(frozen=True)
class Listener:
    """One listening socket and the programs that hold it."""

    protocol: str
    address: str
    port: int
    programs: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.address}:{self.port}/{self.protocol} by {', '.join(self.programs) or 'the kernel'}"


@dataclass(frozen=True)
class LiveCertificate:
    """A certificate: from and until when it holds, in seconds since the epoch, and its SHA-256 fingerprint.

    ``key`` and ``signature`` are algorithms in openssl's words, ``bits`` the size of the key.
    """

    start: float
    end: float
    fingerprint: str
    key: str
    bits: int
    signature: str


@dataclass(frozen=True)
class LiveTls:
    """What a TLS port showed: the certificate, None if there was no handshake, and openssl's word on the chain.

    ``protocol`` is the version that both agreed on, ``old`` is ``accepted`` where TLS 1.1 is as well.
    """

    certificate: LiveCertificate | None
    verify: str
    protocol: str
    old: str


@dataclass(frozen=True)
class LiveBackup:
    """One backup on a host: the size of its encrypted file, and what the JSON file beside it says."""

    size: int
    described: Mapping[str, Any]


@dataclass(frozen=True)
class LiveHost:
    """One host as it is. ``facts`` are single values, ``info`` is ``docker info``, ``units`` systemd's properties.

    ``asserted`` are the mounts without which the engine does not start, ``trees`` are by stack and part (``top``: its
    own directories).
    ``certificates`` are by stack and ``SERVICE/FILE``, ``tls`` by stack and service; ``sealed`` is the kind of key that
    a stack's values are sealed with, as systemd writes it, ``made`` the times of these values by name,
    ``refreshed`` what the last look at Infisical came to. ``tried`` is what ``probe.py`` found for each container,
    ``outside`` which ports answer from outside (``scan.py``). ``machine`` are single values of the host itself,
    ``table`` is nft's own listing of batten's rules, ``audit`` the rules of the kernel, ``held_back`` the packages that
    are not upgraded by themselves. ``images`` are those of the stacks' containers, as ``docker image inspect`` has them
    but for values of variables; ``drift`` is what the drift timer wrote: its last report, then its history, oldest
    first.
    """

    name: str
    facts: Mapping[str, str]
    info: Mapping[str, Any]
    daemon: Mapping[str, Any] | None
    inspects: tuple[Mapping[str, Any], ...]
    processes: Mapping[str, LiveProcess]
    tried: Mapping[str, Mapping[str, Any]]
    tried_on_host: Mapping[str, Any]
    networks: tuple[Mapping[str, Any], ...]
    volumes: tuple[Mapping[str, Any], ...]
    published: tuple[Mapping[str, Any], ...]
    listeners: tuple[Listener, ...]
    journal: Mapping[str, str]
    logged: frozenset[str]
    units: Mapping[str, Mapping[str, str]]
    asserted: frozenset[str]
    files: Mapping[str, FileStat]
    trees: Mapping[tuple[str, str], tuple[FileStat, ...]]
    secret_mounts: Mapping[str, str]
    backups: Mapping[str, tuple[LiveBackup, ...]]
    certificates: Mapping[tuple[str, str], LiveCertificate | None]
    tls: Mapping[tuple[str, str], LiveTls]
    sealed: Mapping[str, str]
    refreshed: Mapping[str, Mapping[str, Any]]
    made: Mapping[str, Mapping[str, str]]
    machine: Mapping[str, str]
    sysctls: Mapping[str, str]
    audit: tuple[str, ...]
    present: frozenset[str]
    table: tuple[Mapping[str, Any], ...]
    chains: frozenset[str]
    apt: Mapping[str, str]
    held_back: tuple[str, ...]
    addresses: tuple[str, ...]
    outside: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    images: tuple[Mapping[str, Any], ...] = ()
    drift: tuple[Mapping[str, Any], ...] = ()

    @cached_property
    def containers(self) -> tuple[LiveContainer, ...]:
        return tuple(LiveContainer(one, self.processes.get(one["Id"]), self) for one in self.inspects)


@dataclass(frozen=True)
class Control:
    """One line of the report: what ``batten verify --json`` lists."""

    id: str
    title: str
    host: str
    stack: str | None
    service: str | None
    status: Status
    evidence: str
    cis: str | None


@dataclass(frozen=True)
class Report:
    """The outcome of a run. ``errors`` are hosts that could not be judged, each with what to type.

    ``hosts`` is what a report tells of each host that was read besides its controls, ``waivers`` every waiver and
    whether it counts (:func:`batten.verify.waivers.told`), ``at`` when it was, in RFC 3339.
    """

    controls: tuple[Control, ...]
    errors: tuple[Mapping[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    stand_ins: tuple[Mapping[str, str], ...] = ()
    seconds: float = 0.0
    hosts: tuple[HostReport, ...] = ()
    waivers: tuple[Mapping[str, Any], ...] = ()
    at: str = ""

    @property
    def counts(self) -> dict[str, int]:
        statuses: tuple[Status, ...] = ("pass", "fail", "waived", "not_applicable")
        return {status: sum(control.status == status for control in self.controls) for status in statuses}

    @property
    def exit_code(self) -> int:
        """0 all hold, 2 some fail, 1 a host could not be judged."""
        if self.errors:
            return 1
        return 2 if self.counts["fail"] else 0

    def to_json(self) -> dict[str, Any]:
        """The JSON document of ``batten verify --json``."""
        return {
            "at": self.at,
            "controls": [asdict(control) for control in self.controls],
            "hosts": [asdict(host) for host in self.hosts],
            "waivers": [dict(waiver) for waiver in self.waivers],
            "summary": {
                **self.counts,
                "seconds": round(self.seconds, 2),
                "errors": [dict(error) for error in self.errors],
                "notes": list(self.notes),
                "stand_ins": [dict(one) for one in self.stand_ins],
            },
        }
