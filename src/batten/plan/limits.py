"""Limits: how the memory of a host is shared out, and what else the host allows. Pure arithmetic; sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from batten.errors import BattenError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MIB = 1024**2
GIB = 1024**3
# For the kernel, sshd, dockerd, containerd and batten's own units, by host size: an estimate of ours, no upstream
# figure exists. Between the points it is linear, above the last one it grows at the last slope.
_RESERVE = ((2.0, 0.4), (4.0, 0.6), (8.0, 0.9), (16.0, 1.5))
_CAPACITY_GRID = 64 * MIB
_TOLERANCE = 0.02
_WHOLE_HOST_WEIGHT = 4.0
_RESERVATION = 0.6
NOISY = ("application", "observability", "batch")
# The engine's default is 1024 (docker run --help, --cpu-shares). Our own ladder: twice as much a step.
CPU_SHARES = {"database": 4096, "proxy": 2048, "application": 1024, "observability": 512, "batch": 256}
_HUNDREDTHS = 100


@dataclass(frozen=True)
class Request:
    """What one service asks for: at least ``floor``, at most ``cap`` (None: no end), by ``weight`` in between.

    ``overcommit`` is how often its memory may be promised: its limit counts against the budget divided by that.
    A ``stateful`` service is the last to give memory back.
    """

    floor: int
    weight: float = 1.0
    cap: int | None = None
    overcommit: float = 1.0
    stateful: bool = False


def settle(memory_bytes: int, previous: int | None) -> int:
    """Return the memory to compute from: the previous figure while the kernel's stays within 2 % of it.

    MemTotal changes a little with every kernel; limits must not.
    """
    if previous and abs(memory_bytes - previous) <= _TOLERANCE * previous:
        return previous
    return memory_bytes


def reserve(memory_bytes: int) -> int:
    """Return what stays with the host itself. Small hosts keep a fifth."""
    gib = memory_bytes / GIB
    if gib <= _RESERVE[0][0]:
        return round(memory_bytes * _RESERVE[0][1] / _RESERVE[0][0])
    for (low, at_low), (high, at_high) in pairwise(_RESERVE):
        if gib <= high or high == _RESERVE[-1][0]:
            return round((at_low + (gib - low) * (at_high - at_low) / (high - low)) * GIB)
    raise AssertionError("the table has more than one point")


def rounded(memory_bytes: int) -> int:
    """Return a capacity rounded down to what limits are computed from."""
    return memory_bytes // _CAPACITY_GRID * _CAPACITY_GRID


def budget(memory_bytes: int, reserved: int, foreign: int = 0, elsewhere: int = 0) -> int:
    """Return what may be shared out: capacity rounded down, less the reserve, foreign containers and other stacks."""
    return max(0, rounded(memory_bytes) - reserved - foreign - elsewhere)


def allocate(requests: Mapping[str, Request], available: int, where: str = "") -> dict[str, int]:
    """Share ``available`` bytes out: water-filling by weight between floors and caps.

    Each service gets ``weight x level``, held between its floor and its cap, at the highest level that fits. So the sum
    never exceeds ``available``, no one shrinks when there is more, and the order of names does not matter. Results
    are rounded down to steps of 16 MiB, 64 MiB from 1 GiB, 256 MiB from 4 GiB.

    Raises BattenError with a table when the floors do not fit.
    """
    filled = _fill(requests, available, where)
    return {name: max(request.floor, _round_down(filled[name])) for name, request in requests.items()}


def reallocate(
    requests: Mapping[str, Request],
    available: int,
    previous: Mapping[str, int],
    *,
    grown: bool = False,
    where: str = "",
) -> dict[str, int]:
    """Share ``available`` bytes out with the least change to the ``previous`` limits.

    Who has a limit keeps it, as far as floor and cap allow. A newcomer gets its share out of what is free, and where
    that is less than its floor, the rest from services above theirs (:func:`_take`). What is free besides is given out
    only when the host has ``grown``: then nobody gets less than without it.

    Raises BattenError with a table when the floors do not fit.
    """
    fair = _fill(requests, available, where)
    kept = {
        name: max(request.floor, previous[name] if request.cap is None else min(previous[name], request.cap))
        for name, request in requests.items()
        if name in previous
    }
    new = {name: request for name, request in requests.items() if name not in kept}
    free = available - sum(cost(requests[name], size) for name, size in kept.items())
    alone = _fill(new, max(free, sum(cost(request, request.floor) for request in new.values())), where)
    exact = {**kept, **{name: min(fair[name], alone[name]) for name in new}}
    over = sum(cost(requests[name], size) for name, size in exact.items()) - available
    if over <= 0 and grown:
        exact = _fill({name: replace(one, floor=exact[name]) for name, one in requests.items()}, available, where)
    given = {name: max(kept.get(name, request.floor), _round_down(exact[name])) for name, request in requests.items()}
    return _take(given, requests, over) if over > 0 else given


def cost(request: Request, size: int) -> int:
    """Return what a limit of ``size`` bytes counts against the budget, rounded up."""
    return -(-size * _HUNDREDTHS // _hundredths(request.overcommit))


def _take(given: Mapping[str, int], requests: Mapping[str, Request], over: int) -> dict[str, int]:
    """Take ``over`` bytes from services above their floors, in proportion to what they have above it; stateful last.

    In whole steps, who has most above its floor first: so few services change, and who comes after it is covered
    keeps what it has.
    """
    left = dict(given)
    for stateful in (False, True):
        above = {
            name: cost(request, left[name]) - cost(request, request.floor)
            for name, request in requests.items()
            if request.stateful is stateful
        }
        total = sum(above.values())
        wanted = min(over, total)
        for name in sorted((name for name in above if above[name] > 0), key=lambda name: (-above[name], name)):
            if over <= 0:
                break
            request = requests[name]
            share = -(-above[name] * wanted // total) + 1  # whole bytes of budget, against what cost() rounds up
            part = -(-share * _hundredths(request.overcommit) // _HUNDREDTHS)
            smaller = max(request.floor, _round_down(left[name] - part))
            over -= cost(request, left[name]) - cost(request, smaller)
            left[name] = smaller
    return left


def _fill(requests: Mapping[str, Request], available: int, where: str) -> dict[str, int]:
    """Return what each gets to the byte, before it is rounded."""
    needed = sum(cost(request, request.floor) for request in requests.values())
    if needed > available:
        raise BattenError(_table(requests, needed, available), where, _TOO_SMALL)
    sizes = [_size(request) for request in requests.values()]
    low, high = 0, available * _HUNDREDTHS
    while low < high:
        level = (low + high + 1) // 2
        if sum(-(-_grant(size, level) * _HUNDREDTHS // size[3]) for size in sizes) <= available:
            low = level
        else:
            high = level - 1
    return {name: _grant(_size(request), low) for name, request in requests.items()}


def _size(request: Request) -> tuple[int, int, int | None, int]:
    """Floor, weight, cap and overcommit in whole numbers, for the same result on every machine."""
    cap = None if request.cap is None else max(request.cap, request.floor)
    return request.floor, _hundredths(request.weight), cap, _hundredths(request.overcommit)


def _hundredths(factor: float) -> int:
    return max(1, round(factor * _HUNDREDTHS))


def _grant(size: tuple[int, int, int | None, int], level: int) -> int:
    """``level`` is bytes per unit of weight."""
    floor, weight, cap, _ = size
    wanted = max(floor, weight * level // _HUNDREDTHS)
    return wanted if cap is None else min(wanted, cap)


def _round_down(size: int) -> int:
    step = 256 * MIB if size >= 4 * GIB else 64 * MIB if size >= GIB else 16 * MIB
    return size // step * step


_TOO_SMALL = (
    "take a larger host, leave parts out (stack_profiles, infisical_mode: none), or lower limits.memory of a service "
    "in stack_services"
)


def _table(requests: Mapping[str, Request], needed: int, available: int) -> str:
    width = max(len("not enough"), *(len(name) for name in requests))
    rows = sorted(requests.items(), key=lambda item: (-item[1].floor, item[0]))
    lines = [f"  {name:<{width}}  {request.floor / MIB:>8.0f} MiB" for name, request in rows]
    return "\n".join(
        [
            "the memory that the services need at least does not fit the host",
            *lines,
            f"  {'sum':<{width}}  {needed / MIB:>8.0f} MiB",
            f"  {'budget':<{width}}  {available / MIB:>8.0f} MiB",
            f"  {'missing':<{width}}  {(needed - available) / MIB:>8.0f} MiB",
        ]
    )


def memory_reservation(memory_bytes: int) -> int:
    """Return what the kernel should leave a service under pressure: 60 % of its limit, in whole MiB; an estimate."""
    return int(memory_bytes * _RESERVATION) // MIB * MIB


def cpus(host_cpus: float, weight: float, cap: float | None = None, *, noisy: bool = True) -> float:
    """Return a service's processor limit: a quarter of the host per unit of weight, at least 0.25.

    ``cpus`` is a hard quota that throttles on an idle host too (kernel, CFS bandwidth control), so quotas overlap on
    purpose, and one service's limit does not depend on its neighbours. Who is not ``noisy``, a database or a proxy, may
    have the whole host: it is held to its share only while others want theirs (:data:`CPU_SHARES`).
    """
    share = max(0.25, host_cpus * weight / _WHOLE_HOST_WEIGHT) if noisy else host_cpus
    return max(0.01, int(min(share, host_cpus, cap or host_cpus) * 100) / 100)


def oom_score_adj(wanted: int, lowest: int) -> int:
    """Return the score that this engine may set. Without negative ones the order is kept on a positive ladder."""
    if lowest < 0:
        return max(wanted, lowest)
    return lowest + (wanted + 1000) * (1000 - lowest) // 2000


def others(allocated: Mapping[str, int], own: Sequence[str]) -> int:
    """Return what stacks other than ``own`` have been given on the host."""
    return sum(size for name, size in allocated.items() if name not in own)
