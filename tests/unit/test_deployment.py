"""What the actions that deploy share: how one fails, what it asks a host, what it says before it interrupts data."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.plugin_utils.deployment import ControllerAction, asked, costly
from batten.errors import BattenError
from batten.plan import Finding, StackSettings, refuse


class Action(ControllerAction):
    def __init__(self) -> None:
        task = SimpleNamespace(async_val=0, check_mode=False, args={})
        connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/tmp/ansible"))
        super().__init__(task, connection, None, None, None)

    def work(self, variables: dict[str, Any]) -> dict[str, Any]:
        if "base" not in variables:
            raise BattenError("it has no base", "shop", "write one")
        return {"changed": True}


def test_what_is_wrong_fails_the_task_in_its_own_words() -> None:
    assert Action().run(task_vars={}) == {"failed": True, "msg": "shop: it has no base\n  fix: write one"}
    assert Action().run(task_vars={"base": "compose.yaml"}) == {"changed": True}


def test_a_plan_with_an_error_is_refused_in_its_words_and_one_with_warnings_is_not() -> None:
    warning, error = Finding("warning", "shop/a", "b", "c"), Finding("error", "shop/web", "it has no user", "name one")
    refuse([warning])
    with pytest.raises(BattenError) as refused:
        refuse([warning, error])
    assert str(refused.value) == "it has no user (shop/web)\n  fix: name one"


def test_a_host_is_asked_of_the_projects_and_disks_of_its_stacks() -> None:
    first = StackSettings(name="infisical", base=Path("a.yaml"), definition=None, data_directory="/srv/data")
    taken_over = StackSettings(
        name="shop", base=Path("b.yaml"), definition=None, project="old-shop", data_directory="/srv/data"
    )
    assert asked([first, taken_over]) == {"projects": ["infisical", "old-shop"], "data": ["/srv/data"]}


def test_every_recreation_of_data_is_told_with_what_it_took() -> None:
    one = {"service": "db", "action": "recreate", "why": "image"}
    known, unknown = costly([{**one, "seconds": 7.5}, one])
    assert known.startswith("db will be made anew, which took 7.5 s last time: image (--defer-stateful")
    assert unknown.startswith("db will be made anew: image")
