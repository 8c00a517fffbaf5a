"""The command line as a person meets it: verbs, errors, exit codes, one JSON document."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batten.cli import VERBS, main, usage


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert out.strip() == usage()
    for verb in VERBS:
        assert f"  {verb} " in out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["pla"], "did you mean 'plan'?"),
        (["plan"], "-i/--inventory"),
        (["plan", "-i", "nowhere"], "batten: nowhere: this inventory does not exist\n"),
        (["plan", "-i", "inventories/demo", "--memory", "lots"], "expected a size"),
        (["plan", "-i", "inventories/demo", "--limit", "nobody"], "no host of group 'stack'"),
        (["test", "everything"], "unknown stage 'everything'"),
    ],
)
def test_mistakes_are_errors_with_a_fix(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 1
    captured = capsys.readouterr()
    assert said in captured.err
    assert "fix: " in captured.err
    assert captured.out == ""


def test_json_errors_are_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-i", "nowhere", "--json"]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["where"] == "nowhere"
    assert error["fix"]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--json"]) == 0
    assert {"batten", "python", "ansible-core", "collection"} <= json.loads(capsys.readouterr().out).keys()


def test_plan_of_the_demo_needs_no_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-i", "inventories/demo", "--memory", "8G", "--cpus", "4", "--json"]) == 0
    host = json.loads(capsys.readouterr().out)["hosts"]["batten-demo"]
    assert host["memory_bytes"] == 8 * 1024**3
    assert host["cpus"] == 4
    assert host["allocated_bytes"] + host["reserved_bytes"] <= host["memory_bytes"]
    assert "postgres" in host["stacks"]["demo"]["services"]


def test_plan_for_people_draws_the_budget(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "-i", "inventories/demo", "--memory", "8G", "--cpus", "4"]) == 0
    out = capsys.readouterr().out
    assert "batten-demo: 8G memory" in out
    assert "[#" in out


def test_render_writes_the_layers_of_each_host(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["render", "-i", "inventories/demo", "--memory", "8G", "--cpus", "4", "--out", str(tmp_path), "--json"]
    assert main(argv) == 0
    written = json.loads(capsys.readouterr().out)["hosts"]["batten-demo"]
    for name in ("compose.yaml", "compose.prod.yaml", "compose.selfhosted.yaml"):
        path = tmp_path / "batten-demo" / name
        assert str(path) in written
        assert path.read_text()
