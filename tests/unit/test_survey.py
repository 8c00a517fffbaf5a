"""What a look at a stack finds that is neither the engine's nor the kernel's to tell."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import survey
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths


class Container:
    """One that sees what lies there, as this process does."""

    pid = os.getpid()

    def __init__(self, source: Path, started_at: float) -> None:
        self.mounts = {("bind", str(source), str(source), "ro")}
        self.started_at = started_at


def test_files_are_newer_than_a_start_only_if_their_time_has_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written while the clock was ahead they were newer than every start: each run restarted their service."""
    paths = StackPaths("shop", str(tmp_path))
    source = paths.files / "web" / "d1"
    source.mkdir(parents=True)

    def written(name: str) -> float:
        (source / name).write_text("x")
        return max(path.stat().st_ctime for path in (source, source / name))

    def stale(started_at: float, now: float) -> list[str]:
        live: Any = Container(source, started_at)
        monkeypatch.setattr(time, "time", lambda: now)
        return [one.name for one in survey._stale_files("shop", paths, {"web": live}, {"web": [live]})]

    first = written("a")
    while (last := written("b")) == first:  # the clock of files goes in steps
        pass
    assert stale(first - 60, last + 60) == stale(first, last + 60) == ["web"]
    assert stale(last, last + 60) == []
    assert stale(first - 3600, first - 3590) == []  # all is of a time to come
    assert stale(first - 60, (last + first) / 2) == ["web"]  # b is; a changed since, and is told all the same
