"""`batten init`: what it writes is an inventory that Ansible reads and batten can plan, and nothing is overwritten."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path

import pytest

from batten import runner
from batten.cli import init, main
from batten.errors import BattenError
from tests.unit.conftest import CERTIFICATE

SERVER = ["--host", "192.0.2.4", "--domain", "app.example.org"]


def test_what_it_writes_is_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "inv"
    assert main(["init", *SERVER, "--name", "shop", "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["inventory"] == str(out)
    variables = runner.load_hosts(str(out))["shop"]
    assert variables["stack_name"] == "shop"
    assert variables["stack_domain"] == "app.example.org"
    assert variables["stack_target"] == "selfhosted"


def test_a_droplet_with_its_managed_database_is_rendered_with_its_authority(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "ca.crt").write_text(CERTIFICATE.read_text())
    out = tmp_path / "inventories" / "do"
    flags = ["--target", "digitalocean", "--postgres-host", "db.example.org", "--postgres-ca", str(tmp_path / "ca.crt")]
    assert main(["init", *SERVER, *flags, "--vpc-address", "10.0.0.2", "--volume", "data", "--out", str(out)]) == 0
    variables = runner.load_hosts(str(out))["app"]
    assert variables["digitalocean_managed_postgres"] is True
    capsys.readouterr()
    assert main(["plan", "-i", str(out), "--memory", "8G", "--cpus", "4", "--json"]) == 0
    services = json.loads(capsys.readouterr().out)["hosts"]["app"]["stacks"]["app"]["services"]
    assert "postgres" not in services
    assert main(["render", "-i", str(out), "--memory", "8G", "--cpus", "4", "--out", str(tmp_path / "made")]) == 0
    (authority,) = (tmp_path / "made").glob("**/pgbouncer/**/ca.crt")
    assert CERTIFICATE.read_text().strip() in authority.read_text()


def test_nothing_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("mine")
    assert main(["init", *SERVER, "--out", str(tmp_path)]) == 1
    assert "there is something already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--domain", "example.org"], "give --host"),
        (["--host", "192.0.2.4"], "give --domain"),
        (["--host", "not a host", "--domain", "example.org"], "'not a host' is not an address"),
        (["--host", "192.0.2.4", "--domain", "exa mple"], "is not a domain name"),
        ([*SERVER, "--name", "Shop"], "'Shop' is not small letters"),
        ([*SERVER, "--target", "digitalocean", "--postgres-host", "db"], "give --postgres-ca"),
    ],
)
def test_answers_that_cannot_be_right(flags: list[str], said: str, tmp_path: Path) -> None:
    parser = ArgumentParser()
    init.arguments(parser)
    with pytest.raises(BattenError) as raised:
        init.collect(parser.parse_args([*flags, "--out", str(tmp_path / "inv")]), None)
    assert said in str(raised.value)


def test_questions_are_asked_only_for_what_flags_do_not_say() -> None:
    parser = ArgumentParser()
    init.arguments(parser)
    asked: list[str] = []

    def ask(question: str, default: str | None) -> str:
        asked.append(question)
        return default or "example.org"

    new = init.collect(parser.parse_args(["--host", "2001:db8::4", "--user", "admin"]), ask)
    assert asked == ["target (selfhosted or digitalocean)", "name of the stack", "domain"]
    assert (new.host, new.user, new.domain, new.name) == ("2001:db8::4", "admin", "example.org", "app")
