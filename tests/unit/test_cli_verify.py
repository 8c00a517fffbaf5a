"""What ``batten verify`` writes: JSON alone on standard output, the reports where they are asked for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batten import verify
from batten.cli import main
from batten.verify.model import Control, Report

FOUND = Report((Control("limits.memory", "The limit", "web1", "shop", "api", "fail", "too much", "5.11"),))


@pytest.fixture(autouse=True)
def _no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "run", lambda *_, **__: FOUND)


def test_reports_are_written_beside_the_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, xml = tmp_path / "report.html", tmp_path / "report.xml"
    argv = ["verify", "-i", "inventories/demo", "--json", "--html", str(page), "--junit", str(xml)]
    assert main(argv) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out) == FOUND.to_json()
    assert printed.err.splitlines() == [f"report written to {page}", f"report written to {xml}"]
    assert "batten up -i inventories/demo" in page.read_text()
    assert "<failure" in xml.read_text()


def test_a_directory_that_is_not_there_is_told_before_any_host_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "run", lambda *_, **__: pytest.fail("a host was asked"))
    assert main(["verify", "-i", "inventories/demo", "--html", str(tmp_path / "no" / "report.html")]) == 1
    assert f"mkdir -p {tmp_path / 'no'}" in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "-i", "inventories/demo", "--junit", str(tmp_path)]) == 1
    assert "cannot be written" in capsys.readouterr().err
