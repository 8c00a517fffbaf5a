#!/usr/bin/python
# Copyright: the batten authors. Apache-2.0 (see LICENSE).
"""Docker Engine on one host: a thin caller of module_utils/engine.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_engine
short_description: Install, configure and repair Docker Engine on a host
version_added: 0.1.0
author: The batten authors (@batten)
description:
  - Installs Docker Engine and Compose, merges C(/etc/docker/daemon.json), and keeps the journal that containers log to.
  - Everything about the engine of one host is one call, which observes, compares and then acts.
  - The daemon is reloaded if that is enough and restarted otherwise; running containers survive, or the call refuses.
options:
  state:
    description:
      - V(absent) takes out what this module set in daemon.json, systemd and journald, and gives back the values that it
        stood in for. The engine, its packages and all other keys stay.
    type: str
    choices: [present, absent]
    default: present
  source:
    description: Where packages come from. V(preinstalled) installs nothing and only checks versions.
    type: str
    choices: [upstream, distro, preinstalled]
    default: upstream
  version:
    description: The Engine version, or a prefix of it. Empty takes what is installed, or else the newest.
    type: str
    default: ""
  hold:
    description: Hold the packages at their versions (apt-mark hold, dnf versionlock).
    type: bool
    default: false
  upstream_url:
    description: Docker's package repository, or a mirror of it.
    type: str
    default: https://download.docker.com
  upstream_key:
    description: Fingerprint of the repository's signing key. Empty means Docker's own.
    type: str
    default: ""
  daemon:
    description:
      - Settings of daemon.json as named entries; of several with one name the last wins.
      - Keys that no entry names stay as they are in the file.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The key in daemon.json.
        type: str
        required: true
      value:
        description: Its value. Members of a mapping are set one by one, except those of C(log-opts).
        type: raw
      state:
        description: V(absent) removes the key, V(ignore) leaves it as it is in the file.
        type: str
        choices: [present, absent, ignore]
        default: present
  journal_max_use:
    description: How much disk the persistent journal may take (C(SystemMaxUse) of journald.conf).
    type: str
    default: 1G
attributes:
  check_mode:
    description: Predicts packages, files and what happens to the engine, also before Docker is there.
    support: full
  diff_mode:
    description: Shows every file, and the packages.
    support: full
requirements:
  - Debian 12 or 13, Ubuntu 24.04 or newer, or RHEL 9 or newer, booted by systemd
"""

EXAMPLES = r"""
- name: Docker from its own repository, with one key of ours
  batten.core.docker_engine:
    daemon:
      - name: live-restore
        value: true

- name: Take out what batten set
  batten.core.docker_engine:
    state: absent
"""

RETURN = r"""
differences:
  description: What was not as wanted.
  returned: success
  type: list
  elements: dict
  contains:
    scope: {description: Always C(host)., type: str}
    name: {description: The file, package or unit., type: str}
    facet: {description: What of it., type: str}
    desired: {description: The wanted value., type: raw}
    actual: {description: The value that was found., type: raw}
    action: {description: 'One of reload, restart, rewrite, none.', type: str}
engine_action:
  description: What was done to the daemon, or would be.
  returned: success
  type: str
  sample: restart
engine_version:
  description: The engine that runs after the call; empty where a check mode run found none.
  returned: success
  type: str
  sample: 26.1.5
compose_version:
  description: The C(docker compose) plugin's version.
  returned: success
  type: str
  sample: 2.26.1
nofile_limit:
  description: The highest open-files limit that a container can be granted on this host.
  returned: success
  type: int
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.batten.core.plugins.module_utils import engine, engine_host
from ansible_collections.batten.core.plugins.module_utils.errors import reported

ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "source": {"type": "str", "choices": ["upstream", "distro", "preinstalled"], "default": "upstream"},
    "version": {"type": "str", "default": ""},
    "hold": {"type": "bool", "default": False},
    "upstream_url": {"type": "str", "default": "https://download.docker.com"},
    "upstream_key": {"type": "str", "default": "", "no_log": False},
    "daemon": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "value": {"type": "raw"},
            "state": {"type": "str", "choices": ["present", "absent", "ignore"], "default": "present"},
        },
    },
    "journal_max_use": {"type": "str", "default": "1G"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    options = engine.Options(**{**module.params, "daemon": tuple(module.params["daemon"])})
    with reported(module.fail_json):
        seen = engine_host.observe()
        plan = engine.compare(options, seen)
        result = {
            "changed": plan.changed,
            "differences": [one.as_dict() for one in plan.differences],
            "engine_action": plan.engine or "none",
            "diff": engine.diff(plan, seen),
        }
        if plan.changed and not module.check_mode:
            seen = engine.act(options, plan, seen)
        if not module.check_mode:
            for note in engine.remember(options, plan, seen):
                module.warn(note)
    for warning in plan.warnings:
        module.warn(warning)
    module.exit_json(
        **result,
        engine_version=seen.engine_version,
        compose_version=seen.compose_version,
        nofile_limit=seen.nofile_limit,
    )


if __name__ == "__main__":
    main()
