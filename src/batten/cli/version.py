"""The versions of batten and of what it stands on."""

from __future__ import annotations

import argparse
import platform
from importlib.metadata import version

from batten import resources
from batten.cli import print_json

STANDS_ON = ("ansible-core", "ansible-runner", "Jinja2", "PyYAML", "pytest", "pytest-testinfra")


def arguments(parser: argparse.ArgumentParser) -> None:
    """``batten version`` takes nothing of its own."""


def run(args: argparse.Namespace) -> int:
    """Run ``batten version``."""
    found = {"batten": version("batten"), "python": platform.python_version()} | {
        name: version(name) for name in STANDS_ON
    }
    if args.json:
        print_json(found | {"collection": str(resources.collection())})
    else:
        for name, number in found.items():
            print(f"{name:17} {number}")
        print(f"{'collection':17} {resources.collection()}")
    return 0
