"""The one error that people see. Hosts have no package ``batten``, so it is theirs, and this is its name here."""

from __future__ import annotations

from ansible_collections.batten.core.plugins.module_utils.errors import BattenError

__all__ = ["BattenError"]
