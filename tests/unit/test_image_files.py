"""What was written over an image after its container was well."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import image_files
from ansible_collections.batten.core.plugins.module_utils.observed import Observed
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths

# As recorded of a container of the rig's engine (26.1.5), which has an init and mounts a directory of settings.
MADE = [
    {"Path": "/usr", "Kind": 0},
    {"Path": "/usr/sbin", "Kind": 0},
    {"Path": "/usr/sbin/docker-init", "Kind": 1},
    {"Path": "/run", "Kind": 0},
    {"Path": "/run/secrets", "Kind": 1},
    {"Path": "/etc", "Kind": 0},
    {"Path": "/etc/api", "Kind": 1},
]
MOUNT = {"Type": "bind", "Source": "/opt/batten/shop/files/api/1", "Destination": "/etc/api", "RW": False}
OBSERVED = Observed({"Id": "x", "State": {"Pid": 733}, "Mounts": [MOUNT]})
OWN = ["added /usr/sbin/docker-init"]


def look(*more: tuple[str, int]) -> list[Any]:
    changes = [*MADE, *({"Path": path, "Kind": kind} for path, kind in more)]
    found = image_files.compare_service("shop", "api", OBSERVED, changes, OWN, "/nowhere")
    assert all((one.facet, one.action) == ("image_files", "recreate") for one in found)
    return [one.actual for one in found]


def test_what_was_there_when_it_was_well_is_its_own() -> None:
    assert look() == []
    assert image_files.strange(OBSERVED, MADE, "/nowhere") == OWN


@pytest.mark.parametrize(
    ("path", "kind", "shown"),
    [
        ("/usr/bin/evil", 1, "added /usr/bin/evil"),
        ("/app/server.js", 0, "changed /app/server.js"),
        ("/lib/libc.so", 2, "deleted /lib/libc.so"),
        ("/etc/passwd", 0, "changed /etc/passwd"),
        ("/srv/www/x.php", 1, "added /srv/www/x.php"),
    ],
)
def test_each_program_or_setting_that_came_later(path: str, kind: int, shown: str) -> None:
    assert look((path, kind)) == [[shown]]


@pytest.mark.parametrize(
    "path",
    [
        "/tmp/x",
        "/var/lib/x",
        "/root/.bash_history",
        "/home/app/x",
        "/app/__pycache__/a.pyc",
        "/app/.next/cache/1",
        "/srv/log/a.log",
        "/opt/x.pid",
    ],
)
def test_what_programs_write_as_they_run(path: str) -> None:
    assert look((path, 1)) == []


def test_a_directory_whose_content_came_and_went(tmp_path: Path) -> None:
    (tmp_path / "proc/733/root/etc/ssl").mkdir(parents=True)
    changes = [*MADE, {"Path": "/etc/ssl", "Kind": 0}]
    assert image_files.compare_service("shop", "api", OBSERVED, changes, OWN, str(tmp_path)) == []


def test_many_are_told_in_short() -> None:
    shown = look(*((f"/usr/bin/{number:02}", 1) for number in range(12)))[0]
    assert (len(shown), shown[-1]) == (11, "and 2 more")


def test_the_first_look_at_a_healthy_container_is_kept_until_it_is_gone(tmp_path: Path) -> None:
    paths = StackPaths("shop", str(tmp_path))
    paths.state.mkdir(parents=True)
    asked: list[str] = []

    class Engine:
        def changes(self, identifier: str) -> Any:
            asked.append(identifier)
            return MADE

    engine: Any = Engine()
    image_files.remember(engine, paths, [OBSERVED], "/nowhere")
    image_files.remember(engine, paths, [OBSERVED], "/nowhere")
    assert image_files.known(paths) == {"x": OWN}
    assert asked == ["x"]
    image_files.remember(engine, paths, [], "/nowhere")
    assert image_files.known(paths) == {}


def test_a_watched_directory_itself() -> None:
    assert look(("/app", 2)) == [["deleted /app"]]
    assert look(("/srv", 0)) == [["changed /srv"]]  # a link, say: it is no directory and holds nothing
    assert look(("/srv", 1)) == []


def test_many_changed_files_are_judged_without_comparing_each_with_each() -> None:
    entries = [{"Path": f"/app/{number // 100}/{number}", "Kind": 0} for number in range(20000)]
    entries += [{"Path": f"/app/{number}", "Kind": 0} for number in range(200)]
    found = image_files.strange(OBSERVED, entries, "/nowhere")
    assert len(found) == 20000
