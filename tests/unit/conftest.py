"""One loader for a whole session: a test that reads an inventory installs Ansible's, which cannot replace Python's."""

from __future__ import annotations

from ansible.plugins.loader import init_plugin_loader

init_plugin_loader()
