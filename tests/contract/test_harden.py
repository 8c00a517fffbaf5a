"""`batten harden` on Compose files as people write them, read and merged by the real Compose."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from batten import compose
from batten.cli import main
from batten.errors import BattenError
from batten.harden import credentials_of, harden, lost, save
from batten.harden.stack import check
from batten.plan.model import Capacity
from batten.plan.settings import StackSettings
from batten.plan.stack import load_inputs, plan_stack
from batten.render import release, write
from tests.contract.conftest import compose as run_compose

HOST = Capacity(memory_bytes=16 * 1024**3, cpus=4)
LINTER = Path(sys.executable).parent / "compose-lint"
# What an overlay can mend without knowing the image.
FIXABLE = {"CL-0003", "CL-0006", "CL-0014", "CL-0026"}

SHOP = {
    "compose.yaml": """
x-common: &common
  restart: always
  logging: {driver: none}
include: [data/compose.yaml]
services:
  web:
    <<: *common
    build: ./web
    ports: ["8080:80", "127.0.0.1:9229:9229", {target: 443, published: "8443", protocol: tcp}]
    environment: ["COLOUR=blue", "TOKEN=$${not}a$$variable", "TAG=${TAG:-none}"]
    env_file: [web.env]
    volumes: ["./static:/srv/static:ro", "cache:/var/cache/web", /scratch, {type: tmpfs, target: /run/web}]
    depends_on: [db, migrate]
    networks: {front: {aliases: [shop]}, back: null}
    tmpfs: /tmp
    security_opt: [label=disable]
  migrate:
    image: example.org/shop/migrate:1
    depends_on: {db: {condition: service_started, restart: true}}
    networks: [back]
  worker:
    extends: {file: common.yaml, service: base}
    image: "example.org/shop/worker:${TAG:-1}"
    deploy: {replicas: 3, resources: {limits: {memory: 300M}}}
    networks: [back]
    secrets: [signing]
  console:
    image: dpage/pgadmin4:8
    profiles: [tools]
    ports: ["5050:80"]
networks: {front: {}, back: {internal: true}}
volumes: {cache: {}}
secrets: {signing: {file: ./signing.key}}
""",
    "data/compose.yaml": """
services:
  db:
    image: mirror.example.org/hub/library/postgres:16
    ports: ["5432:5432"]
    environment: {POSTGRES_PASSWORD: hunter2hunter2, POSTGRES_DB: shop}
    volumes: ["data:/var/lib/postgresql/data", "./init:/docker-entrypoint-initdb.d:ro"]
    networks: [back]
volumes: {data: {}}
""",
    "common.yaml": """
services:
  base:
    environment: {QUEUE: "amqp://shop:hunter2hunter2@mq/", RATE: 5}
    cap_add: [NET_ADMIN]
    ulimits: {nofile: 4096}
""",
    "compose.override.yaml": """
services:
  web:
    ports: ["9000:9000"]
    mem_limit: 200M
""",
    "web.env": "FROM_FILE=yes\n",
    "signing.key": "k\n",
    ".env": "TAG=7\n",
    "web/Dockerfile": 'FROM python:3.12-slim\nUSER 1000\nEXPOSE 80\nCMD ["python", "app.py"]\n',
}


def lay(directory: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    return directory / "compose.yaml"


@pytest.fixture
def shop(tmp_path: Path) -> list[Path]:
    base = lay(tmp_path / "shop", SHOP)
    return [base, base.with_name("compose.override.yaml")]


def hardened(files: list[Path], out: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    """Harden, write, and return what was made with the merged services."""
    made = harden(files, HOST, **options)
    saved = save(made, out)
    assert saved.lost == ()
    layers = [out / layer.name for layer in made.layers]
    return made, dict(compose.read(files, ("*",), layers).services)


def test_what_compose_reads_is_read_and_nothing_is_lost(shop: list[Path], tmp_path: Path) -> None:
    before = compose.read(shop).services
    assert set(before) == {"web", "migrate", "worker", "console", "db"}  # include, extends, profiles
    assert before["web"]["environment"]["FROM_FILE"] == "yes"
    _, after = hardened(shop, tmp_path / "out")
    for name, service in before.items():
        for key in ("environment", "volumes", "networks", "secrets", "build", "image", "profiles", "depends_on"):
            had, has = service.get(key), after[name].get(key)
            assert set(had) <= set(has or {}) if isinstance(had, dict) else has == had, (name, key)
    assert after["web"]["environment"]["TOKEN"] == before["web"]["environment"]["TOKEN"]
    assert after["migrate"]["depends_on"]["db"] == {"condition": "service_healthy", "required": True, "restart": True}
    assert [port["target"] for port in after["web"]["ports"]] == [port["target"] for port in before["web"]["ports"]]


def test_every_service_gets_what_is_safe_without_knowing_it(shop: list[Path], tmp_path: Path) -> None:
    _, after = hardened(shop, tmp_path / "out")
    for name, service in after.items():
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        limits = (service.get("deploy") or {}).get("resources", {}).get("limits", {})
        assert service.get("mem_limit") or limits.get("memory"), name
        assert service.get("cpus") or limits.get("cpus"), name
        assert service.get("pids_limit") or limits.get("pids"), name
        assert service["logging"]["driver"] == "local", name
    # Who asks for NET_ADMIN keeps what the engine gives.
    assert {"NET_ADMIN", "NET_RAW"} <= set(after["worker"]["cap_add"])
    assert "cap_add" not in after["web"], "its Dockerfile says USER 1000"
    assert "restart" not in after["migrate"]  # others' words: it runs once
    assert after["web"]["mem_limit"] == str(200 * 1024**2)  # the file's own limit is a decision
    assert after["worker"]["deploy"]["resources"]["limits"]["memory"] == str(300 * 1024**2)
    assert after["worker"]["ulimits"]["nofile"] == 4096
    assert "label=disable" in after["web"]["security_opt"]


def test_databases_and_consoles_are_published_for_the_host_alone(shop: list[Path], tmp_path: Path) -> None:
    _, after = hardened(shop, tmp_path / "out")
    where = {
        (name, port["target"]): port.get("host_ip") for name, one in after.items() for port in one.get("ports", ())
    }
    assert where == {
        ("db", 5432): "127.0.0.1",
        ("console", 80): "127.0.0.1",
        ("web", 80): None,
        ("web", 443): None,
        ("web", 9000): None,
        ("web", 9229): "127.0.0.1",
    }


def test_a_known_image_behind_a_mirror_has_its_profile(shop: list[Path], tmp_path: Path) -> None:
    made, after = hardened(shop, tmp_path / "out")
    assert made.stack.services["db"].profile == "postgres"
    assert made.decisions["db"].confidence == "tried"
    assert after["db"]["user"] == "999:999"
    assert after["db"]["read_only"] is True
    assert after["db"]["healthcheck"]["test"][:2] == ["CMD", "pg_isready"]
    assert made.decisions["web"].confidence == "assumed"
    assert "user" not in after["web"]


def test_the_linter_finds_nothing_that_an_overlay_could_mend(shop: list[Path], tmp_path: Path) -> None:
    made, _ = hardened(shop, tmp_path / "out")
    words = [
        word
        for path in (*shop, *(tmp_path / "out" / layer.name for layer in made.layers))
        for word in ("-f", str(path))
    ]
    merged = tmp_path / "merged.yaml"
    merged.write_text(run_compose(*words, "--profile", "*", "config").stdout)
    result = subprocess.run([LINTER, "--format", "json", merged], capture_output=True, text=True, check=False)
    found = {(item["rule_id"], item["service"]) for item in json.loads(result.stdout)["findings"]}
    assert not {item for item in found if item[0] in FIXABLE}
    assert ("CL-0005", "db") not in found
    assert ("CL-0005", "console") not in found
    assert ("CL-0005", "web") in found  # 8080 is for people: the report says so, and leaves it


def test_credentials_become_secrets_and_no_value_is_written(shop: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    made, _ = hardened(shop, out)
    found = {(each.service, each.variable): each for each in made.credentials}
    assert set(found) == {("db", "POSTGRES_PASSWORD"), ("worker", "QUEUE"), ("web", "TOKEN")}
    # The same value at both ends is one secret.
    assert found["worker", "QUEUE"].secret == found["db", "POSTGRES_PASSWORD"].secret == "postgres_password"
    for path in out.iterdir():
        assert "hunter2" not in path.read_text(), path
    assert "hunter2" not in repr(made.credentials)
    definition = yaml.safe_load((out / "batten.yaml").read_text())
    assert definition["secrets"]["postgres_password"] == {"generator": "provided"}
    overlay = [out / layer.name for layer in made.layers]
    merged = compose.read(shop, ("*",), [*overlay, out / "compose.secrets.yaml"]).services
    # No value: Compose passes no such variable to the container (compose-spec, "environment").
    assert merged["db"]["environment"]["POSTGRES_PASSWORD"] is None
    assert merged["db"]["environment"]["POSTGRES_PASSWORD_FILE"] == "/run/secrets/postgres_password"
    assert merged["web"]["environment"]["TOKEN"] is None
    assert merged["web"]["environment"]["COLOUR"] == "blue"
    assert merged["web"]["entrypoint"][-1] == "python"
    mounts = [mount["source"] for mount in merged["db"]["volumes"] if mount["target"] == "/run/secrets"]
    assert mounts == ["/opt/batten/shop/secrets/db"]
    assert "batten secrets import" in (out / "REPORT.md").read_text()


def test_the_files_of_the_user_stay_as_they_are(shop: list[Path], tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in shop[0].parent.rglob("*") if path.is_file()}
    hardened(shop, tmp_path / "out")
    assert {path: path.read_bytes() for path in shop[0].parent.rglob("*") if path.is_file()} == before
    own = shop[0].rename(shop[0].with_name("compose.prod.yaml"))
    made = harden([own], HOST)
    with pytest.raises(BattenError, match="your own"):
        save(made, own.parent)


def test_the_command_line(shop: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["harden", *map(str, shop), "--memory", "8G", "--cpus", "4", "-o", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("compose.prod.yaml", "compose.selfhosted.yaml", "compose.secrets.yaml"),
        *("batten.yaml", "plan.json", "REPORT.md"),
    }
    text = (tmp_path / "out" / "REPORT.md").read_text()
    for name in ("web", "migrate", "worker", "console", "db"):
        assert f"## {name}\n" in text
    assert main([*arguments, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out.partition("{")[2].join(["{", ""]))
    assert answer["hosts"]["host"]["stacks"]["shop"]["services"]["db"]["profile"] == "postgres"
    assert answer["services"]["web"]["confidence"] == "assumed"
    assert main([*arguments, "--target", "digitalocean", "--profile", "none"]) == 0
    assert (tmp_path / "out" / "compose.digitalocean.yaml").is_file()


def test_a_required_variable_that_nobody_set_is_a_finding(tmp_path: Path) -> None:
    base = lay(
        tmp_path, {"compose.yaml": "services: {a: {image: 'busybox:${NEEDED:?set it}'}, b: {image: 'b:1$OTHER'}}\n"}
    )
    made = harden([base], HOST)
    assert any("NEEDED" in finding.what for finding in made.findings)
    assert any("OTHER" in finding.what and finding.severity == "note" for finding in made.findings)
    written = tmp_path / "prod.yaml"
    written.write_text(made.layers[0].text)
    assert check(made, [written]) == ()


BAD = {
    "no YAML": "services: [",
    "nothing": "",
    "no services": "services: {}\n",
    "a list": "- a\n",
    "unknown key": "services: {a: {image: x, imagee: y}}\n",
    "no image": "services: {a: {ports: ['80']}}\n",
    "a cycle": "services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [a]}}\n",
    "a stranger": "services: {a: {image: x, depends_on: [b]}}\n",
    "an include of itself": "include: [compose.yaml]\nservices: {a: {image: x}}\n",
    "an extends of itself": "services: {a: {extends: a}}\n",
    "no such include": "include: [gone.yaml]\nservices: {a: {image: x}}\n",
    "no such network": "services: {a: {image: x, networks: [gone]}}\n",
    "a port": "services: {a: {image: x, ports: ['99999:80']}}\n",
    "a dollar": "services: {a: {image: x, environment: {PASSWORD: 'pa${!ss'}}}\n",
}


@pytest.mark.parametrize("kind", BAD)
def test_what_compose_refuses_is_one_clear_error(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = lay(tmp_path, {"compose.yaml": BAD[kind]})
    assert main(["harden", str(base), "--memory", "8G", "--cpus", "4", "-o", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("batten: ")
    assert "fix: " in said
    assert "Traceback" not in said
    assert "pa$" not in said.partition("fix:")[0]


ODD = {
    "absurd limits": "services: {a: {image: x, mem_limit: 900T, cpus: 512, pids_limit: -1}}\n",
    "a dot": "services: {'a.b': {image: x, mem_limit: 6291456}}\n",
    "host network": "services: {a: {image: x, network_mode: host, privileged: true, pid: host}}\n",
    "no network": "services: {a: {image: x, network_mode: none}}\n",
    "of another": "services: {a: {image: x, network_mode: 'service:b'}, b: {image: y}}\n",
    "all dropped": "services: {a: {image: x, cap_drop: [ALL], cap_add: [CHOWN], read_only: true}}\n",
    "all added": "services: {a: {image: x, cap_add: [ALL], security_opt: ['no-new-privileges:false']}}\n",
    "both families": "services: {a: {image: x, ports: ['0.0.0.0:5432:5432', '[::]:5432:5432']}}\n",
    "no number": "services: {a: {image: x, ports: ['5432', '8000-8003:8000-8003', '9000-9100:80']}}\n",
    "scaled": "services: {a: {image: x, scale: 4}, b: {image: y, scale: 0}}\n",
    "shell words": "services: {a: {image: redis, command: \"sh -c 'echo $$HOME; exec redis-server'\"}}\n",
    "health off": "services: {a: {image: postgres:16, healthcheck: {disable: true}}}\n",
    "nothing set": "services: {a: {image: postgres:16, environment: {A: null, B: ''}, labels: {c: '$$x'}}}\n",
    "unicode": "services: {a: {image: x, environment: {GREETING: 'grüß\\u2028 dich', Q: 'a\"b'}}}\n",
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_odd_is_planned_or_refused_in_words(kind: str, tmp_path: Path) -> None:
    base = lay(tmp_path, {"compose.yaml": ODD[kind]})
    if kind == "absurd limits":
        with pytest.raises(BattenError, match="does not fit"):
            harden([base], HOST)
        return
    hardened([base], tmp_path / "out")


def test_500_services(tmp_path: Path) -> None:
    services = {f"s{number}": {"image": f"example.org/s{number}:1"} for number in range(500)}
    base = lay(tmp_path, {"compose.yaml": json.dumps({"services": services})})
    with pytest.raises(BattenError, match="does not fit"):
        harden([base], HOST)
    big = Capacity(memory_bytes=256 * 1024**3, cpus=32)
    assert len(harden([base], big).stack.services) == 500


IMAGES = st.sampled_from(
    ["postgres:16", "redis:8-alpine", "example.org/a/b:1", "caddy:2", "nginx", "mirror.example/x/y"]
)
PORTS = st.lists(
    st.sampled_from(["80", "8080:80", "127.0.0.1:5432:5432", "6379:6379", "53:53/udp", "9000-9002:9000-9002"]),
    unique=True,
    max_size=3,
)
MOUNTS = st.lists(
    st.sampled_from(["./a:/a", "./b:/data:ro", "vol:/var/lib/postgresql/data", "/anonymous", "vol:/var/tmp"]),
    unique_by=lambda item: item.rpartition(":")[2] if item.count(":") < 2 else item.split(":")[1],
    max_size=3,
)
SERVICES = st.fixed_dictionaries(
    {"image": IMAGES},
    optional={
        "ports": PORTS,
        "volumes": MOUNTS,
        "environment": st.dictionaries(
            st.sampled_from(["A", "DB_PASSWORD", "URL"]), st.sampled_from(["x", "$$y", "redis://u:secret1@h/0", ""])
        ),
        "user": st.sampled_from(["0", "root", "1000:1000", "app"]),
        "command": st.sampled_from([["run"], ["redis-server", "--port", "7"], ["-c", "a=b"]]),
        "restart": st.sampled_from(["no", "always", "on-failure"]),
        "read_only": st.booleans(),
        "tmpfs": st.sampled_from([["/tmp"], ["/run", "/tmp:size=1M"]]),
        "cap_add": st.sampled_from([["NET_ADMIN"], ["CHOWN", "SYS_TIME"]]),
        "cap_drop": st.sampled_from([["ALL"], ["MKNOD"]]),
        "mem_limit": st.sampled_from(["64M", "1G"]),
        "privileged": st.booleans(),
        "init": st.booleans(),
        "dns": st.just(["1.1.1.1"]),
        "extra_hosts": st.just(["h:10.0.0.1"]),
        "devices": st.just(["/dev/null:/dev/x"]),
        "labels": st.just({"a": "b"}),
    },
)


@hypothesis_settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_service_loses_anything(data: st.DataObject, tmp_path: Path) -> None:
    services = data.draw(st.dictionaries(st.sampled_from(["a", "b", "c"]), SERVICES, min_size=1))
    names = sorted(services)
    for index, name in enumerate(names[1:], 1):
        services[name]["depends_on"] = data.draw(st.lists(st.sampled_from(names[:index]), unique=True))
    base = lay(tmp_path, {"compose.yaml": json.dumps({"services": services, "volumes": {"vol": {}}})})
    made = harden([base], HOST)
    assert save(made, tmp_path / "out").lost == ()


def test_a_stack_of_several_files_is_deployed_as_what_compose_makes_of_them(tmp_path: Path) -> None:
    files = {**SHOP, "compose.yaml": SHOP["compose.yaml"].replace("    env_file: [web.env]\n", "")}
    lay(tmp_path / "shop", files)
    (tmp_path / "shop/data/init").mkdir()
    (tmp_path / "shop/data/init/schema.sql").write_text("select 1;\n")
    (tmp_path / "shop/static").mkdir()
    variables = {
        "stack_name": "shop",
        "stack_compose_files": ["shop/compose.yaml", "shop/compose.override.yaml"],
        "stack_build": "host",
        "stack_environment": {"TAG": "9"},
    }
    settings = StackSettings.from_variables(variables, root=tmp_path)
    inputs = load_inputs(settings)
    assert set(inputs.base.services) == {"web", "migrate", "worker", "db"}  # console is behind a Compose profile
    assert inputs.base.services["worker"].image == "example.org/shop/worker:9"
    plan, _ = plan_stack(settings, HOST, inputs=inputs)
    payload = release(plan, settings, inputs.definition)
    assert base64.b64decode(payload["base_files"]["data/init/schema.sql"]) == b"select 1;\n"
    assert "Dockerfile" in payload["builds"]["web"]["entries"]
    write(payload, tmp_path / "release")
    layers = [tmp_path / "release" / layer["name"] for layer in payload["layers"]]
    merged = compose.read(layers[:1], ("none",), layers[1:]).services
    assert merged["db"]["user"] == "999:999"
    lay(tmp_path / "shop", SHOP)
    with pytest.raises(BattenError, match="do not come along"):
        load_inputs(settings)
    with pytest.raises(BattenError, match="both name the base"):
        StackSettings.from_variables({**variables, "stack_base": "compose.yaml"})


def test_import_finds_in_compose_files_what_harden_declares(shop: list[Path], tmp_path: Path) -> None:
    made, _ = hardened(shop, tmp_path / "out")
    found = credentials_of(shop)
    assert {(each.service, each.variable, each.secret) for each in found} == {
        (each.service, each.variable, each.secret) for each in made.credentials
    }
    assert {each.value for each in found if each.secret == "postgres_password"} == {"hunter2hunter2"}


@pytest.mark.parametrize("environment", ["{TOKEN: abcdefgh, COLOUR: blue}", "[TOKEN=abcdefgh, COLOUR=blue]"])
def test_a_variable_that_the_definition_takes_away_is_gone_in_either_form(environment: str, tmp_path: Path) -> None:
    lay(tmp_path, {"compose.yaml": f"services: {{app: {{image: 'x:1', environment: {environment}}}}}\n"})
    lay(tmp_path, {"batten.yaml": "services: {app: {environment: {TOKEN: null}}}\n"})
    settings = StackSettings.from_variables({"stack_name": "app", "stack_base": "compose.yaml"}, root=tmp_path)
    inputs = load_inputs(settings)
    plan, _ = plan_stack(settings, HOST, inputs=inputs)
    write(release(plan, settings, inputs.definition), tmp_path / "release")
    names = ("compose.prod.yaml", "compose.selfhosted.yaml")
    merged = compose.read([tmp_path / "compose.yaml"], (), [tmp_path / "release" / name for name in names]).services
    assert merged["app"]["environment"].get("TOKEN") is None
    assert merged["app"]["environment"]["COLOUR"] == "blue"


DEPLOYED = """
services:
  web:
    image: nginx:1.27
    network_mode: host
    volumes: [/anonymous, "./static:/usr/share/nginx/html:ro", {type: tmpfs, target: /scratch}]
    tmpfs: [/run/x]
    security_opt: [label=disable]
  db:
    image: mirror.example.org/hub/library/postgres:16
    user: "0"
    healthcheck: {test: [CMD, "true"], interval: 3s}
    cap_add: [SYS_NICE]
    networks: {back: {aliases: [dbx]}}
    ports: ["5432:5432"]
    mem_limit: 700m
    memswap_limit: 1g
    restart: always
    volumes: ["./data:/var/lib/postgresql/data"]
  cache:
    image: example.org/shop/cache:1
    command: [redis-server, --appendonly, "yes"]
    networks: [back]
  app:
    image: example.org/shop/app:1
    networks: [back, outer]
    depends_on: {db: {condition: service_healthy, restart: true}}
    ports: ["8080:80", "127.0.0.1:9000:9000", "53:53/udp"]
networks: {back: {}, outer: {external: true}}
"""


def deployed_as_hardened(place: Path) -> tuple[Any, Any, Any]:
    """Harden, deploy the same files with the batten.yaml that came of it; return both plans and what Compose merges."""
    base = lay(place, {"compose.yaml": DEPLOYED, "static/index.html": "hello\n", "data/x": ""})
    made, _ = hardened([base], place / "out")
    variables = {"stack_name": "shop", "stack_compose_files": ["compose.yaml"], "stack_definition": "out/batten.yaml"}
    settings = StackSettings.from_variables(variables, root=place)
    inputs = load_inputs(settings)
    plan, findings = plan_stack(settings, HOST, inputs=inputs)
    payload = release(plan, settings, inputs.definition)
    write(payload, place / "release")
    layers = [place / "release" / layer["name"] for layer in payload["layers"]]
    return made.stack, (plan, findings), (compose.read([base]).services, compose.read(layers[:1], (), layers[1:]))


def test_what_is_deployed_loses_nothing_that_a_service_had(tmp_path: Path) -> None:
    _, _, (before, after) = deployed_as_hardened(tmp_path)
    moved = json.loads(json.dumps(dict(before)).replace(str(tmp_path), str(tmp_path / "release")))
    assert lost.between(moved, after.services) == ()
    assert after.services["db"]["healthcheck"] == {"test": ["CMD", "true"], "interval": "3s"}
    assert after.services["db"]["networks"]["back"] == {"aliases": ["dbx"]}
    assert (after.services["db"]["restart"], after.services["db"]["memswap_limit"]) == ("always", str(1024**3))
    assert after.services["app"]["depends_on"]["db"]["restart"] is True
    assert [port["host_ip"] for port in after.services["db"]["ports"]] == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("said", "ends", "restart"),
    [
        ({}, True, "no"),
        ({"deploy": {"restart_policy": {"condition": "on-failure", "max_attempts": 2}}}, True, "on-failure:2"),
        ({"restart": "unless-stopped"}, False, "unless-stopped"),
    ],
)
def test_what_is_deployed_ends_as_its_name_tells_or_stays_as_its_file_says(
    tmp_path: Path, said: dict[str, Any], ends: bool, restart: str
) -> None:
    file = {"services": {"migrate": {"image": "example.org/app:1", **said}, "web": {"image": "example.org/app:1"}}}
    lay(tmp_path, {"compose.yaml": json.dumps(file)})
    variables = {"stack_name": "shop", "stack_compose_files": ["compose.yaml"]}
    plan, _ = plan_stack(StackSettings.from_variables(variables, root=tmp_path), HOST)
    assert (plan.services["migrate"].one_shot, plan.services["migrate"].restart) == (ends, restart)
    assert not plan.services["web"].one_shot


def test_what_is_deployed_is_decided_as_by_harden(tmp_path: Path) -> None:
    hardened_plan, (plan, findings), _ = deployed_as_hardened(tmp_path)
    for name, one in plan.services.items():
        other = hardened_plan.services[name]
        assert (one.profile, one.read_only, one.healthcheck) == (other.profile, other.read_only, other.healthcheck), (
            name
        )
        assert one.memory_bytes >= 128 * 1024**2
    assert plan.services["db"].user == "0"  # the file's own: its data may be root's
    assert plan.services["cache"].profile == "redis"  # by what it runs, and so its capabilities are known
    assert any(one.where == "shop/db" and "does not start as" in one.what for one in findings)


def test_the_definition_decides_over_caution(tmp_path: Path) -> None:
    lay(
        tmp_path,
        {"compose.yaml": "services: {db: {image: 'postgres:17', volumes: ['./data:/var/lib/postgresql/data']}}\n"},
    )
    variables = {"stack_name": "shop", "stack_compose_files": ["compose.yaml"]}

    def planned(services: dict[str, Any]) -> Any:
        made = StackSettings.from_variables({**variables, "stack_services": services}, root=tmp_path)
        return plan_stack(made, HOST)[0].services["db"]

    cautious = planned({})
    assert (cautious.user, cautious.read_only) == (None, False)
    assert planned({"db": {"user": "999:999", "read_only": True}}).user == "999:999"
    assert planned({"db": {"profile": "postgres"}}).user == "999:999"
    assert planned({"db": {"profile": "postgres"}}).read_only is True


def test_a_check_that_the_file_has_stays(tmp_path: Path) -> None:
    text = "services: {db: {image: 'postgres:17', healthcheck: {test: [CMD, 'true'], interval: 3s}}}\n"
    base = lay(tmp_path, {"compose.yaml": text})
    _, merged = hardened([base], tmp_path / "out")
    assert merged["db"]["healthcheck"] == {"test": ["CMD", "true"], "interval": "3s"}


PASSWORD = "services: {db: {image: 'postgres:17', environment: {POSTGRES_PASSWORD: hunter2hunter2}}}\n"
PLAIN = "services: {db: {image: 'postgres:17'}}\n"


def test_a_second_run_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    out = tmp_path / "out"
    hardened([lay(tmp_path, {"compose.yaml": PASSWORD})], out)
    (out / "notes.txt").write_text("mine\n")
    assert {"batten.yaml", "compose.secrets.yaml"} <= {path.name for path in out.iterdir()}
    hardened([lay(tmp_path, {"compose.yaml": PLAIN})], out, target="digitalocean")
    written = ["REPORT.md", "compose.digitalocean.yaml", "compose.prod.yaml", "plan.json"]
    assert sorted(path.name for path in out.iterdir()) == sorted([*written, "notes.txt"])
    hardened([lay(tmp_path, {"compose.yaml": PLAIN})], out, target="digitalocean")


@pytest.mark.parametrize("name", ["compose.prod.yaml", "REPORT.md", "plan.json", "batten.yaml"])
def test_what_is_not_ours_stays(name: str, tmp_path: Path) -> None:
    made = harden([lay(tmp_path, {"compose.yaml": PASSWORD})], HOST)
    lay(tmp_path / "out", {name: "{}\n"})
    with pytest.raises(BattenError, match="not of an earlier run"):
        save(made, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    assert (tmp_path / "out" / name).read_text() == "{}\n"


def test_what_a_person_changed_stays(tmp_path: Path) -> None:
    made = harden([lay(tmp_path, {"compose.yaml": PLAIN})], HOST)
    save(made, tmp_path / "out")
    (tmp_path / "out/REPORT.md").write_text("approved\n")
    with pytest.raises(BattenError, match="somebody has changed"):
        save(made, tmp_path / "out")


@pytest.mark.parametrize("record", ["[]", '{"written": {"../victim": ""}}', '{"written": []}', "[" * 100_000])
def test_a_record_that_somebody_made_up_leads_nowhere(record: str, tmp_path: Path) -> None:
    made = harden([lay(tmp_path, {"compose.yaml": PLAIN, "victim": "mine\n"})], HOST)
    lay(tmp_path / "out", {"plan.json": record})
    with pytest.raises(BattenError, match="not of an earlier run"):
        save(made, tmp_path / "out")
    assert (tmp_path / "victim").read_text() == "mine\n"


@pytest.mark.parametrize("name", ["compose.prod.yaml", "plan.json"])
def test_a_link_in_the_directory_is_not_followed(name: str, tmp_path: Path) -> None:
    made = harden([lay(tmp_path, {"compose.yaml": PLAIN, "victim": "mine\n"})], HOST)
    save(made, tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    (tmp_path / "out" / name).symlink_to(tmp_path / "victim")
    with pytest.raises(BattenError, match="not of an earlier run"):
        save(made, tmp_path / "out")
    assert (tmp_path / "victim").read_text() == "mine\n"


HOSTILE = "x\n# INJECTED\n<script>alert(1)</script>|a|b| ![i](http://example.org/i) `rm`\x1b[2J"


def test_no_text_of_somebodys_file_is_markup_in_the_report(tmp_path: Path) -> None:
    service = {
        "image": f"example.org/app:1{HOSTILE}",
        "command": [f"--token={HOSTILE}", "y"],
        "environment": {f"{HOSTILE}_PASSWORD": "hunter2hunter2"},
        "labels": {f"password{HOSTILE}": "hunter2hunter2"},
        "devices": [f"/dev/{HOSTILE}:/dev/x"],
        "user": HOSTILE,
    }
    base = lay(tmp_path / "a b", {"compose.yaml": json.dumps({"name": "shop", "services": {"app": service}})})
    _, merged = hardened([base], tmp_path / "out")
    text = (tmp_path / "out/REPORT.md").read_text()
    assert "INJECTED" in text
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings[1:] == ["## app", "## Credentials in your files", "## What else a person should know"]
    assert not any(bad in text for bad in ("<script", "](http", "\x1b"))
    rows = [line for line in text.splitlines() if line.startswith("| app")]
    assert [re.sub(r"\\\|", "", row).count("|") for row in rows] == [10, 6]
    assert f"-f '{base}'" in text
    assert merged["app"]["user"] == HOSTILE
    assert not merged["app"].get("privileged")
    assert "hunter2" not in "".join(path.read_text() for path in (tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["1", "yes", "null", "1e3", "true", "0x1f", "a.b-c_d"])
def test_names_that_yaml_reads_as_something_else(name: str, tmp_path: Path) -> None:
    service = {"image": "x:1", "environment": {"no": "1", "X_TOKEN": "hunter2hunter2"}, "entrypoint": ["run"]}
    other = {"image": "postgres:17", "depends_on": [name], "networks": {name: None}, "ports": ["5432:5432"]}
    document = {"services": {name: service, "other": other}, "networks": {name: {}}}
    _, merged = hardened([lay(tmp_path, {"compose.yaml": json.dumps(document)})], tmp_path / "out")
    assert set(merged) == {name, "other"}
    assert merged[name]["mem_limit"]
    overlays = [tmp_path / "out" / each for each in ("compose.prod.yaml", "compose.selfhosted.yaml")]
    secret = compose.read([tmp_path / "compose.yaml"], ("*",), [*overlays, tmp_path / "out/compose.secrets.yaml"])
    assert set(secret.services) == {name, "other"}
    assert "X_TOKEN" not in (secret.services[name]["environment"] or {}) or (
        secret.services[name]["environment"]["X_TOKEN"] is None
    )


@pytest.mark.parametrize("dockerfile", ["/dev/zero", "pipe", ".", "gone", "large", "x" * 300])
def test_a_dockerfile_that_is_none_tells_nothing(dockerfile: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_text("FROM alpine\n" + "RUN true \\\n" * 500_000)
    build = {"context": ".", "dockerfile": dockerfile}
    made, _ = hardened(
        [lay(tmp_path, {"compose.yaml": json.dumps({"services": {"a": {"build": build}}})})], tmp_path / "o"
    )
    assert (made.decisions["a"].evidence.dockerfile is None) == (dockerfile != "large")


def test_a_mount_that_the_system_refuses_to_look_at(tmp_path: Path) -> None:
    service = {"image": "redis:8", "volumes": [f"./{'x' * 300}:/etc/x"]}
    made, _ = hardened([lay(tmp_path, {"compose.yaml": json.dumps({"services": {"a": service}})})], tmp_path / "out")
    assert made.decisions["a"].evidence.unreadable == ()


@pytest.mark.parametrize(
    ("memory", "cpus", "text", "words"),
    [
        ("512M", "0.5", "services: {a: {image: 'x:1'}}", None),
        ("512M", "0.5", "services: {a: {image: 'x:1'}, b: {image: 'postgres:17'}}", "does not fit the host"),
        ("8G", "0.5", "services: {a: {image: 'x:1', cpus: 9999}}", None),
        ("8G", "2", "services: {a: {image: 'x:1', mem_limit: 900g}}", "does not fit the host"),
        ("8G", "2", "services: {a: {image: 'x:1', mem_limit: 1k}}", None),
        ("8G", "2", "services: {a: {image: 'x:1', mem_limit: 0, cpus: 0, pids_limit: 0}}", None),
        ("8G", "2", "services: {a: {image: 'x:1', pids_limit: -1}}", None),
        ("8G", "2", "services: {a: {image: 'x:1', cpus: -1}}", "expected a number"),
        ("8G", "2", "services: {a: {image: 'x:1', deploy: {replicas: 100000}}}", "does not fit the host"),
        ("8G", "2", "services: {a: {image: 'x:1', depends_on: [a]}}", "Compose refuses it"),
        ("8G", "2", "include: [compose.yaml]\nservices: {a: {image: 'x:1'}}", "include cycle"),
        ("8G", "2", "services: {a: {extends: {service: b}}, b: {extends: {service: a}}}", "Compose refuses it"),
        ("8G", "2", "services: {'..': {image: 'x:1'}}", "cannot be a service's name"),
        ("8G", "2", "", "Compose refuses it"),
        ("8G", "2", "services: [", "Compose refuses it"),
        ("8G", "2", "volumes: {a: {}}", "there are no services"),
        ("1T", "1000", "name: ../../x\nservices: {a: {image: 'x:1'}}", None),
    ],
)
def test_bad_input_is_one_clear_error_or_a_plan(
    memory: str, cpus: str, text: str, words: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = lay(tmp_path, {"compose.yaml": text + "\n"})
    code = main(["harden", str(base), "--memory", memory, "--cpus", cpus, "-o", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert code == (0 if words is None else 1), said
    assert words is None or (words in said and "fix:" in said)
