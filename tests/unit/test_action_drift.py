"""What the controller adds to a host's report."""

from __future__ import annotations

from ansible_collections.batten.core.plugins.action.drift import releases


def test_a_release_that_the_inventory_would_render_otherwise_is_drift() -> None:
    rows = releases(
        {"shop": "new", "infisical": "same"}, {"shop": {"release": "old"}, "infisical": {"release": "same"}}
    )
    assert [(row["stack"], row["facet"], row["desired"], row["actual"], row["action"]) for row in rows] == [
        ("shop", "release", "new", "old", "recreate")
    ]
    assert "site.yml" in rows[0]["reason"]


def test_a_stack_that_is_not_on_the_host_is_drift() -> None:
    assert [row["actual"] for row in releases({"shop": "new"}, {})] == ["absent"]
