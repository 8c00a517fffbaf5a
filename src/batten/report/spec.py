"""Plans of several host sizes as one table, the smallest host in words, and a host's budget as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from batten.errors import BattenError
from batten.report.plan import size, table

if TYPE_CHECKING:
    from batten.plan.model import HostPlan, Plan
    from batten.plan.spec import Spec

_ROW, _LEFT, _WIDTH, _GAP = 22, 190, 560, 34
_COLOURS = {
    "database": "#3b6ea5",
    "proxy": "#5b9a8b",
    "application": "#d08c3f",
    "observability": "#8c6bb1",
    "batch": "#a0a0a0",
}


def spec_text(host: str, spec: Spec) -> str:
    """Return the smallest host for a host's stacks, and where to get one."""
    lines = [
        f"{host}: at least {size(spec.memory_bytes)} memory as the kernel shows it, and {spec.cpus} cpus (an estimate)",
        f"  services need {size(spec.floors_bytes)}, the host itself the rest",
    ]
    lines += [
        f"  DigitalOcean {one.slug}: {size(one.memory_bytes)}, {one.cpus:g} cpus, {size(one.disk_bytes)} disk"
        for one in spec.sizes
    ]
    return "\n".join(lines)


def compared_text(host: str, found: Mapping[int, HostPlan | BattenError]) -> str:
    """Return one column a size: each service's limit, what is left, and what fits nowhere."""
    plans = {memory: plan for memory, plan in found.items() if not isinstance(plan, BattenError)}
    names = sorted(
        {(stack, name) for plan in plans.values() for stack, one in plan.stacks.items() for name in one.services}
    )

    def cell(memory: int, stack: str, name: str) -> str:
        if memory not in plans:
            return "-"
        service = plans[memory].stacks[stack].services.get(name)
        return size(service.memory_bytes) if service else "-"

    def total(memory: int, what: str) -> str:
        if memory not in plans:
            return "does not fit" if what == "stacks" else "-"
        plan = plans[memory]
        free = plan.memory_bytes - plan.allocated_bytes - plan.reserved_bytes - plan.foreign_bytes
        return size({"stacks": plan.allocated_bytes, "reserved": plan.reserved_bytes, "free": max(0, free)}[what])

    rows = [(f"{stack}/{name}", *(cell(memory, stack, name) for memory in found)) for stack, name in names]
    rows += [(what, *(total(memory, what) for memory in found)) for what in ("stacks", "reserved", "free")]
    errors = {memory: one for memory, one in found.items() if isinstance(one, BattenError)}
    missing = [f"{size(memory)}: {one.what.splitlines()[-1].strip()}" for memory, one in errors.items()]
    return "\n".join([host, table(("memory", *map(size, found)), rows), *missing])


def budget_svg(plan: Plan) -> str:
    """Draw each host's memory: a bar of all of it, and below it one bar a service, in the colour of its class."""
    parts: list[str] = []
    top = _GAP
    for name, host in sorted(plan.hosts.items()):
        scale = _WIDTH / max(1, host.memory_bytes)
        parts.append(_text(10, top, f"{name}: {size(host.memory_bytes)}, {host.cpus:g} cpus", bold=True))
        top += 10
        left = float(_LEFT)
        shares = (
            ("stacks", host.allocated_bytes - host.overcommitted_bytes, "#3b6ea5"),
            ("others", host.foreign_bytes, "#777777"),
            ("reserved", host.reserved_bytes, "#c0504d"),
        )
        parts.append(_bar(left, top, _WIDTH, "#eeeeee", f"free of {size(host.memory_bytes)}"))
        for label, count, colour in shares:
            parts.append(_bar(left, top, count * scale, colour, f"{label} {size(count)}"))
            left += count * scale
        parts.append(_text(10, top + 14, "stacks, others, reserved"))
        top += _ROW + 6
        for stack, one in sorted(host.stacks.items()):
            for service in sorted(one.services.values(), key=lambda item: (-item.memory_bytes, item.name)):
                label = f"{stack}/{service.name}"
                parts.append(_text(10, top + 14, label))
                said = f"{label} {size(service.memory_bytes)} ({service.service_class})"
                parts.append(_bar(_LEFT, top, service.memory_bytes * scale, _COLOURS[service.service_class], said))
                parts.append(_text(_LEFT + service.memory_bytes * scale + 6, top + 14, size(service.memory_bytes)))
                top += _ROW
        top += _GAP
    width = _LEFT + _WIDTH + 80
    space = f'xmlns="http://www.w3.org/2000/svg" width="{width}" height="{top}"'
    head = f'<svg {space} font-family="sans-serif" font-size="12">'
    return "\n".join([head, *parts, "</svg>"]) + "\n"


def _bar(left: float, top: int, width: float, colour: str, title: str) -> str:
    place = f'x="{left:.1f}" y="{top}" width="{max(0.0, width):.1f}" height="{_ROW - 4}"'
    return f'<rect {place} fill="{colour}"><title>{escape(title)}</title></rect>'


def _text(left: float, top: int, text: str, *, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{left:.1f}" y="{top}"{weight}>{escape(text)}</text>'
