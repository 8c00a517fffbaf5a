"""What the actions that deploy share: how one fails, what it asks a host, what it says before it interrupts data."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader

from ansible_collections.batten.core.plugins.plugin_utils.deployment import ControllerAction, asked, costly, remember
from batten.errors import BattenError
from batten.fleet import read_record, root_of
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
    assert str(refused.value) == "shop/web: it has no user\n  fix: name one"


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


def test_what_a_run_keeps_of_a_host_is_no_other_inventorys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`batten init` names a host after its stack, so staging's and production's have one name."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for number, name in enumerate(("production", "staging"), 1):
        file = tmp_path / name / "hosts.yml"
        file.parent.mkdir()
        file.write_text("stack: {hosts: {app: }}\n")
        for source in (file, file.parent):  # however the run was told of it
            manager = InventoryManager(loader=DataLoader(), sources=[str(source)])
            variables = manager.get_host("app").get_vars()
            seen = {"capacity": {"memory_bytes": number, "cpus": 1}, "plans": {}}
            remember(Action().root(variables), "app", seen)
            for read in (str(file), str(file.parent)):
                found = read_record(root_of(read), "app")
                assert found is not None
                assert found.capacity.memory_bytes == number
    (tmp_path / "third").mkdir()
    assert read_record(root_of(str(tmp_path / "third")), "app") is None
    before = read_record(root_of(str(tmp_path / "production")), "app")
    assert before is not None
    assert before.capacity.memory_bytes == 1
