"""What a provider sells: droplet sizes and managed PostgreSQL plans, from ``compose/targets``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from batten import resources
from batten.plan import schema
from batten.plan.schema import At, Record

_DOCUMENT = Record(
    {
        "date": schema.pattern(r"\d{4}-\d\d-\d\d", "a date in quotes such as '2026-11-23'"),
        "sources": schema.list_of(schema.text),
        "sizes": schema.map_of(
            Record(
                {"memory": schema.size, "cpus": schema.number(0.1, 1024), "disk": schema.size},
                required=("memory", "cpus", "disk"),
            )
        ),
        "postgres_sizes": schema.map_of(
            Record(
                {"memory": schema.size, "connections": schema.integer(1, 100_000)}, required=("memory", "connections")
            )
        ),
    },
    required=("date", "sources", "sizes", "postgres_sizes"),
)


@dataclass(frozen=True)
class Size:
    """A machine as its kernel will show it: bytes of MemTotal (an estimate), processors, bytes of disk."""

    slug: str
    memory_bytes: int
    cpus: float
    disk_bytes: int


@dataclass(frozen=True)
class PostgresSize:
    """A managed PostgreSQL: bytes of memory as sold, and the connections that clients may open."""

    slug: str
    memory_bytes: int
    connections: int


@dataclass(frozen=True)
class Offer:
    """All that one provider sells, as of ``date``."""

    date: str
    sources: tuple[str, ...]
    sizes: Mapping[str, Size]
    postgres_sizes: Mapping[str, PostgresSize]

    def size(self, slug: str, at: At) -> Size:
        """Return a droplet size by its slug; BattenError names the nearest."""
        if slug not in self.sizes:
            raise _unknown(slug, self.sizes, at, self.date)
        return self.sizes[slug]

    def postgres_size(self, slug: str, at: At) -> PostgresSize:
        """Return a managed PostgreSQL plan by its slug; BattenError names the nearest."""
        if slug not in self.postgres_sizes:
            raise _unknown(slug, self.postgres_sizes, at, self.date)
        return self.postgres_sizes[slug]

    def fitting(self, memory_bytes: int, cpus: float) -> tuple[Size, ...]:
        """Return the sizes that have at least so much, the smallest first."""
        found = [size for size in self.sizes.values() if size.memory_bytes >= memory_bytes and size.cpus >= cpus]
        return tuple(sorted(found, key=lambda size: (size.memory_bytes, size.cpus, size.disk_bytes, size.slug)))


def load_offer(path: Path) -> Offer:
    """Read what a provider sells; BattenError for what is no such file."""
    found = _DOCUMENT(schema.read_yaml(path), At(str(path)))
    return Offer(
        date=found["date"],
        sources=found["sources"],
        sizes={
            slug: Size(slug, given["memory"], given["cpus"], given["disk"]) for slug, given in found["sizes"].items()
        },
        postgres_sizes={
            slug: PostgresSize(slug, given["memory"], given["connections"])
            for slug, given in found["postgres_sizes"].items()
        },
    )


@cache
def digitalocean() -> Offer:
    """Return what DigitalOcean sells."""
    return load_offer(resources.compose() / "targets" / "digitalocean.yaml")


def _unknown(slug: str, known: Mapping[str, object], at: At, date: str) -> Exception:
    near = difflib.get_close_matches(slug, known, 1)
    return at.error(
        f"DigitalOcean's {slug!r} is not known here, as of {date}" + (f"; did you mean {near[0]!r}?" if near else ""),
        f"write one of: {', '.join(near or sorted(known))}",
    )
