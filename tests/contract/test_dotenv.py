"""A real Compose reads ``.env`` files as ``batten.dotenv`` does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.contract.conftest import COMPOSE
from tests.unit.test_dotenv import FORMS

BASE = "services: {a: {image: x, environment: {VAR: '${VAR}'}}}\n"


@pytest.mark.parametrize(("text", "value"), FORMS)
def test_compose_reads_the_same_value(text: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text(BASE)
    (tmp_path / "it.env").write_bytes(text.encode())
    words = [str(COMPOSE), "-f", "compose.yaml", "--env-file", "it.env", "config", "--format", "json"]
    shown = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    read = json.loads(shown)["services"]["a"]["environment"]["VAR"]
    assert read.replace("$$", "$") == value  # Compose writes a dollar sign as two
