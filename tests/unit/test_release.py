"""Releases on disk."""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import release
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths


def payload(**more: Any) -> dict[str, Any]:
    return {
        "stack": "s",
        "project": "s",
        "layers": [{"name": "compose.yaml", "text": "name: s\n"}],
        "files": {"web": {"digest": "d1", "entries": {"conf/a": "hello"}}},
        "base_files": {"init/x.sql": base64.b64encode(b"select 1").decode()},
        "environment": {"DOMAIN": 'a"b$c\\d'},
        "plan": {"name": "s"},
        **more,
    }


@pytest.fixture
def paths(tmp_path: Path) -> StackPaths:
    return StackPaths("s", str(tmp_path))


def test_a_release_is_written_once_and_then_left_alone(paths: StackPaths) -> None:
    assert release.differences(paths, payload()) == release.write(paths, payload())
    assert release.differences(paths, payload()) == []
    assert release.write(paths, payload()) == []
    assert (paths.files / "web" / "d1" / "conf" / "a").read_text() == "hello"
    assert (paths.base / "init" / "x.sql").read_bytes() == b"select 1"


def test_what_was_edited_deleted_or_added_is_found_and_put_right(paths: StackPaths) -> None:
    release.write(paths, payload())
    where = release.directory(paths, payload())
    (where / "compose.yaml").write_text("edited")
    (where / "compose.override.yaml").write_text("added")
    (paths.files / "web" / "d1" / "conf" / "a").unlink()
    (paths.base / "init" / "x.sql").unlink()
    expected = {where / "compose.yaml", where / "compose.override.yaml", paths.files / "web" / "d1" / "conf" / "a"}
    expected.add(paths.base / "init" / "x.sql")
    assert set(map(Path, release.differences(paths, payload()))) == expected
    assert set(map(Path, release.write(paths, payload()))) == expected
    assert release.differences(paths, payload()) == []


def test_the_same_content_has_the_same_name_and_other_content_another() -> None:
    assert release.identity(payload()) == release.identity(dict(reversed(list(payload().items()))))
    assert release.identity(payload()) != release.identity(payload(project="t"))


def test_the_last_good_release_is_kept_while_others_go(paths: StackPaths) -> None:
    first = payload()
    release.write(paths, first)
    release.activate(paths, first)
    assert release.mark_good(paths, first, {"web": "sha256:1"})
    assert not release.mark_good(paths, first, {"web": "sha256:1"})
    for number in range(6):
        later = payload(project=f"p{number}", files={"web": {"digest": f"n{number}", "entries": {"a": "b"}}})
        release.write(paths, later)
    release.prune(paths, {release.identity(first)}, [])
    assert release.read(paths, release.identity(first)) == first
    assert (paths.files / "web" / "d1").is_dir()
    assert len(list(paths.releases.iterdir())) <= release.KEPT + 1
    assert release.running(paths) == release.last_good(paths) == release.identity(first)


def test_files_that_a_container_mounts_stay_however_old_their_release_is(paths: StackPaths) -> None:
    """``stack_defer_stateful`` leaves a database the container that it has: it would not start again without them."""
    for number in range(release.KEPT + 2):
        files = {name: {"digest": f"n{number}", "entries": {"a": "b"}} for name in ("db", "web")}
        release.write(paths, payload(project=f"p{number}", files=files))
        for place in paths.releases.iterdir():
            os.utime(place, (place.stat().st_mtime - 9,) * 2)
    mounts = [{"Type": "tmpfs", "Destination": "/tmp"}]
    database = {"Mounts": [*mounts, {"Type": "bind", "Source": str(paths.files / "db/n0"), "Destination": "/etc/x"}]}
    below = {"Mounts": [{"Type": "bind", "Source": str(paths.files / "web/n1/a"), "Destination": "/etc/x"}]}
    assert not [path for path in release.unused(paths, [], None) if path.is_relative_to(paths.files)]
    gone = {str(path) for path in release.unused(paths, [], [database, below])}
    assert gone == set(release.prune(paths, [], [database, below]))
    assert gone >= {str(paths.files / "db/n1"), str(paths.files / "web/n0")}
    left = sorted(path.name for path in (paths.files / "db").iterdir())
    assert left == ["n0", *(f"n{number}" for number in range(2, release.KEPT + 2))]
    assert (paths.files / "web/n1/a").read_text() == "b"


def test_a_lost_release_says_so(paths: StackPaths) -> None:
    release.write(paths, payload())
    shutil.rmtree(paths.releases)
    with pytest.raises(BattenError, match="gone or was edited"):
        release.read(paths, release.identity(payload()))


@pytest.mark.parametrize("text", ["", "[]", '{"files": {}}'])
def test_the_running_release_is_known_also_when_its_file_is_gone_or_was_edited(paths: StackPaths, text: str) -> None:
    release.write(paths, payload())
    release.activate(paths, payload())
    identifier, edited = release.identity(payload()), paths.current / "release.json"
    edited.write_text(text)
    assert release.read(paths, identifier) == payload()
    assert release.unused(paths, [identifier], []) == []
    assert release.differences(paths, payload()) == [str(release.directory(paths, payload()) / "release.json")]
    paths.release.write_text(text)
    with pytest.raises(BattenError, match="gone or was edited") as refused:
        release.read(paths, identifier)
    assert "site.yml -i" in refused.value.fix


@pytest.mark.parametrize("name", ["/etc/passwd", "../x", "a/../../x"])
def test_a_file_outside_the_stack_is_refused(paths: StackPaths, name: str) -> None:
    with pytest.raises(BattenError, match="outside"):
        release.write(paths, payload(base_files={name: ""}))


def test_the_env_file_holds_any_value_literally() -> None:
    assert release.environment(payload()) == 'DOMAIN="a\\"b\\$c\\\\d"\n'


def test_a_link_to_the_same_content_is_another_file(paths: StackPaths) -> None:
    """Whoever owns what it leads to changes what the container reads; one that leads nowhere is no error."""
    release.write(paths, payload())
    places = [release.directory(paths, payload()) / "compose.yaml", paths.base / "init" / "x.sql"]
    for place in places:
        shutil.copy(place, place.parent.parent / "elsewhere")
        place.unlink()
        place.symlink_to(place.parent.parent / "elsewhere")
        assert release.differences(paths, payload()) == [str(place)]
        (place.parent.parent / "elsewhere").unlink()
        assert release.differences(paths, payload()) == [str(place)]
        assert release.write(paths, payload()) == [str(place)]
    assert release.differences(paths, payload()) == []
