"""What the task `stack` says before it interrupts a service with data."""

from __future__ import annotations

from ansible_collections.batten.core.plugins.plugin_utils.deployment import costly


def test_every_recreation_of_data_is_told_with_what_it_took() -> None:
    one = {"service": "db", "action": "recreate", "why": "image"}
    known, unknown = costly([{**one, "seconds": 7.5}, one])
    assert known.startswith("db will be made anew, which took 7.5 s last time: image (--defer-stateful")
    assert unknown.startswith("db will be made anew: image")
