"""What people get wrong, and what hosts do to them: one clear error each, and a host left as it was.

One small host with one small stack, through `batten up` as a person types it, and through plain ansible-playbook where
that says something else. What needs no host is in tests/unit/test_bad_input.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rig import hosts, images, networks, registry

ROOT = Path(__file__).parents[2]
PORT = 8080
CHECK = ["CMD", "python3", "-c", f"import urllib.request as u; u.urlopen('http://127.0.0.1:{PORT}')"]
SERVE = f"exec python3 -m http.server {PORT} --directory /tmp"
BASE: dict[str, Any] = {
    "services": {
        "web": {
            "image": "python:3.13-slim",
            "command": ["sh", "-c", SERVE],
            "healthcheck": {"test": CHECK, "interval": "1s", "start_interval": "500ms", "start_period": "60s"},
        }
    }
}
DEFINITION: dict[str, Any] = {
    "networks": {"edge": {"internal": False}},
    "services": {"web": {"user": "1000:1000", "networks": ["edge"], "ports": [{"target": PORT, "published": PORT}]}},
}
VARIABLES: dict[str, Any] = {
    "stack_name": "tiny",
    "stack_base": "compose.yaml",
    "docker_source": "preinstalled",
    "infisical_mode": "none",  # a host of 1 GiB has no room for it
}
# All that a run may leave: containers, what is on disk, what docker.service runs on.
# But for the record of role host, which opens what a run will publish before it is tried: who is taken over keeps
# being reached.
STATE = """
docker ps -a --no-trunc --format '{{.ID}} {{.Names}} {{.State}}'
readlink /opt/batten/tiny/current
find /opt/batten /var/lib/batten /etc/docker -type f ! -name host.json -exec sha256sum {} + | sort
systemctl show -p ActiveEnterTimestamp docker
"""


@dataclass(frozen=True)
class Said:
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str


class Tiny:
    """The stack, its inventory in a directory, and its host."""

    def __init__(self, host: hosts.Host, directory: Path) -> None:
        self.host = host
        self.directory = directory
        daemon = {
            "registry-mirrors": [registry.mirror_url()],
            "insecure-registries": [f"{networks.REGISTRY_ADDRESS}:5000"],
        }
        entries = [{"name": name, "value": value} for name, value in daemon.items()]
        self.variables: dict[str, Any] = {**VARIABLES, "docker_daemon": entries}
        self.write()

    def write(
        self,
        *,
        web: dict[str, Any] | None = None,
        definition: dict[str, Any] | None = None,
        connection: dict[str, Any] | None = None,
        **variables: Any,
    ) -> None:
        """Write the inventory, with some of it changed: keys of the service in the base, in batten.yaml, variables."""
        base = {"services": {"web": {**BASE["services"]["web"], **(web or {})}}}
        services = {"web": {**DEFINITION["services"]["web"], **(definition or {})}}
        wanted = {"ansible_connection": "community.docker.docker", "ansible_python_interpreter": "/usr/bin/python3"}
        host = wanted if connection is None else connection
        inventory = {"stack": {"hosts": {self.host.name: host}, "vars": {**self.variables, **variables}}}
        for name, content in (
            ("compose.yaml", base),
            ("batten.yaml", {**DEFINITION, "services": services}),
            ("hosts.yml", inventory),
        ):
            (self.directory / name).write_text(yaml.safe_dump(content))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start `batten WORDS` on the inventory."""
        return self._start([sys.executable, "-m", "batten", *words, "-i", str(self.directory / "hosts.yml")])

    def batten(self, *words: str) -> Said:
        return finished(self.start(*words))

    def playbook(self) -> Said:
        """Run site.yml without batten's command line."""
        program = str(Path(sys.executable).parent / "ansible-playbook")
        return finished(self._start([program, "site.yml", "-i", str(self.directory / "hosts.yml")]))

    def _start(self, words: list[str]) -> subprocess.Popen[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "XDG_STATE_HOME": str(self.directory),
        }
        pipe = subprocess.PIPE
        return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)

    def forget(self) -> None:
        """Take away what earlier runs kept of the host, so that it must be asked."""
        for record in (self.directory / "batten" / "capacity").glob(f"{self.host.name}.*.json"):
            record.unlink()

    def state(self) -> str:
        return self.host.run(STATE).stdout

    def container(self) -> str:
        return self.host.run("docker ps -aq --no-trunc --filter name=tiny-web", check=False).stdout.strip()

    def healthy(self) -> bool:
        ready = self.host.run("docker ps -q --filter name=tiny-web --filter health=healthy", check=False)
        return bool(ready.stdout.strip())


def finished(process: subprocess.Popen[str]) -> Said:
    """Wait for a command; nothing that a person reads may be a traceback."""
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in out + err, out + err
    return Said(process.returncode, out, err)


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"nothing in {seconds:.0f} s"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tiny]:
    """A host of 1 GiB on which the stack runs."""
    registry.ensure_registry()
    images.ensure_images()
    host = hosts.start(f"batten-bad-{os.getpid()}", "engine", memory="1g")
    try:
        stack = Tiny(host, tmp_path_factory.mktemp("tiny"))
        done = stack.batten("up")
        assert done.code == 0, done.err
        yield stack
    finally:
        host.remove()


@pytest.fixture(autouse=True)
def restored(tiny: Tiny) -> Iterator[None]:
    yield
    tiny.write()


def refused(tiny: Tiny, *says: str) -> Said:
    """`batten up` fails, once, with these words and something to type; the host is as it was."""
    before = tiny.state()
    done = tiny.batten("up")
    assert done.code == 1, done.err
    for text in says:
        assert done.err.count(text) == 1, f"{text!r} is not said exactly once:\n{done.err}"
    assert "fix" in done.err
    assert tiny.state() == before
    return done


def test_a_service_that_does_not_fit_the_host_is_refused_with_the_table(tiny: Tiny) -> None:
    tiny.write(definition={"limits": {"memory": "2G"}})
    refused(tiny, "does not fit the host", "missing  ", "819 MiB", "stack_profiles")


def test_an_address_of_another_host_is_refused_with_those_it_has(tiny: Tiny) -> None:
    tiny.write(stack_public_addresses=["203.0.113.9"])
    refused(tiny, "does not own the address 203.0.113.9", f'stack_public_addresses: ["{tiny.host.address}"')


def test_a_port_in_use_is_refused_with_who_uses_it(tiny: Tiny) -> None:
    tiny.host.run("systemd-run -q --unit=holder python3 -m http.server 8099")
    try:
        tiny.write(definition={"ports": [{"target": PORT, "published": 8099}]})
        pid = tiny.host.run("systemctl show -P MainPID holder").stdout.strip()
        refused(tiny, "port 8099/tcp is in use by python3", f"stop python3 (pid {pid})")
    finally:
        tiny.host.run("systemctl stop holder")


def test_a_layer_that_compose_refuses_is_named_as_its_author_knows_it(tiny: Tiny) -> None:
    tiny.write(web={"imagge": "x"})
    done = refused(tiny, "validating compose.yaml: services.web Additional property imagge is not allowed")
    assert "docker compose -f compose.yaml config -q" in done.err
    assert "/tmp/" not in done.err.partition("failed")[2]


def test_an_image_that_cannot_be_pulled_stops_nothing(tiny: Tiny) -> None:
    tiny.write(web={"image": "batten/no-such-image:1"})
    refused(tiny, "image batten/no-such-image:1: it cannot be pulled", "docker login")


def test_a_disk_that_fills_up_in_a_pull_says_so(tiny: Tiny) -> None:
    tiny.host.run("mount -t tmpfs -o size=4k tmpfs /var/lib/docker/tmp")
    try:
        # By the registry's own name: where a mirror fails, the engine tells only how Docker Hub fails. This image has
        # a layer of its own; most stand-ins differ in their entrypoint alone.
        image = f"{networks.REGISTRY_ADDRESS}:5000/batten/sample-api:1.0.1"
        tiny.write(web={"image": image})
        refused(tiny, f"image {image}: it cannot be pulled", "no space left on device", "docker image prune -a")
    finally:
        tiny.host.run("umount /var/lib/docker/tmp")


@pytest.fixture
def small_disk(tiny: Tiny) -> Iterator[None]:
    """The stack's directory on a disk of 100 MiB."""
    move = "cp -a /opt/batten/tiny /root/tiny && mount -t tmpfs -o size=100m tmpfs /opt/batten/tiny"
    tiny.host.run(f"{move} && cp -a /root/tiny/. /opt/batten/tiny && rm -r /root/tiny")
    yield
    tiny.host.run("umount /opt/batten/tiny")


@pytest.mark.usefixtures("small_disk")
def test_a_disk_that_is_too_full_is_refused_before_and_while_writing(tiny: Tiny) -> None:
    tiny.write(stack_environment={"ANOTHER": "release"})
    refused(tiny, "/opt/batten/tiny: 99 MiB are free, 256 MiB are needed", "docker image prune")
    # Now enough bytes, but no inode for the last files: writing begins and cannot end.
    inodes = int(tiny.host.run("df --output=iused /opt/batten/tiny | tail -1").stdout) + 3
    tiny.host.run(f"mount -o remount,size=400m,nr_inodes={inodes} /opt/batten/tiny")
    refused(tiny, "No space left on device", "df -h; df -i")


def test_an_unsupported_system_is_refused(tiny: Tiny) -> None:
    tiny.host.run("mv /etc/os-release /root/ && printf 'ID=alpine\\nPRETTY_NAME=Alpine\\n' >/etc/os-release")
    try:
        tiny.write(docker_source="distro")
        refused(tiny, "Alpine is not supported", "docker_source: preinstalled")
    finally:
        tiny.host.run("mv /root/os-release /etc/os-release")


def test_a_compose_that_is_too_old_is_refused(tiny: Tiny) -> None:
    plugin = "/usr/libexec/docker/cli-plugins/docker-compose"
    old = f'case "$*" in *version*) echo 2.20.0;; *) exec {plugin}.real "$@";; esac'
    tiny.host.run(f"mv {plugin} {plugin}.real")
    try:
        tiny.host.put(plugin, f"#!/bin/sh\n{old}\n", "0755")
        refused(tiny, "Docker Compose 2.20.0 is too old", "2.24.4", "docker_source: upstream")
    finally:
        tiny.host.run(f"mv {plugin}.real {plugin}")


def test_a_user_without_sudo_is_told_what_to_give_it(tiny: Tiny) -> None:
    tiny.host.run("useradd -m worker")
    connection = {"ansible_connection": "community.docker.docker", "ansible_user": "worker"}
    tiny.write(connection=connection)
    refused(tiny, "worker cannot become root here", "usermod -aG sudo worker")
    tiny.forget()
    asked = tiny.batten("plan")
    assert asked.code == 1
    assert "cannot become root here" in asked.err


def test_a_host_that_does_not_answer_is_named(tiny: Tiny) -> None:
    # There is no SSH server on it: refused at once, where a dead host would take Ansible's ten seconds.
    tiny.write(connection={"ansible_host": tiny.host.address, "ansible_ssh_common_args": "-o StrictHostKeyChecking=no"})
    tiny.forget()
    for verb in ("plan", "verify"):
        done = tiny.batten(verb)
        assert done.code == 1, done.err
        assert f"{tiny.host.name}: " in done.err
        assert "Connection refused" in done.err
        assert "fix: " in done.err
    refused(tiny, "Connection refused", f"{tiny.host.name}: Install, configure and repair Docker: unreachable")


def test_plain_ansible_refuses_a_wrong_inventory_before_any_host(tiny: Tiny) -> None:
    before = tiny.state()
    for variables, says in (
        ({"stack_domian": "x"}, "did you mean 'stack_domain'?"),
        ({"docker_source": "snap"}, "must be one of: upstream, distro, preinstalled, got: snap"),
        ({"stack_name": None}, "set stack_name, for example stack_name: app"),
    ):
        tiny.write(**variables)
        done = tiny.playbook()
        assert done.code == 2
        assert says in done.out
        assert "ok=0 " in done.out
        assert len(done.out.splitlines()) < 30, done.out
    assert tiny.state() == before


SLOW = {"command": ["sh", "-c", f"sleep 5; {SERVE}"]}


def begin_slow_run(tiny: Tiny, **web: Any) -> subprocess.Popen[str]:
    """Start a run that replaces the container and then waits for its health, and wait for that moment."""
    before = tiny.container()
    tiny.write(web={**SLOW, **web})
    process = tiny.start("up")
    until(lambda: tiny.container() not in ("", before))
    return process


def test_ctrl_c_ends_the_run_and_another_run_ends_the_work(tiny: Tiny) -> None:
    process = begin_slow_run(tiny)
    process.send_signal(signal.SIGINT)
    done = finished(process)
    assert done.code == 130, done.err
    assert "run it again to continue" in done.err
    again = tiny.batten("up")
    deadline = time.monotonic() + 60
    while again.code and time.monotonic() < deadline:
        # What was begun on the host ends there; until then it says who holds the stack.
        assert "another run holds this stack (pid" in again.err, again.err
        again = tiny.batten("up")
    assert again.code == 0, again.err
    assert tiny.healthy()


def test_a_host_lost_half_way_is_named_and_a_run_after_it_converges(tiny: Tiny) -> None:
    process = begin_slow_run(tiny, environment={"ROUND": "two"})
    tiny.host.power_off()
    done = finished(process)
    assert done.code == 1
    assert "the connection ended before the work was done" in done.err
    assert "run the same command again" in done.err
    tiny.host.power_on()
    again = tiny.batten("up", "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out)["ok"]
    assert tiny.healthy()
    calm = tiny.batten("up")
    assert "nothing to change" in calm.err


# The engine's store of networks as a power cut may leave it: all its states in a start, each tried in place of the last
# until one has the engine hold the port for nobody. bbolt writes so that any moment can be read back.
STORE = "/var/lib/docker/network/files/local-kv.db"
POWER_COMES_BACK = "systemctl reset-failed docker.service docker.socket; systemctl start docker.service"
CUT_IN_A_START = f"""
import os, pathlib, signal, subprocess, time
store = pathlib.Path("{STORE}")
def run(command): return subprocess.run(command, shell=True, check=True, capture_output=True, text=True).stdout
engine = int(run("systemctl show -P MainPID docker"))
starting, states = subprocess.Popen(["docker", "start", "tiny-web-1"]), []
while starting.poll() is None:
    os.kill(engine, signal.SIGSTOP)
    if not states or store.read_bytes() != states[-1]:
        states.append(store.read_bytes())
    os.kill(engine, signal.SIGCONT)
    time.sleep(0.001)
run("docker stop --time 1 tiny-web-1")
for state in states:
    run("systemctl stop docker.service")
    store.write_bytes(state)
    run("{POWER_COMES_BACK}")
    if ":{PORT:04X} " in "".join(pathlib.Path("/proc/net", name).read_text() for name in ("tcp", "tcp6")):
        pathlib.Path("/root/held.db").write_bytes(state)
        break
else:
    raise SystemExit(f"no state of {{len(states)}} has the engine hold the port")
"""


def test_a_port_that_the_engine_holds_for_nobody_after_a_power_cut_is_let_go(tiny: Tiny) -> None:
    """Third-party behaviour: should an engine let go of it by itself, held_ports.py can go, and this says so."""
    tiny.host.run("docker stop --time 1 tiny-web-1")
    tiny.host.run("python3 -", stdin=CUT_IN_A_START)
    assert "port is already allocated" in tiny.host.run("docker start tiny-web-1", check=False).stderr
    tiny.host.run("systemctl restart batten-stack@tiny")
    until(lambda: tiny.host.run("systemctl show -P SubState batten-stack@tiny").stdout == "exited\n")
    assert tiny.healthy()
    told = tiny.host.run("journalctl -b -o cat -u batten-stack@tiny").stdout
    assert f":{PORT} for a container that is gone; it was started anew" in told

    tiny.host.run("docker stop --time 1 tiny-web-1; systemctl stop docker.service")
    tiny.host.run(f"cp /root/held.db {STORE}; {POWER_COMES_BACK}")
    done = tiny.batten("up", "--json")
    assert done.code == 0, done.err
    assert "for a container that is gone" in done.out
    assert tiny.healthy()
    assert "nothing to change" in tiny.batten("up").err
