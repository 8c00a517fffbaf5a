"""A stack that its developers' `docker compose up` runs, with data in it, is taken over; no row is lost."""

from __future__ import annotations

import json

import pytest

from tests.host.shop import BASE, Shop, wait_until

PROXY_DATA = "/var/lib/docker/volumes/devshop_proxy-data/_data"
# A share of what is left, so that memory counted twice would show.
SHARE = {"stack_services": {"api": {"limits": {"memory": {"floor": "128M", "weight": 2}}}}}


@pytest.fixture(scope="module")
def running(shop: Shop) -> Shop:
    """The base as it is, under a project name of its own, with a thousand rows."""
    for path in sorted(BASE.parent.rglob("*")):
        if path.is_file():
            shop.host.put(f"/root/devshop/{path.relative_to(BASE.parent)}", path.read_text())
    shop.host.run("docker compose -p devshop --project-directory /root/devshop up -d --quiet-pull")
    shop.project = "devshop"
    shop.variables.update(SHARE)
    ready = "docker exec devshop-db-1 psql -h 127.0.0.1 -U postgres -d app -c 'SELECT 1'"
    wait_until(lambda: shop.host.run(ready, check=False).returncode == 0, "PostgreSQL")
    shop.sql("CREATE TABLE orders AS SELECT n, md5(n::text) AS text FROM generate_series(1, 1000) AS n")
    shop.sql("ALTER TABLE orders OWNER TO app")
    shop.host.run(f"echo certificate >{PROXY_DATA}/caddy/kept")
    return shop


def rows(shop: Shop) -> str:
    return shop.sql("SELECT count(*), md5(string_agg(text, ',' ORDER BY n)) FROM orders")


def test_it_is_taken_over_with_every_row(running: Shop) -> None:
    shop, host = running, running.host
    before, kept = shop.containers(), rows(shop)
    volumes = host.run("docker volume ls -q").stdout

    refused = shop.refused()
    assert "volume devshop_proxy-data: its data in" in refused.message
    assert "belong to uid 0; its service will run as 1000" in refused.message
    assert f"chown -R 1000:1000 {PROXY_DATA}" in refused.message
    assert shop.touched_since(before) == set()
    assert host.run("ls /opt/batten/shop", check=False).stdout == ""

    run = shop.up(stack_adopt_chown=True)
    assert {service for service, action in run.done if action == "recreate"} == {"db", "api", "proxy"}
    assert shop.all_healthy()
    assert rows(shop) == kept
    assert host.run("docker volume ls -q").stdout == volumes
    assert host.run(f"stat -c %u {PROXY_DATA} {PROXY_DATA}/caddy {PROXY_DATA}/caddy/kept").stdout == "1000\n" * 3
    assert host.run("docker ps -aq --filter label=com.docker.compose.project=shop").stdout == ""


def test_it_is_hardened_and_its_passwords_are_new(running: Shop) -> None:
    shop = running
    assert '"status": "ok"' in shop.get("/health/deep")
    shown = json.loads(shop.host.run("docker inspect devshop-api-1 devshop-db-1").stdout)
    assert {one["HostConfig"]["ReadonlyRootfs"] for one in shown} == {True}
    assert {bool(one["HostConfig"]["PortBindings"]) for one in shown} == {False}
    assert "dev-" not in json.dumps([one["Config"]["Env"] for one in shown])
    login = "PGPASSWORD={} psql -h $(hostname -i) -U app -d app -Atc 'SELECT 1'"
    old = shop.host.run(["docker", "exec", "devshop-db-1", "sh", "-c", login.format("dev-app")], check=False)
    assert "password authentication failed" in old.stderr


def test_the_next_run_changes_nothing(running: Shop) -> None:
    before = running.containers()
    run = running.up()
    assert (run.done, run.result["differences"], run.changed) == ([], [], False)
    assert running.touched_since(before) == set()
