"""The controller's half of ``batten.core.docker_engine``: says in plain words why a host gave no answer."""

from __future__ import annotations

from typing import Any

from ansible_collections.batten.core.plugins.plugin_utils.deployment import ControllerAction


class ActionModule(ControllerAction):
    """Runs the module of the same name."""

    def work(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the module's result."""
        return self.module("batten.core.docker_engine", dict(self._task.args), variables)
