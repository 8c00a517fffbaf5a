"""The controller's half of ``batten.core.host``: tells the ports of this run's stacks, and confirms new rules."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ansible.errors import AnsibleError

from ansible_collections.batten.core.plugins.plugin_utils.deployment import ControllerAction
from batten.plan import ANY_HOST, plan_host, to_json
from batten.plan.drift import host_rules
from batten.plan.schema import At


class ActionModule(ControllerAction):
    """Runs the module of the same name, and once more on a new connection when it loaded new firewall rules."""

    def work(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the module's result."""
        arguments = dict(self._task.args)
        if arguments.get("state", "present") == "present" and "planned" not in arguments:
            arguments["planned"] = self._planned(variables)
        if "drift" in arguments:
            at = At(str(variables.get("inventory_hostname", "")), "host_drift")
            arguments["drift"] = [asdict(rule) for rule in host_rules(arguments["drift"], at)]
        done = self.module("batten.core.host", arguments, variables)
        if done.get("armed"):
            done = self._confirmed(done, variables)
        return done

    def _planned(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the ports of this host's stacks as they will be: what runs already keeps them until it is deployed.

        What a stack publishes does not depend on how much the host has: it need not be asked.
        """
        planned, _ = plan_host(self.stacks(variables), ANY_HOST)
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
