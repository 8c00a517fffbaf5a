"""The commented example of a profile is the documentation: it must be right, and whole."""

from __future__ import annotations

from batten import resources
from batten.plan.profile import PROFILE
from batten.plan.schema import At, read_yaml

EXAMPLE = resources.compose() / "profiles" / "EXAMPLE.yaml"


def test_the_example_is_a_valid_profile() -> None:
    assert PROFILE(read_yaml(EXAMPLE), At("EXAMPLE.yaml"))


def test_the_example_shows_every_key() -> None:
    raw = read_yaml(EXAMPLE)
    assert set(raw) == set(PROFILE.keys)
    assert set(raw["healthcheck"]) == {"test", "interval", "timeout", "retries", "start_period", "start_interval"}
    assert {key for item in raw["writable"] for key in item} == {"path", "tmpfs", "mode", "owner", "volume"}
