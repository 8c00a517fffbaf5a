"""Files beside a base that somebody else wrote: nothing else of this machine goes to a host."""

from __future__ import annotations

from pathlib import Path

import pytest

from batten.errors import BattenError
from batten.render import build as building
from batten.render.release import base_files
from tests.unit.test_render import service, stack


def test_a_link_carries_nothing_of_this_machine_to_a_host(tmp_path: Path) -> None:
    base, outside = tmp_path / "stack", tmp_path / "key"
    (base / "conf").mkdir(parents=True)
    outside.write_text("private")
    (base / "conf" / "a.txt").symlink_to(outside)
    with pytest.raises(BattenError, match="leads out"):
        base_files(stack(service(extra_volumes=("./conf:/x:ro",))), base)


def test_mounted_files_have_a_limit_together(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for number in range(9):
        (tmp_path / "data" / str(number)).write_bytes(bytes(1024 * 1024))
    with pytest.raises(BattenError, match="larger than 8 MiB"):
        base_files(stack(service(extra_volumes=("./data:/x",))), tmp_path)


def test_a_link_out_of_a_build_context_is_refused(tmp_path: Path) -> None:
    context = tmp_path / "app"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "key").write_text("private")
    (context / "key").symlink_to(tmp_path / "key")
    (tmp_path / "compose.yaml").write_text("services: {web: {build: ./app}}\n")
    with pytest.raises(BattenError, match="leads out"):
        building.builds(stack(service(build=True)), tmp_path / "compose.yaml", {})
