#!/usr/bin/python
# Copyright: the batten authors. Apache-2.0 (see LICENSE).
"""New values for secrets, under load."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rotate
short_description: Give secrets of a stack new values while it keeps answering
version_added: 0.1.0
author: The batten authors (@batten)
description:
  - Makes new values on the host, has them accepted beside the old ones where the software can, stores them in
    Infisical, brings them to their consumers behind the health gate, and ends the old ones when nobody uses them.
  - Goes on first with what a killed run left. Where the stack does not get healthy, the old values come back.
options:
  stack:
    description: Name of the stack.
    type: str
    required: true
  names:
    description:
      - Secrets to rotate. C(infisical/NAME) is a secret of the Infisical on this host, C(infisical_identity) the login
        of this host to Infisical.
    type: list
    elements: str
    default: []
  everything:
    description: Rotate all that can be.
    type: bool
    default: false
  older_than:
    description: Rotate what is older than this many seconds.
    type: int
  host:
    description: Name of this host in the inventory.
    type: str
    required: true
attributes:
  check_mode:
    description: Says what would be rotated.
    support: full
  diff_mode:
    description: Shows names only.
    support: full
"""

EXAMPLES = r"""
- name: Rotate what has not been for 90 days
  batten.core.rotate:
    stack: app
    host: "{{ inventory_hostname }}"
    older_than: 7776000
"""

RETURN = r"""
stacks:
  description: By stack, what was rotated, what waits for sessions to end, and the seconds of each step.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.batten.core.plugins.module_utils import host_rotation
from ansible_collections.batten.core.plugins.module_utils.docker_api import Docker
from ansible_collections.batten.core.plugins.module_utils.errors import reported


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "stack": {"type": "str", "required": True},
            "names": {"type": "list", "elements": "str", "default": []},
            "everything": {"type": "bool", "default": False},
            "older_than": {"type": "int"},
            "host": {"type": "str", "required": True},
        },
        mutually_exclusive=[("everything", "older_than")],
        supports_check_mode=True,
    )
    wanted = host_rotation.Wanted(
        tuple(module.params["names"]), module.params["everything"], module.params["older_than"], module.params["host"]
    )
    with reported(module.fail_json):
        stacks = host_rotation.rotate(module.params["stack"], wanted, Docker(), module.check_mode)
    changed = any(one["rotated"] or one["finished"] for one in stacks.values())
    lines = "".join(f"{stack}/{name}\n" for stack, one in stacks.items() for name in one["rotated"])
    module.exit_json(changed=changed, stacks=stacks, diff={"before": lines, "after": lines.replace("\n", ": new\n")})


if __name__ == "__main__":
    main()
