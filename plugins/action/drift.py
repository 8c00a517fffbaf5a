"""The controller's half of ``batten.core.drift``: is the release that runs the one that the inventory asks for now?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.batten.core.plugins.module_utils import program
from ansible_collections.batten.core.plugins.module_utils.release import identity
from ansible_collections.batten.core.plugins.plugin_utils.deployment import ControllerAction, asked, render_all
from batten.errors import BattenError
from batten.fleet import observed_from

_OF_THE_MODULE = ("capacity", "plans", "invocation")


class ActionModule(ControllerAction):
    """Runs the module of the same name, then plans and renders for what the host has."""

    def work(self, variables: dict[str, Any]) -> dict[str, Any]:
        """Return the module's report with one row more for each stack whose inventory has changed."""
        stacks = self.stacks(variables)
        ours = program.digest(program.build())
        seen = self.module("batten.core.drift", {**asked(stacks), "program": ours}, variables)
        if seen.get("failed") or seen.get("unreachable"):
            return seen
        report = {key: value for key, value in seen.items() if key not in _OF_THE_MODULE}
        try:
            wanted = {name: identity(payload) for name, payload in render_all(stacks, observed_from(seen)).items()}
        except BattenError as error:  # what is wrong with the inventory hides nothing of the host
            told = {"where": error.where, "what": error.what, "fix": error.fix}
            return {**report, "errors": [*report["errors"], told]}
        return {**report, "drift": [*releases(wanted, report["stacks"]), *report["drift"]]}


def releases(wanted: Mapping[str, str], running: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each stack whose release is another than the inventory's, or that is not on the host. Pure."""
    rows = []
    for stack, release in sorted(wanted.items()):
        there = (running.get(stack) or {}).get("release", "absent")
        if there != release:
            reason = "the inventory has changed since: site.yml --check --diff says what it would do"
            row = {"stack": stack, "scope": "host", "name": stack, "facet": "release", "action": "recreate"}
            rows.append({**row, "desired": release, "actual": there, "reason": reason})
    return rows
