"""batten rotate: which secrets, in one way; and what it tells."""

from __future__ import annotations

import pytest

from batten.cli import main
from batten.cli.rotate import _lines


@pytest.mark.parametrize(
    "words", [[], ["--all", "app_password"], ["--all", "--older-than", "90d"], ["app_password", "--older-than", "1d"]]
)
def test_which_secrets_is_said_in_one_way(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rotate", "-i", "inventories/demo", *words]) == 1
    assert "name them, or --all, or --older-than 90d" in capsys.readouterr().err


def test_an_age_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rotate", "-i", "inventories/demo", "--older-than", "soon"]) == 1
    assert "--older-than" in capsys.readouterr().err


def test_the_lines_name_what_waits_and_how_long_each_step_took() -> None:
    one = {"rotated": ["app_password"], "finished": ["token"], "waiting": {"app_a": 2}, "seconds": {"switch": 1.25}}
    assert _lines({"web": {"shop": one}}, check=False) == [
        "web shop: rotated: app_password, token (begun before)",
        "  app_a still has 2 session(s); it loses its login when they have ended",
        "  switch 1.2 s",
    ]
    nothing = {"rotated": [], "finished": [], "waiting": {}, "seconds": {}}
    assert _lines({"web": {"shop": nothing}}, check=True) == ["web shop: nothing to rotate"]
