"""What is expected of each host: its stacks' plans, from JSON or planned anew. Never from the files on the host."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from batten.errors import BattenError
from batten.plan.model import StackPlan, to_json

if typing.TYPE_CHECKING:
    from pathlib import Path

Stacks = Mapping[str, StackPlan]  # by name
Expectations = Mapping[str, Stacks]  # by host
Value = TypeVar("Value")


def load(path: Path) -> Expectations:
    """Read a JSON file with the shape of ``to_json(Plan)``: ``{"hosts": {HOST: {"stacks": {STACK: StackPlan}}}}``.

    :raises BattenError: the file is missing or has another shape.
    """
    try:
        document = json.loads(path.read_text())
        return {
            host: {stack: from_json(StackPlan, plan) for stack, plan in values["stacks"].items()}
            for host, values in document["hosts"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BattenError(
            f"this is no plan: {type(error).__name__} {error}", str(path), "batten verify -i INVENTORY makes its own"
        ) from error


def dump(expectations: Expectations) -> str:
    """The text that :func:`load` reads."""
    hosts = {
        host: {"stacks": {name: to_json(plan) for name, plan in stacks.items()}}
        for host, stacks in expectations.items()
    }
    return json.dumps({"hosts": hosts}, sort_keys=True)


def from_json(kind: type[Value], data: Any) -> Value:
    """Build a plan value from what ``to_json`` gave, by its type hints.

    :raises TypeError: a field is missing or unknown.
    """
    return _build(kind, data)  # type: ignore[no-any-return]


def _build(hint: Any, data: Any) -> Any:
    if data is None:
        return None
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _build(next(one for one in arguments if one is not type(None)), data)
    if origin is tuple:
        kinds = [arguments[0]] * len(data) if arguments[-1:] == (...,) else arguments
        return tuple(_build(one, item) for one, item in zip(kinds, data, strict=True))
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return {key: _build(arguments[1], item) for key, item in data.items()}
    if isinstance(hint, type) and hasattr(hint, "__dataclass_fields__"):
        hints = typing.get_type_hints(hint, localns={"Mapping": Mapping})
        return hint(**{key: _build(hints.get(key, Any), item) for key, item in data.items()})
    return data


def from_inventory(inventory: str, limit: str | None = None) -> Expectations:
    """Plan anew on the controller: the inventory's variables and each host's live capacity.

    :raises BattenError: the inventory, a base or a definition is wrong, or a host does not tell its capacity.
    """
    from batten.plan.settings import StackSettings
    from batten.plan.stack import plan_stack
    from batten.runner import load_hosts
    from batten.verify.capacity import observe

    hosts = load_hosts(inventory, limit)
    observed = observe(inventory, limit)
    planned = {}
    for host, variables in hosts.items():
        settings = StackSettings.from_variables(variables, source=host)
        capacity, previous = observed[host]
        plan, _ = plan_stack(settings, capacity, previous.get(settings.name))
        planned[host] = {settings.name: plan}
    return planned
