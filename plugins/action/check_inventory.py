"""All of ``batten.core.check_inventory``: nothing of it runs on a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from batten import resources, runner
from batten.errors import BattenError
from batten.inventory import check_names, is_ours, known_names
from batten.plan import ANY_HOST, plan_host
from batten.plan.infisical import InfisicalSettings, check_server, host_stacks, server_of


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Checks one host's variables, and the files that they name, by planning for a host that has all there is."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return nothing, or the first thing that is wrong."""
        variables = dict(task_vars or {})
        result: dict[str, Any] = {**super().run(tmp, variables), "changed": False}
        host = str(variables["inventory_hostname"])
        known = known_names(resources.collection() / "roles")
        named = {name: value for name, value in variables.items() if is_ours(name, known)}
        try:
            check_names(variables, known, host)
            ours = {name: self._templar.template(value) for name, value in named.items()}
            for role in ("docker", "host"):
                runner.check_options(role, ours, host)
            root = Path(str(variables.get("inventory_dir") or "."))
            ours |= {"inventory_hostname": host, "groups": variables.get("groups") or {}}
            stacks = host_stacks(ours, source=host, root=root)
            plan_host(stacks, ANY_HOST)
            self._check_server(ours, variables, host, root)
        except BattenError as error:
            result.update(failed=True, msg=str(error))
        return result

    def _check_server(self, ours: dict[str, Any], variables: dict[str, Any], host: str, root: Path) -> None:
        """Refuse an Infisical for several hosts without an address; read the authority of an external one."""
        settings = InfisicalSettings.from_variables(ours, host, root)
        settings.ca_text()
        server = server_of(host, ours["groups"])
        if settings.mode == "selfhosted" and server != host:
            address = variables.get("hostvars", {}).get(server, {}).get("infisical_address")
            check_server(server, self._templar.template(address))
