"""The ports of the firewall follow what the stacks of this host publish: called whenever a plan was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from . import atomic, capacity, host, host_act, host_firewall, host_items, host_rollback, host_wanted
from .compare import Difference
from .host_firewall import Rules
from .paths import HostPaths


def follow(
    root: str = "/", coming: Mapping[str, Mapping[str, Any]] | None = None, check: bool = False
) -> list[Difference]:
    """Open and close what the recorded plans say; return the difference, if there is one.

    ``coming`` are plans by stack that are not recorded yet, for ``check``. Nothing happens on a host whose firewall
    batten does not keep, or whose new rules nobody confirmed: role host's next run brings these ports, too. Nothing
    waits to be confirmed: no connection to the host itself can be cut by these ports.
    """
    record = atomic.read_json(HostPaths(root).host, {})
    if not record.get("rules") or record.get("armed"):
        return []
    if check:
        return _follow(root, coming or {}, check)
    with host.held(root, brief=True):
        return _follow(root, coming or {}, check)


def _follow(root: str, coming: Mapping[str, Mapping[str, Any]], check: bool) -> list[Difference]:
    path = HostPaths(root).host
    record = atomic.read_json(path, {})
    ports = host_wanted.ports({**capacity.recorded_plans(root), **coming}, {})
    wanted = {one.key: one for one in host_wanted.firewall_items(Rules.from_json(record["rules"]), ports)}
    old = host_items.from_json(record["items"])
    before = next(one.value for one in old if one.key == ("file", host_rollback.RULES_FILE))
    text = next(one.value for key, one in wanted.items() if key == ("file", host_rollback.RULES_FILE))
    if text == before:
        return []
    found = Difference(None, "host", "nftables", "firewall", host_firewall.opened(ports), record.get("open"), "update")
    if check:
        return [found]
    host_rollback.load(text, 0, root)
    kept = [wanted.get(one.key, one) for one in old]
    kept = [replace(one, value=host_act.listed(one.value)) if one.kind == "table" else one for one in kept]
    atomic.write_json(path, {**record, "items": [one.to_json() for one in kept], "open": host_firewall.opened(ports)})
    return [found]
