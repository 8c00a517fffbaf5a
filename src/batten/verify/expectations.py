"""What is expected of each host: its stacks' plans, from JSON or planned anew. Never from the files on the host."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from batten.errors import BattenError
from batten.plan.model import StackPlan, stack_from_json, to_json

if TYPE_CHECKING:
    from pathlib import Path

    from batten.plan.settings import StackSettings

Stacks = Mapping[str, StackPlan]  # by name
Expectations = Mapping[str, Stacks]  # by host


def load(path: Path) -> Expectations:
    """Read a JSON file with the shape of ``to_json(Plan)``: ``{"hosts": {HOST: {"stacks": {STACK: StackPlan}}}}``.

    :raises BattenError: the file is missing or has another shape.
    """
    try:
        document = json.loads(path.read_text())
        return {
            host: {stack: stack_from_json(plan) for stack, plan in values["stacks"].items()}
            for host, values in document["hosts"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BattenError(
            f"this is no plan: {type(error).__name__} {error}", str(path), "batten plan --json -i INVENTORY makes one"
        ) from error


def dump(expectations: Expectations) -> str:
    """The text that :func:`load` reads."""
    hosts = {
        host: {"stacks": {name: to_json(plan) for name, plan in stacks.items()}}
        for host, stacks in expectations.items()
    }
    return json.dumps({"hosts": hosts}, sort_keys=True)


def from_inventory(inventory: str, limit: str | None = None) -> Expectations:
    """Plan anew on the controller, from the inventory's variables and the capacity that each host has now.

    The record of the last run, which ``batten plan`` is content with, is passed over: what is judged is the present.

    :raises BattenError: the inventory, a base or a definition is wrong, or a host does not tell its capacity.
    """
    from batten import fleet
    from batten.plan.stack import load_inputs, plan_host
    from batten.render import release

    def complete(stacks: Sequence[StackSettings], observed: fleet.Observed) -> dict[str, StackPlan]:
        """Plan as the roles do. Rendering adds what is known only then: digests of files and built images."""
        inputs = {stack.name: load_inputs(stack) for stack in stacks}
        host, _ = plan_host(stacks, observed.capacity, observed.plans, inputs)
        return {
            stack.name: stack_from_json(release(host.stacks[stack.name], stack, inputs[stack.name].definition)["plan"])
            for stack in stacks
        }

    settings = fleet.settings_of(inventory, limit)
    observed = fleet.ask_hosts(inventory, list(settings))  # their recorded plans count, whatever stack_capacity says
    return {host: complete(stacks, observed[host]) for host, stacks in settings.items()}
