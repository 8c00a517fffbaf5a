"""What systemd says of units, with its words as systemctl prints them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.batten.core.plugins.module_utils import systemd
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError


def says(text: str, monkeypatch: pytest.MonkeyPatch, code: int = 0) -> None:
    done = subprocess.CompletedProcess([], code, text, "no bus\n" if code else "")
    monkeypatch.setattr(subprocess, "run", lambda *_words, **_more: done)


def test_a_block_a_unit_in_the_order_they_were_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    says("UnitFileState=enabled\nAfter=a.service b=c.mount\n\nUnitFileState=\nAfter=\n", monkeypatch)
    found = systemd.show(["a.service", "none.service"], "UnitFileState,After")
    assert found == [{"UnitFileState": "enabled", "After": "a.service b=c.mount"}, {"UnitFileState": "", "After": ""}]


def test_a_systemd_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    says("", monkeypatch, code=1)
    assert systemd.show(["a.service", "b.service"], "After") == [{}, {}]
    with pytest.raises(BattenError, match="no bus"):
        systemd.show(["a.service"], "After", must=True)


def test_a_host_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert systemd.show(["a.service"], "After") == [{}]


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        ({"LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "active"}, "enabled, active"),
        ({"LoadState": "loaded", "UnitFileState": "disabled", "ActiveState": "failed"}, "disabled, failed"),
        ({"LoadState": "loaded", "UnitFileState": "", "ActiveState": "active"}, "static, active"),
        ({"LoadState": "masked", "UnitFileState": "masked", "ActiveState": "inactive"}, "masked"),
        ({"LoadState": "not-found", "UnitFileState": "", "ActiveState": "inactive"}, "missing"),
        ({}, "missing"),
    ],
)
def test_the_state_of_a_unit_in_words(shown: dict[str, str], told: str) -> None:
    assert systemd.state(shown) == told


def test_what_systemctl_refuses_is_told_with_the_journal_of_its_unit(
    tmp_path: Path, fake_program: Callable[[str, str], None]
) -> None:
    fake_program("systemctl", "#!/bin/sh\necho 'Job failed.' >&2\nexit 1\n")
    journal = tmp_path / "bin/journalctl"
    journal.write_text('#!/bin/sh\necho "$@"\n')
    journal.chmod(0o755)
    with pytest.raises(BattenError) as refused:
        systemd.systemctl("restart", "docker.service")
    assert refused.value.what == "Job failed.\n-b -u docker.service -n 8 --no-pager -o cat"
    assert (refused.value.where, refused.value.fix) == (
        "systemctl restart docker.service",
        "journalctl -b -u docker.service",
    )
    with pytest.raises(BattenError) as refused:
        systemd.systemctl("daemon-reload")
    assert (refused.value.what, refused.value.fix) == ("Job failed.", "journalctl -b")
