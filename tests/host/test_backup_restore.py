"""Backups of a live stack, and what comes of them on another host: the same stack, or a refusal and nothing changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.host import agekey
from tests.host.shop import HOLDER, ROOT, Shop, wait_until
from tests.rig import hosts, registry

ROWS = 400_000
CANARY = "canary-of-the-backup-test"
DIRECTORY = "/var/backups/batten"


@dataclass(frozen=True)
class Keys:
    """The operator's key pair: ``identity`` is the file of the private one."""

    public: str
    identity: Path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    private, public = agekey.new()
    identity = tmp_path_factory.mktemp("keys") / "backup.key"
    identity.write_text(private)
    return Keys(public, identity)


@pytest.fixture(scope="module")
def saved(shop: Shop, keys: Keys) -> Shop:
    """The stack with backups on, and something in its database."""
    assert shop.host.run("command -v age", check=False).stdout == "", "the role is to install it"
    shop.variables |= {"backup_recipient": keys.public, "backup_keep": 2, "infisical_mode": "none"}
    shop.up()
    assert not shop.up().changed
    shop.sql(
        "CREATE ROLE readonly; SET ROLE app; CREATE TABLE account (id bigint PRIMARY KEY, note text);"
        "GRANT SELECT ON account TO readonly;"
        f"INSERT INTO account SELECT id, '{CANARY}' || md5(id::text) FROM generate_series(1, {ROWS}) AS id"
    )
    return shop


@pytest.fixture(scope="module")
def new_host() -> Iterator[hosts.Host]:
    """A second host, with an engine, and nothing of batten's."""
    host = hosts.start(f"batten-restored-{os.getpid()}", "engine")
    try:
        host.put("/etc/docker/daemon.json", json.dumps({"registry-mirrors": [registry.mirror_url()]}))
        host.run("systemctl restart docker")
        yield host
    finally:
        host.remove()


@pytest.fixture
def restored(saved: Shop, new_host: hosts.Host, tmp_path: Path) -> Shop:
    mirror = [{"name": "registry-mirrors", "value": [registry.mirror_url()]}]
    return Shop(new_host, tmp_path, **saved.variables, docker_source="preinstalled", docker_daemon=mirror)


def batten(shop: Shop, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the command line against a stack's inventory."""
    return subprocess.run(
        [sys.executable, "-m", "batten", words[0], "-i", str(shop.inventory), *words[1:]],
        cwd=ROOT,
        env={**os.environ, "XDG_STATE_HOME": str(shop.directory)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def fetched(shop: Shop, directory: Path) -> Path:
    """Make a backup, fetch it, and return its file."""
    done = batten(shop, "backup", "--to", str(directory), "--json")
    assert done.returncode == 0, done.stderr
    return Path(json.loads(done.stdout)["backups"][0]["path"])


def files(shop: Shop, ending: str = "") -> list[str]:
    return shop.host.run(f"ls -A {DIRECTORY} | grep -e '{ending}$'", check=False).stdout.split()


def everything_of_batten(host: hosts.Host) -> str:
    return host.run("find /var/lib/batten /opt/batten /etc/systemd/system/batten* 2>/dev/null", check=False).stdout


@pytest.fixture(scope="module")
def backup(saved: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fetched(saved, tmp_path_factory.mktemp("fetched"))


def test_a_backup_is_whole_sealed_and_told_of(saved: Shop, backup: Path) -> None:
    told = json.loads(backup.with_suffix(".json").read_text())
    assert {"credentials.json", "release.json", "roles.json", "dumps/db/app.dump", "dumps/db/auth.dump"} <= set(
        told["parts"]
    )
    assert told["images"]["db"] == "postgres:17.6-trixie"
    content = backup.read_bytes()
    assert content.startswith(b"age-encryption.org/v1")
    assert CANARY.encode() not in content
    password = saved.host.run("cat /opt/batten/shop/secrets/db/password").stdout
    for text in (content, backup.with_suffix(".json").read_bytes()):
        assert password.encode() not in text
    assert saved.host.run(f"stat -c %a:%U {DIRECTORY}").stdout == "700:root\n"
    assert saved.host.run(f"stat -c %a {DIRECTORY}/*").stdout.split() == ["600", "600"]
    assert [one for one in saved.audit() if one.get("action") == "backup"][-1]["result"] == "done"


def test_the_timer_makes_one_in_its_sandbox_and_the_oldest_go(saved: Shop, backup: Path) -> None:
    assert saved.host.run("systemctl is-active batten-backup@shop.timer").stdout == "active\n"
    for _ in range(2):
        done = saved.host.run("systemctl start batten-backup@shop.service", check=False)
        assert done.returncode == 0, saved.host.run("journalctl -u batten-backup@shop --no-pager").stdout
    assert len(files(saved, "age")) == len(files(saved, "json")) == 2
    assert backup.name not in files(saved)


def test_a_dump_that_fails_leaves_no_half_file_and_the_old_ones(saved: Shop) -> None:
    before = files(saved)
    program = "python3 /usr/local/lib/batten/batten-host.pyz backup shop"
    table = saved.sql("SELECT current_setting('data_directory') || '/' || pg_relation_filepath('account')")
    saved.host.run(f"docker exec -u postgres {saved.name('db')} chmod 0 {table}")
    try:
        failed = saved.host.run(program, check=False)
    finally:
        saved.host.run(f"docker exec -u postgres {saved.name('db')} chmod 600 {table}")
    assert failed.returncode == 1
    assert "older backups are kept" in failed.stderr
    assert files(saved) == before
    assert [one for one in saved.audit() if one.get("action") == "backup"][-1]["result"] == "failed"


def test_a_full_disk_leaves_no_half_file_and_says_so(saved: Shop) -> None:
    saved.host.run("mkdir -p /srv/small && mount -t tmpfs -o size=256k tmpfs /srv/small")
    try:
        saved.up(backup_directory="/srv/small")
        failed = saved.host.run("python3 /usr/local/lib/batten/batten-host.pyz backup shop", check=False)
        assert failed.returncode == 1
        assert "No space left" in failed.stderr or "no space left" in failed.stderr
        assert saved.host.run("ls -A /srv/small").stdout == ""
    finally:
        saved.host.run("umount /srv/small")
        saved.up()


def test_a_killed_backup_counts_for_nothing_and_the_next_sweeps_it_away(saved: Shop) -> None:
    before = files(saved)
    saved.host.run("systemd-run -q --unit=killed python3 /usr/local/lib/batten/batten-host.pyz backup shop")
    wait_until(lambda: bool(files(saved, "part")), "a half file")
    saved.host.run("systemctl kill -s KILL killed; systemctl reset-failed killed", check=False)
    assert [name for name in files(saved) if not name.endswith(".part")] == before
    saved.host.run("python3 /usr/local/lib/batten/batten-host.pyz backup shop")
    assert files(saved, "part") == []


def refusals(backup: Path, keys: Keys, directory: Path) -> dict[str, tuple[list[str], dict[str, Any], str]]:
    """What is refused: options, variables of the inventory, and what is said."""

    def changed(name: str, content: bytes) -> str:
        path = directory / name / backup.name
        path.parent.mkdir()
        path.write_bytes(content)
        return str(path)

    content = backup.read_bytes()
    middle = len(content) // 2
    other = directory / "other.key"
    other.write_text(agekey.new()[0])
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    renamed = directory / "web-20260101T000000Z.age"
    renamed.write_bytes(content)
    older = {"stack_images": {"db": "postgres:16.10-trixie"}}
    key = str(keys.identity)
    return {
        "wrong key": ([str(backup), "--identity", str(other)], {}, "no identity matched"),
        "no key": ([str(backup), "--identity", str(backup.with_suffix(".json"))], {}, "no age private key"),
        "truncated": ([changed("cut", content[:middle]), "--identity", key], {}, "cannot open it"),
        "tampered": ([changed("flipped", flipped), "--identity", key], {}, "cannot open it"),
        "no backup": ([changed("text", b"hello"), "--identity", key], {}, "cannot open it"),
        "other stack": ([str(renamed), "--identity", key], {}, "stack web is not planned"),
        "older server": ([str(backup), "--identity", key], older, "cannot read them"),
    }


def test_what_is_wrong_is_refused_and_changes_nothing(restored: Shop, backup: Path, keys: Keys, tmp_path: Path) -> None:
    for what, (words, variables, says) in refusals(backup, keys, tmp_path).items():
        there = Shop(restored.host, tmp_path, **restored.variables, **variables)
        refused = batten(there, "restore", "--from", *words)
        assert refused.returncode == 1, what
        assert says in refused.stderr, f"{what}: {refused.stderr}"
        assert refused.stderr.count("batten: ") == 1, refused.stderr
        assert everything_of_batten(restored.host) == "", what
    assert restored.containers() == {}


def test_a_host_that_has_the_stack_is_refused(saved: Shop, backup: Path, keys: Keys) -> None:
    before = saved.containers()
    refused = batten(saved, "restore", "--from", str(backup), "--identity", str(keys.identity))
    assert refused.returncode == 1
    assert "deployed on this host already" in refused.stderr
    assert saved.touched_since(before) == set()


def test_a_new_host_runs_the_same_stack_with_the_same_secrets_also_after_a_kill(
    saved: Shop, restored: Shop, backup: Path, keys: Keys
) -> None:
    words = ("restore", "--from", str(backup), "--identity", str(keys.identity))
    kept = batten(restored, *words, "--keep-only", "--json")
    assert kept.returncode == 0, kept.stderr
    staged = restored.host.run("cat /var/lib/batten/shop/restore/*.age | head -c 3").stdout
    assert staged == "age"
    assert restored.host.run(f"grep -rlaF {CANARY} /var/lib/batten", check=False).stdout == ""

    first = restored.start()
    wait_until(lambda: restored.host.run("pgrep pg_restore", check=False).returncode == 0, "the load", 240)
    restored.host.run(f"{HOLDER} && kill -9 $p")
    assert restored.finish(first).code != 0
    assert "api" not in restored.containers(), "who needs the database waits for it"

    done = batten(restored, *words, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ok"]
    assert restored.all_healthy()
    assert restored.sql("SELECT count(*), max(id) FROM account") == f"{ROWS}|{ROWS}"
    assert restored.sql("SELECT tableowner FROM pg_tables WHERE tablename = 'account'") == "app"
    assert restored.sql("SELECT has_table_privilege('readonly', 'account', 'SELECT')") == "t", "a role made by hand"
    for path in ("db/password", "api/database_password"):
        command = f"sha256sum /opt/batten/shop/secrets/{path}"
        assert restored.host.run(command).stdout == saved.host.run(command).stdout
    assert restored.host.run("ls /var/lib/batten/shop/restore", check=False).returncode != 0
    assert json.loads(restored.host.run("cat /var/lib/batten/shop/restored.json").stdout)["loaded"]

    restored.sql("DELETE FROM account WHERE id = 1")
    assert restored.up().done == [], "loaded once, never again"
    again = batten(restored, *words, "--keep-only")
    assert again.returncode == 0, again.stderr
    assert "there already" in again.stderr

    restored.host.run("echo broken >/var/lib/batten/shop/secrets.cred")
    lost = batten(restored, *words, "--keep-only")
    assert lost.returncode == 0, lost.stderr
    assert "its credentials alone" in lost.stderr
    assert restored.up().done == [], "the same secrets"
    assert restored.sql("SELECT count(*) FROM account") == str(ROWS - 1)


def test_the_private_key_is_nowhere_on_the_new_host(restored: Shop, keys: Keys) -> None:
    secret = keys.identity.read_text().strip()
    everywhere = "/etc /opt /root /run /srv /tmp /usr/local /var --exclude-dir=overlay2"
    found = restored.host.run(f"journalctl --sync; grep -rlaF {secret} {everywhere} 2>/dev/null", check=False)
    assert found.stdout == ""
