"""The linters, as tests: what they say is the failure's message."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LINTERS = {
    "ruff check": ["ruff", "check", "."],
    "ruff format": ["ruff", "format", "--check", "."],
    "mypy src": ["mypy", "src/batten"],
    "mypy plugins": ["mypy", "-p", "ansible_collections.batten.core.plugins"],
    "yamllint": ["yamllint", "--strict", "."],
    "ansible-lint": ["ansible-lint", "--offline", "--profile", "production"],
}


@pytest.mark.parametrize("name", LINTERS)
def test_linter(name: str) -> None:
    program, *arguments = LINTERS[name]
    # The linters beside this very Python, whatever else is on PATH.
    bin_directory = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{bin_directory}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}
    done = subprocess.run(
        [bin_directory / program, *arguments], cwd=ROOT, env=environment, text=True, capture_output=True, check=False
    )
    assert done.returncode == 0, f"{name}\n{done.stdout}{done.stderr}"
