"""From an inventory's variables to the command line that reaches a host."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batten import connection
from batten.cli import main, tunnel
from batten.connection import connect
from batten.errors import BattenError

SSH = ["ssh", "-o", "BatchMode=yes"]
BOUNDED = ["-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15"]
DOCKER = "community.docker.docker"


@pytest.mark.parametrize(
    ("variables", "argv"),
    [
        ({}, [*SSH, *BOUNDED, "web1", "sudo -n id 'a b'"]),
        ({"ansible_user": "root"}, [*SSH, *BOUNDED, "root@web1", "id 'a b'"]),
        (
            {"ansible_host": "203.0.113.5", "ansible_user": "ann", "ansible_port": 2222},
            [*SSH, "-p", "2222", *BOUNDED, "ann@203.0.113.5", "sudo -n id 'a b'"],
        ),
        (
            {
                "ansible_user": "root",
                "ansible_ssh_private_key_file": "/keys/id",
                "ansible_ssh_common_args": "-o 'ProxyJump=gate'",
            },
            [*SSH, "-i", "/keys/id", "-o", "ProxyJump=gate", *BOUNDED, "root@web1", "id 'a b'"],
        ),
        ({"ansible_connection": DOCKER}, ["docker", "exec", "-i", "web1", "id", "a b"]),
        (
            {"ansible_connection": "docker", "ansible_host": "box", "ansible_user": "ann"},
            ["docker", "exec", "-i", "--user", "ann", "box", "sudo", "-n", "id", "a b"],
        ),
    ],
)
def test_a_command_is_quoted_and_becomes_root_where_it_must(variables: dict[str, Any], argv: list[str]) -> None:
    assert connect("web1", variables).argv(["id", "a b"]) == argv


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"ansible_connection": "winrm"}, "'winrm' is not supported here; ssh, community.docker.docker and local are"),
        ({"ansible_become_method": "doas", "ansible_user": "ann"}, "'doas' is not supported here; sudo is"),
        ({"ansible_password": "hunter2"}, "take keys, no passwords"),
    ],
)
def test_what_is_not_supported_is_said(variables: dict[str, Any], says: str) -> None:
    with pytest.raises(BattenError, match="fix: ") as caught:
        connect("web1", variables, "inventories/mine")
    assert says in str(caught.value)
    assert caught.value.where == "inventories/mine: web1"
    assert "hunter2" not in str(caught.value)


def local() -> connection.Connection:
    return connection.Connection("here", "local")


def test_input_and_output_are_bytes_of_pipes() -> None:
    content = bytes(range(256)) * 1000
    assert local().run(["cat"], stdin=content) == content


def test_a_failure_is_the_last_thing_said() -> None:
    with pytest.raises(BattenError, match=r"here: disk is full\n  fix: see: df -h"):
        local().run(["sh", "-c", "echo noise >&2; echo 'batten-host disk is full. fix: see: df -h' >&2; exit 1"])
    with pytest.raises(BattenError, match="exit status 3"):
        local().run(["sh", "-c", "exit 3"])


def test_a_host_that_ssh_does_not_reach_is_told_in_sshs_words(fake_program: Callable[[str, str], None]) -> None:
    fake_program("ssh", "#!/bin/sh\necho 'ssh: connect to host web1 port 22: Connection refused' >&2\nexit 255\n")
    with pytest.raises(BattenError) as caught:
        connect("web1", {"ansible_user": "root"}).run(["id"])
    assert "cannot be reached: ssh: connect to host web1 port 22: Connection refused" in str(caught.value)


def test_a_command_that_ends_with_255_through_docker_is_no_lost_host(fake_program: Callable[[str, str], None]) -> None:
    fake_program("docker", "#!/bin/sh\nexit 255\n")
    with pytest.raises(BattenError, match="exit status 255"):
        connect("box", {"ansible_connection": "docker"}).run(["id"])


def test_the_carried_program_runs_from_memory() -> None:
    words, program = connection.carried_program("version")
    assert local().run(words, stdin=program).decode().strip() == hashlib.sha256(program).hexdigest()
    with pytest.raises(BattenError, match="cut short"):
        local().run(words, stdin=program[:1000])


def test_a_port_is_forwarded_by_ssh_itself() -> None:
    words = connect("web1", {"ansible_user": "ann", "ansible_port": 2222}).forward(8222, "127.0.0.1", 8222)
    assert shlex.join(words) == (
        "ssh -N -o ExitOnForwardFailure=yes -o BatchMode=yes -p 2222 -o ConnectTimeout=10 -o ServerAliveInterval=15"
        " -L 127.0.0.1:8222:127.0.0.1:8222 ann@web1"
    )


def container(project: str = "shop", address: str = "172.18.0.5", ports: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "Config": {"Labels": {"com.docker.compose.project": project}, "ExposedPorts": {port: {} for port in ports}},
        "NetworkSettings": {"Networks": {"a": {"IPAddress": ""}, "b": {"IPAddress": address}}},
    }


def test_a_tunnel_leads_to_the_containers_own_address() -> None:
    assert tunnel.target("grafana", [container()], {"shop"}, "web1") == tunnel.Target("grafana", "172.18.0.5", 3000)
    other = [container("other"), container(ports=("8000/tcp", "8000/udp"))]
    assert tunnel.target("api", other, {"shop"}, "web1").port == 8000


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ([], "no service api runs there"),
        ([container("other")], "no service api runs there"),
        ([container(), container()], "2 services api run there"),
        ([container(address="")], "on no network"),
        ([container(ports=("1/tcp", "2/tcp"))], "nothing says on which port"),
    ],
)
def test_a_tunnel_to_nothing_is_refused(found: list[dict[str, Any]], says: str) -> None:
    with pytest.raises(BattenError, match=says):
        tunnel.target("api", found, {"shop"}, "web1")


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http"])
def test_a_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tunnel", "-i", "inventories/demo", "infisical", "--port", port]) == 1
    assert "from 1 to 65535" in capsys.readouterr().err


# An ssh that listens where -L says, answers who looks whether it does, and loses its own connection at the next one.
_SSH = """#!{python}
import socket, sys
word = sys.argv[sys.argv.index("-L") + 1].split(":")
with socket.create_server((word[0], int(word[1]))) as server:
    server.accept()
    server.accept()
sys.exit("Connection to web1 closed by remote host.")
"""


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> connection.Connection:
    program = tmp_path / "ssh"
    program.write_text(_SSH.replace("{python}", sys.executable))
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    found = connection.Connection("web1", "ssh", target="web1")
    monkeypatch.setattr(tunnel, "of_inventory", lambda *_: {"web1": found})
    monkeypatch.setattr(tunnel, "find", lambda *_: tunnel.Target("grafana", "172.18.0.5", 3000))
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return found


def test_a_tunnel_that_breaks_is_no_success(
    ssh: connection.Connection, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = tunnel._told

    def used(target: tunnel.Target, port: int, host: str, as_json: bool) -> None:
        told(target, port, host, as_json)
        socket.create_connection(("127.0.0.1", port), 10).close()

    monkeypatch.setattr(tunnel, "_told", used)
    assert main(["tunnel", "-i", "inventories/demo", "grafana", "--json"]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["name"] == "grafana"
    assert "the tunnel broke: Connection to web1 closed by remote host." in said.err


def _localhosts() -> list[str]:
    """The addresses that localhost is here: not every machine has IPv6."""
    with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
        return ["127.0.0.1", "::1"]
    return ["127.0.0.1"]


@pytest.mark.parametrize("address", _localhosts())
def test_another_programs_port_is_not_given_out_as_a_tunnel(
    ssh: connection.Connection, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A password may be typed into the page there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as other:
        port = other.getsockname()[1]
        assert main(["tunnel", "-i", "inventories/demo", "grafana", "--port", str(port)]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        assert f"port {port} cannot be opened here" in said.err
        assert tunnel._free_port(port) != port


def test_a_tunnel_that_ends_takes_its_relays_with_it_and_says_nothing_of_them(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A browser holds its connection open; the relay of it is a process of ours."""

    async def open_and_close() -> int:
        task = asyncio.create_task(tunnel._relayed(connection.Connection("here", "local"), target, port, True))
        reader, writer = None, None
        for _ in range(100):
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            await asyncio.sleep(0.05)
        assert reader
        assert writer
        writer.write(b"hello")
        assert await asyncio.wait_for(reader.read(5), 10) == b"hello"
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.wait_for(task, 10)
        return os.getpid()

    with socket.create_server(("127.0.0.1", 0)) as echo:
        target = tunnel.Target("echo", "127.0.0.1", echo.getsockname()[1])
        port = tunnel._free_port(0)
        threading.Thread(target=_echo_once, args=(echo,), daemon=True).start()
        me = asyncio.run(open_and_close())
    assert "Traceback" not in capfd.readouterr().err
    assert not subprocess.run(["pgrep", "-P", str(me), "-f", "create_connection"], capture_output=True).stdout


def _echo_once(server: socket.socket) -> None:
    with contextlib.suppress(OSError):
        link, _ = server.accept()
        with link:
            link.sendall(link.recv(64))
            link.recv(64)  # it goes on to hold the connection, as a browser's server does
