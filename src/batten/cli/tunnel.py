"""Reach a service of a host that listens on no public address: a port on this machine, until Ctrl-C.

NAME is infisical, grafana, prometheus, or any service of the stack. Nothing new listens on the host; here the port is
open to this machine alone. With ssh the tunnel is ssh's own; with other connections, one process a connection."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import json
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batten import fleet, runner
from batten.cli import inventory_argument, note, print_json
from batten.connection import Connection, of_inventory, one
from batten.errors import BattenError
from batten.plan.infisical import STACK as INFISICAL
from batten.plan.infisical import InfisicalSettings

# Where each answers people, as its documentation has it; others are asked for the one port that their image exposes.
_PORTS: Mapping[str, int] = {
    "grafana": 3000,
    "prometheus": 9090,
    "alertmanager": 9093,
    "alloy": 12345,
    "loki": 3100,
    "stack-auth": 8101,
}
_OPEN_SECONDS = 20.0

# On the host: copies between its standard input and output and one connection.
_RELAY = """\
import os, socket, sys, threading
try:
    link = socket.create_connection((sys.argv[1], int(sys.argv[2])), 10)
except OSError as error:
    sys.exit("%s:%s does not answer: %s" % (sys.argv[1], sys.argv[2], error))
link.settimeout(None)
def up():
    while True:
        block = os.read(0, 65536)
        if not block:
            break
        link.sendall(block)
    link.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while True:
    block = link.recv(65536)
    if not block:
        break
    while block:
        block = block[os.write(1, block):]
"""


@dataclass(frozen=True)
class Target:
    """What a tunnel leads to, as the host reaches it."""

    name: str
    address: str
    port: int


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``batten tunnel`` takes."""
    inventory_argument(parser)
    parser.add_argument("name", metavar="NAME", help="infisical, grafana, prometheus, or another service")
    parser.add_argument("--port", type=_port, default=0, metavar="N", help="the port here; a free one unless given")


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give a number from 1 to 65535")
    return int(text)


def run(args: argparse.Namespace) -> int:
    """Run ``batten tunnel`` until it is stopped."""
    group = INFISICAL if args.name == INFISICAL and _group_exists(args) else ""
    connection = one(of_inventory(args.inventory, args.limit, group), args.inventory)
    target = find(connection, args)
    port = _own_port(args.port) if args.port else _free_port(target.port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ssh must not outlive us
    with contextlib.suppress(KeyboardInterrupt):
        if connection.kind == "ssh":
            said = _through_ssh(connection, target, port, args.json)
            note(f"the tunnel broke: {said}")
            return 1
        asyncio.run(_relayed(connection, target, port, args.json))
    note("the tunnel is closed")
    return 0


def find(connection: Connection, args: argparse.Namespace) -> Target:
    """Return where the service listens: Infisical on the host's loopback, others at their container's own address."""
    if args.name == INFISICAL:
        variables = runner.load_hosts(args.inventory, args.limit)[connection.host]
        return Target(INFISICAL, "127.0.0.1", int(variables.get("infisical_port") or InfisicalSettings.port))
    projects = {one.project or one.name for one in fleet.settings_of(args.inventory, args.limit)[connection.host]}
    label = f"label=com.docker.compose.service={args.name}"
    listed = connection.run(["docker", "ps", "-q", "--filter", label]).decode().split()
    shown = json.loads(connection.run(["docker", "inspect", *listed])) if listed else []
    return target(args.name, shown, projects, connection.host)


def target(name: str, inspected: list[Mapping[str, Any]], projects: set[str], host: str) -> Target:
    """Return the target out of ``docker inspect`` of the running containers of a service named ``name``. Pure.

    Raises BattenError where none or several run, and where it is not clear on which port it answers.
    """
    own = [each for each in inspected if each["Config"]["Labels"].get("com.docker.compose.project") in projects]
    if len(own) != 1:
        what = f"no service {name} runs there" if not own else f"{len(own)} services {name} run there"
        raise BattenError(what, host, "name a service that runs: infisical, grafana, prometheus, ...")
    addresses = sorted(
        each["IPAddress"] for each in own[0]["NetworkSettings"]["Networks"].values() if each["IPAddress"]
    )
    if not addresses:
        raise BattenError(f"{name} is on no network that the host reaches", host, "see: docker inspect")
    exposed = sorted(
        int(each.partition("/")[0]) for each in own[0]["Config"].get("ExposedPorts") or () if "tcp" in each
    )
    port = _PORTS.get(name) or (exposed[0] if len(exposed) == 1 else 0)
    if not port:
        raise BattenError(f"nothing says on which port {name} answers people", host, f"its image exposes {exposed}")
    return Target(name, addresses[0], port)


def _group_exists(args: argparse.Namespace) -> bool:
    hosts = runner.load_hosts(args.inventory, args.limit)
    return any(values["groups"].get(INFISICAL) for values in hosts.values())


def _own_port(port: int) -> int:
    """Return the port that a person wants; raises BattenError where another program has it: its page would open."""
    try:
        return _unused(port)
    except OSError as error:
        why = error.strerror or str(error)
        raise BattenError(f"port {port} cannot be opened here: {why}", "127.0.0.1", "give another --port") from error


def _free_port(wanted: int) -> int:
    """Return ``wanted`` if it is free here, else any that is."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError):
            return _unused(port)
    raise BattenError("no port is free on this machine", "127.0.0.1", "give one with --port")


def _unused(port: int) -> int:
    """Return ``port``, or any for 0, if nothing listens on it at either address that localhost is; else OSError."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        port = int(probe.getsockname()[1])
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("::1", port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:  # anything else: this machine has no IPv6
            raise
    return port


def _told(target: Target, port: int, host: str, as_json: bool) -> None:
    url = f"http://localhost:{port}"
    if as_json:
        print_json({"name": target.name, "host": host, "url": url, "port": port})
        sys.stdout.flush()
    else:
        print(f"{target.name} of {host}: {url}", flush=True)
    note("Ctrl-C closes it")


def _through_ssh(connection: Connection, target: Target, port: int, as_json: bool) -> str:
    """Keep the tunnel open until ssh ends by itself; return its last words. Raises BattenError if it does not open."""
    words = connection.forward(port, target.address, target.port)
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + _OPEN_SECONDS
            # Who answers while ssh is gone is somebody else.
            while not _answers(port) or process.poll() is not None:
                if process.poll() is not None or time.monotonic() > deadline:
                    process.terminate()
                    what, fix = f"ssh cannot open the tunnel: {_last(process)}", f"try: {shlex.join(words)}"
                    raise BattenError(what, connection.host, fix)
                time.sleep(0.1)
            _told(target, port, connection.host, as_json)
            process.wait()
            return _last(process)
        finally:
            process.terminate()


def _last(process: subprocess.Popen[bytes]) -> str:
    said = process.stderr.read() if process.stderr else b""
    return (said.decode(errors="replace").strip().splitlines() or ["it gave no reason"])[-1]


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


async def _relayed(connection: Connection, target: Target, port: int, as_json: bool) -> None:
    words = connection.argv(["python3", "-c", _RELAY, target.address, str(target.port)], root=False)

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        process = await asyncio.create_subprocess_exec(
            *words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        if process.stdin is None or process.stdout is None or process.stderr is None:
            return
        up = asyncio.create_task(_copy(reader, process.stdin))
        try:
            await _copy(process.stdout, writer)
            if await process.wait():
                last = ((await process.stderr.read()).decode(errors="replace").strip().splitlines() or [""])[-1]
                note(f"{connection.host}: {last}")
        except asyncio.CancelledError:  # the tunnel is being closed
            process.kill()
            await process.wait()
        finally:
            up.cancel()

    try:
        server = await asyncio.start_server(relay, "127.0.0.1", port)
    except OSError as error:
        raise BattenError(
            f"port {port} cannot be opened here: {error.strerror}", "127.0.0.1", "give another --port"
        ) from error
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    async with server:
        _told(target, port, connection.host, as_json)
        await stopped.wait()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while block := await reader.read(65536):
            writer.write(block)
            await writer.drain()
    with contextlib.suppress(ConnectionError, OSError):
        writer.close()
