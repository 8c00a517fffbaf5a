#!/usr/bin/python
# Copyright: the batten authors. Apache-2.0 (see LICENSE).
"""What one host has, for the plan."""

from __future__ import annotations

DOCUMENTATION = r"""
module: capacity
short_description: What a host has, for planning the limits of its stacks
version_added: 0.1.0
author: The batten authors (@batten)
description:
  - Reads memory, processors, addresses, what the engine can grant, what runs, and the plans recorded on the host.
  - Works before Docker is installed. Changes nothing.
options:
  projects:
    description: Compose projects of the stack being planned, so that their memory is not counted as foreign.
    type: list
    elements: str
    default: []
  data:
    description: Directories that hold the stacks' data, for the size of their disk; those of the engine if empty.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Runs the same, as it only reads.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
"""

EXAMPLES = r"""
- name: What does this host have
  batten.core.capacity:
  register: host_capacity
"""

RETURN = r"""
capacity:
  description: The fields of C(batten.plan.model.Capacity); sizes in bytes.
  returned: always
  type: dict
plans:
  description: The plan of every stack that batten runs here, by stack.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.batten.core.plugins.module_utils.capacity import observe_host
from ansible_collections.batten.core.plugins.module_utils.docker_api import Docker
from ansible_collections.batten.core.plugins.module_utils.errors import reported


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "projects": {"type": "list", "elements": "str", "default": []},
            "data": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    given = {name: module.params[name] for name in ("projects", "data")}
    with reported(module.fail_json):
        module.exit_json(changed=False, **observe_host(Docker(), **given))


if __name__ == "__main__":
    main()
