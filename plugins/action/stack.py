"""The controller's half of ``batten.core.stack``: observe, plan, render, hand over. It decides nothing."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.batten.core.plugins.module_utils.paths import PROGRAM
from batten import reach, resources
from batten.errors import BattenError
from batten.fleet import observed_from, record_path
from batten.inventory import check_names, known_names
from batten.plan.settings import StackSettings
from batten.plan.stack import load_inputs, plan_stack
from batten.render import release

PREFIXES = ("stack_", "digitalocean_")


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """Runs ``batten.core.capacity``, plans and renders, then runs the module of the same name with the payload."""

    _requires_connection = True
    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result, with the plan's findings as warnings."""
        variables = dict(task_vars or {})
        result: dict[str, Any] = dict(super().run(tmp, variables))
        host = str(variables.get("inventory_hostname", ""))
        arguments = dict(self._task.args)
        if "release" in arguments:  # rendered by somebody else
            return {**result, **self._module("batten.core.stack", arguments, variables)}
        try:
            settings = self._settings(variables, host)
            seen = self._module("batten.core.capacity", {"projects": [settings.project or settings.name]}, variables)
            if seen.get("failed"):
                return {**result, **seen}
            payload, warnings = render(settings, seen)
            given = self._given(payload["secrets"]["generate"], variables)
        except BattenError as error:
            return {**result, "failed": True, "msg": str(error)}
        remember(host, seen)
        if given and not self._task.check_mode:
            self._hand_over(settings.name, given, variables)
        options = {
            "gate_timeout": round(settings.gate_timeout_seconds),
            "adopt_chown": settings.adopt_chown,
            "given": sorted(given),
        }
        result.update(self._module("batten.core.stack", {**options, "release": payload}, variables))
        result["warnings"] = [*result.get("warnings", []), *warnings]
        return result

    def _settings(self, variables: Mapping[str, Any], host: str) -> StackSettings:
        ours = {name: self._templar.template(value) for name, value in variables.items() if name.startswith(PREFIXES)}
        check_names(ours, known_names(resources.collection() / "roles"), host)
        root = Path(str(variables.get("inventory_dir") or "."))
        return StackSettings.from_variables(ours, source=host, root=root)

    def _module(self, name: str, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        result = self._execute_module(module_name=name, module_args=arguments, task_vars=variables)
        return reach.told(result, str(variables.get("inventory_hostname")), str(variables.get("ansible_user") or ""))

    def _given(self, rules: Mapping[str, Mapping[str, Any]], variables: Mapping[str, Any]) -> dict[str, str]:
        """Return the secrets that an inventory's variables hold (``{from: VARIABLE}``)."""
        names = {secret: str(rule["from"]) for secret, rule in rules.items() if rule.get("from")}
        return {
            secret: str(self._templar.template(variables[name])) for secret, name in names.items() if name in variables
        }

    def _hand_over(self, stack: str, given: Mapping[str, str], variables: dict[str, Any]) -> None:
        """Give the host what the operator gave us, on standard input: in no argument, no file, no task result."""
        prepared = self._module("batten.core.stack", {"prepare": stack}, variables)
        if prepared.get("failed"):
            raise AnsibleActionFail(str(prepared.get("msg")))
        command = shlex.join(["python3", str(PROGRAM), "put", stack])
        done = self._low_level_execute_command(command, sudoable=True, in_data=json.dumps(dict(given)).encode())
        if done["rc"]:
            raise AnsibleActionFail(f"the host did not take the given secrets: {done['stderr'].strip()}")


def render(settings: StackSettings, seen: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the release payload for a host as ``batten.core.capacity`` saw it, and what the planner found."""
    observed = observed_from(seen)
    inputs = load_inputs(settings)
    plan, findings = plan_stack(settings, observed.capacity, observed.plans.get(settings.name), inputs)
    warnings = [f"{one.where}: {one.what} ({one.fix})" for one in findings if one.severity == "warning"]
    for one in findings:
        if one.severity == "error":
            raise BattenError(one.what, one.where, one.fix)
    return release(plan, settings, inputs.definition), warnings


def remember(host: str, seen: Mapping[str, Any]) -> None:
    """Keep what a host had, for ``batten plan`` without it. A read-only home is no reason to fail a run."""
    path = record_path(host)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"capacity": seen["capacity"], "plans": seen["plans"]}, sort_keys=True))
    except OSError:
        return
