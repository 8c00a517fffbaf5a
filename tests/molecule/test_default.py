"""The scenario that stands for inventories/selfhosted; a file of its own, so that the two run side by side."""

from tests.molecule import scenario


def test_default() -> None:
    scenario.run("default")
