"""Runs that are killed with -9: at ten points on their way, each next run goes on where the last one was cut off."""

from __future__ import annotations

import os
import signal

from tests.host.shop import HOLDER, Shop, wait_until

NEW = {"stack_images": {"api": "batten/sample-api:1.0.1"}}
FIRST_RUN = [
    "test -d /opt/batten/shop/releases",
    "test -s /var/lib/batten/shop/secrets.cred",
    "mountpoint -q /opt/batten/shop/secrets",
    "docker ps -a | grep -q shop-db-1",
    "docker ps | grep -q shop-db-1",
    "docker ps -a | grep -q shop-api-1",
    "docker ps -a | grep -q shop-proxy-1",
]
IMAGE_CHANGE = [
    "test $(ls /opt/batten/shop/releases | wc -l) -gt 1",
    "docker ps -a | grep -q sample-api:1.0.1",
    "docker ps | grep -q sample-api:1.0.1",
]


def kill(shop: Shop, point: str, **variables: object) -> None:
    """Start a run; when it has come to ``point``, kill its process on the host and all of its controller."""
    run = shop.start(**variables)
    words = f"until {HOLDER} && {point}; do sleep 0.01; done 2>/dev/null; kill -9 $p"
    shop.host.run(words, timeout=180)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    # A killed process answers kill -0 until its parent has reaped it.
    wait_until(lambda: not shop.works(), "the end of the killed run")


def test_a_first_run_killed_at_seven_points_converges(shop: Shop) -> None:
    for point in FIRST_RUN:
        kill(shop, point)
    shop.up()
    assert shop.all_healthy()
    assert '"status": "ok"' in shop.get("/health/deep")
    assert not shop.up().changed


def test_a_change_killed_at_three_points_converges(shop: Shop) -> None:
    before = shop.containers()
    for point in IMAGE_CHANGE:
        kill(shop, point, **NEW)
    shop.up(**NEW)
    assert shop.all_healthy()
    assert shop.touched_since(before) == {"api"}
    names = shop.host.run("docker ps -a --format '{{.Names}}' | sort").stdout.split()
    assert names == ["shop-api-1", "shop-db-1", "shop-proxy-1"]
    assert not shop.up(**NEW).changed


def test_a_run_whose_controller_is_killed_ends_well_on_the_host(shop: Shop) -> None:
    run = shop.start()
    wait_until(shop.works, "the run")
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    wait_until(lambda: not shop.works(), "the end on the host")
    assert not shop.up().changed
    assert shop.containers()["api"].image == "batten/sample-api:1.0.0"


def test_a_terminated_run_leaves_no_lock(shop: Shop) -> None:
    shop.host.run("docker stop -t 1 shop-proxy-1")
    run = shop.start()
    shop.host.run(f"until {HOLDER}; do sleep 0.01; done 2>/dev/null; kill -TERM $p", timeout=60)
    shop.finish(run)
    shop.up()
    assert shop.all_healthy()
