"""What is expected of each host: its stacks' plans, from JSON or planned anew. Never from the files on the host."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batten.errors import BattenError
from batten.plan.model import StackPlan, stack_from_json, to_json

if TYPE_CHECKING:
    from pathlib import Path

    from batten.plan.settings import StackSettings

Stacks = Mapping[str, StackPlan]  # by name
Expectations = Mapping[str, Stacks]  # by host
Variables = Mapping[str, Mapping[str, Any]]  # by host: those of role host


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


def load_variables(path: Path) -> Variables:
    """Return the hosts' variables of such a file; none for a file of plans alone."""
    hosts = json.loads(path.read_text())["hosts"]
    return {host: values["variables"] for host, values in hosts.items() if "variables" in values}


def within(plans: Expectations, hosts: Collection[str], where: str) -> Expectations:
    """Return the plans of ``hosts``, those of an inventory within its limit. ``where`` is the plans' file.

    :raises BattenError: it has none of them.
    """
    found = {host: stacks for host, stacks in plans.items() if host in hosts}
    if not found:
        what = f"it has no plan of {', '.join(sorted(hosts))}, only of {', '.join(sorted(plans)) or 'no host'}"
        raise BattenError(what, where, "give the inventory, and the --limit, that the plans are of")
    return found


def dump(expectations: Expectations, variables: Variables | None = None) -> str:
    """The text that :func:`load` and :func:`load_variables` read."""
    hosts = {
        host: {"stacks": {name: to_json(plan) for name, plan in stacks.items()}}
        | ({"variables": variables[host]} if variables and host in variables else {})
        for host, stacks in expectations.items()
    }
    return json.dumps({"hosts": hosts}, sort_keys=True)


@dataclass(frozen=True)
class Asked:
    """What an inventory expects of its hosts; ``errors`` are those of which it could not be found out, and why."""

    plans: Expectations
    variables: Variables
    errors: Mapping[str, BattenError]


def variables_of(hosts: Mapping[str, Mapping[str, Any]]) -> Variables:
    """Return what role ``host`` is told of each host, its defaults included, out of ``runner.load_hosts``."""
    return {
        host: {name: value for name, value in values.items() if name.startswith("host_")}
        for host, values in hosts.items()
    }


def from_inventory(inventory: str, limit: str | None = None) -> Asked:
    """Plan anew on the controller, from the inventory's variables and the capacity that each host has now.

    The record of the last run, which ``batten plan`` is content with, is passed over: what is judged is the present.
    A host that does not answer, or that nothing can be planned for, does not keep the others from being judged.

    :raises BattenError: the inventory, a base or a definition is wrong.
    """
    from batten import fleet, runner
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

    hosts = runner.load_hosts(inventory, limit)
    settings = fleet.stacks_of(inventory, hosts)
    # Their recorded plans count, whatever stack_capacity says.
    observed, errors = fleet.try_hosts(inventory, list(settings))
    plans: dict[str, Stacks] = {}
    for host in observed:
        try:
            plans[host] = complete(settings[host], observed[host])
        except BattenError as error:
            errors[host] = error
    return Asked(plans, variables_of(hosts), errors)
