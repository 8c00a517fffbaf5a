"""What a report tells of a host besides its controls: memory against its plan, versions, what ends when, drift.

Everything comes from the same batch of live reads that the controls judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from batten.verify.catalogue import container_of
from batten.verify.model import memory_limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batten.plan.model import StackPlan
    from batten.verify.model import LiveHost, LiveProcess


@dataclass(frozen=True)
class Usage:
    """Memory of one service: the limit that holds by the plan, what is in use now, the most since it started.

    ``used_bytes`` leaves out what the kernel would drop at once, as ``docker stats`` does (docker/cli,
    cli/command/container/stats_helpers.go, ``calculateMemUsageUnixNoCache``); ``peak_bytes`` counts it. None: the
    service does not run, or its kernel does not say.
    """

    stack: str
    service: str
    limit_bytes: int
    used_bytes: int | None = None
    peak_bytes: int | None = None


@dataclass(frozen=True)
class ImageInUse:
    """An image that containers run: as they name it, its digest in a registry ("" for one of no registry), its ID."""

    reference: str
    digest: str
    id: str
    services: tuple[str, ...]


@dataclass(frozen=True)
class Expiry:
    """A ``certificate`` or a ``secret`` by its name, ``since`` and ``until`` in RFC 3339; until None: it has no end."""

    kind: str
    stack: str
    name: str
    since: str
    until: str | None


@dataclass(frozen=True)
class HostReport:
    """One host. ``versions`` are of engine, compose, kernel and system; ``memory_bytes`` is what was planned with.

    ``drift`` is empty where no timer looks: ``{"at", "count", "history": [{"at", "drift", "rows"}, ...]}``, the history
    oldest first.
    """

    name: str
    versions: Mapping[str, str]
    memory_bytes: int
    foreign_bytes: int
    usage: tuple[Usage, ...] = ()
    images: tuple[ImageInUse, ...] = ()
    expiries: tuple[Expiry, ...] = ()
    drift: Mapping[str, Any] | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> HostReport:
        """Return what :func:`dataclasses.asdict` and JSON made of a HostReport."""
        parts: dict[str, Any] = {
            "usage": tuple(Usage(**one) for one in value["usage"]),
            "images": tuple(ImageInUse(**(one | {"services": tuple(one["services"])})) for one in value["images"]),
            "expiries": tuple(Expiry(**one) for one in value["expiries"]),
        }
        return cls(**(dict(value) | parts))


def describe(name: str, stacks: Mapping[str, StackPlan], live: LiveHost) -> HostReport:
    """Return what a report tells of one host. Pure."""
    info, plans = live.info, [plan for _, plan in sorted(stacks.items())]
    versions = {
        "engine": info.get("ServerVersion"),
        "compose": live.facts.get("compose"),
        "kernel": info.get("KernelVersion"),
        "system": info.get("OperatingSystem"),
        "architecture": info.get("Architecture"),
    }
    return HostReport(
        name=name,
        versions={what: str(version) for what, version in versions.items() if version},
        memory_bytes=max((plan.capacity_bytes for plan in plans), default=0) or int(info.get("MemTotal") or 0),
        foreign_bytes=max((plan.foreign_bytes for plan in plans), default=0),
        usage=tuple(_usage(plans, live)),
        images=tuple(_images(plans, live)),
        expiries=tuple(sorted(_expiries(plans, live), key=lambda one: (one.until or "9999", one.stack, one.name))),
        drift=_drift(live),
    )


def _usage(plans: list[StackPlan], live: LiveHost) -> Iterator[Usage]:
    for plan in plans:
        for name, service in plan.services.items():
            container = container_of(plan, name, live)
            used, peak = _memory(container.process if container else None)
            limit = memory_limit(service, container) if container else service.memory_bytes
            yield Usage(plan.name, name, limit, used, peak)


def _memory(process: LiveProcess | None) -> tuple[int | None, int | None]:
    """Return bytes in use and the most there were; cgroup v2's names, then v1's (Linux, Documentation/admin-guide)."""
    files = process.cgroup if process else {}

    def first(*names: str) -> int | None:
        return next((int(files[name]) for name in names if files.get(name, "").isdigit()), None)

    current = first("memory.current", "memory.usage_in_bytes")
    if current is None:
        return None, None
    return max(0, current - (first("memory.inactive_file") or 0)), first("memory.peak", "memory.max_usage_in_bytes")


def _images(plans: list[StackPlan], live: LiveHost) -> Iterator[ImageInUse]:
    digests = {str(one.get("Id")): one.get("RepoDigests") or [] for one in live.images}
    users: dict[tuple[str, str], list[str]] = {}
    for plan in plans:
        for name in plan.services:
            if container := container_of(plan, name, live):
                key = str(container.config.get("Image", "")), str(container.inspect.get("Image", ""))
                users.setdefault(key, []).append(f"{plan.name}/{name}")
    for (reference, identity), services in sorted(users.items()):
        known = (str(one).partition("@")[2] for one in digests.get(identity, ()))
        yield ImageInUse(reference.partition("@")[0], next(known, ""), identity, tuple(sorted(services)))


def _expiries(plans: list[StackPlan], live: LiveHost) -> Iterator[Expiry]:
    for (stack, name), found in live.certificates.items():
        if found:
            yield Expiry("certificate", stack, name, _written(found.start), _written(found.end))
    for plan in plans:
        for name, made in live.made.get(plan.name, {}).items():
            days = plan.expires.get(name)
            until = datetime.fromisoformat(made) + timedelta(days=days) if days else None
            yield Expiry("secret", plan.name, name, made, _written(until.timestamp()) if until else None)


def _drift(live: LiveHost) -> Mapping[str, Any] | None:
    if not any(live.drift):
        return None
    last, *history = live.drift
    return {"at": last.get("at"), "count": len(last.get("drift") or ()) if last else None, "history": history}


def _written(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
