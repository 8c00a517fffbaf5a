"""The planner: settings, base, definition, profiles and capacity in, a plan out. Pure but for reading those files."""

from batten.plan.model import (
    ANY_HOST,
    Capacity,
    Finding,
    HostPlan,
    Plan,
    ServicePlan,
    StackPlan,
    capacity_from_json,
    refuse,
    stack_from_json,
    to_json,
)
from batten.plan.settings import StackSettings
from batten.plan.stack import Inputs, load_inputs, plan, plan_host, plan_stack

__all__ = [
    "ANY_HOST",
    "Capacity",
    "Finding",
    "HostPlan",
    "Inputs",
    "Plan",
    "ServicePlan",
    "StackPlan",
    "StackSettings",
    "capacity_from_json",
    "load_inputs",
    "plan",
    "plan_host",
    "plan_stack",
    "refuse",
    "stack_from_json",
    "to_json",
]
