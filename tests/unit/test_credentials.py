"""Credentials: made once, sealed by systemd-creds through pipes, handed in where a person must."""

from __future__ import annotations

import base64
import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import credentials, generators, mounts, pki
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths

# Seals by base64 and records its arguments; what the real one does is tested on a host.
SYSTEMD_CREDS = """#!/bin/sh
echo "$@" >>"$RECORD"
case $1 in encrypt) base64 ;; decrypt) base64 -d ;; esac
"""
ME = {"uid": os.getuid(), "gid": os.getgid()}
SPEC: dict[str, Any] = {
    "generate": {"password": {"generator": "alnum", "length": 40}, "key": {"generator": "base64url"}},
    "deliveries": {
        "db": {**ME, "files": {"password": {"secret": "password"}}},
        "web": {**ME, "files": {"env": {"template": "KEY=${key:sh}\n"}}},
    },
}


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_program: Callable[[str, str], None]) -> StackPaths:
    fake_program("systemd-creds", SYSTEMD_CREDS)
    monkeypatch.setenv("RECORD", str(tmp_path / "record"))
    monkeypatch.setattr(mounts, "ensure", lambda path, check: False)
    return StackPaths("demo", str(tmp_path / "host"))


def test_values_are_made_once_and_never_again(paths: StackPaths) -> None:
    first = credentials.deliver(paths, SPEC, check=False)
    assert first.changes == [
        "key: made",
        "password: made",
        "secrets.cred: written",
        "db/password: written",
        "web/env: written",
    ]
    values = credentials.load(paths).values
    second = credentials.deliver(paths, SPEC, check=False)
    assert (second.changed, second.changes, second.digests) == (False, [], first.digests)
    assert credentials.load(paths).values == values
    assert (paths.secrets / "db" / "password").read_text() == values["password"]
    assert (paths.secrets / "web" / "env").read_text() == f"KEY={values['key']}\n"


def test_check_predicts_and_touches_nothing(paths: StackPaths, tmp_path: Path) -> None:
    predicted = credentials.deliver(paths, SPEC, check=True)
    assert not (tmp_path / "host").exists()
    assert not (tmp_path / "record").exists()
    assert predicted.changes == credentials.deliver(paths, SPEC, check=False).changes


def test_at_rest_it_is_for_root_alone_and_plain_text_is_in_no_file(paths: StackPaths, tmp_path: Path) -> None:
    credentials.deliver(paths, SPEC, check=False)
    assert paths.credentials.stat().st_mode & 0o7777 == 0o600
    assert paths.state.stat().st_mode & 0o7777 == 0o700
    secret = credentials.load(paths).values["password"].encode()
    holders = [path for path in tmp_path.rglob("*") if path.is_file() and secret in path.read_bytes()]
    assert holders == [paths.secrets / "db" / "password"]


def test_the_name_of_the_stack_is_sealed_in_and_no_boot_measurement_is(paths: StackPaths, tmp_path: Path) -> None:
    credentials.deliver(paths, SPEC, check=False)
    assert (tmp_path / "record").read_text() == "encrypt --name=batten-demo --with-key=auto --tpm2-pcrs= - -\n"


def test_a_new_secret_leaves_the_others_alone(paths: StackPaths) -> None:
    credentials.deliver(paths, SPEC, check=False)
    before = credentials.load(paths)
    wider = {**SPEC, "generate": {**SPEC["generate"], "more": {"generator": "uuid"}}}
    assert credentials.deliver(paths, wider, check=False).changes == ["more: made"]
    after = credentials.load(paths)
    assert after.digest_key == before.digest_key
    assert {name: after.values[name] for name in before.values} == before.values


@pytest.mark.parametrize("rule", [{"generator": "provided"}, {"from": "stack_api_key"}])
def test_a_value_that_a_person_must_give_is_asked_for_by_name(paths: StackPaths, rule: dict[str, str]) -> None:
    spec = {"generate": {"api_key": rule}, "deliveries": {"web": {**ME, "files": {"k": {"secret": "api_key"}}}}}
    with pytest.raises(BattenError, match="no value was given for api_key") as caught:
        credentials.deliver(paths, spec, check=False)
    assert "put demo" in caught.value.fix
    assert any("api_key: made" in change for change in credentials.deliver(paths, spec, True, ["api_key"]).changes)
    assert not paths.credentials.exists()
    assert credentials.put(paths, {"api_key": "s3cret"}) == ["api_key"]
    assert credentials.put(paths, {"api_key": "s3cret"}) == []
    credentials.deliver(paths, spec, check=False)
    assert (paths.secrets / "web" / "k").read_text() == "s3cret"


@pytest.mark.parametrize("given", [[], "x", {"a": 1}, {"a": ""}, {"../a": "x"}, {"": "x"}])
def test_put_refuses_what_is_not_names_and_values(paths: StackPaths, given: object) -> None:
    with pytest.raises(BattenError, match="is not"):
        credentials.put(paths, given)


def test_unlock_delivers_again_and_makes_nothing(paths: StackPaths) -> None:
    with pytest.raises(BattenError, match="no credentials of stack demo"):
        credentials.unlock(paths)
    first = credentials.deliver(paths, SPEC, check=False)
    (paths.secrets / "db" / "password").unlink()
    again = credentials.unlock(paths)
    assert (again.changes, again.digests) == (["db/password: written"], first.digests)


def test_a_boot_renews_no_certificate_and_the_next_run_does(paths: StackPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = {"ca": {"generator": "ca"}, "web": {"generator": "x509", "ca": "ca", "names": ["web"]}}
    spec = {"generate": rules, "deliveries": {"web": {**ME, "files": {"crt": {"secret": "web_certificate"}}}}}
    credentials.deliver(paths, spec, check=False)
    before = credentials.load(paths)
    monkeypatch.setattr(pki, "due", lambda _certificate: True)
    assert credentials.unlock(paths).changes == []
    assert credentials.load(paths) == before
    assert credentials.deliver(paths, spec, check=False).changes[:2] == ["ca: made", "web: made"]


def test_credentials_that_are_lost_are_not_silently_made_anew(paths: StackPaths) -> None:
    credentials.deliver(paths, SPEC, check=False)
    paths.credentials.unlink()
    for check in (True, False):
        with pytest.raises(BattenError, match="no credentials of stack demo"):
            credentials.deliver(paths, SPEC, check=check)


def test_when_it_cannot_be_sealed_the_reason_is_given_and_nothing_is_left(paths: StackPaths, tmp_path: Path) -> None:
    (tmp_path / "bin" / "systemd-creds").write_text("#!/bin/sh\necho no key >&2\nexit 1\n")
    with pytest.raises(BattenError, match="cannot encrypt the credentials: no key"):
        credentials.deliver(paths, SPEC, check=False)
    assert not paths.credentials.exists()
    assert not paths.secrets.exists()


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ({"generator": "alnum"}, lambda value: len(value) == 32 and value.isalnum() and value.isascii()),
        (
            {"generator": "password", "length": 90, "alphabet": "ab"},
            lambda value: len(value) == 90 and set(value) <= set("ab"),
        ),
        ({"generator": "hex", "length": 16}, lambda value: len(bytes.fromhex(value)) == 16),
        ({"generator": "base64", "length": 31}, lambda value: len(base64.b64decode(value, validate=True)) == 31),
        ({"generator": "base64url"}, lambda value: len(base64.urlsafe_b64decode(value + "=")) == 32),
        ({"generator": "uuid"}, lambda value: uuid.UUID(value).version == 4),
    ],
)
def test_generators(rule: dict[str, object], holds: object) -> None:
    values = {generators.generate("it", rule, {})["it"] for _ in range(20)}
    assert len(values) == 20
    assert all(holds(value) for value in values)  # type: ignore[operator]


def test_an_unknown_generator_is_refused() -> None:
    with pytest.raises(BattenError, match="unknown generator dice"):
        generators.generate("it", {"generator": "dice"}, {})


def test_what_would_not_fit_in_memory_is_refused(paths: StackPaths) -> None:
    credentials.put(paths, {"big": "x" * mounts.SIZE_BYTES})
    spec = {"generate": {}, "deliveries": {"web": {**ME, "files": {"k": {"secret": "big"}}}}}
    with pytest.raises(BattenError, match="the secret files are"):
        credentials.deliver(paths, spec, check=False)


def test_the_bundle_is_plain_json_for_a_backup_to_read(paths: StackPaths) -> None:
    credentials.put(paths, {"a": "b"})
    stored = json.loads(base64.b64decode(paths.credentials.read_bytes()))
    assert stored["values"] == {"a": "b"}
    assert len(bytes.fromhex(stored["digest_key"])) == 32


MOUNTINFO = """\
24 30 0:22 / /proc rw,relatime shared:13 - proc proc rw
90 30 0:60 / /opt/batten/a/secrets rw,nosuid shared:1 - tmpfs batten-secrets rw,size=16384k,mode=711,noswap
91 30 0:61 / /opt/batten/b/secrets rw - tmpfs tmpfs rw,size=16384k
92 30 0:62 / /opt/batten/c/secrets rw - ramfs batten-secrets rw,mode=711
93 30 0:63 / /mnt/with\\040space rw - ext4 /dev/x rw
94 90 0:64 / /opt/batten/a/secrets rw - ext4 /dev/y rw
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/opt/batten/a/secrets", ("ext4", False)),
        ("/opt/batten/b/secrets", ("tmpfs", False)),
        ("/opt/batten/c/secrets", ("ramfs", True)),
        ("/mnt/with space", ("ext4", False)),
    ],
)
def test_what_is_mounted_on_top_counts(path: str, expected: tuple[str, bool]) -> None:
    found = mounts.find(Path(path), MOUNTINFO)
    assert found is not None
    assert (found.filesystem, found.never_swaps) == expected


def test_what_is_not_mounted_is_not_found() -> None:
    assert mounts.find(Path("/opt/batten/d/secrets"), MOUNTINFO) is None


def test_what_never_changes_is_given_once(paths: StackPaths) -> None:
    rules = {
        "key": {"generator": "hex", "length": 16, "from": "infisical_encryption_key", "rotation": "none"},
        "word": {"generator": "password", "from": "word", "rotation": "restart"},
    }
    assert credentials.put(paths, {"key": "a" * 32, "word": "one"}) == ["key", "word"]
    credentials.deliver(paths, {"generate": rules, "deliveries": {}}, check=False)
    assert credentials.put(paths, {"key": "a" * 32, "word": "two"}) == ["word"]
    with pytest.raises(BattenError, match="key is in use here and never changes") as caught:
        credentials.put(paths, {"key": "b" * 32, "word": "three"})
    assert "take infisical_encryption_key out" in caught.value.fix
    assert "b" * 32 not in str(caught.value)
    assert credentials.load(paths).values["word"] == "two", "nothing was kept"


def test_a_variable_that_stays_in_the_inventory_takes_nothing_newer_back(paths: StackPaths) -> None:
    assert credentials.put(paths, {"key": "first", "other": "x"}) == ["key", "other"]
    credentials.save(paths, credentials.load(paths).having({"key": "rotated"}))
    assert credentials.put(paths, {"key": "first", "other": "x"}) == []
    assert credentials.load(paths).values["key"] == "rotated"
    assert credentials.put(paths, {"key": "second", "other": "x"}) == ["key"]
    assert credentials.load(paths).values == {"key": "second", "other": "x"}


def test_a_value_that_was_there_before_it_was_handed_in_is_handed_in_all_the_same(paths: StackPaths) -> None:
    credentials.save(paths, credentials.empty().having({"key": "same"}))
    assert credentials.put(paths, {"key": "same"}) == []
    credentials.save(paths, credentials.load(paths).having({"key": "rotated"}))
    assert credentials.put(paths, {"key": "same"}) == []
    bundle = credentials.load(paths)
    assert bundle.values == {"key": "rotated"}
    assert credentials.from_json(bundle.to_json()) == bundle
