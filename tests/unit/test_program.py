"""The host program: the same bytes wherever it is built, and it runs on the oldest Python that we support."""

from __future__ import annotations

import ast
import io
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ansible_collections.batten.core.plugins.module_utils import program

SOURCES = Path(program.__file__).parent
OLDEST = next(
    map(str, Path.home().glob(".pyenv/versions/3.9.*/bin/python")), shutil.which("python3.9") or sys.executable
)
BUILD = "import sys; from {package} import program; sys.stdout.buffer.write(program.build())"


def built_by(package: str, path: Path) -> bytes:
    code = BUILD.format(package=package)
    return subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(path)}, capture_output=True, check=True
    ).stdout


def test_it_is_the_same_from_a_folder_from_ansibles_zip_and_from_itself(tmp_path: Path) -> None:
    here = program.build()
    shutil.copytree(SOURCES, tmp_path / "folder" / "module_utils")
    assert built_by("module_utils", tmp_path / "folder") == here

    package = "ansible_collections/batten/core/plugins/module_utils"
    with zipfile.ZipFile(tmp_path / "ansiballz.zip", "w", zipfile.ZIP_DEFLATED) as payload:
        for parent in [Path(package), *Path(package).parents[:-1]]:
            payload.writestr(f"{parent}/__init__.py", "")
        for source in SOURCES.glob("*.py"):
            payload.write(source, f"{package}/{source.name}")
    assert built_by(package.replace("/", "."), tmp_path / "ansiballz.zip") == here

    (tmp_path / "host.pyz").write_bytes(here)
    assert built_by(program.PACKAGE, tmp_path / "host.pyz") == here


def packed() -> set[str]:
    """The names of the program's modules."""
    names = zipfile.ZipFile(io.BytesIO(program.build())).namelist()
    return {name.split("/")[1][:-3] for name in names if "/" in name} - {"__init__"}


def test_ansible_sends_every_module_that_the_program_needs() -> None:
    """Ansible sends what it sees imported from the module; it must see as much as we put in."""
    held = packed()
    assert {"program", "boot", "credentials", "delivery", "mounts", "docker_api", "errors", "paths"} <= held
    for name in held:
        assert set(program.siblings((SOURCES / f"{name}.py").read_text())) <= held


@pytest.mark.parametrize("path", sorted(SOURCES.glob("*.py")), ids=lambda path: path.stem)
def test_imports_are_found_as_a_parser_finds_them(path: Path) -> None:
    source, found = path.read_text(), []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found += [node.module] if node.module else [alias.name for alias in node.names]
    assert sorted(program.siblings(source)) == sorted(found)


def test_install_writes_once_and_only_outside_check_mode(tmp_path: Path) -> None:
    path = tmp_path / "lib" / "batten-host.pyz"
    assert program.install(check=True, path=path)
    assert not path.exists()
    assert program.install(check=False, path=path)
    assert path.stat().st_mode & 0o7777 == 0o755
    before = path.stat()
    assert not program.install(check=False, path=path)
    assert (path.stat().st_ino, path.stat().st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
    path.write_bytes(path.read_bytes() + b"x")
    assert program.install(check=False, path=path)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "batten-host.pyz"
    program.install(check=False, path=path)
    return path


def test_version_prints_its_own_digest(installed: Path) -> None:
    done = subprocess.run([OLDEST, installed, "version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == program.digest(installed.read_bytes())


@pytest.mark.parametrize("verb", ["unlock", "boot", "shutdown", "observe", "compare", "put"])
def test_an_error_is_one_line_that_says_what_to_do(installed: Path, verb: str) -> None:
    done = subprocess.run([OLDEST, installed, verb, "nobody"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"batten-host {verb}: ")
    assert "no stack nobody is on this host" in done.stderr
    assert "use one of" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("stack", ["..", ".", "", "../../etc", "a b\n"])
def test_a_path_is_no_stack(installed: Path, stack: str) -> None:
    done = subprocess.run([OLDEST, installed, "unlock", stack], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "is on this host" in done.stderr


def test_every_module_imports_on_the_oldest_python(installed: Path) -> None:
    code = "".join(f"import {program.PACKAGE}.{name}\n" for name in sorted(packed()))
    done = subprocess.run(
        [OLDEST, "-c", code], env={"PYTHONPATH": str(installed)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_starting_loads_no_module_that_another_verb_needs(installed: Path) -> None:
    code = (
        f"import sys, {program.PACKAGE}.program; print([name for name in sys.modules if '{program.PACKAGE}.' in name])"
    )
    done = subprocess.run(
        [OLDEST, "-c", code], env={"PYTHONPATH": str(installed)}, check=True, capture_output=True, text=True
    )
    assert not any(name in done.stdout for name in ("docker_api", "credentials", "boot", "survey"))


def test_a_name_that_is_no_text_is_printed_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="utf-8"))
    program._say("caf\udce9 é")
    assert written.getvalue().decode() == "caf\\udce9 é\n"
