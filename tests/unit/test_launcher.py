"""The launcher, with programs that only write down how they were called in Python's place."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Says yes to every question, and makes an environment whose Python writes down what it is asked to do.
PYTHON = """#!/bin/sh
case "$*" in
    -V) echo "Python 3.13.0" ;;
    *ensurepip*) exit ${NO_VENV:-0} ;;
    *print*) echo python3.13-venv ;;
    "-m venv --clear "*) echo "venv" >>"$LOG"; rm -rf "$4"; mkdir -p "$4/bin"; cp "$INNER" "$4/bin/python" ;;
esac
"""
INNER = """#!/bin/sh
case "$*" in
    *"pip install"*)
        for last; do :; done
        echo "pip .${last#"$HERE"}" >>"$LOG"
        exit ${PIP_FAILS:-0}
        ;;
    *) echo "$*" >>"$LOG" ;;
esac
"""


@dataclass
class Checkout:
    path: Path
    bin: Path
    log: Path

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        self.log.write_text("")
        settings = {"PATH": f"{self.bin}:/usr/bin:/bin", "LOG": str(self.log), "INNER": str(self.bin / "inner")}
        return subprocess.run(
            [self.path / "batten", *arguments],
            env=settings | {"HERE": str(self.path)} | environment,
            cwd="/",
            text=True,
            capture_output=True,
            check=False,
        )

    def calls(self, *arguments: str) -> list[str]:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return self.log.read_text().splitlines()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    path, programs = tmp_path / "a checkout", tmp_path / "bin"
    path.mkdir()
    programs.mkdir()
    for name in ("batten", "pyproject.toml"):
        shutil.copy(ROOT / name, path / name)
    for name, text in {"python3.13": PYTHON, "inner": INNER}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    return Checkout(path, programs, tmp_path / "log")


def test_it_is_posix_shell() -> None:
    subprocess.run(["sh", "-n", ROOT / "batten"], check=True)
    assert (ROOT / "batten").read_text().startswith("#!/bin/sh\n")


def test_the_first_start_makes_and_installs_a_later_one_does_nothing(checkout: Checkout) -> None:
    assert checkout.calls("plan", "-i", "x y") == ["venv", "pip .", "-m batten plan -i x y"]
    assert checkout.calls("version") == ["-m batten version"]


def test_what_a_verb_needs_is_added_once_and_stays(checkout: Checkout) -> None:
    assert checkout.calls("demo") == ["venv", "pip .[demo]", "-m batten demo"]
    assert checkout.calls("test", "unit") == ["pip .[test]", "-m batten test unit"]
    assert checkout.calls("demo") == ["-m batten demo"]


def test_a_changed_pyproject_is_installed_again_with_all_that_was_there(checkout: Checkout) -> None:
    checkout.calls("test")
    with (checkout.path / "pyproject.toml").open("a") as file:
        file.write("# changed\n")
    assert checkout.calls("plan") == ["pip .[test]", "-m batten plan"]
    assert checkout.calls("plan") == ["-m batten plan"]


def test_a_checkout_that_moved_gets_a_new_environment(checkout: Checkout) -> None:
    checkout.calls("plan")
    moved = checkout.path.parent / "moved"
    checkout.path.rename(moved)
    assert Checkout(moved, checkout.bin, checkout.log).calls("plan")[0] == "venv"


def test_an_install_that_failed_is_done_again(checkout: Checkout) -> None:
    done = checkout.run("plan", PIP_FAILS="1")
    assert done.returncode == 1
    assert "pip could not install" in done.stderr
    assert "pip ." in checkout.calls("plan")


def test_without_a_python_it_says_what_to_install(checkout: Checkout) -> None:
    (checkout.bin / "python3.13").unlink()
    for program in ("cksum", "sh"):
        (checkout.bin / program).symlink_to(shutil.which(program) or program)
    done = checkout.run("plan", PATH=str(checkout.bin))
    assert done.returncode == 1
    assert "fix: apt-get install python3 python3-venv" in done.stderr


def test_where_debian_lacks_venv_root_installs_it(checkout: Checkout) -> None:
    for name, text in {"apt-get": 'echo "apt-get $*" >>"$LOG"', "id": "echo 0"}.items():
        (checkout.bin / name).write_text(f"#!/bin/sh\n{text}\n")
        (checkout.bin / name).chmod(0o755)
    assert checkout.run("plan", NO_VENV="1").returncode == 0
    assert checkout.log.read_text().splitlines()[0] == "apt-get install -y -q python3.13-venv"


def test_where_debian_lacks_venv_others_are_told_the_command(checkout: Checkout) -> None:
    for name, text in {"apt-get": "exit 1", "id": "echo 1000"}.items():
        (checkout.bin / name).write_text(f"#!/bin/sh\n{text}\n")
        (checkout.bin / name).chmod(0o755)
    done = checkout.run("plan", NO_VENV="1")
    assert done.returncode == 1
    assert "fix: sudo apt-get install -y python3.13-venv" in done.stderr
