"""A wheel in an empty environment is all of the product: package, collection, playbooks and compose files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path) -> str:
    """Run a program as a person outside the checkout would."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE", "PYTHON", "VIRTUAL"))}
    done = subprocess.run(command, cwd=cwd, env=kept, text=True, capture_output=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that has the wheel and what it depends on."""
    work = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", work / "dist", ROOT, cwd=work)
    venv.create(work / "venv", with_pip=True)
    (wheel,) = (work / "dist").glob("batten-*.whl")
    run(work / "venv" / "bin" / "python", "-m", "pip", "install", "-q", wheel, cwd=work)
    return work / "venv" / "bin"


def test_it_is_not_the_checkout(installed: Path, tmp_path: Path) -> None:
    found = json.loads(run(installed / "batten", "version", "--json", cwd=tmp_path))
    assert Path(found["collection"]).is_relative_to(installed.parent)


def test_plan_and_render_find_the_reference_stack(installed: Path, tmp_path: Path) -> None:
    flags = ["--host", "192.0.2.4", "--domain", "app.example.org", "--out", "inv"]
    run(installed / "batten", "init", *flags, cwd=tmp_path)
    capacity = ["--memory", "8G", "--cpus", "4"]
    plan = json.loads(run(installed / "batten", "plan", "-i", "inv", *capacity, "--json", cwd=tmp_path))
    assert "postgres" in plan["hosts"]["app"]["stacks"]["app"]["services"]
    run(installed / "batten", "render", "-i", "inv", *capacity, "--out", "out", cwd=tmp_path)
    assert (tmp_path / "out" / "app" / "compose.prod.yaml").is_file()


def test_ansible_finds_the_collection_its_modules_and_its_playbooks(installed: Path, tmp_path: Path) -> None:
    listed = run(installed / "ansible-doc", "-l", "batten.core", cwd=tmp_path)
    modules = {path.stem for path in (ROOT / "plugins" / "modules").glob("[a-z]*.py")}
    assert {line.split()[0].removeprefix("batten.core.") for line in listed.splitlines()} >= modules
    site = next(installed.parent.glob("lib/*/site-packages/ansible_collections/batten/core/site.yml"))
    run(installed / "ansible-playbook", "--syntax-check", site, cwd=tmp_path)
