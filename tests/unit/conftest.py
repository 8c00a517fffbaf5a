"""What unit tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, settings

CERTIFICATE = Path(__file__).parents[2] / "inventories" / "digitalocean" / "ca-certificate.crt"
"""A file as DigitalOcean gives it for ``digitalocean_postgres_ca``."""


class _Loader(yaml.SafeLoader):
    """YAML as Ansible writes it: ``!unsafe`` is plain text."""


_Loader.add_constructor("!unsafe", lambda _loader, node: str(node.value))


def role_yaml(path: Path) -> Any:
    """Return what a file of a role holds; None if there is none."""
    return yaml.load(path.read_text(), Loader=_Loader) if path.exists() else None


# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("batten", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("batten")


@pytest.fixture
def fake_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Return a function that puts a program of the given name and text first on PATH."""

    def put(name: str, text: str) -> None:
        program = tmp_path / "bin" / name
        program.parent.mkdir()
        program.write_text(text)
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")

    return put
