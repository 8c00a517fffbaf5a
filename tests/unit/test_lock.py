"""The lock lies where everyone may make files."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.batten.core.plugins.module_utils import lock
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError


def test_one_run_at_a_time_and_a_lock_left_behind_is_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "batten-app.lock"
    with lock.held(path), pytest.raises(lock.Busy, match=f"pid {os.getpid()}"), lock.held(path):
        pytest.fail("both hold it")
    with lock.held(path):
        assert path.stat().st_mode & 0o777 == 0o600


def test_a_run_waits_for_one_that_nobody_has_called_for(tmp_path: Path) -> None:
    path, begun = tmp_path / "batten-app.lock", threading.Event()

    def by_timer() -> None:
        with lock.held(path, brief=True):
            begun.set()
            time.sleep(0.5)

    timer = threading.Thread(target=by_timer)
    timer.start()
    begun.wait()
    with lock.held(path):
        assert not timer.join(1)
        assert not timer.is_alive()


@pytest.mark.parametrize("plant", [Path.symlink_to, Path.hardlink_to])
def test_a_planted_link_does_not_empty_another_file(plant: object, tmp_path: Path) -> None:
    precious, path = tmp_path / "passwd", tmp_path / "batten-app.lock"
    precious.write_text("root")
    plant(path, precious)  # type: ignore[operator]
    with pytest.raises(BattenError, match="cannot be taken"), lock.held(path):
        pytest.fail("the link was followed")
    assert precious.read_text() == "root"


def test_a_planted_directory_is_an_error_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(BattenError, match="cannot be taken"), lock.held(tmp_path):
        pytest.fail("a directory was held")


def test_another_holder_is_seen_without_touching_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "shop.lock"
    path.write_text("")
    status, proc = path.stat(), tmp_path / "proc"
    proc.mkdir()
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    for line, held in (
        (f"1: FLOCK  ADVISORY  WRITE 1 {place} 0 EOF", True),
        (f"1: FLOCK  ADVISORY  WRITE {os.getpid()} {place} 0 EOF", False),
        (f"1: FLOCK  ADVISORY  WRITE 1 ff:ff:{status.st_ino} 0 EOF", False),
        (f"1: POSIX  ADVISORY  WRITE 1 {place} 0 EOF", False),
        (f"1: -> FLOCK  ADVISORY  WRITE 1 {place} 0 EOF", False),
    ):
        (proc / "locks").write_text(line + "\n")
        assert lock.is_held_by_another(path, str(tmp_path)) is held
    assert not lock.is_held_by_another(tmp_path / "none", str(tmp_path))
