#!/usr/bin/python
# Copyright: the batten authors. Apache-2.0 (see LICENSE).
"""The host under the engine: a thin caller of module_utils/host.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host
short_description: Harden the host under Docker, and keep it so
version_added: 0.1.0
author: The batten authors (@batten)
description:
  - Firewall, audit rules, kernel settings, core dumps, clock, security updates, group docker and Docker's files, in one
    call that observes, compares and then acts. Every part can be turned off; what an earlier call put there is removed
    then.
  - What a container cannot own is left alone where the host is one.
  - New firewall rules are taken back by the host itself, unless they are confirmed by another call on a new connection.
    The action of the same name makes both.
options:
  state:
    description:
      - V(absent) takes away rules, files and units that this module made, and gives kernel settings their values back.
        Packages, owners, modes and who is in group docker stay.
    type: str
    choices: [present, absent]
    default: present
  firewall:
    description: Close to the outside what containers publish beyond the plans of this host's stacks.
    type: bool
    default: true
  firewall_allow:
    description: What is open beyond the plans.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: The port that clients connect to.
        type: int
        required: true
      protocol:
        description: Its protocol.
        type: str
        choices: [tcp, udp]
        default: tcp
      from:
        description: Networks or addresses that may; empty means all.
        type: list
        elements: str
        default: []
  firewall_metadata:
    description: Close the cloud's metadata address to containers.
    type: bool
    default: true
  firewall_input:
    description:
      - Deny by default what comes to the host itself, but for SSH, ICMP, DHCP and O(firewall_allow). Left to ufw or
        firewalld where one of them is active.
    type: bool
    default: false
  firewall_ssh_ports:
    description: Ports of SSH beyond those that sshd is set to and that the connection came in by.
    type: list
    elements: int
    default: []
  firewall_confirm_seconds:
    description: New rules are taken back after so many seconds, unless they are confirmed; V(0) means never.
    type: int
    default: 60
  audit:
    description: Record who changes Docker's programs, units, configuration and data.
    type: bool
    default: true
  sysctls:
    description: Kernel settings by name; a value of null leaves one alone.
    type: dict
    default: {}
  core_dumps:
    description: Whether processes that crash may write their memory to a disk.
    type: bool
    default: false
  time:
    description: See that a service keeps the clock.
    type: bool
    default: true
  unattended_upgrades:
    description: Install security updates every day, but for the engine's packages.
    type: bool
    default: true
  unattended_reboot:
    description: When to reboot if an update asks for it, such as V(04:30). Empty means never.
    type: str
    default: ""
  docker_group:
    description: Keep everybody but O(docker_group_members) out of group docker.
    type: bool
    default: true
  docker_group_members:
    description: Who may be in group docker.
    type: list
    elements: str
    default: []
  docker_files:
    description: Keep owner and mode of Docker's files and sockets.
    type: bool
    default: true
  swap:
    description: V(none) turns swap off; V(keep) leaves it, and a change of it is drift.
    type: str
    choices: [keep, none]
    default: keep
  drift:
    description:
      - What people change on purpose; of rules that match the one that names more decides, and with none a difference
        is repaired. The record on the host keeps them for C(batten drift).
      - A task writes C(name) where the module says O(drift[].service), as C(host_drift) of role C(host) does; the
        action of the same name translates it.
    type: list
    elements: dict
    default: []
    suboptions:
      facet:
        description: What C(batten drift) calls the part, such as V(sysctl); V(*) is any.
        type: str
        default: "*"
      service:
        description: The name in that part, such as V(net.ipv4.tcp_syncookies); V(*) is any. A task writes C(name).
        type: str
        default: "*"
      policy:
        description: What is done about a difference.
        type: str
        choices: [ignore, report, repair]
        required: true
      reason:
        description: Why.
        type: str
      until:
        description: The last day of the rule, such as V(2027-01-31).
        type: str
  planned:
    description: Ports that the stacks of this run publish, by stack; the action of the same name fills it in.
    type: dict
    default: {}
  confirm:
    description: The digest of rules that wait to be confirmed. Nothing else is done then.
    type: str
    default: ""
attributes:
  check_mode:
    description: Predicts everything, also on a bare host.
    support: full
  diff_mode:
    description: Shows every file, and all else one line each.
    support: full
requirements:
  - Debian 12 or 13, Ubuntu 24.04 or newer, or RHEL 9 or newer, booted by systemd
"""

EXAMPLES = r"""
- name: Harden the host, with a port for an exporter that runs beside the stacks
  batten.core.host:
    firewall_allow:
      - port: 9100
        from: [10.0.0.0/8]

- name: Leave alone for a while what somebody set on purpose
  batten.core.host:
    drift:
      - facet: sysctl
        name: net.ipv4.tcp_syncookies
        policy: ignore
        reason: load test
        until: 2027-01-31

- name: Take away what batten put there
  batten.core.host:
    state: absent
"""

RETURN = r"""
differences:
  description: What was not as wanted.
  returned: success
  type: list
  elements: dict
  contains:
    stack: {description: 'Always null, as all stacks share the host.', type: str}
    scope: {description: Always C(host)., type: str}
    name: {description: What it is about., type: str}
    facet: {description: What of it., type: str}
    desired: {description: The wanted value., type: raw}
    actual: {description: The value that was found., type: raw}
    action: {description: What puts it right., type: str}
open_ports:
  description: What containers are reached on from outside.
  returned: success
  type: list
  elements: str
  sample: [tcp 80, tcp 443]
armed:
  description: The digest of new firewall rules that wait to be confirmed; empty where there are none.
  returned: success
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.batten.core.plugins.module_utils import host, host_wanted
from ansible_collections.batten.core.plugins.module_utils.errors import reported

ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "firewall": {"type": "bool", "default": True},
    "firewall_allow": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "port": {"type": "int", "required": True},
            "protocol": {"type": "str", "choices": ["tcp", "udp"], "default": "tcp"},
            "from": {"type": "list", "elements": "str", "default": []},
        },
    },
    "firewall_metadata": {"type": "bool", "default": True},
    "firewall_input": {"type": "bool", "default": False},
    "firewall_ssh_ports": {"type": "list", "elements": "int", "default": []},
    "firewall_confirm_seconds": {"type": "int", "default": 60},
    "audit": {"type": "bool", "default": True},
    "sysctls": {"type": "dict", "default": {}},
    "core_dumps": {"type": "bool", "default": False},
    "time": {"type": "bool", "default": True},
    "unattended_upgrades": {"type": "bool", "default": True},
    "unattended_reboot": {"type": "str", "default": ""},
    "docker_group": {"type": "bool", "default": True},
    "docker_group_members": {"type": "list", "elements": "str", "default": []},
    "docker_files": {"type": "bool", "default": True},
    "swap": {"type": "str", "choices": ["keep", "none"], "default": "keep"},
    "drift": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "facet": {"type": "str", "default": "*"},
            "service": {"type": "str", "default": "*"},
            "policy": {"type": "str", "choices": ["ignore", "report", "repair"], "required": True},
            "reason": {"type": "str"},
            "until": {"type": "str"},
        },
    },
    "planned": {"type": "dict", "default": {}},
    "confirm": {"type": "str", "default": ""},
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    options: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in module.params.items()
    }
    state, planned, confirm = options.pop("state"), options.pop("planned"), options.pop("confirm")
    with reported(module.fail_json):
        if confirm:
            host.confirm(confirm)
            module.exit_json(changed=True)
        outcome = (
            host.remove(module.check_mode)
            if state == "absent"
            else host.run(host_wanted.Options(**options), planned, module.check_mode)
        )
        for warning in outcome.warnings:
            module.warn(warning)
        module.exit_json(
            changed=bool(outcome.differences),
            differences=[one.to_json() for one in outcome.differences],
            diff=list(outcome.diff),
            open_ports=list(outcome.open_ports),
            armed=outcome.armed,
        )


if __name__ == "__main__":
    main()
