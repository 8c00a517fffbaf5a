"""Ansible variables become one checked value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from batten.errors import BattenError
from batten.plan.settings import StackSettings
from tests.unit.conftest import CERTIFICATE

if TYPE_CHECKING:
    from pathlib import Path

MANAGED = {
    "stack_name": "app",
    "stack_target": "digitalocean",
    "digitalocean_managed_postgres": True,
    "digitalocean_postgres_host": "private-db.example",
    "digitalocean_postgres_ca": str(CERTIFICATE),
}


def settings(**variables: Any) -> StackSettings:
    return StackSettings.from_variables({"stack_name": "app", **variables}, source="host1")


def test_defaults_are_the_reference_stack_selfhosted() -> None:
    made = settings()
    assert (made.name, made.target, made.tls, made.build) == ("app", "selfhosted", "internal", None)
    assert made.base.name == "compose.yaml"
    assert made.definition == made.base.parent / "batten.yaml"
    assert made.data is None


def test_other_variables_and_empty_ones_pass() -> None:
    assert settings(ansible_host="x", docker_source="distro", stack_domain="", stack_images=None).domain is None


def test_sizes_and_durations_are_parsed() -> None:
    made = settings(stack_capacity={"memory": "1.5G", "cpus": 2}, stack_reserve="512M", stack_gate_timeout="2m")
    assert made.capacity_memory_bytes == 3 << 29
    assert made.capacity_cpus == 2
    assert made.reserve_bytes == 512 << 20
    assert made.gate_timeout_seconds == 120


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("stack_name", "App!", "a Compose project name"),
        ("stack_name", "host", "a Compose project name"),
        ("stack_target", "aws", "one of selfhosted, digitalocean"),
        ("stack_tls", True, "one of internal, acme, provided"),
        ("stack_build", "controller", "one of host"),
        ("stack_profiles", "auth", "a list"),
        ("stack_capacity", {"memory": "lots"}, "a size such as"),
        ("stack_capacity", {"memmory": "4G"}, "did you mean 'memory'"),
        ("stack_public_addresses", ["example.org"], "not an IP address"),
        ("stack_adopt_chown", "yes", "true or false"),
        ("stack_data_directory", "data", "an absolute path"),
        # Each of these would end a line, a block or a word in a file, a unit or a command that holds it.
        ("stack_data_directory", "/srv/a b", "an absolute path"),
        ("stack_data_directory", "/srv/a\nExecStart=/bin/sh", "an absolute path"),
        ("stack_domain", "a.org {\n respond 200\n}\nb.org", "a domain name"),
        ("stack_domain", "a.org\n", "a domain name"),
        ("stack_domain", '{$HOME}"', "a domain name"),
        ("stack_environment", {"STACK_DOMAIN": "a.org {"}, "a domain name"),
        ("stack_acme_email", "a@b.org\nadmin :2019", "an e-mail address"),
        ("digitalocean_postgres_host", "db user=root", "a host name"),
        ("digitalocean_postgres_user", "a'b", "letters, digits"),
        ("digitalocean_postgres_database", "a/../b", "letters, digits"),
        ("digitalocean_volume", "a\nb", "a volume's name"),
        ("stack_name", "app\n", "a Compose project name"),
        ("digitalocean_postgres_port", 0, "a whole number from 1 to 65535"),
    ],
)
def test_a_wrong_value_is_refused_naming_host_and_variable(name: str, value: object, says: str) -> None:
    with pytest.raises(BattenError, match=says) as caught:
        settings(**{name: value})
    assert caught.value.where.startswith(f"host1: {name}")
    assert caught.value.fix


def test_a_name_is_needed() -> None:
    with pytest.raises(BattenError, match="stack_name is missing"):
        StackSettings.from_variables({})


def test_acme_needs_a_domain_and_an_address() -> None:
    with pytest.raises(BattenError, match="stack_tls: acme needs"):
        settings(stack_tls="acme", stack_domain="example.org")
    assert settings(stack_tls="acme", stack_domain="example.org", stack_acme_email="a@example.org").tls == "acme"
    with pytest.raises(BattenError, match="stack_tls: provided needs the domain"):
        settings(stack_tls="provided")


@pytest.mark.parametrize("missing", ["digitalocean_postgres_host", "digitalocean_postgres_ca"])
def test_managed_postgres_needs_host_and_authority(missing: str) -> None:
    with pytest.raises(BattenError, match=f"{missing} is missing"):
        StackSettings.from_variables({**MANAGED, missing: None})


def test_the_authority_of_managed_postgres_is_a_file_below_the_inventory(tmp_path: Path) -> None:
    named = {**MANAGED, "digitalocean_postgres_ca": "ca.crt"}
    with pytest.raises(BattenError, match="correct digitalocean_postgres_ca"):
        StackSettings.from_variables(named, root=tmp_path)
    (tmp_path / "ca.crt").write_text("hello")
    with pytest.raises(BattenError, match="no certificate is in this file"):
        StackSettings.from_variables(named, root=tmp_path)
    (tmp_path / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\n")
    assert StackSettings.from_variables(named, root=tmp_path).postgres_ca == "-----BEGIN CERTIFICATE-----\n"
    (tmp_path / "ca.crt").unlink()
    unused = {**named, "digitalocean_managed_postgres": False}
    assert StackSettings.from_variables(unused, root=tmp_path).postgres_ca is None


def test_managed_postgres_is_digitaloceans() -> None:
    with pytest.raises(BattenError, match="the target is selfhosted"):
        StackSettings.from_variables({**MANAGED, "stack_target": "selfhosted"})


def test_sections_follow_the_target() -> None:
    assert settings().sections == ("selfhosted",)
    assert settings(stack_tls="provided", stack_domain="example.org").sections == ("selfhosted", "tls_provided")
    assert StackSettings.from_variables(MANAGED).sections == ("digitalocean", "digitalocean_managed_postgres")


def test_secrets_that_the_operator_hands_in_are_not_read() -> None:
    made = StackSettings.from_variables({**MANAGED, "digitalocean_postgres_password": "hunter2"})
    assert "hunter2" not in repr(made)


def test_a_block_volume_gives_the_data_directory() -> None:
    made = StackSettings.from_variables({**MANAGED, "digitalocean_volume": "data-one"})
    assert made.volume_mount == "/mnt/data_one"
    assert made.data == "/mnt/data_one/app"
    assert settings(digitalocean_volume="data-one").volume_mount is None


def test_a_base_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {}")
    made = StackSettings.from_variables({"stack_name": "a", "stack_base": "compose.yaml"}, root=tmp_path)
    assert made.base == tmp_path / "compose.yaml"
    assert made.definition is None
