"""All of ``batten.core.check_inventory``: nothing of it runs on a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from batten import resources, runner
from batten.errors import BattenError
from batten.inventory import PREFIXES, check_names, known_names
from batten.plan import Capacity, StackSettings, load_inputs, plan_stack

ANY_HOST = Capacity(memory_bytes=2**50, cpus=1024)


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Checks one host's variables, and the files that they name, by planning for a host that has all there is."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return nothing, or the first thing that is wrong."""
        variables = dict(task_vars or {})
        result: dict[str, Any] = {**super().run(tmp, variables), "changed": False}
        host = str(variables["inventory_hostname"])
        named = {name: value for name, value in variables.items() if name.startswith(PREFIXES)}
        try:
            check_names(named, known_names(resources.collection() / "roles"), host)
            ours = {name: self._templar.template(value) for name, value in named.items()}
            runner.check_options("docker", ours, host)
            root = Path(str(variables.get("inventory_dir") or "."))
            settings = StackSettings.from_variables(ours, source=host, root=root)
            plan_stack(settings, ANY_HOST, inputs=load_inputs(settings))
        except BattenError as error:
            result.update(failed=True, msg=str(error))
        return result
