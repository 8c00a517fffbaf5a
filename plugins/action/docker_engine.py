"""The controller's half of ``batten.core.docker_engine``: says in plain words why a host gave no answer."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from batten import reach


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Runs the module of the same name."""

    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result."""
        variables = dict(task_vars or {})
        result = dict(super().run(tmp, variables)) | dict(self._execute_module(task_vars=variables))
        return reach.told(result, str(variables["inventory_hostname"]), str(variables.get("ansible_user") or ""))
