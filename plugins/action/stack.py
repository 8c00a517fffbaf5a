"""The controller's half of ``batten.core.stack``: observe, plan, render, hand over. It decides nothing."""

from __future__ import annotations

from typing import Any

from ansible_collections.batten.core.plugins.plugin_utils.deployment import DeployAction
from batten.errors import BattenError


class ActionModule(DeployAction):
    """Deploys the inventory's stack, or the release that somebody else rendered."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result, with the plan's findings as warnings."""
        variables = dict(task_vars or {})
        result: dict[str, Any] = dict(super().run(tmp, variables))
        arguments = dict(self._task.args)
        if "release" in arguments:
            return {**result, **self.module("batten.core.stack", arguments, variables)}
        try:
            stacks = self.stacks(variables)
            return {**result, **self.deploy(stacks[-1], stacks, variables)}
        except BattenError as error:
            return {**result, "failed": True, "msg": str(error)}
