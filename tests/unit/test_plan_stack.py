"""Settings and capacity in, a plan out: the reference stack, and small bases that show one rule each."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from batten.errors import BattenError
from batten.plan import (
    Capacity,
    StackPlan,
    StackSettings,
    capacity_from_json,
    plan,
    plan_host,
    plan_stack,
    stack_from_json,
    to_json,
)
from batten.plan.limits import GIB, MIB
from batten.plan.stack import load_inputs, start_order
from batten.report import budget_bar, plan_text
from tests.unit.conftest import CERTIFICATE

ADDRESSES = ("203.0.113.5", "2001:db8::5", "10.110.0.2")
HOST = Capacity(8 * GIB, 4, addresses=ADDRESSES, default_addresses=ADDRESSES[:2])
TARGETS: dict[str, dict[str, Any]] = {
    "selfhosted": {"stack_target": "selfhosted", "stack_data_directory": "/srv/app"},
    "digitalocean": {
        "stack_target": "digitalocean",
        "stack_public_addresses": ["203.0.113.5"],
        "digitalocean_vpc_address": "10.110.0.2",
        "digitalocean_volume": "data-one",
    },
    "managed": {
        "stack_target": "digitalocean",
        "stack_public_addresses": ["203.0.113.5"],
        "digitalocean_managed_postgres": True,
        "digitalocean_postgres_host": "private-db.example",
        "digitalocean_postgres_ca": str(CERTIFICATE),
    },
}
COMBINATIONS = [[], ["auth"], ["observability"], ["auth", "observability"]]


def reference(target: str = "selfhosted", profiles: list[str] | None = None, **variables: Any) -> StackSettings:
    given = {"stack_name": "app", "stack_build": "host", "stack_profiles": profiles or [], **TARGETS[target]}
    return StackSettings.from_variables({**given, **variables}, source="host1")


@pytest.mark.parametrize(("target", "profiles"), list(itertools.product(TARGETS, COMBINATIONS)))
def test_the_reference_stack_plans_without_a_warning(target: str, profiles: list[str]) -> None:
    host, findings = plan_host([reference(target, profiles)], HOST)
    made = host.stacks["app"]
    assert [finding for finding in findings if finding.severity != "note"] == []
    assert host.allocated_bytes <= host.memory_bytes - host.reserved_bytes
    for service in made.services.values():
        assert service.profile, service.name
        assert service.healthcheck, service.name
        assert service.cap_drop == ("ALL",)
        assert service.memory_bytes > service.memory_reservation_bytes > 0
        assert set(service.depends_on) <= set(made.services)
    assert sorted(itertools.chain(*made.start_order)) == sorted(made.services)
    assert ("postgres" in made.services) == (target != "managed")


def test_only_the_proxy_publishes_and_on_the_hosts_own_addresses() -> None:
    made, _ = plan_stack(reference(profiles=["auth", "observability"]), HOST)
    assert {name for name, service in made.services.items() if service.ports} == {"caddy"}
    assert {port.address for port in made.services["caddy"].ports} == {"203.0.113.5", "2001:db8::5"}


def test_an_address_that_the_host_does_not_own_is_refused() -> None:
    with pytest.raises(BattenError, match=r"the host does not own the address 198\.51\.100\.1") as caught:
        plan_stack(reference(stack_public_addresses=["198.51.100.1"]), HOST)
    assert caught.value.where == "host1: stack_public_addresses"
    assert "203.0.113.5" in caught.value.fix


def test_on_a_droplet_the_public_addresses_of_both_families_are_found() -> None:
    addresses = ("127.0.0.1", "10.110.0.2", "8.8.4.4", "2a03:b0c0::1", "fe80::1")
    droplet = reference("digitalocean", stack_public_addresses=None)
    made, _ = plan_stack(droplet, replace(HOST, addresses=addresses))
    assert {port.address for port in made.services["caddy"].ports} == {"8.8.4.4", "2a03:b0c0::1"}


@pytest.mark.parametrize(
    ("target", "path"), [("selfhosted", "/health/deep"), ("digitalocean", "/health/deep"), ("managed", "/health")]
)
def test_health_is_deep_where_the_database_is_a_service_of_the_stack(target: str, path: str) -> None:
    check = plan_host([reference(target)], HOST)[0].stacks["app"].services["api"].healthcheck
    assert check is not None
    assert check.test[-1] == f"http://127.0.0.1:8000{path}"


def test_credentials_of_the_base_do_not_reach_the_plan() -> None:
    made, _ = plan_stack(reference(profiles=["auth", "observability"]), HOST)
    assert "dev-" not in json.dumps(to_json(made))
    assert made.services["postgres"].environment["POSTGRES_PASSWORD"] is None


def test_postgres_is_tuned_to_its_limit() -> None:
    service = plan_stack(reference(), HOST)[0].services["postgres"]
    assert service.tunables["shared_buffers"] == f"{service.memory_bytes // 4 // MIB}MB"
    assert service.command
    assert f"shared_buffers={service.tunables['shared_buffers']}" in service.command


def test_data_lies_on_the_volume_that_must_be_mounted() -> None:
    made, _ = plan_stack(reference("digitalocean"), HOST)
    assert made.requires_mounts_for == ("/mnt/data_one",)
    volume = made.volumes["postgres-data"]
    assert (volume.name, volume.device, volume.uid) == ("app_postgres-data", "/mnt/data_one/app/postgres-data", 999)


def test_a_plan_comes_back_from_its_json() -> None:
    made, _ = plan_stack(reference(profiles=["auth", "observability"]), HOST)
    assert stack_from_json(json.loads(json.dumps(to_json(made)))) == made


def test_a_capacity_comes_from_what_the_host_reports() -> None:
    reported = {"memory_bytes": GIB, "cpus": 2, "addresses": ["10.0.0.1"], "projects": {"a": ["b"]}, "later": 1}
    assert capacity_from_json(reported) == Capacity(GIB, 2, addresses=("10.0.0.1",), projects={"a": ("b",)})
    with pytest.raises(BattenError, match="not a host's capacity"):
        capacity_from_json({"cpus": 1})


def test_json_of_a_later_version_and_of_something_else() -> None:
    made, _ = plan_stack(reference(), HOST)
    assert stack_from_json({**to_json(made), "later": 1}) == made
    with pytest.raises(BattenError, match="not a plan"):
        stack_from_json({"name": "app"})


def test_the_json_has_the_documented_shape() -> None:
    document = to_json(plan({"host1": ([reference()], HOST)}))
    host = document["hosts"]["host1"]
    assert {"memory_bytes", "cpus", "reserved_bytes", "foreign_bytes", "allocated_bytes", "stacks"} <= set(host)
    wanted = {
        "profile",
        "memory_bytes",
        "cpus",
        "pids",
        "healthcheck",
        "user",
        "read_only",
        "cap_add",
        "secrets",
        "ports",
    }
    assert wanted | {"tunables"} <= set(host["stacks"]["app"]["services"]["api"])
    assert all(set(finding) == {"severity", "where", "what", "fix"} for finding in document["findings"])


@settings(deadline=None, max_examples=10)
@given(st.floats(-0.02, 0.02))
def test_a_small_change_of_capacity_changes_nothing(change: float) -> None:
    before, _ = plan_stack(reference(), HOST)
    now = HOST.memory_bytes + int(HOST.memory_bytes * change)
    after, _ = plan_stack(reference(), replace(HOST, memory_bytes=now), before)
    assert after == before


def test_two_runs_are_equal_and_two_stacks_share_the_host() -> None:
    one, other = reference(), replace(reference(), name="other")
    host, _ = plan_host([one, other], HOST)
    assert plan_host([other, one], HOST)[0] == host
    used = sum(service.memory_bytes for stack in host.stacks.values() for service in stack.services.values())
    assert used == host.allocated_bytes <= HOST.memory_bytes - host.reserved_bytes


def test_other_stacks_and_foreign_containers_take_from_the_budget() -> None:
    alone, _ = plan_host([reference()], HOST)
    crowded, _ = plan_host([reference()], replace(HOST, foreign_bytes=GIB, allocated={"other": 2 * GIB, "app": GIB}))
    assert crowded.foreign_bytes == 3 * GIB
    assert crowded.allocated_bytes <= alone.allocated_bytes - 2 * GIB


def test_memory_of_foreign_containers_may_change_and_the_limits_stay() -> None:
    first, _ = plan_host([reference()], replace(HOST, foreign_bytes=GIB - 5))
    for used in (GIB, GIB - GIB // 3, 0):
        again, _ = plan_host([reference()], replace(HOST, foreign_bytes=used), first.stacks)
        assert again == first
    more, _ = plan_host([reference()], replace(HOST, foreign_bytes=GIB + 1), first.stacks)
    assert more.foreign_bytes == GIB + GIB // 4


def test_a_project_that_is_taken_over_is_not_foreign_to_itself() -> None:
    running = {"mine": tuple(load_inputs(reference()).base.always)}
    capacity = replace(HOST, projects=running, foreign_bytes=GIB, project_bytes={"mine": GIB})
    taken, _ = plan_host([reference()], capacity)
    assert (taken.stacks["app"].project, taken.foreign_bytes) == ("mine", 0)


def test_a_host_too_small_gets_the_table() -> None:
    with pytest.raises(BattenError, match="does not fit the host") as caught:
        plan_stack(reference(profiles=["auth", "observability"]), replace(HOST, memory_bytes=GIB))
    assert "app/clickhouse" in caught.value.what


def test_stack_capacity_makes_a_host_smaller_and_never_larger() -> None:
    assert plan_host([reference(stack_capacity={"memory": "4G"})], HOST)[0].memory_bytes == 4 * GIB
    assert plan_host([reference(stack_capacity={"memory": "64G"})], HOST)[0].memory_bytes == HOST.memory_bytes


def test_open_files_and_scores_keep_to_what_the_engine_grants() -> None:
    made, _ = plan_stack(reference(), replace(HOST, nofile_hard=1000, oom_score_adj_min=0))
    assert max(service.nofile or 0 for service in made.services.values()) == 1000
    assert min(service.oom_score_adj for service in made.services.values()) >= 0


# Adoption


RUNNING = ("postgres", "pgbouncer", "api", "caddy")


def adopted(project: str, previous: StackPlan | None = None, **variables: Any) -> StackPlan:
    capacity = replace(HOST, projects={project: RUNNING}, volumes={f"{project}_postgres-data": {"com.docker": "x"}})
    return plan_stack(reference(**variables), capacity, previous)[0]


def test_a_running_project_of_the_same_base_is_taken_over_with_its_volumes() -> None:
    made = adopted("reference")
    assert made.project == "reference"
    assert made.volumes["postgres-data"].name == "reference_postgres-data"
    assert made.volumes["postgres-data"].device is None
    assert made.volumes["caddy-data"].device == "/srv/app/caddy-data"


def test_the_project_stays_when_it_does_not_run() -> None:
    assert plan_stack(reference(), HOST, adopted("reference"))[0].project == "reference"


def test_the_inventory_can_refuse_to_take_over() -> None:
    assert adopted("reference", stack_project="fresh").project == "fresh"


@pytest.mark.parametrize("services", [("postgres",), (*RUNNING, "blog")])
def test_another_project_is_left_alone(services: tuple[str, ...]) -> None:
    assert plan_stack(reference(), replace(HOST, projects={"else": services}))[0].project == "app"


def test_a_project_of_another_stack_is_left_alone() -> None:
    other = adopted("reference")
    host = replace(HOST, projects={"reference": RUNNING})
    assert (
        plan_host([replace(reference(), name="second")], host, {"app": other})[0].stacks["second"].project == "second"
    )


def test_two_that_fit_are_asked_about() -> None:
    with pytest.raises(BattenError, match="several running projects") as caught:
        plan_stack(reference(), replace(HOST, projects={"one": RUNNING, "two": RUNNING}))
    assert "stack_project" in caught.value.fix


def test_a_volume_with_our_label_stays_where_it_is() -> None:
    labelled = replace(HOST, volumes={"app_postgres-data": {"io.batten.stack": "app"}})
    assert plan_stack(reference(), labelled)[0].volumes["postgres-data"].device == "/srv/app/postgres-data"


# Small bases


def small(
    directory: Path, services: dict[str, Any], definition: dict[str, Any] | None = None, **variables: Any
) -> StackSettings:
    (directory / "compose.yaml").write_text(yaml.safe_dump({"services": services}))
    if definition is not None:
        (directory / "batten.yaml").write_text(yaml.safe_dump(definition))
    given = {"stack_name": "s", "stack_base": str(directory / "compose.yaml"), **variables}
    return StackSettings.from_variables(given, source="host1")


def test_a_build_needs_an_image_or_the_host(tmp_path: Path) -> None:
    services = {"web": {"build": "."}}
    with pytest.raises(BattenError) as caught:
        plan_stack(small(tmp_path, services), HOST)
    assert "stack_images.web" in caught.value.fix
    assert "stack_build: host" in caught.value.fix
    built = plan_stack(small(tmp_path, services, stack_build="host"), HOST)[0].services["web"]
    assert (built.build, built.image) == (True, "s-web")
    pulled = plan_stack(small(tmp_path, services, stack_images={"web": "r.example/web:1"}), HOST)[0].services["web"]
    assert (pulled.build, pulled.image) == (False, "r.example/web:1")


def test_unknown_software_keeps_its_user_and_root_and_is_named(tmp_path: Path) -> None:
    services = {"root": {"image": "odd/thing"}, "own": {"image": "odd/thing:1", "user": "1000"}}
    made, findings = plan_stack(small(tmp_path, services), HOST)
    assert (made.services["root"].cap_drop, made.services["own"].cap_drop) == ((), ("ALL",))
    assert (made.services["root"].user, made.services["own"].user) == (None, "1000")
    assert not made.services["own"].read_only
    said = {(finding.where, finding.what.split()[0]) for finding in findings}
    assert {("s/root", "no"), ("s/own", "no"), ("s/root", "odd/thing")} <= said


@pytest.mark.parametrize(
    ("mount", "found"),
    [
        ("./data:/var/lib/postgresql/data", ("./data",)),
        ("/srv/pg:/var/lib/postgresql", ("/srv/pg",)),
        ("./data:/var/lib/postgresql/data:ro", ()),
        ("./init:/docker-entrypoint-initdb.d", ()),
        ("./conf:/var/lib/postgresql/data/conf.d", ()),
    ],
)
def test_a_mounted_data_directory_must_be_its_users(mount: str, found: tuple[str, ...], tmp_path: Path) -> None:
    services = {"db": {"image": "postgres:17", "volumes": [mount]}}
    assert plan_stack(small(tmp_path, services), HOST)[0].services["db"].data_binds == found
    services["db"]["image"] = "odd/thing:1"
    assert plan_stack(small(tmp_path, services), HOST)[0].services["db"].data_binds == ()


def test_unknown_images_are_known_by_what_they_run_as_by_harden(tmp_path: Path) -> None:
    services = {
        "cache": {"image": "example.org/shop/cache:1", "command": ["redis-server", "--appendonly", "yes"]},
        "queue": {"image": "example.org/shop/redis:1"},
        "app": {"image": "example.org/shop/app:1", "ports": ["8080:6379"]},
        "fork": {"image": "bitnami/postgresql:17"},
    }
    made, findings = plan_stack(small(tmp_path, services), HOST)
    assert {name: one.profile for name, one in made.services.items()} == {
        "cache": "redis", "queue": "redis", "app": None, "fork": "postgres",
    }  # fmt: skip
    assert not any(one.read_only or one.user for one in made.services.values())  # laid out in a way of their own
    told = {one.where: one.what for one in findings if "is taken for" in one.what}
    assert told["s/cache"].endswith("because it runs redis-server --appendonly yes")
    assert set(told) == {"s/cache", "s/queue", "s/fork"}


def test_a_mirror_keeps_the_profile_and_the_tag_decides_the_variant(tmp_path: Path) -> None:
    services = {"db": {"image": "postgres:17"}}
    images = {"db": "registry.example:5000/team/db:17-alpine"}
    made, _ = plan_stack(small(tmp_path, services, stack_images=images), HOST)
    assert made.services["db"].profile == "postgres"
    assert made.services["db"].user == "70:70"
    assert {item.uid for item in made.services["db"].tmpfs} == {70, None}


def test_credentials_in_the_base_are_found(tmp_path: Path) -> None:
    environment = {"DB_PASSWORD": "x", "URL": "postgres://a:b@c/d", "TOKEN_FILE": "/run/secrets/t", "PLAIN": "1"}
    services = {"web": {"image": "odd/thing:1", "environment": environment}}
    _, findings = plan_stack(small(tmp_path, services, {"services": {"web": {}}}), HOST)
    named = [finding.what.split()[3] for finding in findings if "docker inspect" in finding.what]
    assert named == ["DB_PASSWORD", "URL"]


def test_the_inventory_lays_over_the_definition(tmp_path: Path) -> None:
    services = {"db": {"image": "postgres:17"}}
    definition = {"services": {"db": {"limits": {"memory": "1G", "pids": 99}, "environment": {"A": "${STACK_NAME}"}}}}
    override = {"db": {"limits": {"memory": "512M"}, "stop_grace": "2m", "healthcheck": {"test": ["CMD", "true"]}}}
    service = plan_stack(small(tmp_path, services, definition, stack_services=override), HOST)[0].services["db"]
    assert (service.memory_bytes, service.pids, service.stop_grace_seconds) == (512 * MIB, 99, 120)
    assert service.environment["A"] == "s"
    assert service.healthcheck
    assert service.healthcheck.test == ("CMD", "true")


@pytest.mark.parametrize(
    ("definition", "says"),
    [
        ({"services": {"dbb": {}}}, "did you mean 'db'"),
        ({"services": {"db": {"enviroment": {}}}}, "did you mean 'environment'"),
        ({"services": {"db": {"profile": "postgras"}}}, "there is no profile 'postgras'"),
        ({"services": {"db": {"depends_on": {"cache": "service_healthy"}}}}, "unknown key 'cache'"),
        ({"services": {"db": {"secrets": {"f": {"secret": "none"}}}}}, "there is no secret 'none'"),
        ({"services": {"db": {"secrets": {"f": {"template": "${none:url}"}}}}}, "there is no secret 'none'"),
        ({"services": {"db": {"secrets": {"f": {}}}}}, "a secret or a template"),
        ({"secrets": {"a": {"length": 12}}}, "made on the host or handed in"),
        ({"networks": {"app": {}}, "services": {"db": {"networks": ["ap"]}}}, "did you mean 'app'"),
        ({"targets": {"selfhosted": {"remove": ["d"]}}}, "did you mean 'db'"),
        ({"targets": {"digitalocean": {"services": {"db": {"pids": 1}}}}}, "unknown key 'pids'"),
        ({"services": {"db": {"ports": [{"target": 1, "on": "private"}]}}}, "'on'; did you mean 'publish_on'"),
        ({"services": {"db": {"ports": [{"target": 1, True: "private"}]}}}, "'on'; did you mean 'publish_on'"),
    ],
)
def test_a_wrong_definition_is_refused(tmp_path: Path, definition: dict[str, Any], says: str) -> None:
    with pytest.raises(BattenError, match=says) as caught:
        plan_stack(small(tmp_path, {"db": {"image": "postgres:17"}}, definition), HOST)
    assert "batten.yaml" in caught.value.where
    assert caught.value.fix


@pytest.mark.parametrize(
    ("variables", "where"),
    [
        ({"stack_services": {"bd": {}}}, "host1: stack_services"),
        ({"stack_images": {"bd": "x:1"}}, "host1: stack_images"),
        ({"stack_services": {"db": {"pids": 1}}}, "the inventory's stack_services"),
        ({"stack_profiles": ["auth"]}, "stack_profiles"),
    ],
)
def test_a_wrong_override_names_the_inventory(tmp_path: Path, variables: dict[str, Any], where: str) -> None:
    with pytest.raises(BattenError, match="unknown key") as caught:
        plan_stack(small(tmp_path, {"db": {"image": "postgres:17"}}, **variables), HOST)
    assert where in caught.value.where


def test_dependencies_wait_for_health_where_there_is_any(tmp_path: Path) -> None:
    services = {"web": {"image": "odd/thing:1", "depends_on": ["db", "x"]}, "db": {"image": "postgres:17"}}
    services["x"] = {"image": "odd/other:1"}
    made, _ = plan_stack(small(tmp_path, services), HOST)
    assert made.services["web"].depends_on == {"db": "service_healthy", "x": "service_started"}
    assert made.start_order == (("db", "x"), ("web",))


@pytest.mark.parametrize(
    "joined",
    [{"links": ["db:store"]}, {"volumes_from": ["db:ro"]}, {"pid": "service:db"}, {"network_mode": "service:db"}],
)
def test_whose_namespaces_or_volumes_a_service_uses_starts_before_it(tmp_path: Path, joined: dict[str, Any]) -> None:
    services = {"app": {"image": "odd/thing:1", **joined}, "db": {"image": "odd/other:1"}}
    services["web"] = {"image": "odd/thing:1", "volumes_from": ["container:other"], "ipc": "host"}
    made, _ = plan_stack(small(tmp_path, services), HOST)
    assert (made.start_order, made.services["app"].depends_on) == ((("db", "web"), ("app",)), {})


def test_a_private_port_is_on_the_vpc_address_only(tmp_path: Path) -> None:
    services = {"db": {"image": "postgres:17"}}
    definition = {"services": {"db": {"ports": [{"target": 5432, "publish_on": "private"}]}}}
    droplet = {"stack_target": "digitalocean", "digitalocean_vpc_address": "10.110.0.5"}
    host = replace(HOST, addresses=(*HOST.addresses, "10.110.0.5"))
    made = plan_stack(small(tmp_path, services, definition, **droplet), host)[0].services["db"]
    assert [(port.address, port.published) for port in made.ports] == [("10.110.0.5", 5432)]
    assert plan_stack(small(tmp_path, services, definition), HOST)[0].services["db"].ports == ()


def test_a_loopback_port_is_for_the_host_alone_whatever_addresses_it_has(tmp_path: Path) -> None:
    services = {"db": {"image": "postgres:17"}}
    port = {"target": 5432, "published": 6000, "publish_on": "loopback"}
    made, _ = plan_stack(small(tmp_path, services, {"services": {"db": {"ports": [port]}}}), HOST)
    assert [(one.address, one.published) for one in made.services["db"].ports] == [("127.0.0.1", 6000)]


def test_a_service_that_reads_its_secrets_at_every_use_needs_nothing_after_a_change(tmp_path: Path) -> None:
    services = {"db": {"image": "odd/thing:1"}}
    for own, wanted in (({}, None), ({"reload": []}, ()), ({"reload": ["SIGNAL", "HUP"]}, ("SIGNAL", "HUP"))):
        made, _ = plan_stack(small(tmp_path, services, {"services": {"db": own}}), HOST)
        assert made.services["db"].reload == wanted
        assert stack_from_json(to_json(made)) == made


def test_what_migrates_must_say_which_database(tmp_path: Path) -> None:
    services = {"auth": {"image": "stackauth/server:1"}}
    for own, warned in (({}, True), ({"migrates": "auth"}, False)):
        _, findings = plan_stack(small(tmp_path, services, {"services": {"auth": own}}), HOST)
        assert any("which database to dump" in finding.what for finding in findings) is warned


def test_a_cycle_is_named() -> None:
    with pytest.raises(BattenError, match="b -> c -> b"):
        start_order({"a": ["b"], "b": ["c"], "c": ["b"]})


# The report


def test_the_bar_shows_what_is_used() -> None:
    host, _ = plan_host([reference()], replace(HOST, foreign_bytes=GIB))
    bar, legend = budget_bar(host, 40).split("\n")
    assert bar.index("]") == 41
    assert bar.count("+") == 5
    assert bar.endswith("] 8G")
    assert "others 1G" in legend


def test_the_text_names_every_service_and_finding() -> None:
    made = plan({"host1": ([reference("managed", ["auth"])], HOST)})
    text = plan_text(made)
    for part in (*made.hosts["host1"].stacks["app"].services, "not run here: postgres", "203.0.113.5:443", "findings"):
        assert part in text
