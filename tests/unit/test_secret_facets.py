"""Delivered files beside the sealed bundle: each way to be wrong is one facet, and no value is shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import (
    atomic,
    delivery,
    generators,
    lock,
    pki,
    secret_facets,
)
from ansible_collections.batten.core.plugins.module_utils.credentials import Bundle
from ansible_collections.batten.core.plugins.module_utils.delivery import Consumer
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths

KEY = b"k" * 32
VALUE = b"correct horse battery staple"


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A directory as it is delivered, with this process as owner of all."""
    delivered(tmp_path)
    return tmp_path


def wanted(path: Path) -> dict[str, Consumer]:
    status = path.stat()
    return {"db": Consumer(status.st_uid, status.st_gid, {"password": VALUE, "more": b"1"})}


def delivered(path: Path) -> None:
    (path / "db").mkdir()
    (path / "db").chmod(delivery.DIRECTORY_MODE)
    for name, content in wanted(path)["db"].files.items():
        (path / "db" / name).write_bytes(content)
        (path / "db" / name).chmod(delivery.FILE_MODE)


def found(path: Path) -> list[tuple[str, str]]:
    differences = secret_facets.compare("shop", wanted(path), secret_facets.observe(path, KEY), KEY)
    assert VALUE.decode() not in str(differences)
    assert all(one.scope == "secret" and one.action == "rewrite" for one in differences)
    # Directories belong to root, which a test may not be.
    return [(one.name, one.facet) for one in differences if (one.name, one.facet) != ("db", "owner")]


def test_what_was_delivered_is_no_drift(there: Path) -> None:
    assert found(there) == []


def rewritten(path: Path) -> None:
    path.chmod(0o600)
    path.write_bytes(b"another")
    path.chmod(delivery.FILE_MODE)


def linked(path: Path) -> None:
    path.rename(path.parents[1] / "elsewhere")
    path.symlink_to(path.parents[1] / "elsewhere")


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda path: path.unlink(), [("db/password", "presence")]),
        (lambda path: path.chmod(0o444), [("db/password", "mode")]),
        (rewritten, [("db/password", "content")]),
        (linked, [("db/password", "presence"), ("elsewhere", "presence")]),
        (lambda path: (path.parent / "x").write_text("y"), [("db/x", "presence")]),
        (lambda path: path.parent.chmod(0o755), [("db", "mode")]),
        (lambda path: (path.parents[1] / "old").mkdir(), []),
    ],
)
def test_each_damage_is_its_own_facet(
    there: Path, damage: Callable[[Path], object], expected: list[tuple[str, str]]
) -> None:
    damage(there / "db" / "password")
    assert found(there) == expected


def test_another_owner_is_told(there: Path) -> None:
    consumer = wanted(there)["db"]
    other = {"db": Consumer(consumer.uid + 1, consumer.gid, consumer.files)}
    differences = secret_facets.compare("shop", other, secret_facets.observe(there, KEY), KEY)
    assert {(one.name, one.facet) for one in differences} >= {("db/password", "owner"), ("db/more", "owner")}


def bundled(tmp_path: Path, rules: dict[str, Any], values: dict[str, str], **more: Any) -> list[tuple[str, str, str]]:
    """What the values alone tell, by the rules of a release."""
    paths = StackPaths("shop", str(tmp_path))
    found = secret_facets._values(paths, rules, Bundle(KEY, values, **more))
    return [(one.name, one.facet, one.action) for one in found]


def test_a_value_that_is_not_there_is_told_and_a_person_is_asked_where_only_they_can_give_it(tmp_path: Path) -> None:
    rules = {"made": {"generator": "password"}, "given": {"from": "vault_given"}}
    assert bundled(tmp_path, rules, {}) == [("given", "presence", "none"), ("made", "presence", "rewrite")]
    assert bundled(tmp_path, rules, {"made": "x", "given": "y"}) == []


def test_an_old_value_is_told_and_left_to_a_person(tmp_path: Path) -> None:
    rules = {"key": {"generator": "password", "expires": 30}}
    assert bundled(tmp_path, rules, {"key": "x"}, made={"key": "2020-01-01T00:00:00Z"}) == [("key", "expiry", "none")]
    assert bundled(tmp_path, rules, {"key": "x"}) == [("key", "expiry", "none")]
    assert bundled(tmp_path, rules, {"key": "x"}, made={"key": lock.now()}) == []


def test_a_certificate_is_asked_about_once_and_again_when_anything_of_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = {"ca": {"generator": "ca"}, "web": {"generator": "x509", "ca": "ca", "names": ["web"]}}
    values = generators.generate_all(rules, {})
    assert bundled(tmp_path, rules, values) == []
    asked: list[object] = []
    openssl = pki._openssl
    monkeypatch.setattr(pki, "_openssl", lambda *words: (asked.append(words), openssl(*words))[1])
    assert bundled(tmp_path, rules, values) == []
    assert asked == []
    renamed = {**rules, "web": {**rules["web"], "names": ["other"]}}
    assert bundled(tmp_path, renamed, values) == [("web", "expiry", "rewrite")]
    assert asked
    kept = StackPaths("shop", str(tmp_path)).certificates.read_text()
    assert values["web"] not in kept
    monkeypatch.setattr(time, "time", lambda: 2**33)
    assert bundled(tmp_path, rules, values) == [("ca", "expiry", "rewrite"), ("web", "expiry", "rewrite")]


def test_what_infisical_could_not_give_is_stale(tmp_path: Path) -> None:
    paths = StackPaths("shop", str(tmp_path))
    atomic.write_json(paths.refreshed, {"problem": "no route", "refused": {"key": 7}})
    rows = [(one.name, one.facet, one.action) for one in secret_facets._refreshed(paths)]
    assert rows == [("Infisical", "stale", "none"), ("key", "stale", "none")]


def test_a_bundle_that_is_gone_is_a_difference_and_the_loaded_digests_stand_in(tmp_path: Path) -> None:
    paths = StackPaths("shop", str(tmp_path))
    atomic.write_json(paths.loaded, {"web": "digest"})
    found = secret_facets.look(paths, {"generate": {}, "deliveries": {}})
    assert [(one.name, one.facet) for one in found.differences] == [("secrets.cred", "presence")]
    assert found.digests == {"web": "digest"}
