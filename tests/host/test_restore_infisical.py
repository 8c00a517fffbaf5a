"""Credentials out of a .env file, and their Infisical: looked at, backed up, lost, and back on another host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.host import agekey, shop
from tests.host.site import ROOT, Site
from tests.rig import hosts, images, registry

TOKEN = 'sk_live_$(touch /tmp/no) "it\'s" 42'
ENV = f"# as it ran until now\nGREETING=hello\nPAYMENT_TOKEN='{TOKEN.replace(chr(39), chr(92) + chr(39))}'\n"
VARIABLES: dict[str, Any] = {
    "stack_name": "shop",
    "stack_base": str(shop.BASE),
    "stack_services": {"api": {"secrets": {"token": {"secret": "payment_token"}}}},
    "stack_secrets": {"payment_token": {"generator": "provided"}},
    "stack_capacity": {"memory": "6G", "cpus": 2},
    "secrets_sync_interval": "0",
}
# What the stack's own identity reads in Infisical, with the access that lies sealed on this host.
LISTING = """
import json, sys
sys.path.insert(0, "/usr/local/lib/batten/batten-host.pyz")
from batten_host import paths, sync
print(json.dumps({name: one.value for name, one in sync.vault(paths.StackPaths("shop")).listing().secrets.items()}))
"""


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """The operator's public key, and the file of the private one."""
    private, public = agekey.new()
    path = tmp_path_factory.mktemp("keys") / "backup.key"
    path.write_text(private)
    return public, path


@contextmanager
def started(name: str, directory: Path, public: str) -> Iterator[Site]:
    host = hosts.start(f"batten-{name}-{os.getpid()}", "engine")
    try:
        yield Site(host, directory, **VARIABLES, backup_recipient=public)
    finally:
        host.remove()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, identity: tuple[str, Path]) -> Iterator[Site]:
    registry.ensure_registry()
    images.ensure_images()
    with started("lost", tmp_path_factory.mktemp("lost"), identity[0]) as found:
        yield found


@contextmanager
def tunnel(site: Site, name: str) -> Iterator[str]:
    """Open a tunnel as a person does; give its URL."""
    words = [sys.executable, "-m", "batten", "tunnel", "-i", str(site.inventory), "--json", name]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            text = ""
            while not text.endswith("}\n"):
                line = process.stdout.readline()
                assert line, process.stderr.read() if process.stderr else ""
                text += line
            yield json.loads(text)["url"]
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0


def listing(site: Site) -> dict[str, str]:
    found: dict[str, str] = json.loads(site.host.run(["python3", "-c", LISTING]).stdout)
    return found


def inside(site: Site) -> str:
    return site.host.run("docker exec shop-api-1 cat /run/secrets/token").stdout


def test_the_values_of_an_env_file_are_taken_over_before_the_first_run(site: Site, tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text(ENV)
    told = site.batten("secrets", "import", "--env-file", str(file), "--dry-run")
    assert [(one["name"], one["lines"], one["secret"], one["declared"]) for one in told["found"]] == [
        ("PAYMENT_TOKEN", [3, 3], "payment_token", True)
    ]
    assert site.host.run("ls /var/lib/batten", check=False).returncode != 0
    site.batten("secrets", "import", "--env-file", str(file))
    run = site.up("-vvv")
    assert TOKEN not in run.output
    assert inside(site) == TOKEN
    assert listing(site)["payment_token"] == TOKEN


def test_the_administrators_login_is_shown_to_whom_asks_and_opens_infisical_through_a_tunnel(site: Site) -> None:
    words = [sys.executable, "-m", "batten", "infisical", "admin", "-i", str(site.inventory)]
    piped = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert piped.returncode == 1
    assert "no terminal" in piped.stderr
    assert site.secret("admin_password", "infisical") not in piped.stdout + piped.stderr
    login = site.batten("infisical", "admin")
    body = json.dumps({"email": login["email"], "password": login["password"]}).encode()
    before = site.host.run("ss -Hltn").stdout
    with tunnel(site, "infisical") as url:
        assert site.host.run("ss -Hltn").stdout == before
        request = urllib.request.Request(f"{url}/api/v3/auth/login", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert json.load(answer)["accessToken"]
    with tunnel(site, "api") as url, urllib.request.urlopen(f"{url}/health", timeout=20) as answer:
        assert answer.status == 200


def test_a_new_host_has_the_same_secrets_and_identities(site: Site, identity: tuple[str, Path], tmp_path: Path) -> None:
    made = site.batten("backup", "--to", str(tmp_path / "fetched"))["backups"]
    assert [one["stack"] for one in made] == ["infisical", "shop"]
    before = listing(site)
    with started("found", tmp_path, identity[0]) as found:
        files = [one["path"] for one in made]
        assert found.batten("restore", "--identity", str(identity[1]), "--from", *files)["ok"]
        assert listing(found) == before
        assert inside(found) == TOKEN
        for stack, name in (
            ("infisical", "encryption_key"),
            ("infisical", "provisioning_client_id"),
            ("shop", "app_password"),
        ):
            assert found.secret(name, stack) == site.secret(name, stack)
        assert found.run().changed == []
