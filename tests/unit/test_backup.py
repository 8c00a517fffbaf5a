"""The form of a backup, what a restore refuses before anything is changed, and which files stay."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.batten.core.plugins.module_utils import (
    age,
    archive,
    backup,
    credentials,
    infisical_access,
    restore,
)
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths
from ansible_collections.batten.core.plugins.module_utils.version import VERSION
from batten.cli import backup as fetching
from batten.cli import restore as command
from batten.errors import BattenError as ControllerError
from batten.plan.model import BackupPlan
from batten.plan.settings import StackSettings

HEADER: dict[str, Any] = {
    "format": archive.FORMAT,
    "stack": "shop",
    "project": "shop",
    "host": "web1",
    "created": "2026-11-23T06:00:00Z",
    "batten": VERSION,
    "release": "0123456789ab",
    "images": {"db": "postgres:17.6-trixie", "app": "infisical/infisical:v0.165.16", "web": "caddy:2.11.4"},
    "migrates": ["app"],
    "postgres": {"db": 17},
}
IMAGES = dict(HEADER["images"])


def test_host_and_controller_are_of_one_version() -> None:
    from importlib.metadata import version

    assert version("batten") == VERSION


def written(parts: Mapping[str, Any], dumps: Mapping[str, list[bytes]]) -> bytes:
    target = io.BytesIO()
    writer = archive.Writer(target, HEADER)
    for name, value in parts.items():
        writer.json(name, value)
    for name, pieces in dumps.items():
        for number, content in enumerate(pieces):
            writer.piece(name, number, content)
    writer.close()
    return target.getvalue()


def read(content: bytes) -> list[archive.Member]:
    return list(archive.read(io.BytesIO(content)))


WHOLE = written({"credentials.json": {"a": "b"}}, {"dumps/db/app.dump": [b"x" * 700, b"y"], "dumps/db/b.dump": [b"z"]})


@given(
    st.dictionaries(
        st.from_regex(r"dumps/[a-z]{1,8}/[a-z]{1,8}\.dump", fullmatch=True),
        st.lists(st.binary(min_size=1), min_size=1),
        max_size=3,
    )
)
def test_what_is_written_is_read(dumps: dict[str, list[bytes]]) -> None:
    members = read(written({"release.json": {"deep": [1, "ü"]}}, dumps))
    assert json.loads(members[1].content) == {"deep": [1, "ü"]}
    assert {name: [each.content for each in members if each.part == name] for name in dumps} == dumps


def test_a_person_with_tar_reads_it_too(tmp_path: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(WHOLE)) as tar:
        tar.extractall(tmp_path, filter="data")
    dump = tmp_path / "dumps" / "db" / "app.dump"
    assert b"".join(path.read_bytes() for path in sorted(dump.iterdir())) == b"x" * 700 + b"y"


@pytest.mark.parametrize("length", range(0, len(WHOLE) - 2 * 512, 512))
def test_one_that_is_cut_short_is_refused(length: int) -> None:
    with pytest.raises(BattenError, match="no complete backup"):
        read(WHOLE[:length])


@pytest.mark.parametrize("place", [600, WHOLE.index(b"xxxx"), WHOLE.index(b"xxxx") + 3, WHOLE.index(b'"sha256"') + 20])
def test_one_whose_content_changed_is_refused(place: int) -> None:
    with pytest.raises(BattenError, match="no complete backup"):
        read(WHOLE[:place] + bytes([WHOLE[place] ^ 1]) + WHOLE[place + 1 :])


@pytest.mark.parametrize("name", ["other.json", "../backup.json"])
def test_another_tar_is_refused(name: str) -> None:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(BattenError, match="it begins with"):
        read(target.getvalue())


def test_a_backup_of_the_same_or_something_older_is_taken() -> None:
    restore.judge(HEADER, "shop", IMAGES)
    newer = {**IMAGES, "db": "postgres:18.1-trixie", "app": "infisical/infisical:v0.166.2", "web": "caddy:2.11.3"}
    restore.judge(HEADER, "shop", newer)
    restore.judge(HEADER, "shop", {**IMAGES, "db": "registry.example.org/postgres:stable"})


@pytest.mark.parametrize(
    ("header", "images", "says"),
    [
        ({"format": 2}, {}, "made by batten"),
        ({"batten": "99.0.0"}, {}, "made by batten 99.0.0, and this is"),
        ({"stack": "web"}, {}, "of stack web, not shop"),
        ({}, {"db": "postgres:16.10-trixie"}, "of PostgreSQL 17, and postgres:16.10-trixie cannot read them"),
        ({}, {"db": "mysql:8"}, "nothing in the inventory runs its PostgreSQL db"),
        ({}, {"app": "infisical/infisical:v0.165.9"}, "infisical/infisical:v0.165.9 is older"),
    ],
)
def test_a_backup_that_does_not_fit_is_refused(header: dict[str, Any], images: dict[str, str], says: str) -> None:
    with pytest.raises(BattenError, match="fix: ") as caught:
        restore.judge({**HEADER, **header}, "shop", {**IMAGES, **images})
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"not json\n", b'{"identity": "x", "images": {}}\n', b'{"images": {}}\n', b"[]\n"]
)
def test_a_first_line_that_is_none_is_refused(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(line)
    with path.open("rb") as file, pytest.raises(BattenError):
        restore.asked(file.fileno())


def test_the_first_line_is_read_and_not_a_byte_more(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_bytes(b'{"identity": "AGE-SECRET-KEY-1", "images": {"db": "x"}}\nage')
    with path.open("rb", buffering=0) as file:
        assert restore.asked(file.fileno()).images == {"db": "x"}
        assert file.read() == b"age"


def test_nothing_is_pending_but_after_a_restore(tmp_path: Path) -> None:
    paths = StackPaths("shop", str(tmp_path))
    assert restore.pending(paths) == []
    (paths.state / "restore").mkdir(parents=True)
    (paths.state / "restore" / "index.json").write_text('[{"service": "db"}, {"service": "db"}]')
    record = {"id": "x", "complete": True, "loaded": False}
    (paths.state / "restored.json").write_text(json.dumps(record))
    assert restore.pending(paths) == ["db"]
    (paths.state / "restored.json").write_text(json.dumps({**record, "loaded": True}))
    assert restore.pending(paths) == []
    (paths.state / "restored.json").write_text(json.dumps({**record, "complete": False}))
    with pytest.raises(BattenError, match="cut off"):
        restore.pending(paths)
    (paths.state / "restored.json").write_text(json.dumps(record))
    (paths.state / "restore" / "index.json").unlink()
    with pytest.raises(BattenError, match="cut off"):
        restore.pending(paths)


SYSTEMD_CREDS = """#!/bin/sh
case $1 in encrypt) base64 ;; decrypt) base64 -d ;; esac
"""
BUNDLE = credentials.Bundle(b"k" * 32, {"password": "p"})
ACCESS = infisical_access.Access("http://127.0.0.1:8222", "id", "secret", "project")
DUMPS = {"dumps/db/app.dump": [b"a"], "dumps/db/auth.dump": [b"b"]}


class NoEngine:
    def answers(self) -> bool:
        return False


@pytest.fixture
def host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_program: Callable[[str, str], None]
) -> Callable[..., dict[str, Any]]:
    """Return a function that restores a backup of ``BUNDLE`` onto the host below ``tmp_path``. Nothing is encrypted."""

    @contextmanager
    def encrypting(_: str, target: IO[bytes]) -> Iterator[IO[bytes]]:
        yield target

    @contextmanager
    def decrypting(*_: Any) -> Iterator[IO[bytes]]:
        small = {"credentials.json": BUNDLE.to_json(), "release.json": {"plan": {}}, "access.json": ACCESS.__dict__}
        yield io.BytesIO(written(small, DUMPS))

    fake_program("systemd-creds", SYSTEMD_CREDS)
    monkeypatch.setattr(age, "encrypting", encrypting)
    monkeypatch.setattr(age, "decrypting", decrypting)
    monkeypatch.setattr(age, "new_identity", lambda: ("private", "public"))
    (tmp_path / "run" / "lock").mkdir(parents=True)

    def put_back() -> dict[str, Any]:
        engine: Any = NoEngine()
        return restore.run(StackPaths("shop", str(tmp_path)), engine, 0, restore.Asked("key", IMAGES))

    return put_back


def loads(paths: StackPaths, monkeypatch: pytest.MonkeyPatch, fails: str = "") -> list[str]:
    """Have a run load what is staged; return the databases that it got to."""
    loaded: list[str] = []

    class Server:
        def create_roles(self, *_: Any) -> list[str]:
            return []

        def create(self, *_: Any) -> None: ...

    def load(_server: Any, database: str, *_: Any) -> None:
        if database == fails:
            raise BattenError("damaged", database)
        loaded.append(database)

    monkeypatch.setattr(restore.postgres_dumps, "server", lambda *_: Server())
    monkeypatch.setattr(restore, "_load", load)
    engine: Any = NoEngine()
    for service in restore.pending(paths):
        restore.load(paths, engine, {}, service)
    return loaded


def test_what_is_staged_is_staged_again_until_it_is_loaded(
    host: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = StackPaths("shop", str(tmp_path))
    assert not host()["already"]
    (paths.state / "restore" / "1.age").write_bytes(b"")  # a loss of power
    with pytest.raises(BattenError, match="damaged"):
        loads(paths, monkeypatch, fails="auth")
    more = credentials.load(paths).having({"new": "made by that run"})
    credentials.save(paths, more)
    assert not host()["already"]
    assert credentials.load(paths) == more
    assert [path.read_bytes() for path in (paths.state / "restore").glob("*.age")] == [b"b"]
    assert loads(paths, monkeypatch) == ["auth"], "data have come to the other one since"
    assert host()["already"]
    assert credentials.load(paths) == more


@pytest.mark.parametrize("loss", ["gone", "does not open"])
@pytest.mark.parametrize("origin", ["restored", "its own"])
def test_a_host_that_lost_its_credentials_gets_those_alone(
    host: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str, origin: str
) -> None:
    paths = StackPaths("shop", str(tmp_path))
    if origin == "restored":
        host()
        assert loads(paths, monkeypatch) == ["app", "auth"]
    paths.state.mkdir(parents=True, exist_ok=True)
    paths.top.mkdir(parents=True)
    paths.current.symlink_to("releases/0123456789ab")
    paths.credentials.unlink(missing_ok=True)
    if loss == "does not open":
        paths.credentials.write_bytes(b"!")
    told = host()
    assert (told["already"], told["credentials_only"]) == (False, True)
    assert credentials.load(paths) == BUNDLE
    assert infisical_access.load(paths) == ACCESS
    assert not (paths.state / "restore").exists()
    aside = paths.credentials.with_name("secrets.cred.unopened")
    assert aside.exists() == (loss == "does not open")
    if origin == "its own":
        with pytest.raises(BattenError, match=r"(?s)deployed on this host already.*run site.yml"):
            host()


def test_the_newest_stay_and_other_stacks_are_none_of_ours(tmp_path: Path) -> None:
    names = [f"shop-2026112{day}T000000Z" for day in range(1, 6)] + ["shop-b-20261101T000000Z"]
    for name in names:
        (tmp_path / f"{name}.age").touch()
        (tmp_path / f"{name}.json").touch()
    (tmp_path / "shop-20261109T000000Z.age").touch()  # it never got its JSON
    (tmp_path / ".shop-20261109T000000Z.abc.part").touch()
    (tmp_path / "mine.txt").touch()
    backup._sweep(tmp_path, "shop")
    backup._retire(tmp_path, "shop", 2, "shop-20261121T000000Z")  # the clock was set back
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mine.txt",
        "shop-20261121T000000Z.age",
        "shop-20261121T000000Z.json",
        "shop-20261124T000000Z.age",
        "shop-20261124T000000Z.json",
        "shop-20261125T000000Z.age",
        "shop-20261125T000000Z.json",
        "shop-b-20261101T000000Z.age",
        "shop-b-20261101T000000Z.json",
    ]


KEY = f"age1{'q' * 58}"


@pytest.mark.parametrize(
    "wrong",
    [
        {"backup_recipient": "ssh-ed25519 AAAA"},
        {"backup_recipient": f"age1{'b' * 58}"},
        {"backup_directory": "/home/ann/backups"},
        {"backup_directory": "/tmp"},
        {"backup_directory": "backups"},
        {"backup_schedule": "daily\nExecStart=/bin/false"},
        {"backup_keep": 0},
        {"backup_max_age": "soon"},
    ],
)
def test_settings_of_backups_are_held_to_what_a_unit_can_do(wrong: dict[str, Any]) -> None:
    with pytest.raises(ControllerError, match=next(iter(wrong))):
        StackSettings.from_variables({"stack_name": "shop", "backup_recipient": KEY, **wrong})


def test_backups_are_off_without_a_key_and_daily_with_one() -> None:
    assert StackSettings.from_variables({"stack_name": "shop", "backup_recipient": ""}).backup is None
    plan = StackSettings.from_variables({"stack_name": "shop", "backup_recipient": KEY, "backup_max_age": "2h"}).backup
    assert plan == BackupPlan(KEY, "/var/backups/batten", "daily", 14, 7200)


def test_a_file_goes_to_its_host(tmp_path: Path) -> None:
    file = tmp_path / "shop-20261123T060000Z.age"
    file.touch()
    assert command.source(file, ["web1"], "inv").stack == "shop"
    with pytest.raises(ControllerError, match="does not say for which of 2 hosts"):
        command.source(file, ["web1", "web2"], "inv")
    file.with_suffix(".json").write_text('{"stack": "shop", "inventory_host": "web2"}')
    assert command.source(file, ["web1", "web2"], "inv").host == "web2"
    assert command.source(file, ["new"], "inv").host == "new"
    with pytest.raises(ControllerError, match="no host is named web2"):
        command.source(file, ["web1", "web3"], "inv")
    with pytest.raises(ControllerError, match="does not exist"):
        command.source(tmp_path / "none.age", ["web1"], "inv")


@pytest.mark.parametrize(
    "name",
    [
        "../../.ssh/authorized_keys",
        "/etc/cron.d/x",
        "../shop-20261123T060000Z.age",
        "shop-20261123T060000Z.age\n",
        "shop-20261123T060000Z.json",
        "blog-20261123T060000Z.age",
        None,
    ],
)
def test_a_host_does_not_choose_where_its_backup_goes(name: str | None) -> None:
    with pytest.raises(ControllerError, match="nothing was fetched"):
        fetching.file_name({"file": name}, "shop", "web1")


def test_a_backup_keeps_the_name_that_it_has_on_its_host() -> None:
    name = "sh.op-20261123T060000Z.age"
    assert fetching.file_name({"file": name}, "sh.op", "web1") == name
