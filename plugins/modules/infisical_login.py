#!/usr/bin/python
# Copyright: the batten authors. Apache-2.0 (see LICENSE).
"""This host's login to an Infisical on another one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: infisical_login
short_description: Take over this host's login to the Infisical of another host
version_added: 0.1.0
author: The batten authors (@batten)
description:
  - Without C(sealed) it says whether the stack can log in, and to which key its login has to be sealed.
  - With C(sealed) it opens the login and keeps it, encrypted. The key never leaves the host.
options:
  stack:
    description: Name of the stack.
    type: str
    required: true
  sealed:
    description: A login that C(batten.core.infisical) sealed to this host.
    type: str
attributes:
  check_mode:
    description: Makes no key; C(public_key) is then empty where there is none.
    support: full
  diff_mode:
    description: There is nothing that could be shown.
    support: none
"""

EXAMPLES = r"""
- name: See whether this host can log in, and to which key its login is sealed
  batten.core.infisical_login:
    stack: app
"""

RETURN = r"""
present:
  description: Whether the stack has a login.
  returned: always
  type: bool
public_key:
  description: The certificate to seal to, PEM.
  returned: always
  type: str
"""

import json

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.batten.core.plugins.module_utils import cms, infisical_access
from ansible_collections.batten.core.plugins.module_utils.errors import reported
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"stack": {"type": "str", "required": True}, "sealed": {"type": "str", "no_log": False}},
        supports_check_mode=True,
    )
    paths, sealed = StackPaths(module.params["stack"]), module.params["sealed"]
    with reported(module.fail_json):
        changed = not paths.sealing_key.exists()
        certificate = "" if changed and module.check_mode else cms.public_key(paths)
        if sealed and not module.check_mode:
            changed = (
                infisical_access.save(paths, infisical_access.from_json(json.loads(cms.unseal(paths, sealed))))
                or changed
            )
        module.exit_json(changed=changed, present=infisical_access.load(paths) is not None, public_key=certificate)


if __name__ == "__main__":
    main()
