"""What the task `infisical` makes of its two halves: the deployment's result, and that of the set-up."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.batten.core.plugins.action.infisical import merged, set_up
from batten.plan.infisical import InfisicalSettings

DIFF = {"before": "", "after": "x"}


@pytest.mark.parametrize(
    ("deployed", "made", "changed", "diffs"),
    [
        ({"changed": False}, {"changed": False}, False, 0),
        ({"changed": True, "diff": DIFF}, {"changed": False, "diff": DIFF}, True, 2),
        ({"changed": False}, {"changed": True, "diff": DIFF}, True, 1),
    ],
)
def test_changed_if_either_did_anything(
    deployed: dict[str, Any], made: dict[str, Any], changed: bool, diffs: int
) -> None:
    found = merged({**deployed, "release": "r1", "warnings": ["a"]}, {**made, "remarks": ["b"], "warnings": ["c"]})
    assert found["changed"] is changed
    assert len(found["diff"]) == diffs
    assert (found["release"], found["remarks"], found["warnings"]) == ("r1", ["b"], ["a", "c"])


def test_a_failed_set_up_is_a_failed_task() -> None:
    found = merged({"changed": True}, {"failed": True, "msg": "no answer"})
    assert (found["failed"], found["msg"], found["changed"]) == (True, "no answer", True)


def test_it_is_set_up_over_loopback_and_told_of_its_address_for_others() -> None:
    alone = set_up(InfisicalSettings(port=9000, organization="Example"))
    assert alone["url"] == "http://127.0.0.1:9000"
    assert "remote_url" not in alone
    serving = set_up(InfisicalSettings(address="10.0.0.2"))
    assert serving["url"] == "http://127.0.0.1:8222"
    assert (serving["remote_url"], serving["remote_ca_secret"]) == ("https://10.0.0.2:8443", "https_ca")
