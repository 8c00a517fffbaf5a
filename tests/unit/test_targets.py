"""Droplet sizes and managed PostgreSQL plans: the data, and what settings make of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from batten.errors import BattenError
from batten.fleet import Given, Observed, observe
from batten.plan import StackSettings, plan_stack
from batten.plan.limits import GIB, MIB
from batten.plan.model import Capacity
from batten.plan.schema import At
from batten.plan.targets import digitalocean, load_offer
from tests.unit.conftest import CERTIFICATE

if TYPE_CHECKING:
    from pathlib import Path

OFFER = digitalocean()
AT = At("inventory", "digitalocean_size")


@pytest.mark.parametrize("slug", sorted(OFFER.sizes))
def test_a_size_is_what_its_slug_says_and_the_kernel_shows_less(slug: str) -> None:
    size = OFFER.sizes[slug]
    if cpus := re.search(r"(\d+)vcpu", slug):
        assert size.cpus == int(cpus[1])
    if sold := re.search(r"-(\d+)(gb|mb)", slug):
        memory = int(sold[1]) * (GIB if sold[2] == "gb" else MIB)
        assert 0.85 * memory < size.memory_bytes < memory
    if disk := re.search(r"-(\d+)gb(?:-intel)?$", slug.replace("vcpu-", "", 1)):
        assert slug.count("gb") < 2 or size.disk_bytes == int(disk[1]) * GIB


@pytest.mark.parametrize("slug", sorted(OFFER.postgres_sizes))
def test_a_managed_postgresql_grants_25_connections_a_gigabyte_less_3(slug: str) -> None:
    size = OFFER.postgres_sizes[slug]
    gigabytes = int(slug.rsplit("-", 1)[1].removesuffix("gb"))
    assert size.memory_bytes == gigabytes * GIB
    assert size.connections == 25 * gigabytes - 3


def test_the_data_say_when_and_where_they_come_from() -> None:
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", OFFER.date)
    assert all(source.startswith("https://docs.digitalocean.com/") for source in OFFER.sources)


def test_the_sizes_that_fit_begin_with_the_smallest() -> None:
    assert OFFER.fitting(3 * GIB, 2)[0].slug == "c-2"
    assert OFFER.fitting(3 * GIB, 4)[0].cpus >= 4
    assert OFFER.fitting(1000 * GIB, 1) == ()


@pytest.mark.parametrize(
    ("name", "value", "near"),
    [
        ("digitalocean_size", "s-2vcpu-4g", "did you mean 's-2vcpu-4gb'"),
        ("digitalocean_size", "s-2vcpu-4gb-arm", "did you mean 's-2vcpu-4gb-amd'"),
        ("digitalocean_postgres_size", "db-s-2vcpu-4GB", "did you mean 'db-s-2vcpu-4gb'"),
        ("digitalocean_postgres_size", "what", "is not known here"),
    ],
)
def test_an_unknown_slug_names_the_nearest(name: str, value: str, near: str) -> None:
    with pytest.raises(BattenError, match=near) as caught:
        StackSettings.from_variables({"stack_name": "app", name: value})
    assert caught.value.where == f"inventory: {name}"
    assert caught.value.fix.startswith("write one of: ")


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("date: '2026-01-01'\nsources: [x]\nsizes: {a: {memory: 1G, cpus: 1}}\n")
    with pytest.raises(BattenError, match="'postgres_sizes' is missing"):
        load_offer(tmp_path / "x.yaml")


def observed(record: Observed | None = None, **variables: Any) -> Capacity:
    settings = StackSettings.from_variables({"stack_name": "app", **variables})
    asked = Observed(Capacity(1 * GIB, 1, source="asked"))
    return observe({"h": (settings,)}, Given(), lambda _: record, lambda hosts: dict.fromkeys(hosts, asked))[
        "h"
    ].capacity


def test_a_size_stands_for_a_droplet_that_nobody_has_seen() -> None:
    made = observed(digitalocean_size="s-2vcpu-4gb")
    assert (made.memory_bytes, made.cpus, made.source) == (3900 * MIB, 2, "the size s-2vcpu-4gb")
    assert observed().source == "asked"


def test_what_is_known_better_comes_before_a_size() -> None:
    record = Observed(Capacity(4_000_000_000, 2, observed_at="2026-11-01"))
    assert observed(record, digitalocean_size="s-2vcpu-4gb").source == "the run of 2026-11-01"
    by_hand = observed(digitalocean_size="s-2vcpu-4gb", stack_capacity={"memory": "2G", "cpus": 1})
    assert (by_hand.memory_bytes, by_hand.source) == (2 * GIB, "the inventory")


def pool(**variables: Any) -> int:
    managed = {
        "stack_name": "app",
        "stack_target": "digitalocean",
        "stack_build": "host",
        "digitalocean_managed_postgres": True,
        "digitalocean_postgres_host": "db.example.com",
        "digitalocean_postgres_ca": str(CERTIFICATE),
    }
    settings = StackSettings.from_variables({**managed, **variables})
    made, _ = plan_stack(settings, Capacity(8 * GIB, 4))
    return int(made.services["pgbouncer"].tunables["default_pool_size"])


def test_pools_follow_what_the_managed_postgresql_grants() -> None:
    sizes = [
        pool(),
        *(pool(digitalocean_postgres_size=slug) for slug in ("db-s-1vcpu-1gb", "db-s-1vcpu-2gb", "gd-2vcpu-8gb")),
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] == sizes[1] < sizes[2]
    assert sizes[2] < 47
