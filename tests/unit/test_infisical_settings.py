"""Where a host's secrets come from, which stacks it runs, and what is refused before anything starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from batten import fleet, resources
from batten.errors import BattenError
from batten.inventory import option_specs
from batten.plan import Capacity, load_inputs, plan_host
from batten.plan.infisical import (
    GIVEN,
    STACK,
    InfisicalSettings,
    check_given,
    check_server,
    host_stacks,
    runs_on,
    server_of,
    url_of,
)
from batten.plan.limits import GIB, MIB

if TYPE_CHECKING:
    from pathlib import Path

APP: dict[str, Any] = {"stack_name": "app", "stack_build": "host"}
EXTERNAL = {
    "infisical_mode": "external",
    "infisical_url": "https://secrets.example.org",
    "infisical_project": "0f5d2a86-0000-4000-8000-000000000000",
    "infisical_client_id": "id",
}
GROUPS = {"stack": ["web1", "web2"], "infisical": ["vault1"]}


def names(**variables: Any) -> list[str]:
    return [stack.name for stack in host_stacks({**APP, **variables})]


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, ["infisical", "app"]),
        ({"infisical_mode": "none"}, ["app"]),
        (EXTERNAL, ["app"]),
        ({"inventory_hostname": "web1", "groups": {"stack": ["web1"]}}, ["infisical", "app"]),
        ({"inventory_hostname": "web1", "groups": GROUPS}, ["app"]),
        ({"inventory_hostname": "vault1", "groups": GROUPS}, ["infisical"]),
        ({"inventory_hostname": "web1", "groups": {"stack": ["web1"], "infisical": ["web1"]}}, ["infisical", "app"]),
        ({"inventory_hostname": "web1", "groups": {"stack": ["web1"], "infisical": []}}, ["infisical", "app"]),
        ({"inventory_hostname": "other", "groups": {"all": ["other"]}}, ["infisical", "app"]),
    ],
)
def test_a_host_runs_infisical_first_unless_another_does(variables: dict[str, Any], wanted: list[str]) -> None:
    assert names(**variables) == wanted


def test_a_host_of_infisical_alone_needs_no_stack() -> None:
    (only,) = host_stacks({"inventory_hostname": "vault1", "groups": GROUPS})
    assert only.name == STACK


def test_the_defaults_are_those_that_the_role_documents() -> None:
    specs = option_specs(resources.collection() / "roles", "infisical")
    documented = {name: option["default"] for name, option in specs.items() if "default" in option}
    assert InfisicalSettings.from_variables(documented) == InfisicalSettings()
    assert {name for name, option in specs.items() if option.get("no_log")} == {*GIVEN, "infisical_client_secret"}


def test_what_may_be_given_is_what_the_stack_declares() -> None:
    declared = yaml.safe_load((resources.compose() / "infisical" / "batten.yaml").read_text())["secrets"]
    assert {one["from"]: one["format"] for one in declared.values()} == {
        name: form.pattern for name, (form, _) in GIVEN.items()
    }


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"infisical_mode": "vault"}, "infisical_mode"),
        ({"infisical_port": 80}, "infisical_port"),
        ({"infisical_address": "secrets"}, "not an IP address"),
        ({"infisical_admin_email": "me"}, "e-mail"),
        ({"infisical_path": "app"}, "a folder such as /app"),
        ({"stack_name": "infisical"}, "batten's own Infisical has this name"),
        ({**EXTERNAL, "infisical_url": ""}, "external needs infisical_url"),
        ({**EXTERNAL, "infisical_project": ""}, "external needs infisical_project"),
        ({**EXTERNAL, "infisical_client_id": ""}, "external needs infisical_client_id"),
        ({**EXTERNAL, "infisical_url": "http://secrets.example.org"}, "plain HTTP"),
        ({**EXTERNAL, "infisical_url": "http://10.0.0.5:8080"}, "plain HTTP"),
        ({**EXTERNAL, "infisical_url": "http://127.0.0.1.example.org"}, "plain HTTP"),
        ({**EXTERNAL, "infisical_url": "http://localhost@evil.example"}, "not the address of a server"),
        ({**EXTERNAL, "infisical_url": "secrets.example.org"}, "not the address of a server"),
        ({**EXTERNAL, "infisical_url": "ftp://localhost"}, "not the address of a server"),
    ],
)
def test_wrong_settings_are_refused(variables: dict[str, Any], said: str) -> None:
    with pytest.raises(BattenError, match=said) as caught:
        host_stacks({**APP, **variables})
    assert caught.value.fix


@pytest.mark.parametrize("url", ["https://x.example", "http://127.0.0.1:8080", "http://[::1]:1", "http://localhost"])
def test_plain_http_reaches_this_very_host_alone(url: str) -> None:
    assert InfisicalSettings.from_variables({**EXTERNAL, "infisical_url": url}).url == url


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("infisical_encryption_key", "a" * 32, True),
        ("infisical_encryption_key", "a" * 31, False),
        ("infisical_encryption_key", "a" * 33, False),
        ("infisical_encryption_key", "é" + "a" * 31, False),
        ("infisical_encryption_key", "a" * 32 + "\n", False),
        ("infisical_auth_secret", "c2VjcmV0IHNlY3JldCBzZWNyZXQ=", True),
        ("infisical_auth_secret", "short", False),
        ("infisical_redis_password", "abcdefghijklmnop", True),
        ("infisical_redis_password", "abcdefghijklmno>", False),
    ],
)
def test_the_form_of_a_given_root_secret(name: str, value: str, fits: bool) -> None:
    if fits:
        check_given({name: value}, "web1")
        return
    with pytest.raises(BattenError) as caught:
        check_given({name: value}, "web1")
    assert name in str(caught.value)
    assert value.strip() not in str(caught.value), "it is never shown"


def test_the_authority_of_an_external_server_is_a_file_below_the_inventory(tmp_path: Path) -> None:
    settings = InfisicalSettings.from_variables({**EXTERNAL, "infisical_ca": "ca.pem"}, "web1", tmp_path)
    with pytest.raises(BattenError, match="cannot read"):
        settings.ca_text()
    (tmp_path / "ca.pem").write_text("hello")
    with pytest.raises(BattenError, match="no certificate"):
        settings.ca_text()
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    assert settings.ca_text() == "-----BEGIN CERTIFICATE-----\n"
    assert InfisicalSettings().ca_text() == ""


def test_whose_infisical_a_stack_uses_and_where() -> None:
    assert server_of("web1", GROUPS) == "vault1"
    assert server_of("web1", {"stack": ["web1"]}) == "web1"
    assert runs_on("vault1", "selfhosted", GROUPS)
    assert not runs_on("web1", "selfhosted", GROUPS)
    assert not runs_on("web1", "external", {})
    assert url_of(InfisicalSettings(port=9000), local=True) == "http://127.0.0.1:9000"
    assert url_of(InfisicalSettings(address="10.0.0.2"), local=False) == "https://10.0.0.2:8443"
    assert url_of(InfisicalSettings(address="fd00::2"), local=False) == "https://[fd00::2]:8443"
    with pytest.raises(BattenError, match="serves other hosts"):
        check_server("vault1", "")
    check_server("vault1", "10.0.0.2")


def test_infisical_shares_what_is_the_hosts_and_nothing_else() -> None:
    variables = {
        **APP,
        "stack_target": "digitalocean",
        "stack_capacity": {"memory": "4G", "cpus": 2},
        "stack_reserve": "512M",
        "stack_data_directory": "/srv/app",
        "stack_domain": "app.example.org",
        "stack_images": {"api": "example/api:1"},
        "digitalocean_volume": "data-one",
        "infisical_image": "mirror.example/infisical/infisical:v0.165.16",
        "infisical_port": 9000,
    }
    own, app = host_stacks(variables)
    assert (own.target, own.capacity_memory_bytes, own.reserve_bytes) == ("digitalocean", 4 * GIB, 512 * MIB)
    assert own.data == "/mnt/data_one/infisical"
    assert app.data == "/srv/app"
    assert own.images == {"infisical": "mirror.example/infisical/infisical:v0.165.16"}
    assert own.domain is None
    host, _ = plan_host([own], Capacity(4 * GIB, 2))
    assert [(port.address, port.published) for port in host.stacks[STACK].services[STACK].ports] == [
        ("127.0.0.1", 9000)
    ]
    assert host.stacks[STACK].services[STACK].environment["SITE_URL"] == "http://localhost:9000"


def test_the_stack_gets_the_same_whether_infisical_is_planned_with_it_or_before_it() -> None:
    capacity = Capacity(8 * GIB, 4)
    stacks = host_stacks(APP)
    inputs = {stack.name: load_inputs(stack) for stack in stacks}
    together, findings = plan_host(stacks, capacity, inputs=inputs)
    taken = {STACK: sum(service.memory_bytes for service in together.stacks[STACK].services.values())}
    after, _ = plan_host(stacks[1:], Capacity(8 * GIB, 4, allocated=taken), inputs=inputs)
    assert after.stacks["app"] == together.stacks["app"]
    assert taken[STACK] == (1024 + 384 + 96) * MIB
    assert [finding for finding in findings if finding.severity != "note"] == []


def test_with_an_address_it_serves_others_with_a_certificate_for_it() -> None:
    (own,) = host_stacks(
        {
            "inventory_hostname": "vault1",
            "groups": GROUPS,
            "infisical_address": "10.0.0.2",
            "infisical_mode": "selfhosted",
        }
    )
    inputs = load_inputs(own)
    host, findings = plan_host([own], Capacity(4 * GIB, 2, addresses=("10.0.0.2",)), inputs={STACK: inputs})
    caddy = host.stacks[STACK].services["caddy"]
    assert [(port.address, port.published) for port in caddy.ports] == [("10.0.0.2", 8443)]
    assert caddy.secrets == ("https.crt", "https.key", "https_ca.crt")
    assert caddy.reload
    assert inputs.definition.secrets["https"]["names"] == ("10.0.0.2",)
    assert inputs.definition.secrets["https"]["ca"] == "https_ca"
    assert [finding for finding in findings if finding.severity != "note"] == []


def test_an_inventory_with_a_group_infisical(tmp_path: Path) -> None:
    hosts = {
        "stack": {"hosts": {"web1": None}, "vars": APP},
        "infisical": {"hosts": {"vault1": {"infisical_address": "10.0.0.2"}}},
    }
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(hosts))
    found = fleet.settings_of(str(tmp_path / "hosts.yml"))
    assert {host: [stack.name for stack in stacks] for host, stacks in found.items()} == {
        "vault1": ["infisical"],
        "web1": ["app"],
    }
    limited = fleet.settings_of(str(tmp_path / "hosts.yml"), limit="web1")
    assert {host: [stack.name for stack in stacks] for host, stacks in limited.items()} == {"web1": ["app"]}
    planned = fleet.plan_inventory(str(tmp_path / "hosts.yml"), given=fleet.Given(8 * GIB, 4))
    assert {host: list(plan.stacks) for host, plan in planned.hosts.items()} == {
        "vault1": ["infisical"],
        "web1": ["app"],
    }


def test_the_administrators_password_can_be_handed_in_again_and_what_protects_data_cannot() -> None:
    declared = yaml.safe_load((resources.compose() / "infisical" / "batten.yaml").read_text())["secrets"]
    fixed = [name for name, one in declared.items() if isinstance(one.get("rotation"), dict)]
    assert fixed == ["encryption_key"]
    assert declared["admin_password"]["rotation"] == "provided"
