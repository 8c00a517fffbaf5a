#!/usr/bin/python
# Copyright: the batten authors. Apache-2.0 (see LICENSE).
"""Take one stack off one host: a thin caller of module_utils/uninstall.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: uninstall
short_description: Take a stack off a host and keep its data
version_added: 0.1.0
author: The batten authors (@batten)
description:
  - Stops the stack in order and removes its containers, networks, units, memory mount and layers.
  - Keeps volumes and data directories, and in C(/var/lib/batten/STACK) the encrypted credentials and the dumps, without
    which the data could be worthless. A later run of C(site.yml) finds all of it again.
  - Keeps the engine. M(batten.core.docker_engine) with O(batten.core.docker_engine#module:state=absent) gives back its
    settings.
options:
  stack:
    description: Name of the stack.
    type: str
    required: true
attributes:
  check_mode:
    description: Lists what would be removed.
    support: full
  diff_mode:
    description: Shows one line for each thing that is removed.
    support: full
"""

EXAMPLES = r"""
- name: Take the stack off
  batten.core.uninstall:
    stack: app
"""

RETURN = r"""
changes:
  description: What was removed, or would be, in words.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.batten.core.plugins.module_utils.docker_api import Docker
from ansible_collections.batten.core.plugins.module_utils.errors import reported
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths
from ansible_collections.batten.core.plugins.module_utils.uninstall import remove


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"stack": {"type": "str", "required": True}}, supports_check_mode=True)
    with reported(module.fail_json):
        changes = remove(StackPaths(module.params["stack"]), Docker(), module.check_mode)
    lines = "".join(change + "\n" for change in changes)
    module.exit_json(changed=bool(changes), changes=changes, diff={"before": lines, "after": ""})


if __name__ == "__main__":
    main()
