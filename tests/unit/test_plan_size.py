"""Large stacks, tiny hosts and absurd wishes: planned in time, or refused in one clear sentence."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from batten.errors import BattenError
from batten.plan import Capacity, HostPlan, StackSettings, plan_host
from batten.plan.limits import GIB, MIB
from batten.plan.stack import load_inputs
from bench.plan_size import base


def stack(directory: Path, content: dict[str, Any], **variables: Any) -> StackSettings:
    path = directory / "compose.yaml"
    path.write_text(yaml.safe_dump(content))
    return StackSettings.from_variables({"stack_name": "app", "stack_base": str(path), **variables}, source="host1")


def planned(settings: StackSettings, memory: int, cpus: float = 4) -> HostPlan:
    return plan_host([settings], Capacity(memory, cpus, default_addresses=("203.0.113.5",)))[0]


def test_five_hundred_services_take_less_than_a_second_of_the_processor(tmp_path: Path) -> None:
    settings = stack(tmp_path, base(500))
    inputs = {"app": load_inputs(settings)}
    capacity = Capacity(508 * GIB, 16, default_addresses=("203.0.113.5",))
    begun = time.process_time()
    host, _ = plan_host([settings], capacity, None, inputs)
    assert time.process_time() - begun < 1
    assert len(host.stacks["app"].services) == 500
    assert host.allocated_bytes <= host.memory_bytes - host.reserved_bytes


def test_a_cycle_among_five_hundred_is_named(tmp_path: Path) -> None:
    content = base(500)
    content["services"]["s0000"]["depends_on"] = ["s0250"]
    with pytest.raises(BattenError, match=r"services wait for each other: s0000 -> .*s0250.* -> s0000"):
        planned(stack(tmp_path, content), 600 * GIB)


def test_half_a_gigabyte_holds_a_small_stack_and_refuses_a_large_one(tmp_path: Path) -> None:
    small = stack(tmp_path, {"services": {"web": {"image": "caddy:2.11.4-alpine"}}})
    host = planned(small, 512 * MIB, 0.5)
    web = host.stacks["app"].services["web"]
    assert 64 * MIB <= web.memory_bytes <= 512 * MIB - host.reserved_bytes
    assert web.cpus == 0.5
    with pytest.raises(BattenError, match="does not fit the host"):
        planned(stack(tmp_path, base(5)), 512 * MIB)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"memory": "900G"}, "does not fit the host"),
        ({"memory": 0}, "limits.memory"),
        ({"cpus": 0}, "limits.cpus"),
        ({"pids": 0}, "limits.pids"),
        ({"nofile": -1}, "limits.nofile"),
        ({"memory": {"floor": "1G", "cap": "512M"}}, "cap is below the floor"),
    ],
)
def test_absurd_overrides_are_refused(tmp_path: Path, limits: dict[str, Any], words: str) -> None:
    content = {"services": {"web": {"image": "caddy:2.11.4-alpine"}}}
    settings = stack(tmp_path, content, stack_services={"web": {"limits": limits}})
    with pytest.raises(BattenError) as caught:
        planned(settings, 8 * GIB)
    assert words in str(caught.value)


def test_what_an_inventory_may_overcommit(tmp_path: Path) -> None:
    for wrong, words in (({"databse": 1.5}, "database"), ({"batch": 0.5}, "1"), ({"batch": 9}, "4")):
        with pytest.raises(BattenError, match=words):
            stack(tmp_path, base(1), stack_overcommit=wrong)
