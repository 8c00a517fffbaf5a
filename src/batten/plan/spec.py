"""What a host would have to have: the smallest one for some stacks, and their plans on several sizes side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from batten.errors import BattenError
from batten.plan import limits, targets
from batten.plan.model import Capacity, HostPlan
from batten.plan.stack import load_inputs, plan_host

if TYPE_CHECKING:
    from batten.plan.settings import StackSettings
    from batten.plan.stack import Inputs

_STEP = 64 * limits.MIB
_LARGEST = 4096 * limits.GIB
# So many shares to a processor: three databases, or a dozen applications. An estimate of ours, as every one is that
# names processors without having seen the load.
_SHARES_A_CPU = 3 * limits.CPU_SHARES["database"]
_OFFERED = 3


@dataclass(frozen=True)
class Spec:
    """The smallest host: bytes of memory as its kernel shows it, whole processors, and droplet sizes that have both.

    ``floors_bytes`` is what the services need at least, without the host's own reserve.
    """

    memory_bytes: int
    cpus: int
    floors_bytes: int
    sizes: tuple[targets.Size, ...]


def smallest(stacks: Sequence[StackSettings]) -> Spec:
    """Return the smallest host on which all ``stacks`` can be planned; processors are an estimate."""
    stacks, inputs = _anywhere(stacks)
    host, _ = plan_host(stacks, Capacity(_LARGEST, 1024), None, inputs)
    floors = shares = 0
    for settings in stacks:
        for one in host.stacks[settings.name].services.values():
            asked, factor = one.memory_request, settings.overcommit.get(one.service_class, 1.0)
            floor = asked.floor_bytes if asked else one.memory_bytes
            floors += limits.cost(limits.Request(floor, overcommit=factor), floor)
            shares += one.cpu_shares or 0
    own = max((settings.reserve_bytes or 0 for settings in stacks), default=0)

    def holds(memory: int) -> bool:
        return limits.budget(memory, own or limits.reserve(limits.rounded(memory))) >= floors

    low, high = 1, _LARGEST // _STEP
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle * _STEP) else (middle + 1, high)
    cpus = max(1, -(-shares // _SHARES_A_CPU))
    offered = targets.digitalocean().fitting(low * _STEP, cpus)[:_OFFERED]
    return Spec(low * _STEP, cpus, floors, offered)


def side_by_side(
    stacks: Sequence[StackSettings], memories: Sequence[int], cpus: float
) -> dict[int, HostPlan | BattenError]:
    """Return the plan on a new host of each size in bytes, or why there is none."""
    stacks, inputs = _anywhere(stacks)
    found: dict[int, HostPlan | BattenError] = {}
    for memory in memories:
        try:
            found[memory] = plan_host(stacks, Capacity(memory, cpus, source="the command line"), None, inputs)[0]
        except BattenError as error:
            found[memory] = error
    return found


def _anywhere(stacks: Sequence[StackSettings]) -> tuple[list[StackSettings], Mapping[str, Inputs]]:
    """Return stacks without what their inventory says of the host that they have now, and their files."""
    free = [replace(item, capacity_memory_bytes=None, capacity_cpus=None) for item in stacks]
    return free, {item.name: load_inputs(item) for item in free}
