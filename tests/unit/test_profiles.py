"""Every profile is complete by its class, says where its facts come from, and its tunables follow the limit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batten import resources
from batten.plan import service, tunables
from batten.plan.base import BaseService
from batten.plan.definition import ServiceDefinition
from batten.plan.limits import GIB, MIB
from batten.plan.profile import load_profiles, parse_profile
from batten.plan.schema import At

ROOT = Path(__file__).parents[2]
PROFILES = load_profiles(resources.compose() / "profiles")
RECORDS = PROFILES.records
# What is built on these is somebody's program, and nobody knows its probe; the last two have no shell to probe with.
WITHOUT_PROBE = {"node", "python", "ruby", "java", "golang", "distroless", "php", "nats", "redis-exporter"}
AT = At("test")


def test_there_are_many_and_some_were_tried() -> None:
    assert len(RECORDS) >= 50
    assert len([name for name, record in RECORDS.items() if record["confidence"] == "tried"]) >= 14


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_a_profile_says_what_its_class_needs(name: str) -> None:
    record = RECORDS[name]
    asked = {"memory", "cpus", "pids", "nofile", "log", "confidence", "sources"}
    if record["class"] in ("database", "proxy", "observability"):
        asked.add("oom_score_adj")
    if name not in WITHOUT_PROBE:
        asked |= {"healthcheck", "programs"}
    assert asked <= set(record)
    assert record["class"] != "database" or record["oom_score_adj"] < 0
    assert record["class"] != "observability" or record["oom_score_adj"] > 0
    if record.get("stateful"):
        assert record["stop_grace"] >= 15


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_a_reviewer_can_look_its_sources_up(name: str) -> None:
    for source in RECORDS[name]["sources"]:
        assert re.fullmatch(r"https://[a-z0-9.-]+/\S*", source) or (ROOT / source).is_file(), source


@pytest.mark.parametrize("name", sorted(name for name, record in RECORDS.items() if "user" not in record))
def test_what_starts_as_root_has_no_capability_that_nobody_explains(name: str) -> None:
    text = (resources.compose() / "profiles" / f"{name}.yaml").read_text()
    assert "cap_add:" in text
    assert set(RECORDS[name]["cap_add"]) <= {
        *("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "NET_RAW", "SETGID", "SETUID", "SYS_CHROOT"),
    }


@pytest.mark.parametrize(
    ("formula", "memory", "value", "arguments"),
    [
        ("innodb_buffer 0.5", 1 * GIB, "512M", ("--it=512M",)),
        ("wiredtiger_cache 0.4", 4 * GIB, "1.60", ("--it", "1.60")),
        ("wiredtiger_cache 0.4", 512 * MIB, "0.25", ("--it", "0.25")),
        ("memcached_limit 0.8", 100 * MIB, "80", ("--it=80",)),
        ("rabbitmq_memory 1", 256 * MIB, f"-rabbit total_memory_available_override_value {256 * MIB}", ()),
        ("jvm_heap 0.5", 2 * GIB, "-Xms1024m -Xmx1024m", ()),
        ("jvm_heap 0.5", 128 * GIB, "-Xms31744m -Xmx31744m", ()),
        ("jvm_percentage 0.7", 2 * GIB, "-XX:MaxRAMPercentage=70", ()),
    ],
)
def test_formulas(formula: str, memory: int, value: str, arguments: tuple[str, ...]) -> None:
    tuned = tunables.tune({"it": formula}, memory, AT)
    assert tuned.values == {"it": value}
    assert tuned.arguments == arguments
    assert tunables.is_environment(formula) == (not arguments) == (tuned.environment == {"it": value})


@given(st.sampled_from(sorted(name for name, record in RECORDS.items() if "tunables" in record)), st.integers(0, 64))
def test_no_tunable_takes_all_of_a_limit(name: str, more: int) -> None:
    profile = parse_profile(name, RECORDS[name])
    memory = profile.memory.floor + more * 256 * MIB
    for value in tunables.tune(profile.tunables, memory, AT).values.values():
        if sized := re.search(r"(\d+)(?:MiB|MB|mb|M|m)$", value):
            assert int(sized[1]) * MIB <= 0.9 * memory


@pytest.mark.parametrize(
    ("volumes", "binds", "read_only"),
    [
        ({}, (), True),
        ({}, ("/srv/nginx.conf:/etc/nginx/nginx.conf:ro",), True),
        ({}, ("./templates:/etc/nginx/templates",), False),
        ({}, ("./site.template:/etc/nginx/templates/site.conf.template:ro",), False),
        ({"templates": "/etc/nginx/templates"}, (), False),
    ],
)
def test_nginx_fills_templates_in_below_its_root(
    volumes: dict[str, str], binds: tuple[str, ...], read_only: bool
) -> None:
    base = BaseService("web", "nginx:1.30", volumes=volumes, binds=binds)
    profile = PROFILES.named("nginx", "nginx:1.30", AT)
    made = service.draft(base, ServiceDefinition(), profile, "nginx:1.30", (), {}, AT)
    assert made.plan.read_only == read_only


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_a_probe_asks_a_port_that_the_image_has_by_itself(name: str) -> None:
    """What only one stack's configuration listens on belongs into that stack's batten.yaml."""
    record = RECORDS[name]
    ports = {*record.get("match", {}).get("ports", ()), *record.get("admin_ports", ())}
    probes = [record.get("healthcheck"), *record.get("health", {}).values()]
    for probe in filter(None, probes):
        asked = {int(port) for port in re.findall(r"(?:127\.0\.0\.1|localhost)[:/](\d+)", " ".join(probe["test"]))}
        assert asked <= ports
