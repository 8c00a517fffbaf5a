#!/usr/bin/python
# Copyright: the batten authors. Apache-2.0 (see LICENSE).
"""One stack on one host, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: stack
short_description: Bring a Compose stack to a release, and keep the last good one
version_added: 0.1.0
author: The batten authors (@batten)
description:
  - Writes the release where its bytes differ, delivers its secrets, compares every container with the merged Compose
    model, recreates, updates or starts exactly those that differ, waits for health, and puts the last good release back
    when a service does not get healthy.
  - In a playbook, use the role C(stack); its action plugin of the same name observes the host, plans and renders first.
options:
  release:
    description: The payload that the controller rendered. Holds no secret value. See docs/architecture.md.
    type: dict
  prepare:
    description:
      - Name of a stack for which only the host program and its directory are made.
      - Given secrets are handed to that program on standard input, before the release.
    type: str
  gate_timeout:
    description: The most seconds that one service may take to become healthy.
    type: int
    default: 300
  adopt_chown:
    description: Change the owner of data that another user owns, instead of refusing.
    type: bool
    default: false
  defer_stateful:
    description:
      - Leave the recreation of services with data for later, and say what it would cost.
      - Left out, what the last run was told still holds.
    type: bool
  ask:
    description:
      - End before anything is written where a service with data would be made anew, with RV(pending).
      - The caller says so to a person, and calls again without it.
    type: bool
    default: false
  given:
    description:
      - Names, never values, of the secrets that were handed in with this run.
      - Check mode hands nothing in; it takes these as there.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Predicts everything but the outcome of the health gate, also before Docker is installed.
    support: full
  diff_mode:
    description: Shows each difference as one line; of secrets only the names.
    support: full
"""

EXAMPLES = r"""
- name: Bring the stack up, or see what is in the way
  ansible.builtin.import_role:
    name: batten.core.stack
"""

RETURN = r"""
release:
  description: ID of the release, a digest of all that it holds.
  returned: always
  type: str
previous:
  description: ID of the release that ran before, or none.
  returned: always
  type: str
returned_to:
  description: ID of the last good release where the new one failed and the old one runs again.
  returned: always
  type: str
differences:
  description: Every facet in which the host was not as planned, in the shape that C(batten drift --json) prints.
  returned: always
  type: list
  elements: dict
  contains:
    stack: {description: Name of the stack., type: str, returned: always}
    scope: {description: "One of service, host, secret, file, network and volume.", type: str, returned: always}
    name: {description: Name of the service, file, secret or network., type: str, returned: always}
    facet: {description: What differs., type: str, returned: always}
    desired: {description: The plan's value., type: raw, returned: always}
    actual: {description: The live value., type: raw, returned: always}
    action: {description: "What repairs it; none is only told.", type: str, returned: always}
    seconds: {description: What that took last time., type: float, returned: where it is known}
    restarts: {description: Services that it interrupts., type: list, returned: where there are any}
    reason: {description: Why it is only told., type: str, returned: where it is}
    until: {description: Last day of that., type: str, returned: where a policy says so}
actions:
  description: What was done, in order; empty in check mode.
  returned: always
  type: list
  elements: dict
  contains:
    service: {description: Name of the service., type: str, returned: always}
    action: {description: Such as create or update or recreate., type: str, returned: always}
    why: {description: The facets that differed., type: str, returned: always}
    seconds: {description: How long it took., type: float, returned: always}
gate:
  description: For each service, C(status) healthy or completed, and the seconds until then.
  returned: always
  type: dict
pending:
  description:
    - In check mode, and where O(ask) ends the call, the actions that would be taken.
    - Their C(seconds) are what a service with data took last time.
  returned: always
  type: list
  elements: dict
reported:
  description: Differences that the policy only reports (C(stack_drift)), in the same shape.
  returned: always
  type: list
  elements: dict
deferred:
  description: What waits for the next time a service is made anew, and the C(seconds) that this took last time.
  returned: always
  type: list
  elements: dict
"""

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.batten.core.plugins.module_utils.apply import ApplyFailed, Options, Result, apply, prepare
from ansible_collections.batten.core.plugins.module_utils.docker_api import Docker
from ansible_collections.batten.core.plugins.module_utils.errors import reported
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "release": {"type": "dict"},
            "prepare": {"type": "str"},
            "gate_timeout": {"type": "int", "default": 300},
            "adopt_chown": {"type": "bool", "default": False},
            "defer_stateful": {"type": "bool"},
            "ask": {"type": "bool", "default": False},
            "given": {"type": "list", "elements": "str", "default": [], "no_log": False},
        },
        required_one_of=[("release", "prepare")],
        mutually_exclusive=[("release", "prepare")],
        supports_check_mode=True,
    )
    if module.params["prepare"]:
        module.exit_json(changed=not module.check_mode and prepare(StackPaths(module.params["prepare"])))
    payload = module.params["release"]
    options = Options(
        check=module.check_mode,
        gate_timeout=module.params["gate_timeout"],
        adopt_chown=module.params["adopt_chown"],
        given=tuple(module.params["given"]),
        defer_stateful=module.params["defer_stateful"],
        ask=module.params["ask"],
    )
    with reported(module.fail_json):
        try:
            result = apply(payload, options, Docker(), StackPaths(payload["stack"]))
        except ApplyFailed as error:
            module.fail_json(msg=str(error), **told(module, error.result))
    module.exit_json(diff=diff(result), **told(module, result))


def told(module: AnsibleModule, result: Result) -> dict[str, Any]:
    """Return the result for Ansible, and give its warnings the way that Ansible has for them."""
    said = result.to_json()
    for warning in said.pop("warnings"):
        module.warn(warning)
    return said


def diff(result: Result) -> dict[str, str]:
    """Return both sides of every difference as lines, for ``--diff``."""

    def lines(side: str) -> str:
        return "".join(
            f"{one['scope']} {one['name']} {one['facet']}: {json.dumps(one[side])}\n" for one in result.differences
        )

    return {"before": lines("actual"), "after": lines("desired")}


if __name__ == "__main__":
    main()
