"""The controller's half of ``batten.core.infisical``: deploys the stack that runs Infisical, then has it set up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.batten.core.plugins.plugin_utils.deployment import ControllerAction
from batten.plan.infisical import HTTPS_CA, STACK, InfisicalSettings, url_of


class ActionModule(ControllerAction):
    """Runs ``batten.core.stack`` with Infisical's release, and then the module of the same name, in one task."""

    def work(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Return what both did as one result."""
        if self._task.args:
            return self._let_in(dict(self._task.args), variables)
        return self._deploy_and_set_up(variables)

    def _let_in(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Run the module alone, such as for another host's login; what is not said is the server's own setting."""
        server = str(self._task.delegate_to or variables.get("inventory_hostname", ""))
        of_server = variables["hostvars"][server]
        named = {name: of_server[name] for name in of_server if name.startswith("infisical_")}
        settings = InfisicalSettings.from_variables(named, server, self.root(variables))
        return self.module("batten.core.infisical", {**set_up(settings), **arguments}, variables)

    def _deploy_and_set_up(self, variables: dict[str, Any]) -> dict[str, Any]:
        stacks = self.stacks(variables)
        stack = next((one for one in stacks if one.name == STACK), None)
        if stack is None:
            return {"changed": False, "skipped": True, "skip_reason": "Infisical is not run on this host"}
        deployed = self.deploy(stack, stacks, variables)
        if deployed.get("failed"):
            return deployed
        own, host = self.own_variables(variables), str(variables.get("inventory_hostname", ""))
        settings = InfisicalSettings.from_variables(own, host, self.root(variables))
        return merged(deployed, self.module("batten.core.infisical", set_up(settings), variables))


def set_up(settings: InfisicalSettings) -> dict[str, Any]:
    """Return the module's arguments for a host's own Infisical."""
    remote = {"remote_url": url_of(settings, local=False), "remote_ca_secret": HTTPS_CA} if settings.address else {}
    return {
        "stack": STACK,
        "url": url_of(settings, local=True),
        "email": settings.admin_email,
        "organization": settings.organization,
        **remote,
    }


def merged(deployed: Mapping[str, Any], made: Mapping[str, Any]) -> dict[str, Any]:
    """Return both results as one: changed if either did anything, the differences one after the other."""
    diffs = [one["diff"] for one in (deployed, made) if one.get("diff")]
    warnings = [*deployed.get("warnings", []), *made.get("warnings", [])]
    changed = bool(deployed.get("changed") or made.get("changed"))
    return {**deployed, **made, "changed": changed, "diff": diffs, "warnings": warnings}
