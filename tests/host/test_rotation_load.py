"""Every rotatable secret of the reference stack is rotated while it works: nobody who can reload notices."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.host.site import Site
from tests.host.underload import Load
from tests.rig import hosts, images, registry


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    registry.ensure_registry()
    images.ensure_images()
    host = hosts.start(f"batten-rotation-{os.getpid()}", "base")
    try:
        found = Site(
            host,
            tmp_path_factory.mktemp("rotation"),
            stack_name="demo",
            stack_domain="rotation.localhost",
            stack_profiles=["observability", "auth"],
            stack_images={"api": "batten/sample-api:1.0.0"},
        )
        found.up()
        yield found
    finally:
        host.remove()


def test_all_at_once_under_load(site: Site) -> None:
    before, infisical = site.lives(), site.lives("infisical")
    old = {name: site.secret(name) for name in ("app_password", "postgres_tls_certificate", "webhook_signing_key")}
    load = Load(site)
    rotated = site.batten("rotate", "--all")["hosts"][site.host.name]["stacks"]
    found = load.end()
    assert found["requests"] > 100  # how many a second is measured by `python -m bench rotate`
    assert found["transactions"] > 1000
    assert found["failed_requests"] == []
    assert found["failed_transactions"] == []
    assert found["users"] == ["app_a", "app_b"]
    assert {name for name, value in old.items() if site.secret(name) == value} == set()
    assert set(found["away"]) == {"demo/clickhouse", "demo/postgres-exporter", "demo/stack-auth", "infisical/infisical"}
    after = site.lives()
    untouched = {name for name in before if before[name] == after[name]}
    assert {"postgres", "pgbouncer", "api", "caddy", "prometheus", "loki"} <= untouched
    assert site.lives("infisical")["redis"] == infisical["redis"]
    assert site.lives("infisical")["db"] == infisical["db"]
    assert {"app_password", "postgres_tls", "infisical_identity"} <= set(rotated["demo"]["rotated"])
    assert "redis_password" in rotated["infisical"]["rotated"]
    assert not site.up().changed


def test_prometheus_reads_what_batten_measures(site: Site) -> None:
    site.host.run("systemctl start batten-sync@demo")
    ask = "docker exec demo-prometheus-1 wget -qO- 'http://127.0.0.1:9090/api/v1/query?query=batten_secrets_stale'"
    found = site.host.run(f"for _ in $(seq 90); do {ask} | grep 'stack.:.demo' && exit; sleep 1; done")
    assert '"job":"node-exporter"' in found.stdout
