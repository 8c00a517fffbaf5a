"""The scenario that stands for inventories/digitalocean; a file of its own, so that the two run side by side."""

from tests.molecule import scenario


def test_digitalocean() -> None:
    scenario.run("digitalocean")
