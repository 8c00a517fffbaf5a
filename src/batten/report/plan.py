"""What ``batten plan`` prints: a host's memory as a bar, its services as a table, what a person should know."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batten.plan.model import Finding, HostPlan, Plan, ServicePlan, StackPlan

_MIB = 1024**2
_GIB = 1024**3
_BAR_WIDTH = 60
_HEADINGS = ("service", "profile", "memory", "cpus", "pids", "user", "root", "caps", "health", "secrets", "ports")


def size(count: int) -> str:
    """Write bytes for people: ``512M``, ``1.5G``."""
    if count >= _GIB:
        return f"{count / _GIB:.2f}".rstrip("0").rstrip(".") + "G"
    return f"{count / _MIB:.0f}M"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Set rows in columns, two spaces apart, with a rule under the headings."""
    lines = [tuple(headings), *map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([text[0], "  ".join("-" * width for width in widths), *text[1:]])


def budget_bar(host: HostPlan, width: int = _BAR_WIDTH) -> str:
    """Draw a host's memory: ``#`` batten's stacks, ``+`` other containers, ``r`` the host's own reserve, ``.`` free."""
    parts = (("#", host.allocated_bytes), ("+", host.foreign_bytes), ("r", host.reserved_bytes))
    bar, used = "", 0
    for mark, count in parts:
        used += count
        bar += mark * (min(width, round(width * used / max(1, host.memory_bytes))) - len(bar))
    free = max(0, host.memory_bytes - used)
    legend = [f"# stacks {size(host.allocated_bytes)}"]
    if host.overcommitted_bytes:
        said = ", ".join(f"{name} x{factor:g}" for name, factor in sorted(host.overcommit.items()))
        legend.append(f"of it overcommitted {size(host.overcommitted_bytes)} ({said})")
    if host.foreign_bytes:
        legend.append(f"+ others {size(host.foreign_bytes)}")
    legend += [f"r reserved {size(host.reserved_bytes)}", f". free {size(free)}"]
    return f"[{bar.ljust(width, '.')}] {size(host.memory_bytes)}\n{'   '.join(legend)}"


def plan_text(plan: Plan) -> str:
    """Return the whole plan as text, hosts in order of their names."""
    parts = [_host(name, host) for name, host in sorted(plan.hosts.items())]
    if plan.findings:
        parts.append("\n".join(["findings", *(_finding(finding) for finding in plan.findings)]))
    return "\n\n".join(parts) + "\n"


def _host(name: str, host: HostPlan) -> str:
    head = f"{name}: {size(host.memory_bytes)} memory, {host.cpus:g} cpus (from {host.capacity_source})"
    return "\n\n".join([f"{head}\n{budget_bar(host)}", *(_stack(stack) for _, stack in sorted(host.stacks.items()))])


def _stack(stack: StackPlan) -> str:
    head = f"stack {stack.name}, target {stack.target}"
    if stack.project != stack.name:
        head += f", project {stack.project}"
    if stack.compose_profiles:
        head += f", profiles {' '.join(stack.compose_profiles)}"
    lines = [head, table(_HEADINGS, [_row(stack.services[name]) for layer in stack.start_order for name in layer])]
    tuned = [
        f"  {name}: {' '.join(f'{key}={value}' for key, value in sorted(service.tunables.items()))}"
        for name, service in sorted(stack.services.items())
        if service.tunables
    ]
    if tuned:
        lines += ["tuned to their limits", *tuned]
    lines += _waiting(stack)
    lines += _rotations(stack)
    if stack.removed:
        lines.append(f"not run here: {', '.join(stack.removed)}")
    return "\n".join(lines)


def _waiting(stack: StackPlan) -> list[str]:
    """What a container that was made earlier may go on with until it is made anew."""
    lines = []
    for name, service in sorted(stack.services.items()):
        for old in service.accepted:
            values = " ".join(f"{key}={value}" for key, value in sorted(old.tunables.items()))
            lines.append(f"  {name}: one made for {size(old.memory_bytes)} may still have {values}")
        lines += [f"  {name}: may still have a limit of {size(limit)}" for limit in service.accepted_limits]
    return ["waits for the next recreation, or --apply-tunables", *lines] if lines else []


def _rotations(stack: StackPlan) -> list[str]:
    """How each secret is rotated, a line a kind."""
    kinds: dict[str, set[str]] = {}
    for service in stack.services.values():
        for name, kind in service.rotations.items():
            kinds.setdefault(kind, set()).add(name)
    lines = [f"  {kind}: {', '.join(sorted(names))}" for kind, names in sorted(kinds.items())]
    return ["secrets, by how they are rotated", *lines] if lines else []


def _row(service: ServicePlan) -> tuple[str, ...]:
    health = "-"
    if service.healthcheck:
        health = f"{service.healthcheck.interval_seconds:g}s x{service.healthcheck.retries}"
    return (
        service.name,
        service.profile or "-",
        size(service.memory_bytes),
        f"{service.cpus:g}",
        str(service.pids),
        service.user or "image",
        "read-only" if service.read_only else "writable",
        " ".join(service.cap_add) or ("none" if service.cap_drop else "default"),
        health,
        " ".join(service.secrets) or "-",
        " ".join(_ports(service)) or "-",
    )


def _ports(service: ServicePlan) -> list[str]:
    """Addresses are long and few services have any: the number, and the address only where it is known."""
    found = []
    for port in service.ports:
        address = (
            f"[{port.address}]:" if port.address and ":" in port.address else f"{port.address}:" if port.address else ""
        )
        protocol = "" if port.protocol == "tcp" else f"/{port.protocol}"
        found.append(f"{address}{port.published}{protocol}")
    return found


def _finding(finding: Finding) -> str:
    return f"  {finding.severity}  {finding.where}: {finding.what}\n           fix: {finding.fix}"
