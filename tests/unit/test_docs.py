"""What the documents say of the code, where a machine can hold the two side by side."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path

import pytest

from batten.verify import waivers
from batten.verify.catalogue import catalogue

ROOT = Path(__file__).parents[2]
MODULES = sorted(path.stem for path in ROOT.glob("plugins/module_utils/*.py") if path.stem != "__init__")


def file_names() -> list[str]:
    """The names, some with ``*``, of the table of module_utils in docs/architecture.md."""
    text = (ROOT / "docs/architecture.md").read_text()
    table = text[text.index("| files | |") :].split("\n\n")[0]
    rows = [line.split("|")[1] for line in table.splitlines()[2:]]
    return [name for row in rows for name in re.findall(r"`([a-z_0-9*]+)`", row)]


@pytest.mark.parametrize("module", MODULES)
def test_architecture_says_where_a_module_belongs(module: str) -> None:
    assert [name for name in file_names() if fnmatch.fnmatch(module, name)]


@pytest.mark.parametrize("name", file_names())
def test_architecture_names_no_module_that_is_gone(name: str) -> None:
    assert fnmatch.filter(MODULES, name)


def test_the_waiver_of_the_guide_names_a_control_of_a_service(tmp_path: Path) -> None:
    text = (ROOT / "docs/verify.md").read_text()
    (example,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "waivers.yaml").write_text(example)
    (waiver,) = waivers.load(tmp_path / "waivers.yaml")
    assert catalogue()[waiver.control].scope == "service"
    assert waiver.service
