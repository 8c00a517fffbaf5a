"""Defaults, argument_specs and README of every role agree; every module's documentation is its argument spec."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.conftest import role_yaml

ROOT = Path(__file__).parents[2]
ROLES = sorted(path.parent.parent for path in ROOT.glob("roles/*/tasks/main.yml"))
MODULES = sorted(path for path in ROOT.glob("plugins/modules/*.py") if path.name != "__init__.py")
# The settings of a target are the inventory's own, read by the role that deploys to it.
PREFIX = {role.name: role.name for role in ROLES} | {"stack": "stack|digitalocean|backup"}
OPTION_KEYS = ("type", "elements", "default", "choices", "required")


def specs(role: Path) -> dict[str, Any]:
    """Every option of every entry point of ``role``."""
    points = role_yaml(role / "meta/argument_specs.yml")["argument_specs"]
    return {name: option for point in points.values() for name, option in point.get("options", {}).items()}


def names(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


def test_there_are_roles_and_modules_to_check() -> None:
    assert ROLES
    assert MODULES


@pytest.mark.parametrize("role", ROLES, ids=names(ROLES))
def test_every_entry_point_has_a_spec(role: Path) -> None:
    points = role_yaml(role / "meta/argument_specs.yml")["argument_specs"]
    assert "main" in points
    assert all(point.get("short_description") for point in points.values())


@pytest.mark.parametrize("role", ROLES, ids=names(ROLES))
def test_defaults_are_those_of_the_spec(role: Path) -> None:
    defaults = role_yaml(role / "defaults/main.yml") or {}
    declared = {name: option["default"] for name, option in specs(role).items() if "default" in option}
    assert defaults == declared
    without = [name for name, option in specs(role).items() if "default" not in option]
    assert [name for name in without if name in defaults] == []


@pytest.mark.parametrize("role", ROLES, ids=names(ROLES))
def test_variables_carry_the_roles_name(role: Path) -> None:
    assert [name for name in specs(role) if not re.match(rf"(__)?({PREFIX[role.name]})_", name)] == []
    assert [name for name, option in specs(role).items() if not option.get("description")] == []


@pytest.mark.parametrize("role", ROLES, ids=names(ROLES))
def test_the_readme_names_every_variable_and_no_other(role: Path) -> None:
    text = (role / "README.md").read_text()
    rows = re.findall(rf"^\| `((?:{PREFIX[role.name]})_\w+)` \|", text, re.MULTILINE)
    assert sorted(rows) == sorted(specs(role))


@pytest.mark.parametrize("role", ROLES, ids=names(ROLES))
def test_the_readme_gives_the_defaults_that_are_short(role: Path) -> None:
    text = (role / "README.md").read_text()
    cells = dict(re.findall(rf"^\| `((?:{PREFIX[role.name]})_\w+)` \| (.*?) \|", text, re.MULTILINE))
    for name, option in specs(role).items():
        default = option.get("default")
        if "default" in option and re.fullmatch(r"`[^`]*`", cells[name]):
            assert yaml.safe_load(cells[name].strip("`")) == default, name


@pytest.mark.parametrize("module", MODULES, ids=names(MODULES))
def test_every_module_is_documented_as_it_is(module: Path) -> None:
    texts = {
        target.id: ast.literal_eval(statement.value)
        for statement in ast.parse(module.read_text()).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name) and target.id in ("DOCUMENTATION", "EXAMPLES", "RETURN")
    }
    assert set(texts) == {"DOCUMENTATION", "EXAMPLES", "RETURN"}
    documentation = yaml.safe_load(texts["DOCUMENTATION"])
    assert documentation["module"] == module.stem
    assert {"check_mode", "diff_mode"} <= set(documentation["attributes"])
    assert isinstance(yaml.safe_load(texts["EXAMPLES"]), list)
    assert isinstance(yaml.safe_load(texts["RETURN"]), dict)
    assert facts(documentation.get("options", {}), "suboptions") == facts(arguments(module), "options")


class _CapturedError(Exception):
    """Carries the argument spec that a module handed to AnsibleModule."""


def arguments(module: Path) -> dict[str, Any]:
    """The argument spec that a module really uses: its ``main`` runs up to its AnsibleModule."""
    loaded = import_module(f"ansible_collections.batten.core.plugins.modules.{module.stem}")

    def capture(argument_spec: dict[str, Any], **_options: Any) -> None:
        raise _CapturedError(argument_spec)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaded, "AnsibleModule", capture)
        with pytest.raises(_CapturedError) as caught:
            loaded.main()
    found: dict[str, Any] = caught.value.args[0]
    return found


def facts(options: dict[str, Any], nested: str) -> dict[str, Any]:
    """What a documented option and an argument both say, in one form."""
    return {
        name: {
            **{key: option[key] for key in OPTION_KEYS if option.get(key) not in (None, False)},
            "default": option.get("default"),
            "of": facts(option[nested], nested) if nested in option else None,
        }
        for name, option in options.items()
    }
