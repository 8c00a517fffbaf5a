"""Uninstall on a real host: everything of ours is gone, everything of the user's is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import standin
from tests.rig import hosts

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def host() -> Iterator[hosts.Host]:
    started = standin.start(f"batten-uninstall-{os.getpid()}")
    yield started
    started.remove()


def play(host: hosts.Host, directory: Path, *options: str) -> list[str]:
    """Run playbooks/uninstall.yml; return what the module says it changed."""
    inventory = directory / "hosts.yml"
    inventory.write_text(
        f"stack: {{hosts: {{{host.name}: {{ansible_connection: community.docker.docker, stack_name: demo}}}}}}"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    }
    program = Path(sys.executable).parent / "ansible-playbook"
    done = subprocess.run(
        [program, "-i", inventory, "playbooks/uninstall.yml", *options],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    tasks = json.loads(done.stdout)["plays"][0]["tasks"]
    changes: list[str] = tasks[0]["hosts"][host.name]["changes"]
    return changes


def test_it_takes_what_is_ours_and_keeps_the_data_and_the_engine(host: hosts.Host, tmp_path: Path) -> None:
    host.run("docker run -d --name mine --restart unless-stopped python:3.13-slim sleep 600")
    engine = host.run("systemctl show -p ActiveEnterTimestamp docker").stdout
    predicted = play(host, tmp_path, "--check")
    assert set(standin.containers(host)) == {"db", "web", "late", "once", ""}
    assert play(host, tmp_path) == predicted
    assert "container demo-db-1: removed" in predicted
    assert play(host, tmp_path) == []

    assert host.run("docker ps -a --format '{{.Names}}'").stdout.split() == ["mine"]
    assert host.run("docker network ls -q --filter label=com.docker.compose.project=demo").stdout == ""
    assert host.run("docker volume ls -q").stdout.split() == ["demo_data"]
    assert host.run("systemctl show -p ActiveEnterTimestamp docker").stdout == engine
    assert host.run("find /etc/systemd /usr/local/lib -name '*batten*.conf' -o -name 'batten-*'").stdout == ""
    assert "batten" not in host.run("cat /proc/mounts").stdout
    assert host.run("find /opt/batten /var/lib/batten -type f").stdout.split() == ["/var/lib/batten/demo/secrets.cred"]
    assert host.run("systemctl list-units --all --plain --no-legend 'batten-*'").stdout == ""


def test_the_engine_boots_as_before_and_a_new_install_finds_its_secrets(host: hosts.Host) -> None:
    host.reboot()
    assert host.run("docker ps --format '{{.Names}}'").stdout.split() == ["mine"]
    again = standin.python(host, standin.INSTALL)
    assert "made" not in again
    host.run("docker compose -f /root/compose.yaml create --quiet-pull && systemctl restart batten-stack@demo")
    standin.wait(host)
    assert "database system was shut down at" in host.run("docker logs demo-db-1 2>&1").stdout, "the old data is there"
