"""Sealing: only the host that made the key opens it, and a changed text does not open."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ansible_collections.batten.core.plugins.module_utils import cms
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths

TEXT = '{"client_secret": "ä\\r\\n $x"}\r\n\n' * 2000


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> tuple[StackPaths, StackPaths]:
    return StackPaths("shop", str(tmp_path_factory.mktemp("a"))), StackPaths("shop", str(tmp_path_factory.mktemp("b")))


def test_only_the_host_it_was_sealed_to_opens_it(hosts: tuple[StackPaths, StackPaths]) -> None:
    ours, other = hosts
    sealed = cms.seal(TEXT, cms.public_key(ours))
    assert "client_secret" not in sealed
    assert cms.unseal(ours, sealed) == TEXT
    cms.public_key(other)
    with pytest.raises(BattenError, match="what was sealed to this host"):
        cms.unseal(other, sealed)


def test_the_key_is_made_once_and_for_root_alone(hosts: tuple[StackPaths, StackPaths]) -> None:
    ours, _ = hosts
    public = cms.public_key(ours)
    assert cms.public_key(StackPaths("blog", ours.root)) == public
    assert "PRIVATE" not in public
    assert stat.S_IMODE(ours.sealing_key.stat().st_mode) == 0o600


def test_a_text_that_was_changed_on_the_way_does_not_open(hosts: tuple[StackPaths, StackPaths]) -> None:
    ours, _ = hosts
    lines = cms.seal(TEXT, cms.public_key(ours)).splitlines(keepends=True)
    for number in (3, len(lines) // 2, -3):
        changed = list(lines)
        changed[number] = changed[number].swapcase()
        with pytest.raises(BattenError) as error:
            cms.unseal(ours, "".join(changed))
        assert "client_secret" not in str(error.value)


def test_what_cannot_be_sealed_to_or_opened_says_so(hosts: tuple[StackPaths, StackPaths], tmp_path: Path) -> None:
    with pytest.raises(BattenError, match="public_key"):
        cms.seal("x", "no certificate")
    with pytest.raises(BattenError, match="longer than"):
        cms.seal("x", "x" * 70000)
    with pytest.raises(BattenError, match="no key"):
        cms.unseal(StackPaths("shop", str(tmp_path)), "x")
