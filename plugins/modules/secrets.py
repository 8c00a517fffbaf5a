#!/usr/bin/python
# Copyright: the batten authors. Apache-2.0 (see LICENSE).
"""All secrets of one stack on one host, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: secrets
short_description: Make a stack's secrets, keep them in Infisical, deliver them to its services
version_added: 0.1.0
author: The batten authors (@batten)
description:
  - Makes on the host what is missing, seals it there, creates it in Infisical, reads what Infisical has, and writes
    each consumer's files into memory. Values never leave the host but for Infisical.
  - A value that a person changed in Infisical reaches its consumers behind their health gate, and stays behind where
    they do not get healthy with it.
  - Without an answer from Infisical the copies on the host are delivered, and C(stale) says why.
  - In a playbook, use the role C(secrets); its action plugin of the same name plans first.
options:
  stack:
    description: Name of the stack.
    type: str
    required: true
  secrets:
    description: What to make and whom to deliver it to, as the release has it. Holds no value.
    type: dict
    required: true
  reloads:
    description: The services that take a changed secret without a new container.
    type: list
    elements: str
    default: []
  host:
    description: Name of this host in the inventory. Its identity in Infisical carries it.
    type: str
    required: true
  local_url:
    description: Where this host's own Infisical listens. Empty where Infisical is elsewhere.
    type: str
    default: ""
  given:
    description: Names, never values, of the secrets that were handed in with this run.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Reads Infisical, predicts, and changes nothing on either side.
    support: full
  diff_mode:
    description: Shows names only.
    support: full
"""

EXAMPLES = r"""
- name: The stack's secrets
  ansible.builtin.import_role:
    name: batten.core.secrets
"""

RETURN = r"""
changes:
  description: What was done, one line each, names only.
  returned: always
  type: list
  elements: str
versions:
  description: Infisical's version of each value.
  returned: always
  type: dict
consumers:
  description: The services whose files changed since they last loaded them.
  returned: always
  type: list
  elements: dict
  contains:
    service: {description: Name of the service., type: str, returned: always}
    action: {description: reload or recreate; the role C(stack) does it., type: str, returned: always}
stale:
  description: Why the values could not be refreshed; empty when they were.
  returned: always
  type: str
refused:
  description: Values of Infisical that did not work here, with their versions.
  returned: always
  type: dict
"""

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.batten.core.plugins.module_utils import atomic, credentials, lock, program, release, sync
from ansible_collections.batten.core.plugins.module_utils.docker_api import Docker
from ansible_collections.batten.core.plugins.module_utils.errors import reported
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "stack": {"type": "str", "required": True},
            "secrets": {"type": "dict", "required": True, "no_log": False},
            "reloads": {"type": "list", "elements": "str", "default": []},
            "host": {"type": "str", "required": True},
            "local_url": {"type": "str", "default": ""},
            "given": {"type": "list", "elements": "str", "default": [], "no_log": False},
        },
        supports_check_mode=True,
    )
    paths = StackPaths(module.params["stack"])
    with reported(module.fail_json), nullcontext() if module.check_mode else lock.held(paths.lock):
        result = converge(module.params, module.check_mode)
    if result["stale"]:
        module.warn(f"secrets of stack {module.params['stack']} were not refreshed: {result['stale']}")
    for name in result["refused"]:
        module.warn(f"the value of {name} in Infisical does not work here; the old one is in use")
    lines = "".join(f"{line}\n" for line in result["changes"])
    module.exit_json(changed=bool(result["changes"]), diff={"before": "", "after": lines}, **result)


def converge(given: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """Bring Infisical, the sealed copy and the delivered files together; return the module's result."""
    paths, spec = StackPaths(given["stack"]), given["secrets"]
    changes = []
    if not check:
        program.install(check=False)
    if given["local_url"]:
        changes += sync.enroll(paths, given["host"], given["local_url"], check)
    if check and changes:  # Infisical cannot be asked yet
        found = sync.Result(changes=[f"{name}: made" for name in sorted(spec["generate"])])
    else:
        found = sync.Sync(paths, spec["generate"], Docker(), sync.vault(paths), check, given["given"]).run()
    changes += found.changes
    # What runs was promised other files, and goes on with them until the stack's own run is sure to replace it.
    later = release.running(paths) is not None and atomic.read_json(paths.secrets_spec, None) != spec
    delivery = credentials.deliver(paths, spec, check or later, [*given["given"], *(spec["generate"] if check else ())])
    changes += [line for line in delivery.changes if line not in changes]
    loaded = atomic.read_json(paths.loaded, {})
    behind = [name for name, digest in sorted(delivery.digests.items()) if loaded.get(name) != digest]
    return {
        "changes": changes,
        "versions": found.versions,
        "consumers": [
            {"service": name, "action": "reload" if name in given["reloads"] else "recreate"} for name in behind
        ],
        "stale": found.stale,
        "refused": found.refused,
    }


if __name__ == "__main__":
    main()
