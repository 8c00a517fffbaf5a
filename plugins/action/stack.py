"""The controller's half of ``batten.core.stack``: observe, plan, render, hand over. It decides nothing."""

from __future__ import annotations

from typing import Any

from ansible_collections.batten.core.plugins.plugin_utils.deployment import ControllerAction


class ActionModule(ControllerAction):
    """Deploys the inventory's stack, or the release that somebody else rendered."""

    def work(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the module's result, with the plan's findings as warnings."""
        arguments = dict(self._task.args)
        if "release" in arguments:
            return self.module("batten.core.stack", arguments, variables)
        stacks = self.stacks(variables)
        return self.deploy(stacks[-1], stacks, variables)
