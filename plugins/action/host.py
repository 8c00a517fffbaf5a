"""The controller's half of ``batten.core.host``: tells the ports of this run's stacks, and confirms new rules."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible.errors import AnsibleError

from ansible_collections.batten.core.plugins.plugin_utils.deployment import DeployAction
from batten.errors import BattenError
from batten.plan import Capacity, load_inputs, plan_host, to_json
from batten.plan.drift import host_rules
from batten.plan.schema import At

# What a stack publishes does not depend on how much the host has: it need not be asked.
_ANY_HOST = Capacity(memory_bytes=2**50, cpus=1024)


class ActionModule(DeployAction):
    """Runs the module of the same name, and once more on a new connection when it loaded new firewall rules."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result."""
        variables = dict(task_vars or {})
        result: dict[str, Any] = dict(super().run(tmp, variables))
        arguments = dict(self._task.args)
        try:
            if arguments.get("state", "present") == "present" and "planned" not in arguments:
                arguments["planned"] = self._planned(variables)
            if "drift" in arguments:
                at = At(str(variables.get("inventory_hostname", "")), "host_drift")
                arguments["drift"] = [asdict(rule) for rule in host_rules(arguments["drift"], at)]
        except BattenError as error:
            return {**result, "failed": True, "msg": str(error)}
        done = self.module("batten.core.host", arguments, variables)
        if done.get("armed"):
            done = self._confirmed(done, variables)
        return {**result, **done}

    def _planned(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the ports of this host's stacks as they will be: what runs already keeps them until it is deployed."""
        stacks = self.stacks(variables)
        planned, _ = plan_host(stacks, _ANY_HOST, inputs={one.name: load_inputs(one) for one in stacks})
        return {
            name: [port for service in to_json(plan)["services"].values() for port in service["ports"]]
            for name, plan in planned.stacks.items()
        }

    def _confirmed(self, done: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Show the host that it can still be reached: a connection older than the rules would prove nothing."""
        try:
            self._connection.reset()
            kept = self.module("batten.core.host", {"confirm": done["armed"]}, variables)
        except AnsibleError as error:
            kept = {"failed": True, "msg": f"{error}\nThe host takes the new firewall rules back by itself."}
        return {**done, **{key: kept[key] for key in ("failed", "msg", "unreachable") if kept.get(key)}}
