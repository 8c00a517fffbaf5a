"""All of ``batten.core.check_inventory``: nothing of it runs on a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.batten.core.plugins.plugin_utils.deployment import ControllerAction
from batten import runner
from batten.plan import ANY_HOST, plan_host
from batten.plan.infisical import InfisicalSettings, check_server, host_stacks, server_of


class ActionModule(ControllerAction):
    """Checks one host's variables, and the files that they name, by planning for a host that has all there is."""

    _requires_connection = False

    def work(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Return nothing, or raise the first thing that is wrong."""
        host, root = str(variables["inventory_hostname"]), self.root(variables)
        ours = self.own_variables(variables)
        for role in ("docker", "host"):
            runner.check_options(role, ours, host)
        plan_host(host_stacks(ours, source=host, root=root), ANY_HOST)
        self._check_server(ours, variables, host, root)
        return {"changed": False}

    def _check_server(self, ours: dict[str, Any], variables: dict[str, Any], host: str, root: Path) -> None:
        """Refuse an Infisical for several hosts without an address; read the authority of an external one."""
        settings = InfisicalSettings.from_variables(ours, host, root)
        settings.ca_text()
        server = server_of(host, ours["groups"])
        if settings.mode == "selfhosted" and server != host:
            address = variables.get("hostvars", {}).get(server, {}).get("infisical_address")
            check_server(server, self._templar.template(address))
