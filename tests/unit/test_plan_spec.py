"""The smallest host for a stack, plans side by side, and the picture of a budget."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from batten.cli import main
from batten.errors import BattenError
from batten.plan import Capacity, StackSettings, plan, plan_host
from batten.plan.limits import GIB, MIB
from batten.plan.spec import side_by_side, smallest
from batten.report import budget_svg

INVENTORY = str(Path(__file__).parents[2] / "inventories" / "selfhosted")


def app(**variables: Any) -> StackSettings:
    given = {"stack_name": "app", "stack_build": "host", "stack_profiles": ["auth", "observability"], **variables}
    return StackSettings.from_variables(given, source="host1")


@pytest.mark.parametrize("variables", [{}, {"stack_reserve": "1G"}, {"stack_overcommit": {"observability": 2}}])
def test_the_smallest_host_holds_the_stack_and_a_smaller_one_does_not(variables: dict[str, Any]) -> None:
    one = app(**variables)
    spec = smallest([one])
    plan_host([one], Capacity(spec.memory_bytes, spec.cpus))
    with pytest.raises(BattenError, match="does not fit the host"):
        plan_host([one], Capacity(spec.memory_bytes - 64 * MIB, spec.cpus))
    assert spec.sizes
    assert all(size.memory_bytes >= spec.memory_bytes and size.cpus >= spec.cpus for size in spec.sizes)


def test_what_the_inventory_says_of_its_host_bounds_no_other() -> None:
    assert smallest([app(stack_capacity={"memory": "512M", "cpus": 1})]) == smallest([app()])


def test_sizes_side_by_side() -> None:
    found = side_by_side([app()], [2 * GIB, 8 * GIB], 4)
    assert isinstance(found[2 * GIB], BattenError)
    assert found[8 * GIB] == replace(plan_host([app()], Capacity(8 * GIB, 4))[0], capacity_source="the command line")


def test_the_picture_has_a_bar_for_every_service_and_is_xml() -> None:
    host = plan({"<host>": ([app()], Capacity(8 * GIB, 4))})
    root = ET.fromstring(budget_svg(host))
    titles = [title.text or "" for title in root.iter("{http://www.w3.org/2000/svg}title")]
    for name in host.hosts["<host>"].stacks["app"].services:
        assert any(title.startswith(f"app/{name} ") for title in titles), name


def test_the_verb_says_it_in_text_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-i", INVENTORY, "--min-spec", "--json"]) == 0
    [spec] = json.loads(capsys.readouterr().out)["hosts"].values()
    assert {"memory_bytes", "cpus", "floors_bytes", "sizes"} <= set(spec)
    assert main(["plan", "-i", INVENTORY, "--compare", "2G,16G"]) == 0
    text = capsys.readouterr().out
    assert "does not fit" in text
    assert "app/postgres" in text
    assert main(["plan", "-i", INVENTORY, "--compare", "1G"]) == 1
    assert main(["plan", "-i", INVENTORY, "--memory", "8G", "--cpus", "4", "--svg", str(tmp_path / "plan.svg")]) == 0
    assert (tmp_path / "plan.svg").read_text().startswith("<svg")


def test_a_picture_that_cannot_be_written_is_an_error_in_json_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", "-i", INVENTORY, "--memory", "8G", "--cpus", "4", "--json", "--svg"]
    for path, what in ((tmp_path / "no" / "plan.svg", "there is no such directory"), (tmp_path, "cannot be written")):
        assert main([*words, str(path)]) == 1
        said = capsys.readouterr()
        assert json.loads(said.out)["error"]["what"].startswith(what)
        assert what in said.err
