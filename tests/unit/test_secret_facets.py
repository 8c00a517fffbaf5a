"""Delivered files beside the sealed bundle: each way to be wrong is one facet, and no value is shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import (
    atomic,
    delivery,
    generators,
    lock,
    openssl,
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
    run = openssl.run
    monkeypatch.setattr(openssl, "run", lambda *words: (asked.append(words), run(*words))[1])
    assert bundled(tmp_path, rules, values) == []
    assert asked == []
    renamed = {**rules, "web": {**rules["web"], "names": ["other"]}}
    assert bundled(tmp_path, renamed, values) == [("web", "expiry", "rewrite")]
    assert asked
    kept = StackPaths("shop", str(tmp_path)).certificates.read_text()
    assert values["web"] not in kept
    monkeypatch.setattr(time, "time", lambda: 2**33)
    assert bundled(tmp_path, rules, values) == [("ca", "expiry", "rewrite"), ("web", "expiry", "rewrite")]


def test_a_certificate_that_was_made_by_a_clock_that_was_ahead_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_program: Callable[[str, str], None]
) -> None:
    fake_program("timedatectl", "#!/bin/sh\necho yes\n")
    rules = {"ca": {"generator": "ca"}}
    values = generators.generate_all(rules, {})
    monkeypatch.setattr(time, "time", lambda: 1_700_000_000.0)
    found = secret_facets._values(StackPaths("shop", str(tmp_path)), rules, Bundle(KEY, values))
    assert [(one.name, one.facet, one.action) for one in found] == [("ca", "expiry", "rewrite")]
    assert str(found[0].actual).endswith("by a clock that was ahead")


def test_a_certificate_that_a_person_gives_is_told_before_it_ends_and_is_theirs_to_renew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    ca_key, key = pki.make_key(), pki.make_key()
    ca = pki.make_ca("elsewhere", ca_key, 3650, now=begun)
    chain = pki.issue(ca_key, ca, key, ["example.test"], 90, now=begun) + ca  # ends on 1 April
    rules = {"site": {"generator": "provided", "from": "site_certificate"}, "site_key": {"generator": "provided"}}
    paths = StackPaths("shop", str(tmp_path))

    def on(month: int, day: int, certificate: str = chain) -> list[tuple[str, str, str]]:
        monkeypatch.setattr(time, "time", lambda: datetime(2026, month, day, tzinfo=UTC).timestamp())
        monkeypatch.setattr(time, "gmtime", lambda: (2026, month, day, 0, 0, 0, 0, 1, 0))
        found = secret_facets._values(paths, rules, Bundle(KEY, {"site": certificate, "site_key": key}))
        assert all((one.scope, one.name, one.facet) == ("secret", "site", "expiry") for one in found)
        return [(str(one.actual), one.action, str(one.reason)) for one in found]

    assert on(3, 17) == []
    why = "a new one is yours to give, as site in Infisical, or as site_certificate in the inventory; then run site.yml"
    assert on(3, 19) == [("ends 2026-04-01", "none", why)]
    assert [actual for actual, _, _ in on(4, 2)] == ["ended 2026-04-01"]
    broken = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
    assert [actual for actual, _, _ in on(3, 1, broken)] == ["no certificate that openssl reads"]
    assert key not in paths.certificates.read_text()


def test_what_infisical_could_not_give_is_stale(tmp_path: Path) -> None:
    paths = StackPaths("shop", str(tmp_path))
    atomic.write_json(paths.refreshed, {"problem": "no route", "refused": {"key": 7}})
    found = secret_facets._refreshed(paths)
    assert all("batten-host.pyz sync shop" in str(one.reason) for one in found)
    rows = [(one.name, one.facet, one.action) for one in found]
    assert rows == [("Infisical", "stale", "none"), ("key", "stale", "none")]


def test_a_bundle_that_is_gone_is_a_difference_and_the_loaded_digests_stand_in(tmp_path: Path) -> None:
    paths = StackPaths("shop", str(tmp_path))
    atomic.write_json(paths.loaded, {"web": "digest"})
    found = secret_facets.look(paths, {"generate": {}, "deliveries": {}})
    assert [(one.name, one.facet, one.action) for one in found.differences] == [("secrets.cred", "presence", "none")]
    assert "from a backup" in str(found.differences[0].reason)
    assert found.digests == {"web": "digest"}
    paths.access.touch()  # Infisical has the values
    found = secret_facets.look(paths, {"generate": {}, "deliveries": {}})
    assert [(one.action, one.reason) for one in found.differences] == [("rewrite", None)]
