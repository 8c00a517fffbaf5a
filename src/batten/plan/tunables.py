"""Settings inside the software that must follow its limit: heap sizes, buffers, connections; and the disk: retention.

A profile's ``tunables`` maps a setting's name to a formula, ``KEYWORD`` or ``KEYWORD NUMBER``. The formula decides the
value, and whether it goes into the environment or onto the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batten.plan import schema

if TYPE_CHECKING:
    from batten.plan.schema import At

MIB, GIB = 1024**2, 1024**3
_BACKENDS_MIN, _BACKENDS_MAX = 30, 200
_HYSTERESIS, _FULL = 0.2, 0.95
_PARTS = (
    "gomemlimit",
    "node_heap",
    "megabytes",
    "bytes",
    "shared_buffers",
    "redis_maxmemory",
    "innodb_buffer",
    "wiredtiger_cache",
    "memcached_limit",
    "jvm_heap",
)
_POOL_MIN = 5


@dataclass(frozen=True)
class Tuned:
    """Values by name, and where they go."""

    values: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()


def _share(memory: int, factor: float) -> int:
    return max(1, int(memory * factor) // MIB)


def connections(memory: int) -> int:
    """PostgreSQL's max_connections: one per 10 MiB, the cost of one that DigitalOcean documents, from 30 to 200."""
    return max(_BACKENDS_MIN, min(_BACKENDS_MAX, memory // (10 * MIB)))


def _work_mem(memory: int, factor: float) -> int:
    """What shared_buffers (a quarter) leaves, shared by every connection ``factor`` times (a sort or hash each)."""
    return max(1, int(memory * 0.75 / (connections(memory) * factor)) // MIB)


# What is kept before a plan knows the disk.
_UNKNOWN_DISK = 54 * GIB
# An estimate: the logs of the reference stack, compressed, are some 5 GiB a month. Loki takes no period below a day
# (its documentation, "Log retention").
_LOGS_A_DAY = 160 * MIB
_DAYS_MIN, _DAYS_MAX = 2, 30


def _retention_size(disk: int, factor: float) -> str:
    """Prometheus counts in powers of two, its write-ahead log too (its documentation, "Storage")."""
    size = int(disk * factor)
    return f"{size // GIB}GB" if size >= GIB else f"{max(size // MIB, 512)}MB"


def _retention_period(disk: int, factor: float) -> str:
    """Loki knows no size: the days that fit, in hours."""
    days = int(disk * factor) // _LOGS_A_DAY
    return f"{24 * max(_DAYS_MIN, min(days, _DAYS_MAX))}h"


_Formula = tuple[float, Callable[[int, float], str], str]
# keyword: the default number, the value, and the command line or "" for the environment.
_FORMULAS: Mapping[str, _Formula] = {
    # The Go runtime collects before the limit; 85 to 90 % leaves room for what is not heap (Loki's helm chart: 0.85).
    "gomemlimit": (0.85, lambda memory, factor: f"{_share(memory, factor)}MiB", ""),
    # V8 takes no notice of small limits (nodejs/node#64646): always given.
    "node_heap": (0.7, lambda memory, factor: f"--max-old-space-size={_share(memory, factor)}", ""),
    "megabytes": (0.5, lambda memory, factor: str(_share(memory, factor)), ""),
    "bytes": (0.5, lambda memory, factor: str(int(memory * factor)), ""),
    # PostgreSQL 18, 19.4 "Resource Consumption": shared_buffers 25 %, rarely more than 40 %; page cache is the rest.
    "shared_buffers": (0.25, lambda memory, factor: f"{_share(memory, factor)}MB", "-c {name}={value}"),
    "effective_cache_size": (0.6, lambda memory, factor: f"{_share(memory, factor)}MB", "-c {name}={value}"),
    "maintenance_work_mem": (0.0625, lambda memory, factor: f"{_share(memory, factor)}MB", "-c {name}={value}"),
    "work_mem": (3, lambda memory, factor: f"{_work_mem(memory, factor)}MB", "-c {name}={value}"),
    "max_connections": (1, lambda memory, _: str(connections(memory)), "-c {name}={value}"),
    # ClickHouse reads the cgroup and takes 90 % of it; the rest must hold what it does not count.
    "clickhouse_ratio": (0.8, lambda _, factor: f"{factor:g}", "--{name}={value}"),
    "redis_maxmemory": (0.6, lambda memory, factor: f"{_share(memory, factor)}mb", "--{name} {value}"),
    # MySQL 8.4, 17.8.3.1: up to 80 % of a machine of its own; half of a limit leaves room for connections and sorting.
    "innodb_buffer": (0.5, lambda memory, factor: f"{_share(memory, factor)}M", "--{name}={value}"),
    # MongoDB takes no less than 256 MB; its own default is half of what is left of the memory after 1 GB.
    "wiredtiger_cache": (0.4, lambda memory, factor: f"{max(0.25, memory * factor / 1024**3):.2f}", "--{name} {value}"),
    "memcached_limit": (0.8, lambda memory, factor: str(_share(memory, factor)), "--{name}={value}"),
    # RabbitMQ takes 60 % of what it believes the machine has (its documentation, "Memory Threshold").
    "rabbitmq_memory": (
        1,
        lambda memory, factor: f"-rabbit total_memory_available_override_value {int(memory * factor)}",
        "",
    ),
    # Equal bounds, as Elasticsearch asks for; pointers are compressed below 32 GB.
    "jvm_heap": (0.5, lambda memory, factor: "-Xms{0}m -Xmx{0}m".format(min(_share(memory, factor), 31 * 1024)), ""),
    # The JVM reads its limit, but takes a quarter of it (java(1), MaxRAMPercentage).
    "jvm_percentage": (0.7, lambda _, factor: f"-XX:MaxRAMPercentage={factor * 100:g}", ""),
    # Of the disk, not of the memory. Prometheus says 80 to 85 % of a disk of its own; here the databases share it.
    "retention_size": (0.15, _retention_size, "--{name}={value}"),
    "retention_period": (0.15, _retention_period, "-{name}={value}"),
}
_OF_DISK = ("retention_size", "retention_period")


def check(formula: str, at: At) -> None:
    """Refuse a formula that is none of ours."""
    keyword = formula.partition(" ")[0]
    if keyword not in _FORMULAS:
        raise schema.unknown_key(keyword, _FORMULAS, at)


def is_environment(formula: str) -> bool:
    """Whether the value goes into the environment, which needs no knowledge of the command line."""
    return not _FORMULAS[formula.partition(" ")[0]][2]


def still_fit(formulas: Mapping[str, str], tuned: int, memory: int) -> bool:
    """Say whether values for a limit of ``tuned`` bytes may stay at one of ``memory`` bytes.

    They do while it moved by at most 20 %, and no single one of them would fill it.
    """
    if abs(memory - tuned) > _HYSTERESIS * tuned:
        return False
    return all(_part(formula) * tuned <= _FULL * memory for formula in formulas.values())


def _part(formula: str) -> float:
    """The part of the limit that a formula gives away at once."""
    keyword, _, number = formula.partition(" ")
    if keyword not in _PARTS:
        return 0.0
    return float(number) if number else _FORMULAS[keyword][0]


def pool(connections: int, reserved: int, limit: int) -> int:
    """Return a PgBouncer pool's size: what a server's ``connections`` leave besides ``reserved`` ones, 5 to ``limit``.

    Its pools, with what reaches the server directly, must not sum above max_connections (PgBouncer's documentation,
    "default_pool_size").
    """
    return min(max(connections - reserved, _POOL_MIN), limit)


def follow_disk(formulas: Mapping[str, str]) -> bool:
    """Whether any of these tunables follows from the disk."""
    return any(how.partition(" ")[0] in _OF_DISK for how in formulas.values())


def settle_disk(now: int | None, before: int) -> int:
    """Return the disk to reckon with: the one of ``before`` (0: none) while it is within 20 % of it, or not known."""
    if now is None or abs(now - before) <= _HYSTERESIS * before:
        return before
    return now


def said_already(formulas: Mapping[str, str], command: Sequence[str]) -> frozenset[str]:
    """Return the tunables of the disk that a command line has already: programs refuse these flags twice."""
    flags = {word.lstrip("-").partition("=")[0] for word in command if word.startswith("-")}
    return frozenset(name for name, how in formulas.items() if how.partition(" ")[0] in _OF_DISK and name in flags)


def tune(formulas: Mapping[str, str], memory: int, at: At, disk: int = 0) -> Tuned:
    """Work out every tunable of a service with ``memory`` bytes, and data on a disk of ``disk`` bytes (0: unknown)."""
    values: dict[str, str] = {}
    environment: dict[str, str] = {}
    arguments: list[str] = []
    for name, formula in formulas.items():
        keyword, _, number = formula.partition(" ")
        if keyword not in _FORMULAS:
            raise schema.unknown_key(keyword, _FORMULAS, at.key("tunables").key(name))
        default, compute, template = _FORMULAS[keyword]
        source = (disk or _UNKNOWN_DISK) if keyword in _OF_DISK else memory
        values[name] = compute(source, float(number) if number else default)
        if template:
            arguments += [part.format(name=name, value=values[name]) for part in template.split()]
        else:
            environment[name] = values[name]
    return Tuned(values, environment, tuple(arguments))
