"""A secret that the operator hands in: it arrives where it is wanted, and is nowhere else."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from tests.host.shop import Shop

WANTED = {
    "stack_secrets": {"token": {"from": "shop_token"}},
    "stack_services": {"api": {"secrets": {"token": {"secret": "token"}}}},
}


@contextmanager
def watched(shop: Shop) -> Iterator[str]:
    """A file on the host into which every process's arguments and environment are written meanwhile."""
    path = "/run/processes"
    loop = f"while :; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ >>{path} 2>/dev/null; sleep 0.05; done"
    shop.host.run(f"systemd-run -q --unit=watch-processes sh -c '{loop}'")
    try:
        yield path
    finally:
        shop.host.run("systemctl stop watch-processes")


def test_without_it_the_run_says_how_to_give_it(shop: Shop) -> None:
    refused = shop.refused(**WANTED)
    assert "no value was given for token" in refused.message
    assert "shop_token" in refused.message
    assert shop.containers() == {}


def test_it_arrives_and_leaves_no_trace(shop: Shop) -> None:
    canary = "canary" + secrets.token_hex(16)
    with watched(shop) as processes:
        run = shop.run("-vvv", **WANTED, shop_token=canary)
    assert run.code == 0, run.message
    assert shop.host.run("docker exec shop-api-1 cat /run/secrets/token").stdout == canary
    assert canary not in run.output
    assert int(shop.host.run(f"grep -ac batten-host.pyz {processes}").stdout) > 0, "the watch saw nothing"
    assert shop.host.run(f"grep -ac {canary} {processes}", check=False).stdout.strip() == "0"
    everywhere = "/etc /opt /root /run /srv /tmp /usr/local /var --exclude-dir=overlay2 --exclude-dir=secrets"
    found = shop.host.run(f"journalctl --sync; grep -rlaF {canary} {everywhere} 2>/dev/null", check=False)
    assert found.stdout == ""
    assert canary not in shop.host.run("docker inspect $(docker ps -aq); journalctl --no-pager -o export").stdout
    written = [path for path in shop.directory.rglob("*") if path.is_file() and path.name != "given.json"]
    assert all(canary not in path.read_text() for path in written)


def test_it_stays_without_being_given_again_and_changes_when_given_anew(shop: Shop) -> None:
    before = shop.containers()
    assert not shop.up(**WANTED).changed
    run = shop.up(**WANTED, shop_token="another value, with 'quotes' and $signs")
    assert run.done == [("api", "reload")]
    assert shop.host.run("docker exec shop-api-1 cat /run/secrets/token").stdout.endswith("and $signs")
    assert shop.touched_since(before) == set()
