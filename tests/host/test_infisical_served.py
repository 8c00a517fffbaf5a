"""Infisical on a host of its own, which serves a stack on another: over HTTPS, with its own authority, and no more."""

from __future__ import annotations

import json
import os
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import shop
from tests.host.site import Site
from tests.rig import hosts, images, registry


class Pair(Site):
    """A stack on one host, Infisical on another; ``address`` is where that one serves."""

    vault: hosts.Host
    address: str

    @property
    def inventory(self) -> Path:
        path = super().inventory
        found = json.loads(path.read_text())
        web = found["stack"]["hosts"][self.host.name]
        ours = {name: value for name, value in web.items() if name.startswith(("ansible_", "docker_"))}
        found["infisical"] = {"hosts": {self.vault.name: {**ours, "infisical_address": self.address}}}
        path.write_text(json.dumps(found))
        return path

    def ask(self, path: str, authority: str) -> int:
        """Return the status that Infisical's proxy answers with; its certificate must be of ``authority``."""
        context = ssl.create_default_context(cadata=authority)
        try:
            with urllib.request.urlopen(f"https://{self.address}:8443{path}", timeout=10, context=context) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    registry.ensure_registry()
    images.ensure_images()
    web = hosts.start(f"batten-web-{os.getpid()}", "engine")
    vault = hosts.start(f"batten-vault-{os.getpid()}", "engine")
    try:
        site = Pair(
            web,
            tmp_path_factory.mktemp("served"),
            stack_name="shop",
            stack_base=str(shop.BASE),
            stack_services={"api": {"secrets": {"token": {"secret": "token"}}}},
            stack_secrets={"token": {"generator": "alnum", "length": 24}},
        )
        site.vault, site.address = vault, ""
        yield site
    finally:
        web.remove()
        vault.remove()


def test_without_an_address_to_serve_at_it_is_refused_before_anything(pair: Pair) -> None:
    refused = pair.run()
    assert f"{pair.vault.name}: infisical_address: it serves other hosts, and nothing says at which" in refused.failed
    assert "set infisical_address" in refused.failed


def test_the_stacks_secrets_come_from_the_other_host(pair: Pair) -> None:
    pair.address = pair.vault.address
    pair.up()
    assert "api" in pair.lives()
    assert pair.lives("infisical") == {}
    assert pair.secret("token") == pair.host.run("docker exec shop-api-1 cat /run/secrets/token").stdout
    running = pair.vault.run("docker ps --format '{{.Names}}'").stdout.split()
    assert sorted(running) == [f"infisical-{name}-1" for name in ("caddy", "db", "infisical", "redis")]


def test_a_second_run_changes_nothing(pair: Pair) -> None:
    assert pair.up().changed == []


def test_others_reach_the_api_with_its_authority_and_nothing_else(pair: Pair) -> None:
    authority = pair_authority(pair)
    assert pair.ask("/api/status", authority) == 200
    for closed in ("/", "/login", "/api/v1/admin/config", "//api/v1/admin/config", "/api/v1/%61dmin/config"):
        assert pair.ask(closed, authority) == 404, closed
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"https://{pair.address}:8443/api/status", timeout=10)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection((pair.address, 8222), timeout=5)


def test_a_rotation_reaches_each_secret_on_the_host_that_has_it(pair: Pair) -> None:
    before = pair.secret("token")
    done = pair.batten("rotate", "token", "infisical/redis_password")["hosts"]
    assert list(done[pair.host.name]["stacks"]) == ["shop"]
    assert done[pair.host.name]["stacks"]["shop"]["rotated"] == ["token"]
    assert done[pair.vault.name]["stacks"]["infisical"]["rotated"] == ["redis_password"]
    assert pair.secret("token") != before
    assert pair.up().changed == []


def test_every_control_of_infisical_holds(pair: Pair) -> None:
    """The small stack of the other host is no example of hardening; its secrets are."""
    report = pair.batten("verify", check=False)
    judged = [one for one in report["controls"] if one["stack"] == "infisical" or one["id"].startswith("secrets.")]
    assert {one["host"] for one in judged} == {pair.host.name, pair.vault.name}
    assert [one for one in judged if one["status"] == "fail"] == []


def pair_authority(pair: Pair) -> str:
    """Return the public certificate that the vault signed its own with."""
    sealed = "/var/lib/batten/infisical/secrets.cred"
    found = pair.vault.run(f"systemd-creds decrypt --name=batten-infisical {sealed} -").stdout
    return str(json.loads(found)["values"]["https_ca_certificate"])
