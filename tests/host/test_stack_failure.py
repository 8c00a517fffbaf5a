"""Releases that do not hold, and what may not be done to a database: every story ends at a stack that works."""

from __future__ import annotations

import re

import pytest

from tests.host.shop import Shop

pytestmark = pytest.mark.usefixtures("data_directory")
BROKEN = {"stack_images": {"api": "batten/sample-api:broken"}}


@pytest.fixture(scope="module")
def data_directory(shop: Shop) -> None:
    shop.variables["stack_data_directory"] = "/srv/shop"


def test_a_first_release_that_fails_is_stopped_and_a_corrected_run_works(shop: Shop) -> None:
    run = shop.refused(**BROKEN)
    assert "service api: " in run.message
    assert "cannot start: broken on purpose" in run.message
    assert "its containers are stopped, not removed" in run.message
    assert {name: one.status for name, one in shop.containers().items()} == {"db": "exited", "api": "exited"}
    assert shop.good() == ""
    fixed = shop.up()
    assert fixed.done == [("db", "start"), ("api", "recreate"), ("proxy", "create")]
    assert shop.good() == shop.current() == fixed.result["release"]
    assert shop.all_healthy()
    assert not shop.up().changed


def test_a_release_that_fails_gives_way_to_the_last_good_one(shop: Shop) -> None:
    before, good = shop.containers(), shop.good()
    shop.sql("CREATE TABLE kept AS SELECT generate_series(1, 100) AS n")
    run = shop.refused(**BROKEN, stack_environment={"GREETING": "new"})
    first = run.message.splitlines()[0]
    assert first.startswith("service api: it is unhealthy")
    assert re.search(r"its health check said:\n  \S+Z exit 1: ", run.message)
    assert "its last 20 log lines:\n" in run.message
    assert "cannot start: broken on purpose" in run.message
    assert f"The last good release {good} is running again." in run.message
    assert run.result["returned_to"] == good
    assert run.result["release"] != good
    assert shop.current() == shop.good() == good
    assert shop.touched_since(before) == {"api"}
    assert shop.containers()["api"].image == "batten/sample-api:1.0.0"
    assert shop.all_healthy()
    results = {(line["release"], line["result"]) for line in shop.audit()}
    assert results >= {(run.result["release"], "failed"), (good, "returned")}
    assert not shop.up().changed
    better = shop.up(stack_images={"api": "batten/sample-api:1.0.1"})
    assert better.done == [("api", "recreate")]
    assert shop.sql("SELECT count(*) FROM kept") == "100"


def test_past_a_migration_it_stops_there_and_the_dump_restores(shop: Shop) -> None:
    shop.up(stack_profiles=["auth"])
    shop.sql("INSERT INTO \"Project\" (id) VALUES ('ours')", "auth")
    good = shop.good()
    run = shop.refused(stack_profiles=["auth"], stack_images={"auth": "stackauth/server:broken"})
    assert "service auth: it is unhealthy" in run.message
    assert "It may have migrated its database, so the old release was not put back." in run.message
    dump, restore = re.findall(r"database auth was dumped to (\S+); to restore it: (.+)", run.message)[0]
    assert shop.host.run(f"stat -c '%a %U' {dump}").stdout == "600 root\n"
    assert run.result["returned_to"] is None
    assert shop.containers()["auth"].image == "stackauth/server:broken"
    assert shop.good() == good
    assert shop.current() == run.result["release"]

    migrated = 'SELECT count(*) FROM "SchemaMigration"'
    assert shop.sql(migrated, "auth") == "2"
    shop.sql('DELETE FROM "Project"', "auth")
    shop.host.run(f"docker stop {shop.name('auth')}")
    shop.host.run(restore)
    assert shop.sql(migrated, "auth") == "1"
    assert shop.sql("SELECT count(*) FROM \"Project\" WHERE id = 'ours'", "auth") == "1"
    back = shop.up(stack_profiles=["auth"])
    assert ("auth", "recreate") in back.done
    assert shop.all_healthy()
    gone = shop.up()
    assert set(gone.done) == {("auth", "remove"), ("clickhouse", "remove")}


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"stack_images": {"db": "postgres:16.10-trixie"}}, ["PostgreSQL 17 holds the data", "16 cannot read them"]),
        ({"stack_images": {"db": "postgres:17.6-alpine"}}, ["sort text differently", "dump"]),
        ({"stack_services": {"db": {"environment": {"PGDATA": "/var/lib/postgresql/data/new"}}}}, ["PGDATA", "moves"]),
        ({"stack_data_directory": "/srv/new"}, ["its data lie in /srv/shop/db-data", "copy the data"]),
        ({"stack_data_directory": ""}, ["its data lie in /srv/shop/db-data", "copy the data"]),
    ],
)
def test_what_would_lose_the_data_is_refused_before_anything_stops(
    shop: Shop, variables: dict[str, object], said: list[str]
) -> None:
    before, good = shop.containers(), shop.good()
    run = shop.refused(**variables)
    assert all(words in run.message for words in said), run.message
    assert "fix: " in run.message
    assert shop.touched_since(before) == set()
    assert shop.good() == shop.current() == good


def test_a_major_version_that_only_the_image_tells_is_refused_too(shop: Shop) -> None:
    image = "postgres:16.10-trixie"
    show = f"docker pull -q {image} >/dev/null; docker image inspect -f '{{{{index .RepoDigests 0}}}}' {image}"
    digest = shop.host.run(f"{show}; docker rmi {image} >/dev/null").stdout.strip()
    assert digest.startswith("postgres@sha256:")
    before = shop.containers()
    assert "16 cannot read them" in shop.refused(stack_images={"db": digest}).message
    assert shop.touched_since(before) == set()
