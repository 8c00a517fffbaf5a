"""The door to Ansible: inventories as Ansible reads them, playbooks that run and end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from batten import runner
from batten.errors import BattenError
from batten.inventory import PLAYBOOKS, check_names, known_names

VAULT = "$ANSIBLE_VAULT;1.1;AES256\n62313365396662343061393464336163383764373764613633653634306231386433626436623361\n"


def inventory(directory: Path, **variables: Any) -> str:
    import json

    hosts = {"stack": {"hosts": {"web1": variables, "web2": {}}}, "other": {"hosts": {"db1": {}}}}
    (directory / "hosts.yml").write_text(json.dumps(hosts))
    return str(directory)


def test_variables_are_templated_over_the_roles_defaults(tmp_path: Path) -> None:
    found = runner.load_hosts(inventory(tmp_path, stack_name="shop", stack_domain="{{ stack_name }}.example.org"))
    assert set(found) == {"web1", "web2"}
    assert found["web1"]["stack_domain"] == "shop.example.org"
    assert found["web1"]["docker_source"] == "upstream"
    assert type(found["web1"]["stack_domain"]) is str
    assert not any(name.startswith("ansible_") for name in found["web1"])


def test_a_default_that_is_no_template_stays_as_it_is(tmp_path: Path) -> None:
    log_opts = next(
        entry["value"]
        for entry in runner.load_hosts(inventory(tmp_path))["web1"]["docker_daemon_default"]
        if entry["name"] == "log-opts"
    )
    assert log_opts["tag"] == "{{.Name}}"


def test_limit_and_an_empty_group(tmp_path: Path) -> None:
    source = inventory(tmp_path)
    assert set(runner.load_hosts(source, limit="web2")) == {"web2"}
    with pytest.raises(BattenError, match="within --limit db1"):
        runner.load_hosts(source, limit="db1")


def test_a_misspelt_variable_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(BattenError, match="did you mean 'docker_source'") as raised:
        runner.load_hosts(inventory(tmp_path, docker_sorce="distro"))
    assert "web1" in raised.value.where


def test_a_name_that_is_not_ours_is_not_our_business() -> None:
    check_names(["my_docker", "ansible_user", "dockerish"], known=[], where="here")


def test_a_name_that_begins_with_host_is_refused_only_where_it_is_nearly_one_of_ours() -> None:
    check_names(["host_ip", "host_firewall"], known=["host_firewall"], where="here")
    with pytest.raises(BattenError, match="did you mean 'host_firewall'"):
        check_names(["host_firewal"], known=["host_firewall"], where="here")


def test_what_our_playbooks_take_by_name_is_known() -> None:
    root = Path(__file__).parents[2]
    text = "".join(path.read_text() for path in sorted(root.glob("playbooks/*.yml")))
    assert set(re.findall(r"\bbatten_\w+", text)) == PLAYBOOKS
    check_names(PLAYBOOKS, known_names(root / "roles"), where="here")


def test_what_lies_in_a_vault_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "group_vars" / "all").mkdir(parents=True)
    (tmp_path / "group_vars" / "all" / "vault.yml").write_text(VAULT)
    inline = "!vault |\n" + textwrap.indent(VAULT, "    ")
    (tmp_path / "group_vars" / "all" / "main.yml").write_text(
        f"inline: {inline}"
        "stack_environment: {PLAIN: a, FROM_FILE: '{{ from_vault }}', INLINE: '{{ inline }}'}\n"
    )
    assert runner.load_hosts(inventory(tmp_path))["web1"]["stack_environment"] == {"PLAIN": "a"}


def test_an_undefined_name_is_an_error_where_there_is_no_vault(tmp_path: Path) -> None:
    with pytest.raises(BattenError, match="stack_domain"):
        runner.load_hosts(inventory(tmp_path, stack_domain="{{ nobody_knows }}"))


PLAY = """
- hosts: stack
  gather_facts: false
  tasks:
    - name: First
      ansible.builtin.command: {command}
      check_mode: false
"""


@pytest.fixture
def local(tmp_path: Path) -> str:
    (tmp_path / "inv.yml").write_text(
        "stack: {hosts: {here: {ansible_connection: local, ansible_python_interpreter: '" + sys.executable + "'}}}\n"
    )
    return str(tmp_path / "inv.yml")


def play(monkeypatch: pytest.MonkeyPatch, directory: Path, command: str) -> None:
    (directory / "play.yml").write_text(PLAY.format(command=command))
    monkeypatch.setattr(runner, "playbook", lambda _name: directory / "play.yml")


@pytest.mark.parametrize(("command", "code"), [("'true'", 0), ("'false'", 2)])
def test_a_playbook_streams_its_events_and_leaves_nothing(
    command: str, code: int, local: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    play(monkeypatch, tmp_path, command)
    events: list[Mapping[str, Any]] = []
    assert runner.run_playbook("any", local, on_event=events.append) == code
    kinds = [event["event"] for event in events]
    assert "playbook_on_start" in kinds
    assert ("runner_on_failed" if code else "runner_on_ok") in kinds
    assert list(scratch.glob("batten-*")) == []


def test_ctrl_c_ends_ansible_and_leaves_nothing(local: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    command = f"sleep 61.{os.getpid()}"  # no other run of this test has the same
    play(monkeypatch, tmp_path, command)
    pids = set()

    def interrupt(event: Mapping[str, Any]) -> None:
        pids.add(event.get("pid"))
        if event["event"] == "runner_on_start":
            os.kill(os.getpid(), signal.SIGINT)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        runner.run_playbook("any", local, on_event=interrupt)
    assert time.monotonic() - started < 20
    assert list(scratch.glob("batten-*")) == []
    left = subprocess.run(["ps", "-eo", "args"], text=True, capture_output=True, check=True).stdout
    assert command not in left


def test_host_keys_are_checked_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANSIBLE_HOST_KEY_CHECKING", raising=False)
    assert runner._environment()["ANSIBLE_HOST_KEY_CHECKING"] == "True"


BESIDE = """
from batten import connection, errors, runner
runner.load_hosts({source!r})
from ansible_collections.batten.core.plugins.module_utils import errors as host
from ansible_collections.community.docker.plugins.module_utils import version
print(connection.host_program("drift")[-1], host.BattenError is errors.BattenError)
"""


def test_what_batten_imports_of_its_collection_stays_the_same_beside_ansibles_loader(tmp_path: Path) -> None:
    """In a process of its own, as the command line is: here the loader is there first (conftest.py)."""
    source = inventory(tmp_path, stack_name="shop")
    words = [sys.executable, "-c", BESIDE.format(source=source)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("drift True\n", 0), done.stderr
