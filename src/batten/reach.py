"""Why a host gave no answer, in words that a person can act on. Pure: a task's result in, what to say out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from batten.errors import BattenError

_PLACES = ("msg", "module_stderr", "module_stdout", "stderr")
_NO_ROOT = re.compile(
    # sudo's own words (sudo, plugins/sudoers), and those that Ansible makes of them (plugins/become/sudo.py).
    r"a (?:terminal|password) is required|(?:Missing|Incorrect) sudo password|Sorry, try again"
    r"|is not in the sudoers file|is not allowed to (?:execute|run)|may not run sudo"
)
_NO_CONTAINER = re.compile(r"No such container:? (\S+)")
_STOPPED = re.compile(r"[Cc]ontainer (\S+) is not running")
_NO_PYTHON = re.compile(
    r"python[0-9.]*[\"']?: (?:not found|No such file|.*executable file not found)|interpreter .*not found"
)
_NO_SUDO = re.compile(r"sudo: (?:command )?not found|sudo.*executable file not found|exec: \"?sudo")
# What Ansible says where the module's answer is cut off, and no answer at all.
_CUT_OFF = re.compile(r"deserialization failed|No start of json char|MODULE FAILURE")


def why(result: Mapping[str, Any], host: str, user: str = "") -> BattenError | None:
    """Return why a failed task got no answer from its module; None if the module answered, or nobody knows.

    ``user`` is the ``ansible_user`` of the host, empty if the inventory names none.
    """
    said = "\n".join(str(result[place]) for place in _PLACES if result.get(place))
    name = user or "the user that Ansible logs in as"
    if _NO_ROOT.search(said) or _NO_SUDO.search(said):
        return BattenError(
            f"{name} cannot become root here",
            host,
            f"as root on {host}: usermod -aG sudo {user or 'USER'}; or give its password: ansible-playbook -K; "
            "or set ansible_user to a user that may",
        )
    if found := _NO_CONTAINER.search(said):
        return BattenError(
            f"there is no container named {found[1]}",
            host,
            "correct the inventory, or make it; docker ps -a lists them",
        )
    if _STOPPED.search(said):
        return BattenError("this host's container does not run", host, f"docker start {host}")
    if _NO_PYTHON.search(said):
        return BattenError("there is no Python on it", host, f"as root on {host}: apt-get install python3")
    if _CUT_OFF.search(said):
        rest = str(result.get("module_stderr") or result.get("module_stdout") or "").strip().splitlines()[-5:]
        told = ("; the last it said:\n" + "\n".join(f"    {line}" for line in rest)) if rest else ""
        return BattenError(
            f"the connection ended before the work was done{told}",
            host,
            "see that the host is up, then run the same command again: it continues where it was",
        )
    return None


def told(result: Mapping[str, Any], host: str, user: str = "") -> dict[str, Any]:
    """Return a task's result, with a clear message if it failed for want of an answer."""
    error = why(result, host, user) if result.get("failed") else None
    return {"failed": True, "changed": False, "msg": str(error)} if error else dict(result)
