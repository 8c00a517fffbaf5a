"""A file of ours that somebody made immutable."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import immutable
from ansible_collections.batten.core.plugins.module_utils.errors import reported


def refusal(path: Path, other: Path | None = None) -> PermissionError:
    words = (errno.EPERM, "Operation not permitted", str(path))
    return PermissionError(*words, None, str(other)) if other else PermissionError(*words)


@pytest.fixture
def flagged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file whose flags the kernel gives as ``chattr +i`` sets them; tmp_path may lie where chattr does not work."""
    path = tmp_path / "compose.prod.yaml"
    path.write_text("x")

    def ioctl(handle: int, request: int, found: Any, _mutate: bool) -> None:
        assert request == 0x80086601
        found[0] = 0x10 if Path(f"/proc/self/fd/{handle}").resolve() == path else 0

    monkeypatch.setattr("fcntl.ioctl", ioctl)
    return path


def test_a_rename_onto_it_names_it_and_what_to_type(flagged: Path) -> None:
    told = immutable.explained(refusal(flagged.parent / ".tmp", flagged))
    assert told is not None
    assert (told.where, "chattr +i" in told.what) == (str(flagged), True)
    assert f"chattr -i {flagged}" in told.fix


def test_a_file_below_it_names_the_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("fcntl.ioctl", lambda _handle, _request, found, _mutate: found.__setitem__(0, 0x10))
    told = immutable.explained(refusal(tmp_path / "new"))
    assert told is not None
    assert told.where == str(tmp_path)


def test_any_other_refusal_is_not_ours_to_explain(tmp_path: Path) -> None:
    assert immutable.explained(refusal(tmp_path / "x")) is None
    assert immutable.explained(FileNotFoundError(errno.ENOENT, "gone", str(tmp_path))) is None


def test_a_module_says_it(flagged: Path) -> None:
    said: list[str] = []

    def fail(msg: str) -> None:
        said.append(msg)
        raise SystemExit

    with pytest.raises(SystemExit), reported(fail):
        raise refusal(flagged)
    assert f"chattr -i {flagged}" in said[0]
