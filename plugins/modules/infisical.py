#!/usr/bin/python
# Copyright: the batten authors. Apache-2.0 (see LICENSE).
"""The Infisical that batten runs on a host: set up through its API, and opened to stack hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: infisical
short_description: Set up an Infisical without a browser, and give stack hosts their way in
version_added: 0.1.0
author: The batten authors (@batten)
description:
  - Makes the administrator, the organisation and a provisioning identity, deletes the all-powerful identity that the
    server's own bootstrap leaves behind, and closes sign-up. Whatever is there already stays; safe to repeat after a
    crash at any point.
  - Gives hosts elsewhere a project per stack, an identity of their own and a client secret that only they can read.
  - Runs on the host of Infisical. The administrator's password and the provisioning identity's login stay sealed there.
  - In a playbook, use the role C(infisical), which deploys the server first.
options:
  stack:
    description: Name of Infisical's own stack on this host.
    type: str
    default: infisical
  url:
    description: Where the server listens for this host. Plain HTTP is refused unless it is loopback.
    type: str
    default: http://127.0.0.1:8222
  email:
    description: The administrator's e-mail address, which is only a name to log in with.
    type: str
    required: true
  organization:
    description: Name of the organisation.
    type: str
    required: true
  remote_url:
    description: The HTTPS address under which other hosts reach this server.
    type: str
    default: ""
  remote_ca_secret:
    description: Name of the CA, among the secrets of I(stack), that signed the certificate of I(remote_url).
    type: str
    default: ""
  enroll:
    description: Hosts elsewhere that need a new way to the secrets of a stack.
    type: list
    elements: dict
    default: []
    suboptions:
      stack:
        description: Name of the stack.
        type: str
        required: true
      host:
        description: Name of the host in the inventory.
        type: str
        required: true
      public_key:
        description: The certificate that the host made to be sealed to.
        type: str
        required: true
  confirm:
    description: Hosts that have kept what they were given; what their identities had before is revoked.
    type: list
    elements: dict
    default: []
    suboptions:
      stack:
        description: Name of the stack.
        type: str
        required: true
      host:
        description: Name of the host in the inventory.
        type: str
        required: true
      secret_id:
        description: What C(enrolled) said.
        type: str
        required: true
  timeout:
    description: The most seconds that one request may take.
    type: float
    default: 10
attributes:
  check_mode:
    description: Reads, and says what would be set up or enrolled.
    support: full
  diff_mode:
    description: Shows names only.
    support: full
"""

EXAMPLES = r"""
- name: Set Infisical up
  batten.core.infisical:
    email: admin@example.com
    organization: Example
"""

RETURN = r"""
changes:
  description: What was done, or would be, in words; no values.
  returned: always
  type: list
  elements: str
remarks:
  description: What a person should know, such as two projects of one name.
  returned: always
  type: list
  elements: str
initialized:
  description: Whether the server was set up before this.
  returned: always
  type: bool
level:
  description: C(v4), or C(v3) where the server has only the older routes for secrets. Empty while it does not answer.
  returned: always
  type: str
enrolled:
  description: For each host of I(enroll), what it alone can open.
  returned: always
  type: list
  elements: dict
  contains:
    stack: {description: Name of the stack., type: str, returned: always}
    host: {description: Name of the host., type: str, returned: always}
    sealed: {description: The way in as CMS text; only that host opens it., type: str, returned: always}
    secret_id: {description: Names the client secret without telling it; for I(confirm)., type: str, returned: always}
"""

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.batten.core.plugins.module_utils import cms, credentials, infisical_provision
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError, reported
from ansible_collections.batten.core.plugins.module_utils.infisical import Client, Unreachable
from ansible_collections.batten.core.plugins.module_utils.lock import held
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths


def main() -> None:
    """Run the module."""
    text = {"type": "str", "required": True}
    module = AnsibleModule(
        argument_spec={
            "stack": {"type": "str", "default": "infisical"},
            "url": {"type": "str", "default": "http://127.0.0.1:8222"},
            "email": text,
            "organization": text,
            "remote_url": {"type": "str", "default": ""},
            # no_log False: these are names, and Ansible takes whatever has "secret" in its own for a value
            "remote_ca_secret": {"type": "str", "default": "", "no_log": False},
            "enroll": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"stack": text, "host": text, "public_key": {**text, "no_log": False}},
            },
            "confirm": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"stack": text, "host": text, "secret_id": {**text, "no_log": False}},
            },
            "timeout": {"type": "float", "default": 10},
        },
        supports_check_mode=True,
    )
    with reported(module.fail_json):
        result = run(module.params, module.check_mode)
    for remark in result["remarks"]:
        module.warn(remark)
    after = "".join(f"{change}\n" for change in result["changes"])
    module.exit_json(changed=bool(result["changes"]), diff={"before": "", "after": after}, **result)


def run(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Do what the parameters say; return the module's results."""
    paths = StackPaths(params["stack"])
    settings = infisical_provision.Settings(params["email"], params["organization"])
    with Client(params["url"], timeout=params["timeout"]) as client:
        if check:
            return _predicted(paths, client, settings, params)
        with held(paths.lock):
            initialized, level = infisical_provision.initialized(client), infisical_provision.level(client)
            changes = infisical_provision.bootstrap(paths, client, settings)
            enrolled = []
            for one in params["enroll"]:
                issued = infisical_provision.issue(
                    paths,
                    client,
                    one["stack"],
                    one["host"],
                    params["remote_url"],
                    _ca(paths, params["remote_ca_secret"]),
                )
                way = json.dumps(dict(issued.access.__dict__))
                sealed = cms.seal(way, one["public_key"])
                enrolled.append(
                    {"stack": one["stack"], "host": one["host"], "sealed": sealed, "secret_id": issued.secret_id}
                )
                changes.append(f"{one['host']}: given a way to the secrets of stack {one['stack']}")
            for one in params["confirm"]:
                if infisical_provision.revoke_all_but(paths, client, one["stack"], one["host"], one["secret_id"]):
                    changes.append(f"{one['host']}: its old way to the secrets of stack {one['stack']} revoked")
        return _result(client, changes, initialized, level, enrolled)


def _predicted(
    paths: StackPaths, client: Client, settings: infisical_provision.Settings, params: dict[str, Any]
) -> dict[str, Any]:
    try:
        initialized, level = infisical_provision.initialized(client), infisical_provision.level(client)
    except Unreachable:  # nothing runs yet on a bare host
        initialized, level = False, ""
    changes = infisical_provision.predict(paths, client, settings)
    changes += [f"{one['host']}: given a way to the secrets of stack {one['stack']}" for one in params["enroll"]]
    return _result(client, changes, initialized, level, [])


def _result(
    client: Client, changes: list[str], initialized: bool, level: str, enrolled: list[dict[str, str]]
) -> dict[str, Any]:
    return {
        "changes": changes,
        "remarks": client.remarks,
        "initialized": initialized,
        "level": level,
        "enrolled": enrolled,
    }


def _ca(paths: StackPaths, name: str) -> str:
    """Return the certificate of a CA among the stack's secrets; empty when none is named."""
    if not name:
        return ""
    certificate = credentials.load(paths).values.get(f"{name}_certificate")
    if not certificate:
        raise BattenError(f"there is no CA {name}", f"secrets of stack {paths.stack}", "run site.yml, which makes it")
    return certificate


if __name__ == "__main__":
    main()
