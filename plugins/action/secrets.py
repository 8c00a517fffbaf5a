"""The controller's half of ``batten.core.secrets``: says what the secrets are, and hands over what was given."""

from __future__ import annotations

from typing import Any

from ansible_collections.batten.core.plugins.plugin_utils.deployment import ControllerAction, render
from batten.fleet import Observed
from batten.plan import ANY_HOST
from batten.plan.infisical import InfisicalSettings, runs_on, url_of


class ActionModule(ControllerAction):
    """Runs the module of the same name for the inventory's stack."""

    def work(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the module's result."""
        own, host = self.own_variables(variables), str(variables.get("inventory_hostname", ""))
        settings = InfisicalSettings.from_variables(own, host, self.root(variables))
        if settings.mode == "none":
            return {"changed": False, "skipped": True, "skip_reason": "the host keeps the values alone"}
        stacks = self.stacks(variables)
        # Whom a secret is delivered to does not depend on how much the host has: it need not be asked.
        payload, _ = render(stacks[-1], stacks, Observed(ANY_HOST))
        local = runs_on(host, settings.mode, own["groups"])
        rules = payload["secrets"]["generate"]
        given = self.given(rules, variables)
        if not self._task.check_mode:
            if given:
                self.hand_over(payload["stack"], given, variables)
            if settings.mode == "external":
                self._tell_access(payload["stack"], settings, variables)
        arguments = {
            "stack": payload["stack"],
            "secrets": payload["secrets"],
            "reloads": [name for name, one in payload["plan"]["services"].items() if one["reload"] is not None],
            "host": host,
            "local_url": url_of(settings, local=True) if local else "",
            "given": sorted(given),
        }
        return self.module("batten.core.secrets", arguments, variables)

    def _tell_access(self, stack: str, settings: InfisicalSettings, variables: dict[str, Any]) -> None:
        """Tell the host how to reach the Infisical that the operator has; the client secret is theirs to give."""
        secret = self._templar.template(variables.get("infisical_client_secret"))
        if secret in (None, ""):
            return  # as it was told before
        access = {
            "url": settings.url,
            "client_id": settings.client_id,
            "client_secret": str(secret),
            "project_id": settings.project,
            "environment": settings.environment,
            "path": settings.path,
            "ca": settings.ca_text(),
        }
        self.tell(stack, "access", access, variables)
