"""Uninstall on a real host: everything of ours is gone, everything of the user's is there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host import standin
from tests.host.site import finished, inventory, play
from tests.rig import hosts


@pytest.fixture(scope="module")
def host() -> Iterator[hosts.Host]:
    started = standin.start(f"batten-uninstall-{os.getpid()}")
    yield started
    started.remove()


def uninstalled(host: hosts.Host, directory: Path, *options: str) -> list[str]:
    """Run playbooks/uninstall.yml; return what the module says it changed."""
    there = inventory(directory, {host.name: {"stack_name": "demo"}})
    run = finished(play("playbooks/uninstall.yml", there, directory, options, {}), host.name)
    assert run.code == 0, run.output
    return list(run.task("Remove the stack")["changes"])


def test_it_takes_what_is_ours_and_keeps_the_data_and_the_engine(host: hosts.Host, tmp_path: Path) -> None:
    host.run("docker run -d --name mine --restart unless-stopped python:3.13-slim sleep 600")
    engine = host.run("systemctl show -p ActiveEnterTimestamp docker").stdout
    predicted = uninstalled(host, tmp_path, "--check")
    assert set(standin.containers(host)) == {"db", "web", "late", "once", ""}
    assert uninstalled(host, tmp_path) == predicted
    assert "container demo-db-1: removed" in predicted
    assert uninstalled(host, tmp_path) == []

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
