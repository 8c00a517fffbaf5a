"""Declarations of secrets: what the host is told, what each service gets, and one clear error for what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as settings_
from hypothesis import strategies as st

from ansible_collections.batten.core.plugins.module_utils import delivery, generators
from batten.errors import BattenError
from batten.plan import Capacity, StackSettings, plan, plan_stack, to_json
from batten.plan import secrets as declared_secrets
from batten.plan.definition import Definition, ServiceDefinition, parse_definition
from batten.plan.secrets import WRAPPER, values_of
from batten.plan.stack import load_inputs
from batten.render import release
from batten.report import plan_text
from tests.unit.conftest import CERTIFICATE

POSTGRES = {
    "service": "db",
    "superuser_secret": "root",
    "roles": {"app": {"secret": "app"}, "watch": {"secret": "watch"}},
    "databases": {"app": {"owner": "app"}},
}
ALNUM = {"generator": "alnum"}


def parse(secrets: dict[str, Any], services: dict[str, Any] | None = None, **more: Any) -> Definition:
    return parse_definition({"secrets": secrets, "services": services or {}, **more}, "batten.yaml")


def rule(declared: dict[str, Any], **more: Any) -> dict[str, Any]:
    return dict(parse({"a": declared, **more}).secrets["a"])


@pytest.mark.parametrize(
    ("declared", "expected"),
    [
        (ALNUM, {"generator": "password", "length": 32, "rotation": "restart"}),
        (
            {"generator": "password", "length": 64, "alphabet": "cabba"},
            {"generator": "password", "length": 64, "alphabet": "abc", "rotation": "restart"},
        ),
        ({"generator": "hex", "length": 16}, {"generator": "hex", "length": 16, "rotation": "restart"}),
        ({"generator": "uuid"}, {"generator": "uuid", "rotation": "restart"}),
        ({"generator": "keypair"}, {"generator": "keypair", "rotation": "restart"}),
        ({"generator": "ca"}, {"generator": "ca", "rotation": "none"}),
        ({"generator": "provided"}, {"generator": "provided", "rotation": "provided"}),
        ({"from": "api_key"}, {"generator": "provided", "from": "api_key", "rotation": "provided"}),
        (
            {"generator": "hex", "from": "api_key", "format": "[0-9a-f]+"},
            {"generator": "hex", "length": 32, "from": "api_key", "format": "[0-9a-f]+", "rotation": "restart"},
        ),
        (
            {"generator": "uuid", "rotation": "pgbouncer", "expires": "90d"},
            {"generator": "uuid", "rotation": "pgbouncer", "expires": 90},
        ),
        (
            {"generator": "uuid", "rotation": {"kind": "none", "reason": "it opens the data"}},
            {"generator": "uuid", "rotation": "none"},
        ),
    ],
)
def test_the_rule_that_the_host_gets(declared: dict[str, Any], expected: dict[str, Any]) -> None:
    assert rule(declared) == expected


def test_an_x509_names_its_ca() -> None:
    leaf = {"generator": "x509", "ca": "root", "names": ["db", "10.0.0.5"], "days": 30}
    assert rule(leaf, root={"generator": "ca"}) == {**leaf, "names": ("db", "10.0.0.5"), "rotation": "tls"}


@pytest.mark.parametrize(
    ("name", "kind", "role"),
    [
        ("app", "postgres_role", "app"),
        ("watch", "postgres", None),
        ("root", "postgres", None),
        ("key", "restart", None),
    ],
)
def test_rotation_follows_from_use(name: str, kind: str, role: str | None) -> None:
    services = {"web": {"secrets": {"account": {"template": "${app.user} ${app}"}}}}
    found = parse(dict.fromkeys(("app", "watch", "root", "key"), ALNUM), services, postgres=POSTGRES).secrets[name]
    assert (found["rotation"], found.get("role")) == (kind, role)


def test_who_writes_the_roles_own_name_keeps_it() -> None:
    """With two login roles that take turns, a client that goes on as the owner would be locked out."""
    services = {"web": {"secrets": {"account": {"template": "app ${app}"}}}}
    rules = parse(dict.fromkeys(("app", "watch", "root"), ALNUM), services, postgres=POSTGRES).secrets
    assert rules["app"] == {"generator": "password", "length": 32, "rotation": "postgres"}


@pytest.mark.parametrize("other", [{"secret": "app"}, {"template": "app ${app:url}"}])
def test_a_login_and_its_password_are_in_one_file(other: dict[str, str]) -> None:
    services = {"web": {"secrets": {"account": {"template": "${app.user} ${app}"}, "other": other}}}
    with pytest.raises(BattenError, match="the password app is here without its login role"):
        parse(dict.fromkeys(("app", "watch", "root"), ALNUM), services, postgres=POSTGRES)


@pytest.mark.parametrize(
    ("postgres", "problem"),
    [
        ({"roles": {"app": {"secret": "app"}, "a": {"secret": "app"}}}, "app, whose logins take turns, and of a"),
        ({"roles": {"app": {"secret": "app"}, "app_b": {"secret": "watch"}}}, "app_b, which is a login of app"),
        ({"roles": {"app": {"secret": "app"}}, "superuser": "app", "superuser_secret": "root"}, "is the administrator"),
        ({"roles": {"r" * 62: {"secret": "app"}}, "databases": {"app": {"owner": "r" * 62}}}, "longer than 63 bytes"),
    ],
)
def test_what_logins_that_take_turns_would_break_is_refused(postgres: dict[str, Any], problem: str) -> None:
    services = {"web": {"secrets": {"account": {"template": "${app.user} ${app}"}}}}
    given = {"service": "db", "databases": {"app": {"owner": "app"}}, **postgres}
    with pytest.raises(BattenError, match=problem):
        parse({"app": {**ALNUM, "rotation": "postgres_role"}, "watch": ALNUM, "root": ALNUM}, services, postgres=given)


def test_a_written_rotation_comes_first() -> None:
    secrets = {**dict.fromkeys(("watch", "root"), ALNUM), "app": {**ALNUM, "rotation": "restart"}}
    found = parse(secrets, postgres=POSTGRES).secrets["app"]
    assert found["rotation"] == "restart"
    assert "role" not in found


def services_of(secrets: dict[str, Any], services: dict[str, Any] | None = None) -> dict[str, ServiceDefinition]:
    return dict(parse(secrets, services).services)


@pytest.mark.parametrize(
    ("declared", "files"),
    [
        ({**ALNUM, "consumers": ["web"]}, {"a": {"secret": "a"}}),
        ({**ALNUM, "consumers": {"web": None}, "delivery": "file"}, {"a": {"secret": "a"}}),
        ({**ALNUM, "consumers": {"web": {"file": "key.txt"}}}, {"key.txt": {"secret": "a"}}),
        ({"generator": "ca", "consumers": ["web"]}, {"a.crt": {"secret": "a_certificate"}}),
        (
            {"generator": "keypair", "consumers": {"web": {"file": "sign"}}},
            {"sign.key": {"secret": "a"}, "sign.pub": {"secret": "a_public"}},
        ),
        (
            {"generator": "x509", "ca": "root", "names": ["web"], "consumers": {"web": {"file": "server"}}},
            {"server.key": {"secret": "a"}, "server.crt": {"secret": "a_certificate"}},
        ),
        ({**ALNUM, "consumers": {"web": {"variable": "API_KEY"}}}, {"batten.env": {"template": "API_KEY=${a:sh}\n"}}),
        ({**ALNUM, "consumers": ["web"], "delivery": "env_from_file"}, {"batten.env": {"template": "A=${a:sh}\n"}}),
    ],
)
def test_what_a_consumer_gets(declared: dict[str, Any], files: dict[str, Any]) -> None:
    assert services_of({"a": declared, "root": {"generator": "ca"}})["web"].secrets == files


def test_a_variable_takes_the_bases_away_and_several_share_one_file() -> None:
    one = {**ALNUM, "consumers": {"web": {"variable": "ONE"}}}
    two = {**ALNUM, "consumers": {"web": {"variable": "TWO"}, "job": {"variable": "TWO"}}}
    found = services_of({"a": one, "b": two}, {"web": {"environment": {"MODE": "x"}}})
    assert found["web"].environment == {"MODE": "x", "ONE": None, "TWO": None}
    assert found["web"].secrets == {"batten.env": {"template": "ONE=${a:sh}\nTWO=${b:sh}\n"}}
    assert found["job"].secrets == {"batten.env": {"template": "TWO=${b:sh}\n"}}


def test_a_config_is_the_template_that_names_the_secret() -> None:
    secrets = {"a": {**ALNUM, "consumers": ["web"], "delivery": "config"}}
    services = {"web": {"secrets": {"users": {"template": "x ${a:url}"}}}}
    assert services_of(secrets, services)["web"].secrets == {"users": {"template": "x ${a:url}"}}
    with pytest.raises(BattenError, match="no template of web names a") as caught:
        services_of(secrets)
    assert "services.web.secrets" in caught.value.fix


def test_a_service_that_the_target_takes_away_gets_nothing() -> None:
    document = {
        "secrets": {"a": {**ALNUM, "consumers": ["web", "job"]}},
        "targets": {"selfhosted": {"remove": ["web"]}},
    }
    assert set(parse_definition(document, "batten.yaml", sections=("selfhosted",)).services) == {"job"}


X509 = {"generator": "x509", "ca": "root", "names": ["web"]}
WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"a.b": ALNUM}, "'a.b' cannot be a secret's name", "a_b"),
    ({"a b": ALNUM}, "cannot be a secret's name", "a_b"),
    ({"a": {"length": 32}}, "made on the host or handed in", "generator: alnum"),
    ({"a": {"generator": "dice"}}, "expected one of", "alnum or password"),
    ({"a": {**ALNUM, "lenght": 32}}, "did you mean 'length'", "write length"),
    ({"a": {"generator": "uuid", "length": 16}}, "length means nothing for the generator uuid", "leave it out"),
    ({"a": {**ALNUM, "alphabet": "abcdef"}}, "alnum is an alphabet already", "generator: password"),
    ({"a": {"generator": "password", "alphabet": "aa"}}, "two or more printable characters", "leave alphabet out"),
    ({"a": {"generator": "password", "alphabet": "ab\n"}}, "two or more printable characters", "leave alphabet out"),
    ({"a": {"generator": "password", "alphabet": "01"}}, "32 characters of this alphabet are 32 bits", "length: 64"),
    ({"a": {**ALNUM, "format": "a+"}}, "a format is for a value that a person gives", "generator: provided"),
    ({"a": {"from": "x", "format": "("}}, "is not a regular expression", "Python's re"),
    ({"a": {"from": "x-y"}}, "a variable's name", "write"),
    ({"a": {"generator": "x509", "names": ["web"]}}, "an x509 needs ca", "ca: tls_ca"),
    ({"a": {"generator": "x509", "ca": "b"}}, "an x509 needs names", "names: [SERVICE]"),
    ({"a": X509}, "there is no secret 'root'", "root: {generator: ca}"),
    ({"a": X509, "root": ALNUM}, "root is no CA", "root: {generator: ca}"),
    ({"a": {**X509, "names": ["a b"]}}, "a DNS name or an IP address", "write"),
    ({"a": X509, "root": {"generator": "ca"}, "a_certificate": ALNUM}, "a has a part of that name", "rename a_cert"),
    ({"a": {**ALNUM, "delivery": "environment"}}, "shown by docker inspect", "delivery: file; or delivery: env_from"),
    ({"a": {**ALNUM, "consumers": "web"}}, "expected a list", "consumers: [web]"),
    ({"a": {**ALNUM, "consumers": {"web": {"file": "a", "variable": "B"}}}}, "a file or a variable", "{file: NAME}"),
    ({"a": {**ALNUM, "consumers": {"web": {"path": "a"}}}}, "unknown key 'path'", "file, variable"),
    ({"a": {**ALNUM, "consumers": {"web": {"file": "../x"}}}}, "cannot be a file's name", "use letters"),
    ({"a": {**ALNUM, "consumers": {"web": {"file": "batten.env"}}}}, "cannot be a file's name", "use letters"),
    ({"a": {**ALNUM, "consumers": {"web": {"variable": "A-B"}}}}, "a variable's name", "write"),
    ({"a": {**ALNUM, "delivery": "file", "consumers": {"web": {"variable": "A"}}}}, "not a file", "env_from_file"),
    ({"a": {**ALNUM, "delivery": "env_from_file", "consumers": {"web": {"file": "a"}}}}, "not a variable", "variable"),
    ({"a": {**ALNUM, "delivery": "config", "consumers": {"web": {"file": "a"}}}}, "through a template", "leave"),
    (
        {"a": {**ALNUM, "consumers": {"web": {"file": "k"}}}, "b": {**ALNUM, "consumers": {"web": {"file": "k"}}}},
        "k is another secret's file already",
        "{file: b}",
    ),
    (
        {
            "a": {**ALNUM, "consumers": {"web": {"variable": "K"}}},
            "b": {**ALNUM, "consumers": {"web": {"variable": "K"}}},
        },
        "K is another secret's variable already",
        "{variable: NAME}",
    ),
    ({"a": {**ALNUM, "rotation": "never"}}, "expected one of postgres_role", "restart"),
    ({"a": {**ALNUM, "rotation": "none"}}, "needs a reason", "reason"),
    ({"a": {**ALNUM, "rotation": "postgres_role"}}, "a role that owns a database", "postgres.roles"),
    ({"a": {**ALNUM, "rotation": "tls"}}, "tls is for certificates", "leave rotation out"),
    ({"a": {"from": "x", "rotation": "restart"}}, "cannot make a new value of what a person provides", "beside from"),
    ({"a": {"generator": "base64", "rotation": "redis"}}, "stands in URLs and ACL lines", "base64url"),
    ({"a": {**ALNUM, "expires": 90}}, "a number of days such as 90d", "write"),
]


@pytest.mark.parametrize(("secrets", "says", "fix"), WRONG)
def test_a_wrong_declaration_is_one_error_that_names_its_place_and_the_fix(
    secrets: dict[str, Any], says: str, fix: str
) -> None:
    with pytest.raises(BattenError) as caught:
        parse(secrets)
    assert says in caught.value.what
    assert fix in caught.value.fix
    assert caught.value.where.startswith("batten.yaml: secrets.")


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        ({"generator": "password", "length": 40, "alphabet": "abcdefgh\u00e4"}, "must be printable ASCII"),
        ({"generator": "keypair"}, "a key is none"),
    ],
)
def test_a_password_that_postgresql_could_not_take(declared: dict[str, Any], says: str) -> None:
    with pytest.raises(BattenError, match=says):
        parse({"app": declared, "watch": ALNUM, "root": ALNUM}, postgres=POSTGRES)


def test_what_the_environment_says_already_is_not_said_twice() -> None:
    secrets = {"a": {**ALNUM, "consumers": {"web": {"variable": "KEY"}}}}
    with pytest.raises(BattenError, match="the environment gives KEY already"):
        parse(secrets, {"web": {"environment": {"KEY": "plain"}}})
    with pytest.raises(BattenError, match="a reload brings it nothing"):
        parse(secrets, {"web": {"reload": ["SIGNAL", "HUP"]}})


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("${b}", "there is no secret 'b'"),
        ("${a.user}", "a has no a.user"),
        ("${root}", "the key of a CA, root, is for no service"),
    ],
)
def test_a_template_that_names_what_is_not_there(template: str, says: str) -> None:
    with pytest.raises(BattenError, match=says):
        parse({"a": ALNUM, "root": {"generator": "ca"}}, {"web": {"secrets": {"f": {"template": template}}}})


def test_controller_and_host_know_the_same_names() -> None:
    """One list is the planner's, the other the host's, which shares no code with it."""
    secrets = {
        **{name: {"generator": name} for name in ("password", "hex", "base64", "base64url", "uuid", "keypair", "ca")},
        "x509": {"generator": "x509", "ca": "ca", "names": ["web"]},
        "provided": {"generator": "provided"},
    }
    rules = parse(secrets).secrets
    assert set(values_of(rules)) == {part for name, each in rules.items() for part in generators.parts(name, each)}


# --- as part of a plan


COMPOSE = """
services:
  web: {image: "nginx:1.29", user: "101:101", entrypoint: [/run.sh, "$$x"], command: [serve, now]}
  job: {image: "busybox:1", command: [sleep, "1"]}
"""
CAPACITY = Capacity(memory_bytes=8 * 1024**3, cpus=4, addresses=("192.0.2.1",))


def settings(tmp_path: Path, definition: dict[str, Any], **variables: Any) -> StackSettings:
    import json

    (tmp_path / "compose.yaml").write_text(COMPOSE)
    (tmp_path / "batten.yaml").write_text(json.dumps(definition))
    return StackSettings.from_variables({"stack_name": "app", "stack_base": "compose.yaml", **variables}, root=tmp_path)


def payload(made: StackSettings) -> dict[str, Any]:
    inputs = load_inputs(made)
    return release(plan_stack(made, CAPACITY, inputs=inputs)[0], made, inputs.definition)


def test_a_plan_names_each_services_secrets_and_how_they_are_rotated(tmp_path: Path) -> None:
    secrets = {"a": {**ALNUM, "consumers": ["web"]}, "k": {"from": "x", "consumers": {"web": {"file": "key"}}}}
    web = to_json(plan_stack(settings(tmp_path, {"secrets": secrets}), CAPACITY)[0])["services"]["web"]
    assert web["secrets"] == ["a", "key"]
    assert web["rotations"] == {"a": "restart", "k": "provided"}


def test_variables_are_read_before_the_bases_own_entrypoint(tmp_path: Path) -> None:
    secrets = {"a": {**ALNUM, "consumers": {"web": {"variable": "KEY"}}}}
    service = plan_stack(settings(tmp_path, {"secrets": secrets}), CAPACITY)[0].services["web"]
    script = 'set -a; . /run/secrets/batten.env; set +a; exec "$@"'
    assert service.entrypoint == ("/bin/sh", "-ec", script, "batten", "/run.sh", "$x")
    assert service.command == ("serve", "now")
    assert service.environment == {"KEY": None}


def test_an_entrypoint_that_only_the_image_knows_is_asked_for(tmp_path: Path) -> None:
    secrets = {"a": {**ALNUM, "consumers": {"job": {"variable": "KEY"}}}}
    with pytest.raises(BattenError, match="KEY come from a file") as caught:
        plan_stack(settings(tmp_path, {"secrets": secrets}), CAPACITY)
    assert "docker image inspect busybox:1" in caught.value.fix
    given = {"secrets": secrets, "services": {"job": {"entrypoint": ["/bin/job"]}}}
    assert plan_stack(settings(tmp_path, given), CAPACITY)[0].services["job"].entrypoint == (*WRAPPER, "/bin/job")


def test_a_consumer_that_is_no_service_is_named_with_the_nearest(tmp_path: Path) -> None:
    secrets = {"a": {**ALNUM, "consumers": ["wep"]}}
    with pytest.raises(BattenError, match="did you mean 'web'") as caught:
        plan_stack(settings(tmp_path, {"secrets": secrets}), CAPACITY)
    assert "secrets.a.consumers" in caught.value.where


def test_each_consumer_has_a_file_of_its_own_for_its_own_uid(tmp_path: Path) -> None:
    definition = {
        "secrets": {"a": {**ALNUM, "consumers": {"web": {"file": "key"}, "job": {"file": "key"}}}},
        "services": {"job": {"user": "5:6"}},
    }
    found = payload(settings(tmp_path, definition))["secrets"]["deliveries"]
    assert (found["web"]["uid"], found["job"]["uid"]) == (101, 5)
    assert found["web"]["files"] == found["job"]["files"] == {"key": {"secret": "a"}}


def test_the_secrets_of_another_service_are_no_mount(tmp_path: Path) -> None:
    definition = {"services": {"job": {"mounts": ["/opt/batten/app/secrets/web:/run/secrets:ro"]}}}
    with pytest.raises(BattenError, match="belong to another user") as caught:
        payload(settings(tmp_path, definition))
    assert "consumers" in caught.value.fix


def test_nobody_is_asked_for_a_value_that_nothing_uses(tmp_path: Path) -> None:
    provided, made = {"generator": "provided"}, {**ALNUM}
    definition = {"secrets": {"idle": provided, "used": {**provided, "consumers": ["web"]}, "made": made}}
    assert set(payload(settings(tmp_path, definition))["secrets"]["generate"]) == {"used", "made"}
    on = settings(tmp_path, definition, stack_secrets={"idle": {**provided, "consumers": ["job"]}})
    assert set(payload(on)["secrets"]["generate"]) == {"idle", "used", "made"}


@settings_(deadline=None, max_examples=30)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=200))
def test_any_value_comes_out_of_the_environment_file_as_it_went_in(value: str) -> None:
    """The wrapper runs in a real shell; a variable's last line feed is kept, too."""
    import subprocess
    import tempfile

    own = services_of({"a": {**ALNUM, "consumers": {"web": {"variable": "KEY"}}}})["web"]
    consumer = delivery.consumers({"web": {"uid": 0, "gid": 0, "files": own.secrets}}, {"a": value})["web"]
    with tempfile.TemporaryDirectory() as place:
        Path(place, "batten.env").write_bytes(consumer.files["batten.env"])
        words = [word.replace("/run/secrets", place) for word in WRAPPER]
        done = subprocess.run(
            [*words, "printenv", "KEY"], capture_output=True, check=True, env={"PATH": "/usr/bin:/bin"}
        )
    assert done.stdout == value.encode() + b"\n"


# --- the reference stack


def reference(**variables: Any) -> dict[str, Any]:
    given = {"stack_name": "app", "stack_build": "host", "stack_profiles": ["auth", "observability"], **variables}
    return payload(StackSettings.from_variables(given))


MANAGED = {
    "stack_target": "digitalocean",
    "digitalocean_managed_postgres": True,
    "digitalocean_postgres_host": "db.example.org",
    "digitalocean_postgres_ca": str(CERTIFICATE),
}


def test_the_reference_stack_serves_tls_by_names_of_its_own() -> None:
    services = reference()["plan"]["services"]
    assert {name: each["tls"] for name, each in services.items() if each["tls"]} == {
        "postgres": {"port": 5432, "protocol": "postgres", "certificate": "server.crt", "name": "postgres"},
        "pgbouncer": {"port": 6432, "protocol": "postgres", "certificate": "server.crt", "name": "pgbouncer"},
    }
    for client in ("pgbouncer", "pgbouncer-exporter", "postgres-exporter", "api", "stack-auth"):
        assert "tls_ca.crt" in services[client]["secrets"]


def test_the_plan_says_for_people_how_secrets_are_rotated(tmp_path: Path) -> None:
    secrets = {"a": {**ALNUM, "consumers": ["web"]}, "b": {"from": "x", "consumers": ["web", "job"]}}
    text = plan_text(plan({"host": ([settings(tmp_path, {"secrets": secrets})], CAPACITY)}))
    assert "secrets, by how they are rotated\n  provided: b\n  restart: a\n" in text


def test_the_key_of_the_ca_is_in_no_file() -> None:
    made = reference()["secrets"]
    assert made["generate"]["tls_ca"]["generator"] == "ca"
    sources = [source for each in made["deliveries"].values() for source in each["files"].values()]
    assert not any(source == {"secret": "tls_ca"} or "${tls_ca" in source.get("template", "") for source in sources)


def test_on_a_managed_postgresql_its_own_ca_counts() -> None:
    made = reference(**MANAGED)
    assert "postgres_tls" not in made["secrets"]["generate"]
    assert [name for name, each in made["plan"]["services"].items() if each["tls"]] == ["pgbouncer"]
    ini = made["files"]["pgbouncer"]["entries"]["pgbouncer.ini"]
    assert "server_tls_ca_file = /etc/pgbouncer/ca.crt" in ini
    assert ini.count("server_tls_sslmode = verify-full") == 1


def test_no_connection_of_the_reference_stack_goes_without_tls_or_unchecked() -> None:
    for made in (reference(), reference(**MANAGED)):
        text = str(made["layers"][1:]) + str(made["secrets"]) + str(made["files"])
        assert not any(f"sslmode={mode}" in text for mode in ("disable", "allow", "prefer", "require"))
        assert "client_tls_sslmode = require" in made["files"]["pgbouncer"]["entries"]["pgbouncer.ini"]


def test_the_proxys_certificate_can_be_given() -> None:
    made = reference(stack_tls="provided", stack_domain="example.org")
    caddy = made["plan"]["services"]["caddy"]
    assert caddy["tls"] == {"port": 443, "protocol": "tls", "certificate": "site.crt", "name": None}
    assert caddy["reload"] == []
    assert caddy["rotations"] == {"site_certificate": "provided", "site_key": "provided"}
    assert "get_certificate http http://127.0.0.1:8082/site.pem" in made["files"]["caddy"]["entries"]["Caddyfile"]
    assert "site_key" not in reference()["secrets"]["generate"]


def test_nobody_is_asked_for_the_key_of_an_external_service_before_it_is_used() -> None:
    key = "stack_auth_email_password"
    assert key not in reference()["secrets"]["generate"]
    consumers = {"stack-auth": {"variable": "STACK_EMAIL_PASSWORD"}}
    made = reference(stack_secrets={key: {"generator": "provided", "consumers": consumers}})
    assert made["secrets"]["generate"][key] == {"generator": "provided", "rotation": "provided"}
    service = made["plan"]["services"]["stack-auth"]
    assert service["entrypoint"][: len(WRAPPER)] == list(WRAPPER)
    assert service["entrypoint"][len(WRAPPER)] == "/bin/bash"


def test_planner_and_host_agree_on_what_belongs_to_a_secret() -> None:
    assert dict(declared_secrets._PARTS) == dict(generators.PARTS)
