"""Uninstall on a real host: everything of ours is gone, everything of the user's is there."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.host import standin
from tests.rig import hosts

REMOVE = "print(uninstall.remove(StackPaths('demo'), Docker(), check={}))"


@pytest.fixture(scope="module")
def host() -> Iterator[hosts.Host]:
    started = standin.start(f"batten-uninstall-{os.getpid()}")
    yield started
    started.remove()


def test_it_takes_what_is_ours_and_keeps_the_data_and_the_engine(host: hosts.Host) -> None:
    host.run("docker run -d --name mine --restart unless-stopped python:3.13-slim sleep 600")
    engine = host.run("systemctl show -p ActiveEnterTimestamp docker").stdout
    predicted = standin.python(host, REMOVE.format(True))
    assert set(standin.containers(host)) == {"db", "web", "late", "once", ""}
    done = standin.python(host, REMOVE.format(False))
    assert done == predicted
    assert standin.python(host, REMOVE.format(False)).strip() == "[]"

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
    assert "Skipping initialization" in host.run("docker logs demo-db-1 2>&1").stdout
