"""What was written over an image, out of the directories that overlayfs keeps it in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.batten.core.plugins.module_utils import overlay

PID = 733
MOUNT = (
    "860 2025 0:222 / {at} ro,relatime - overlay overlay rw,lowerdir={lower},upperdir={upper},workdir=/w,nouserxattr"
)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A host with one container: an upper directory over two lower ones."""
    (tmp_path / "proc" / str(PID)).mkdir(parents=True)
    for place in ("upper/usr/bin", "top/usr/bin", "bottom/usr/bin", "bottom/usr/lib"):
        (tmp_path / place).mkdir(parents=True)
    for name in ("ls", "cat"):
        (tmp_path / "bottom/usr/bin" / name).write_text(name)
    mounted(tmp_path)
    return tmp_path


def mounted(host: Path, at: str = "/", upper: str = "/upper", lower: str = "/top:/bottom") -> None:
    other = "861 860 0:5 / /proc rw - proc proc rw\n"
    (host / "proc" / str(PID) / "mountinfo").write_text(other + MOUNT.format(at=at, upper=upper, lower=lower) + "\n")


def found(host: Path) -> list[tuple[str, int]] | None:
    changes = overlay.changes(PID, ["/usr", "/etc"], str(host))
    return None if changes is None else [(one["Path"], one["Kind"]) for one in changes]


def test_a_container_that_wrote_nothing(host: Path) -> None:
    assert found(host) == []


def copied_up(host: Path) -> Path:
    """What the kernel does when a file of the image is opened for writing: the same, in the upper directory."""
    source, copy = host / "bottom/usr/bin/ls", host / "upper/usr/bin/ls"
    copy.write_bytes(source.read_bytes())
    status = source.stat()
    os.utime(copy, ns=(status.st_atime_ns, status.st_mtime_ns))
    return copy


@pytest.mark.parametrize(
    ("write", "expected"),
    [
        (lambda host: (host / "upper/usr/bin/evil").write_text("x"), [("/usr/bin/evil", overlay.ADDED)]),
        (copied_up, []),
        (lambda host: copied_up(host).write_text("other"), [("/usr/bin/ls", overlay.CHANGED)]),
        (lambda host: copied_up(host).chmod(0o777), [("/usr/bin/ls", overlay.CHANGED)]),
        (lambda host: (host / "upper/usr/bin/dir").symlink_to("ls"), [("/usr/bin/dir", overlay.ADDED)]),
        (lambda host: (host / "upper/usr/new").mkdir(), [("/usr/new", overlay.ADDED)]),
        (lambda host: (host / "upper/usr/lib").mkdir(), []),
        (lambda host: (host / "upper/var").mkdir(), []),
    ],
)
def test_each_way_to_write(host: Path, write: Callable[[Path], object], expected: list[tuple[str, int]]) -> None:
    write(host)
    assert found(host) == expected


def test_what_is_deleted_is_a_device_of_no_kind(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only root makes one, so a file stands for it."""
    (host / "upper/usr/bin/cat").write_text("")
    gone = (host / "upper/usr/bin/cat").stat().st_ino
    monkeypatch.setattr(overlay, "_is_whiteout", lambda status: status.st_ino == gone)
    assert found(host) == [("/usr/bin/cat", overlay.DELETED)]


def test_what_the_image_itself_deleted_was_not_there(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (host / "top/usr/bin/cat").write_text("")
    gone = (host / "top/usr/bin/cat").stat().st_ino
    monkeypatch.setattr(overlay, "_is_whiteout", lambda status: status.st_ino == gone)
    (host / "upper/usr/bin/cat").write_text("mine")
    assert found(host) == [("/usr/bin/cat", overlay.ADDED)]


def test_a_directory_that_was_made_again_hides_what_the_image_has(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (host / "upper/usr/bin/cat").write_text("cat")
    monkeypatch.setattr(overlay, "_is_opaque", lambda path: path.endswith("/usr/bin"))
    assert ("/usr/bin/ls", overlay.DELETED) in (found(host) or [])


@pytest.mark.parametrize(
    "mount",
    [{"upper": "l/upper"}, {"lower": "/top:l/bottom"}, {"lower": "/top:/else"}, {"upper": "/a\\040b"}, {"at": "/x"}],
)
def test_where_the_kernel_does_not_tell_the_engine_is_asked(host: Path, mount: dict[str, str]) -> None:
    mounted(host, **mount)
    assert found(host) is None


def test_a_container_that_is_gone(tmp_path: Path) -> None:
    assert overlay.changes(PID, ["/usr"], str(tmp_path)) is None


def test_a_link_in_the_place_of_a_directory_leads_nowhere(host: Path) -> None:
    """Whoever is root in a container may make one; followed, it would be the host's own tree that is walked."""
    (host / "bottom/etc").mkdir()
    (host / "upper/etc").symlink_to(host)
    assert found(host) == [("/etc", overlay.CHANGED)]


def test_a_whole_directory_that_is_gone_or_was_made_again(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (host / "bottom/etc").mkdir()
    (host / "bottom/etc/hosts.allow").write_text("x")
    (host / "upper/etc").mkdir()
    monkeypatch.setattr(overlay, "_is_opaque", lambda path: path.endswith("/etc"))
    assert found(host) == [("/etc/hosts.allow", overlay.DELETED)]
    (host / "upper/etc").rmdir()
    (host / "upper/etc").write_text("")
    gone = (host / "upper/etc").stat().st_ino
    monkeypatch.setattr(overlay, "_is_whiteout", lambda status: status.st_ino == gone)
    assert ("/etc", overlay.DELETED) in (found(host) or [])


def test_a_file_that_is_gone_before_it_is_looked_at(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walk = overlay._walk
    monkeypatch.setattr(overlay, "_walk", lambda upper, top: [*walk(upper, top), f"{top}/bin/gone", f"{top}/bin/ls/x"])
    copied_up(host)
    assert found(host) == []


def test_a_mount_whose_name_is_no_text_or_looks_like_two_lines(host: Path) -> None:
    place = host / "proc" / str(PID) / "mountinfo"
    place.write_bytes(b"862 860 0:5 / /mnt/caf\xe9\x0cx rw - tmpfs tmpfs rw\n" + place.read_bytes())
    (host / "upper/usr/bin/evil").write_text("x")
    assert found(host) == [("/usr/bin/evil", overlay.ADDED)]
