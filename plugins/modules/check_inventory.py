#!/usr/bin/python
# Copyright: the batten authors. Apache-2.0 (see LICENSE).
"""Documentation of ``batten.core.check_inventory``; its work is in the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: check_inventory
short_description: Refuse an inventory that cannot be deployed, before any host is touched
version_added: 0.1.0
author: The batten authors (@batten)
description:
  - Reads the variables of one host, its base C(compose.yaml), its C(batten.yaml) and the profiles, and plans with them.
  - Unknown names, wrong values and types, missing files, services that wait for each other and the like fail here.
  - Runs on the controller and opens no connection. What only the host can tell, such as its memory, is checked later.
options: {}
attributes:
  check_mode:
    description: It changes nothing in any mode.
    support: full
  diff_mode:
    description: There is no difference to show.
    support: none
"""

EXAMPLES = r"""
- name: Check the inventory
  batten.core.check_inventory:
"""

RETURN = "{}"

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Say that this is the wrong half."""
    AnsibleModule(argument_spec={}, supports_check_mode=True).fail_json(msg="this runs on the controller only")


if __name__ == "__main__":
    main()
