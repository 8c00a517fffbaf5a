"""The controller's half of ``batten.core.infisical``: deploys the stack that runs Infisical, then has it set up."""

from __future__ import annotations

from typing import Any

from ansible_collections.batten.core.plugins.plugin_utils.deployment import DeployAction
from batten.errors import BattenError
from batten.plan.infisical import STACK


class ActionModule(DeployAction):
    """Runs ``batten.core.stack`` with Infisical's release, and then the module of the same name, in one task."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what both did as one result."""
        variables = dict(task_vars or {})
        result: dict[str, Any] = dict(super().run(tmp, variables))
        try:
            stacks = self.stacks(variables)
            settings = next((stack for stack in stacks if stack.name == STACK), None)
            if settings is None:
                return {**result, "changed": False, "skipped": True, "skip_reason": "Infisical is not run on this host"}
            return {**result, **self.deploy(settings, stacks, variables)}
        except BattenError as error:
            return {**result, "failed": True, "msg": str(error)}
