#!/usr/bin/python
# Copyright: the batten authors. Apache-2.0 (see LICENSE).
"""How one host differs from what was put on it, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drift
short_description: How a host differs from what batten put on it
version_added: 0.1.0
author: The batten authors (@batten)
description:
  - Compares every container, network, secret, file and unit of every stack on the host, and what all stacks share, with
    the releases that run. Reads in one batch; changes nothing.
  - Used as a task, its action plugin of the same name also plans and renders the inventory, and tells where that is
    another release than the one that runs.
options:
  projects:
    description: Compose projects of the stacks being planned, so that their memory is not counted as foreign.
    type: list
    elements: str
    default: []
  data:
    description: Directories that hold the stacks' data, for the size of their disk; those of the engine if empty.
    type: list
    elements: str
    default: []
  program:
    description: The sha256 that the program on the host should have; the one that its installation recorded if empty.
    type: str
    default: ""
attributes:
  check_mode:
    description: Runs the same, as it only reads.
    support: full
  diff_mode:
    description: There is nothing to show; the differences are in the result.
    support: none
"""

EXAMPLES = r"""
- name: What has drifted
  batten.core.drift:
  register: found
"""

RETURN = r"""
drift:
  description: Every facet that is not as planned.
  returned: always
  type: list
  elements: dict
  contains:
    stack: {description: Name of the stack; none for what all stacks share., type: str, returned: always}
    scope: {description: Such as service or host or secret or file., type: str, returned: always}
    name: {description: Name of the service or file or secret or unit., type: str, returned: always}
    facet: {description: What differs., type: str, returned: always}
    desired: {description: The plan's value., type: raw, returned: always}
    actual: {description: The live value., type: raw, returned: always}
    action: {description: What repairs it., type: str, returned: always}
    seconds: {description: What that took last time., type: float, returned: where known}
    restarts: {description: The services that it interrupts., type: list, elements: str, returned: where there are any}
    reason: {description: Why it is only told., type: str, returned: where there is one}
    until: {description: Last day of that., type: str, returned: where a policy says so}
ignored:
  description: Rows of the same form that C(stack_drift) and C(host_drift) of the inventory leave out.
  returned: always
  type: list
  elements: dict
deferred:
  description: What waits for the next time a service is made anew.
  returned: always
  type: list
  elements: dict
errors:
  description: What could not be looked at, each with C(where) and C(what) and C(fix).
  returned: always
  type: list
  elements: dict
stacks:
  description: The release of each stack on this host.
  returned: always
  type: dict
notes:
  description: What a person should know beside, such as an expired policy.
  returned: always
  type: list
  elements: str
busy:
  description: What could not be looked at because a run holds it; C(errors) has it too.
  returned: always
  type: list
  elements: str
at:
  description: When the host was looked at, UTC.
  returned: always
  type: str
seconds:
  description: How long the look took on the host.
  returned: always
  type: float
capacity:
  description: What M(batten.core.capacity) returns under this name; the action plugin plans with it.
  returned: by the module alone, not by its action plugin
  type: dict
plans:
  description: What M(batten.core.capacity) returns under this name; the action plugin plans with it.
  returned: by the module alone, not by its action plugin
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.batten.core.plugins.module_utils.capacity import observe_host
from ansible_collections.batten.core.plugins.module_utils.docker_api import Docker
from ansible_collections.batten.core.plugins.module_utils.drift import look
from ansible_collections.batten.core.plugins.module_utils.errors import reported


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "projects": {"type": "list", "elements": "str", "default": []},
            "data": {"type": "list", "elements": "str", "default": []},
            "program": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    with reported(module.fail_json):
        report = look(Docker(), program=module.params["program"])
        given = {name: module.params[name] for name in ("projects", "data")}
        seen = observe_host(Docker(), **given)
    module.exit_json(changed=False, **report.to_json(), **seen)


if __name__ == "__main__":
    main()
