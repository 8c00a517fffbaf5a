"""From a plan to layers, files and the release payload."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from batten.errors import BattenError
from batten.plan.definition import parse_definition
from batten.plan.model import (
    Capacity,
    FilesMount,
    Healthcheck,
    Port,
    ServicePlan,
    StackPlan,
    VolumePlan,
    stack_from_json,
)
from batten.plan.settings import StackSettings
from batten.plan.stack import load_inputs, plan_stack
from batten.render import RenderedFiles, files, layers, release, with_digests, write
from batten.render import build as building
from batten.render.layers import mounts, reads_secrets_at_start_only
from batten.render.release import base_files, owner, secrets

BASE = "services: {web: {image: a}, old: {image: b}}\n"


class _Compose(yaml.SafeLoader):
    """YAML with Compose's tags, kept as (tag, value)."""


def _tagged(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> tuple[str, Any]:
    if isinstance(node, yaml.SequenceNode):
        return suffix, loader.construct_sequence(node, deep=True)
    if isinstance(node, yaml.MappingNode):
        return suffix, loader.construct_mapping(node, deep=True)
    return suffix, node.value


_Compose.add_multi_constructor("!", _tagged)


def service(**changes: Any) -> ServicePlan:
    plan = ServicePlan(
        name="web",
        profile="web",
        service_class="application",
        image="web:1",
        memory_bytes=64 * 1024**2,
        cpus=0.5,
        pids=50,
        networks=("app",),
    )
    return replace(plan, **changes)


def stack(*services: ServicePlan, **changes: Any) -> StackPlan:
    plan = StackPlan("shop", "shop", "selfhosted", (), {item.name: item for item in services}, {"app": True})
    return replace(plan, **changes)


def layer(plan: StackPlan, number: int) -> Any:
    return yaml.load(layers(plan, BASE)[number].text, Loader=_Compose)


def test_layers_are_the_base_unchanged_then_prod_then_the_target() -> None:
    found = layers(stack(service(), target="digitalocean"), BASE)
    assert [item.name for item in found] == ["compose.yaml", "compose.prod.yaml", "compose.digitalocean.yaml"]
    assert found[0].text == BASE


def test_prod_says_everything_of_a_service() -> None:
    planned = service(
        environment={"PASSWORD": None, "GREETING": 'a "b" $c #d'},
        healthcheck=Healthcheck(("CMD", "true")),
        nofile=512,
        shm_bytes=1024**3,
        command=("run", "--x=$HOME"),
        depends_on={"db": "service_healthy"},
        memory_reservation_bytes=32 * 1024**2,
        stop_signal="SIGINT",
    )
    said = layer(stack(planned), 1)["services"]["web"]
    assert said["stop_signal"] == "SIGINT"
    assert said["mem_limit"] == said["memswap_limit"] == "64M"
    assert said["mem_reservation"] == "32M"
    assert said["environment"] == {"PASSWORD": ("reset", "null"), "GREETING": 'a "b" $$c #d'}
    assert said["command"] == ["run", "--x=$$HOME"]
    assert said["ports"] == ("reset", [])
    assert said["cap_drop"] == ("override", ["ALL"])
    assert said["networks"] == ("override", ["app"])
    assert said["depends_on"] == ("override", {"db": {"condition": "service_healthy"}})
    assert said["ulimits"] == {"nofile": {"soft": 512, "hard": 512}}
    assert said["healthcheck"]["interval"] == "10s"
    assert said["logging"][1]["driver"] == "journald"


def test_none_leaves_what_the_base_says() -> None:
    said = layer(stack(service()), 1)["services"]["web"]
    assert not {
        "user",
        "command",
        "entrypoint",
        "healthcheck",
        "shm_size",
        "stop_signal",
        "environment",
        "labels",
    } & set(said)
    assert "ulimits" not in said


def test_target_publishes_by_address_and_backs_volumes() -> None:
    planned = service(ports=(Port(80, 80, "203.0.113.1"),), volumes={"data": "/data"})
    volumes = {"data": VolumePlan("shop_data", "/srv/shop/data", 1, 1), "kept": VolumePlan("old_kept", None, 1, 1)}
    said = layer(stack(planned, volumes=volumes), 2)
    assert said["services"]["web"]["ports"] == ["203.0.113.1:80:80"]
    assert said["volumes"]["data"]["driver_opts"] == {"type": "none", "o": "bind", "device": "/srv/shop/data"}
    assert said["volumes"]["kept"] == {"name": "old_kept"}


def test_what_the_plan_does_not_hold_cannot_be_started() -> None:
    said = layer(stack(service()), 2)["services"]["old"]
    assert said["profiles"] == ("override", ["batten-removed"])
    assert said["ports"] == ("reset", [])


def test_a_directory_that_batten_made_is_not_filled_from_the_image() -> None:
    planned = service(volumes={"data": "/data", "kept": "/kept"})
    volumes = {"data": VolumePlan("shop_data", "/srv/shop/data", 1, 1), "kept": VolumePlan("old_kept", None, 1, 1)}
    assert mounts(planned, stack(planned, volumes=volumes)) == ("data:/data:nocopy", "kept:/kept")


def test_our_mounts_replace_the_bases_at_the_same_place() -> None:
    planned = service(
        volumes={"data": "/data"},
        extra_volumes=("./conf:/etc/web:ro", "/var/log/journal:/var/log/journal:ro"),
        files=FilesMount("/etc/web", "d1"),
        secrets=("password",),
    )
    found = mounts(planned, stack(planned))
    assert [item if isinstance(item, str) else item["source"] for item in found] == [
        "data:/data",
        "/opt/batten/shop/files/web/d1",
        "/opt/batten/shop/secrets/web",
        "/var/log/journal:/var/log/journal:ro",
    ]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, False),
        ({"secrets": ("x",)}, True),
        ({"secrets": ("x",), "reload": ("SIGNAL", "HUP")}, False),
        ({"secrets": ("x",), "reload": ()}, False),
        ({"reload": ("SIGNAL", "HUP")}, False),
    ],
)
def test_a_digest_label_only_where_nothing_else_helps(changes: dict[str, Any], wanted: bool) -> None:
    assert reads_secrets_at_start_only(service(**changes)) is wanted
    labels = layer(stack(service(**changes)), 1)["services"]["web"].get("labels")
    assert labels == ({"io.batten.digest": "${BATTEN_DIGEST_WEB:-}"} if wanted else None)


def test_files_render_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    place = tmp_path / "web"
    place.mkdir()
    (place / "plain.conf").write_text("a {{ not jinja }}\n")
    (place / "made.conf.j2").write_text("{{ stack.name }} {{ settings }} {{ service.name }} {{ data.words.x }}\n")
    (place / "absent.j2").write_text("{% if false %}x{% endif %}\n")
    (place / "words.data.yaml").write_text("x: y\n")
    plan = stack(service(files=FilesMount("/etc/web")))
    found = files(plan, "S", tmp_path)["web"]
    assert found.entries == {"plain.conf": "a {{ not jinja }}\n", "made.conf": "shop S web y\n"}
    digest = with_digests(plan, {"web": found}).services["web"].files
    assert digest == FilesMount("/etc/web", found.digest)


def test_a_files_mount_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BattenError, match="no files"):
        files(stack(service(files=FilesMount("/etc/web"))), None, tmp_path)


def test_a_digest_tells_names_from_contents() -> None:
    digests = [
        RenderedFiles(entries).digest for entries in ({"a": "bc"}, {"ab": "c"}, {"a": "b", "c": ""}, {"a": "bc "})
    ]
    assert len(set(digests)) == 4
    assert RenderedFiles({"a": "1", "b": "2"}).digest == RenderedFiles({"b": "2", "a": "1"}).digest


def test_base_files_follow_binds_and_stay_beside_the_base(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "a.txt").write_text("A")
    plan = stack(service(extra_volumes=("./conf:/etc/web:ro", "/var/log:/logs:ro")))
    assert base_files(plan, tmp_path) == {"conf/a.txt": base64.b64encode(b"A").decode()}
    for source in ("./gone", "../outside"):
        with pytest.raises(BattenError, match="not beside the base"):
            base_files(stack(service(extra_volumes=(f"{source}:/x",))), tmp_path)


def test_secrets_go_to_services_of_the_plan_only() -> None:
    definition = parse_definition(
        {
            "secrets": {"password": {"generator": "hex"}},
            "services": {
                "web": {"secrets": {"password": {"secret": "password"}}},
                "off": {"secrets": {"password": {"secret": "password"}}},
            },
        },
        "batten.yaml",
    )
    found = secrets(stack(service(secrets=("password",), user="70:71")), definition)
    assert found["deliveries"] == {"web": {"uid": 70, "gid": 71, "files": {"password": {"secret": "password"}}}}
    assert found["generate"]["password"]["generator"] == "hex"
    assert owner(service()) == (0, 0)


@pytest.fixture
def settings() -> StackSettings:
    return StackSettings.from_variables({"stack_name": "shop", "stack_profiles": ["auth"], "stack_build": "host"})


def test_a_release_is_json_and_the_same_every_time(settings: StackSettings) -> None:
    capacity = Capacity(memory_bytes=8 * 1024**3, cpus=4, default_addresses=("203.0.113.1",))
    plan, _ = plan_stack(settings, capacity)
    definition = load_inputs(settings).definition
    first, second = release(plan, settings, definition), release(plan, settings, definition)
    assert first == second == json.loads(json.dumps(first))
    revived = stack_from_json(first["plan"])
    assert revived.services["caddy"].files == FilesMount("/etc/caddy", first["files"]["caddy"]["digest"])
    assert first["builds"]["api"]["image"] == revived.services["api"].image
    assert "Dockerfile" in first["builds"]["api"]["entries"]
    assert first["base_files"] == {}


def test_write_lays_a_release_out_for_reading(settings: StackSettings, tmp_path: Path) -> None:
    capacity = Capacity(memory_bytes=8 * 1024**3, cpus=4, default_addresses=("203.0.113.1",))
    plan, _ = plan_stack(settings, capacity)
    payload = release(plan, settings, load_inputs(settings).definition)
    written = write(payload, tmp_path)
    digest = payload["files"]["caddy"]["digest"]
    assert tmp_path / "files" / "caddy" / digest / "Caddyfile" in written
    assert (tmp_path / "compose.prod.yaml").read_text() == payload["layers"][1]["text"]
    with pytest.raises(BattenError, match="cannot write"):
        write(payload, tmp_path / "compose.yaml")


def _context(path: Path) -> Path:
    (path / "app").mkdir()
    (path / "app" / "Dockerfile").write_text("FROM scratch\n")
    (path / "app" / "main.py").write_text("1\n")
    (path / "app" / "__pycache__").mkdir()
    (path / "app" / "__pycache__" / "x.pyc").write_text("x")
    (path / "app" / "notes.md").write_text("x")
    (path / "app" / ".dockerignore").write_text("*.md\n")
    base = path / "compose.yaml"
    base.write_text("services: {web: {image: reg.example.com/web:1, build: {context: ./app, args: {V: '${V}'}}}}\n")
    return base


def test_a_built_image_is_named_by_its_context(tmp_path: Path) -> None:
    base = _context(tmp_path)
    plan = stack(service(build=True, image="web:1"))
    found = building.builds(plan, base, {"V": "2"})
    assert sorted(found["web"].entries) == [".dockerignore", "Dockerfile", "main.py"]
    assert found["web"].arguments == {"V": "2"}
    image = building.with_images(plan, found).services["web"].image
    assert image == f"web:{found['web'].digest}"
    (tmp_path / "app" / "notes.md").write_text("changed")
    assert building.builds(plan, base, {"V": "2"})["web"].digest == found["web"].digest
    (tmp_path / "app" / "main.py").write_text("2\n")
    assert building.builds(plan, base, {"V": "2"})["web"].digest != found["web"].digest
    assert building.builds(plan, base, {"V": "3"})["web"].digest != found["web"].digest


@pytest.mark.parametrize(
    ("build", "what"),
    [("./gone", "no directory"), ("{context: ./app, dockerfile: D}", "no D"), ("{context: ./app, ssh: [x]}", "ssh")],
)
def test_a_context_that_cannot_be_built_is_refused(tmp_path: Path, build: str, what: str) -> None:
    base = _context(tmp_path)
    base.write_text(f"services: {{web: {{build: {build}}}}}\n")
    with pytest.raises(BattenError, match=what) as caught:
        building.builds(stack(service(build=True)), base, {})
    assert "web.build" in caught.value.where
