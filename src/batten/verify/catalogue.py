"""The catalogue: every control declared once, next to the pure function that judges it."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from batten.verify.model import Control, HostPlan, LiveContainer, LiveHost, Verdict, not_applicable

if TYPE_CHECKING:
    from batten.plan.model import StackPlan

Scope = Literal["service", "stack", "host"]
Judge = TypeVar("Judge", bound=Callable[..., Verdict])

FAMILIES = (
    "limits",
    "health",
    "privileges",
    "mounts",
    "ports",
    "networks",
    "logging",
    "lifecycle",
    "images",
    "secrets",
    "certificates",
    "backups",
    "daemon",
    "files",
    "firewall",
    "audit",
    "host",
)


@dataclass(frozen=True)
class Entry:
    """One control. ``judge`` takes the expected value and the live one of its scope:

    ``(ServicePlan, LiveContainer)``, ``(StackPlan, LiveHost)`` or ``(HostPlan, LiveHost)``.
    ``needs_process``: judges what the kernel enforces, so a container that does not run cannot be judged.
    ``kept``: what the plan leaves to the stack's own files where it stands in ``ServicePlan.kept``.
    """

    id: str
    title: str
    scope: Scope
    cis: str | None
    judge: Callable[[Any, Any], Verdict]
    needs_process: bool
    kept: str | None


_entries: dict[str, Entry] = {}


def control(
    name: str,
    title: str,
    *,
    scope: Scope = "service",
    cis: str | None = None,
    needs_process: bool = False,
    kept: str | None = None,
) -> Callable[[Judge], Judge]:
    """Declare a control. ``cis`` is its number in the CIS Docker Benchmark 1.6.0."""

    def declare(judge: Judge) -> Judge:
        if name in _entries:
            raise ValueError(f"control {name} is declared twice")
        _entries[name] = Entry(name, title, scope, cis, judge, needs_process, kept)
        return judge

    return declare


@cache
def catalogue() -> Mapping[str, Entry]:
    """All controls by id, in the order of their families."""
    for family in FAMILIES:
        importlib.import_module(f"batten.verify.controls.{family}")
    return dict(_entries)


@dataclass(frozen=True)
class Case:
    """One control on one thing: what pytest parametrises over."""

    entry: Entry
    host: str
    stack: str | None = None
    service: str | None = None

    def __str__(self) -> str:
        return "-".join(part for part in (self.entry.id, self.stack, self.service) if part)


def cases(host: str, stacks: Mapping[str, StackPlan]) -> Iterator[Case]:
    """Every control on everything that is planned for a host."""
    for entry in catalogue().values():
        if entry.scope == "host":
            yield Case(entry, host)
            continue
        for stack, plan in sorted(stacks.items()):
            if entry.scope == "stack":
                yield Case(entry, host, stack)
            else:
                yield from (Case(entry, host, stack, service) for service in plan.services)


def judge(
    case: Case, stacks: Mapping[str, StackPlan], live: LiveHost, variables: Mapping[str, Any] | None = None
) -> Verdict:
    """Judge one case against one batch of reads. ``variables`` are those of role ``host``; None: it does not run."""
    entry = case.entry
    if entry.scope == "host":
        return entry.judge(HostPlan(tuple(stacks.values()), variables or {}), live)
    assert case.stack is not None
    plan = stacks[case.stack]
    if entry.scope == "stack":
        return entry.judge(plan, live)
    assert case.service is not None
    container = container_of(plan, case.service, live)
    if container is None:
        return not_applicable("no container: lifecycle.present says so")
    if entry.kept and entry.kept in plan.services[case.service].kept:
        return not_applicable("the plan leaves it to the stack's own files")
    if entry.needs_process and container.process is None:
        return not_applicable("does not run: lifecycle.running judges that")
    return entry.judge(plan.services[case.service], container)


def container_of(plan: StackPlan, service: str, live: LiveHost) -> LiveContainer | None:
    """The service's container; ``docker compose run`` leftovers are not it."""
    for container in live.containers:
        if (container.project, container.service) == (plan.project, service) and not is_oneoff(container):
            return replace(container, stack=plan.name)
    return None


def is_oneoff(container: LiveContainer) -> bool:
    return container.labels.get("com.docker.compose.oneoff") == "True"


def result(case: Case, verdict: Verdict) -> Control:
    """The case with its verdict, as the report has it."""
    entry = case.entry
    return Control(
        entry.id, entry.title, case.host, case.stack, case.service, verdict.status, verdict.evidence, entry.cis
    )


def nearest(name: str) -> str:
    """The known control id that looks most like ``name``."""
    return next(iter(difflib.get_close_matches(name, catalogue(), 1, cutoff=0.0)))
