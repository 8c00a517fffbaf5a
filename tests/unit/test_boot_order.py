"""Boot: which containers are down, and in what order they start."""

from __future__ import annotations

import pytest

from ansible_collections.batten.core.plugins.module_utils import boot


def container(service: str, status: str = "running", health: str = "", restart: str = "unless-stopped") -> boot.Live:
    return boot.live(
        {
            "Id": service,
            "Config": {"Labels": {"com.docker.compose.service": service}},
            "State": {"Status": status, **({"Health": {"Status": health}} if health else {})},
            "HostConfig": {"RestartPolicy": {"Name": restart}},
        }
    )


@pytest.mark.parametrize(
    ("status", "health", "restart", "down", "ready"),
    [
        ("running", "", "unless-stopped", False, True),
        ("running", "healthy", "unless-stopped", False, True),
        ("running", "starting", "unless-stopped", False, False),
        ("running", "unhealthy", "always", False, False),
        ("created", "", "unless-stopped", True, False),
        ("created", "", "no", True, False),
        ("exited", "unhealthy", "unless-stopped", True, False),
        ("exited", "", "always", True, False),
        ("exited", "", "no", False, True),
        ("exited", "", "on-failure", False, True),
        ("dead", "", "always", True, False),
        ("restarting", "", "always", False, False),
        ("paused", "", "always", False, True),
    ],
)
def test_what_is_down_and_what_is_ready(status: str, health: str, restart: str, down: bool, ready: bool) -> None:
    one = container("x", status, health, restart)
    assert (one.down, one.ready) == (down, ready)


def test_groups_follow_the_plan_and_strangers_come_last() -> None:
    live = [container(name) for name in ("web", "stranger", "db", "cache")]
    groups = boot.in_order({"start_order": [["db", "cache"], ["gone"], ["web"]]}, live)
    assert [[each.service for each in group] for group in groups] == [["cache", "db"], ["web"], ["stranger"]]
