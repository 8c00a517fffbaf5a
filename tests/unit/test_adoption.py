"""Owners change inside the volume and nowhere else, whatever lies in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.batten.core.plugins.module_utils import adoption


def test_the_command_survives_a_path_with_spaces() -> None:
    place = adoption.Place("data", Path("/srv/my data;reboot"), 999, 999, 0o700)
    assert place.chown == "chown -R 999:999 '/srv/my data;reboot'"


@pytest.mark.parametrize("killed", [True, False])
def test_what_an_image_put_into_a_volume_before_a_kill_is_given_its_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    (tmp_path / "from-the-image").write_text("")
    chowned: list[object] = []
    monkeypatch.setattr(os, "chown", lambda path, *_, **__: chowned.append(path))
    planned = {"data": {"name": "s_data", "device": str(tmp_path), "uid": os.getuid() + 1, "gid": 1, "mode": "0700"}}
    found = adoption.places(planned, [], filling=["s_data"] if killed else [])
    assert bool(adoption.foreign_owners(found)) is not killed
    adoption.prepare(found, adopt_chown=False, check=False)
    assert chowned == (["from-the-image", tmp_path] if killed else [])


def test_links_change_owner_themselves_and_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that becomes a link during the walk, as a container could make it, leads nowhere either."""
    uid, gid = os.getuid() + 1, os.getgid() + 1
    outside, data = tmp_path / "etc", tmp_path / "data"
    for directory in (outside, data / "sub"):
        directory.mkdir(parents=True)
        for name in ("one", "two"):
            (directory / name).write_text("")
    (data / "link").symlink_to(outside)
    asked: list[tuple[int, int]] = []
    swapped: list[Path] = []

    def chown(path: object, *owner: int, dir_fd: int | None = None, follow_symlinks: bool = True) -> None:
        asked.append(os.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)[1:3])  # type: ignore[arg-type]
        if not swapped and Path(str(path)).name in ("one", "two"):  # the other one is still to come
            swapped.append((data / "sub").rename(data / "moved"))
            (data / "sub").symlink_to(outside)

    monkeypatch.setattr(os, "chown", chown)
    adoption.prepare([adoption.Place("data", data, uid, gid, 0o700)], adopt_chown=True, check=False)
    assert swapped
    foreign = {each.stat()[1:3] for each in (outside, outside / "one", outside / "two")}
    assert not foreign & set(asked)
