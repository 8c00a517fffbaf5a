"""What the actions share: an inventory's variables; observe a host, plan, render, hand over. They decide nothing."""

from __future__ import annotations

import json
import shlex
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.batten.core.plugins.module_utils.paths import PROGRAM
from batten import reach, resources
from batten.errors import BattenError
from batten.fleet import Observed, observed_from, record_path
from batten.inventory import check_names, is_ours, known_names
from batten.plan import Finding, HostPlan, Inputs, StackSettings, load_inputs, plan_host, refuse
from batten.plan.infisical import host_stacks
from batten.render import release


class ControllerAction(ActionBase):  # type: ignore[misc]  # ansible-core ships no types
    """An action with a half on the controller: a subclass does its :meth:`work`, and may :meth:`deploy` in it."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what :meth:`work` does; a BattenError fails the task in its own words."""
        variables = dict(task_vars or {})
        result: dict[str, Any] = dict(super().run(tmp, variables))
        try:
            return {**result, **self.work(variables)}
        except BattenError as error:
            return {**result, "failed": True, "msg": str(error)}

    @abstractmethod
    def work(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Do the task for the host of these variables, and return its result. May raise BattenError."""

    def own_variables(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Return batten's variables, templated, with Ansible's own name of this host and its groups.

        Raises BattenError for a name that no role documents.
        """
        known = known_names(resources.collection() / "roles")
        host = str(variables.get("inventory_hostname", ""))
        check_names(variables, known, host)
        ours = {name: self._templar.template(value) for name, value in variables.items() if is_ours(name, known)}
        return {**ours, "inventory_hostname": host, "groups": variables.get("groups") or {}}

    def stacks(self, variables: Mapping[str, Any]) -> tuple[StackSettings, ...]:
        """Return the settings of this host's stacks, batten's own Infisical first."""
        host = str(variables.get("inventory_hostname", ""))
        return host_stacks(self.own_variables(variables), host, self.root(variables))

    def root(self, variables: Mapping[str, Any]) -> Path:
        """Return the directory that relative paths of the inventory are below."""
        return Path(str(variables.get("inventory_dir") or "."))

    def deploy(
        self, settings: StackSettings, stacks: Sequence[StackSettings], variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Deploy one of this host's ``stacks``, planned together with the others: they share its memory.

        Runs ``batten.core.capacity``, plans and renders on the controller, runs ``batten.core.stack`` with the payload.
        Returns the module's result, with the plan's findings as warnings. Raises BattenError for what cannot be
        planned or rendered.
        """
        seen = self.module("batten.core.capacity", asked(stacks), variables)
        if seen.get("failed"):
            return seen
        payload, warnings = render(settings, stacks, observed_from(seen))
        given = self.given(payload["secrets"]["generate"], variables)
        remember(self.root(variables), str(variables.get("inventory_hostname", "")), seen)
        if given and not self._task.check_mode:
            self.hand_over(settings.name, given, variables)
        options = {
            "gate_timeout": round(settings.gate_timeout_seconds),
            "adopt_chown": settings.adopt_chown,
            "defer_stateful": settings.defer_stateful,
            "given": sorted(given),
        }
        arguments = {**options, "release": payload}
        result = self.module("batten.core.stack", {**arguments, "ask": not self._task.check_mode}, variables)
        if result.get("pending") and not self._task.check_mode:
            for line in costly(result["pending"]):
                self._display.warning(line)
            result = self.module("batten.core.stack", arguments, variables)
        return {**result, "warnings": [*result.get("warnings", []), *warnings]}

    def module(self, name: str, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Run a module on the host; a host that gave no answer is told of in plain words."""
        result = self._execute_module(module_name=name, module_args=arguments, task_vars=variables)
        return reach.told(result, str(variables.get("inventory_hostname")), str(variables.get("ansible_user") or ""))

    def given(self, rules: Mapping[str, Mapping[str, Any]], variables: Mapping[str, Any]) -> dict[str, str]:
        """Return the secrets that an inventory's variables hold (``{from: VARIABLE}``)."""
        names = {secret: str(rule["from"]) for secret, rule in rules.items() if rule.get("from")}
        given = {secret: self._templar.template(variables.get(name)) for secret, name in names.items()}
        return {secret: str(value) for secret, value in given.items() if value not in (None, "")}

    def hand_over(self, stack: str, given: Mapping[str, str], variables: dict[str, Any]) -> None:
        """Give the host the secrets that the operator gave us."""
        self.tell(stack, "put", given, variables)

    def tell(self, stack: str, verb: str, given: Mapping[str, Any], variables: dict[str, Any]) -> None:
        """Give a verb of the host's program what it takes, on standard input: in no argument, file or task result."""
        prepared = self.module("batten.core.stack", {"prepare": stack}, variables)
        if prepared.get("failed"):
            raise AnsibleActionFail(str(prepared.get("msg")))
        command = shlex.join(["python3", str(PROGRAM), verb, stack])
        done = self._low_level_execute_command(command, sudoable=True, in_data=json.dumps(dict(given)).encode())
        if done["rc"]:
            raise AnsibleActionFail(f"the host did not take the given secrets: {done['stderr'].strip()}")


def asked(stacks: Sequence[StackSettings]) -> dict[str, Any]:
    """Return the arguments of ``batten.core.capacity`` for a host that is to run ``stacks``."""
    return {
        "projects": [one.project or one.name for one in stacks],
        "data": sorted({one.data for one in stacks if one.data}),
    }


def render(
    settings: StackSettings, stacks: Sequence[StackSettings], observed: Observed
) -> tuple[dict[str, Any], list[str]]:
    """Return the release payload of one of a host's stacks, and what the planner found in it."""
    inputs, host, findings = _planned(stacks, observed)
    own = [one for one in findings if one.where.partition("/")[0] == settings.name]
    refuse(own)
    warnings = [f"{one.where}: {one.what} ({one.fix})" for one in own if one.severity == "warning"]
    return release(host.stacks[settings.name], settings, inputs[settings.name].definition), warnings


def render_all(stacks: Sequence[StackSettings], observed: Observed) -> dict[str, dict[str, Any]]:
    """Return the release payload of every stack of a host. Raises BattenError for what cannot be planned."""
    inputs, host, findings = _planned(stacks, observed)
    refuse(findings)
    return {one.name: release(host.stacks[one.name], one, inputs[one.name].definition) for one in stacks}


def _planned(
    stacks: Sequence[StackSettings], observed: Observed
) -> tuple[dict[str, Inputs], HostPlan, tuple[Finding, ...]]:
    inputs = {one.name: load_inputs(one) for one in stacks}
    host, findings = plan_host(stacks, observed.capacity, observed.plans, inputs)
    return inputs, host, findings


def costly(pending: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what will be interrupted, and for how long, as lines for a person."""
    return [
        f"{one['service']} will be made anew"
        + (f", which took {one['seconds']:g} s last time" if one.get("seconds") else "")
        + f": {one['why']} (--defer-stateful, or stack_defer_stateful: true, leaves it for later)"
        for one in pending
    ]


def remember(root: Path, host: str, seen: Mapping[str, Any]) -> None:
    """Keep what a host of the inventory in ``root`` had, for ``batten plan`` without it.

    A read-only home is no reason to fail a run.
    """
    path = record_path(root, host)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"capacity": seen["capacity"], "plans": seen["plans"]}, sort_keys=True))
    except OSError:
        return
