"""Runs on the host, as text handed to its Python (3.9, standard library): what only trying shows.

Standard input has a line a container: ``ID PID STARTED ADDRESS...``. Standard output is one JSON document::

    {"host": {"metadata": WORD}, "containers": {ID: {
        "log": {"lines": N, "json": N, "broken": N},
        "network": {"listens": [PORT], "tried": [[ID, PORT]], "reached": [[ID, PORT]],
                    "outside": BOOL, "metadata": WORD}}}}

Nothing is sent over a connection that opens, and of a log only counts leave the host. The number of attempts and the
time they take are bounded.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LINES = 20  # the last lines of each log that are looked at
# For all attempts of one container together. A handshake on one host takes microseconds; where a server's queue is full
# for a moment, as all containers come at once, the kernel asks again after a second (RFC 6298, 2.1).
SECONDS = 1.8
MOST_TARGETS = 200
BATCH = (
    MOST_TARGETS + 1
)  # sockets that are open at once: a process may have 1024 files (RLIMIT_NOFILE's usual soft limit)
MOST_CONTAINERS = 64
CLONE_NEWNET = 0x40000000  # linux/sched.h
LISTEN = "0A"  # TCP_LISTEN of include/net/tcp_states.h, as /proc/net/tcp shows it
METADATA = ("169.254.169.254", 80)  # where clouds tell a machine about itself, user data and all
OUTSIDE = ("198.51.100.1", 9)  # TEST-NET-2 of RFC 5737: nobody's; asked for a route only, nothing is sent


def main() -> None:
    if sys.argv[1:]:  # an outside look from this host: [SECONDS, [[ADDRESS, PORT], ...]]
        seconds, targets = json.loads(sys.argv[1])
        sys.stdout.write(json.dumps(attempts([(str(address), int(port)) for address, port in targets], seconds)))
        return
    containers = [line.split() for line in sys.stdin if len(line.split()) >= 3][:MOST_CONTAINERS]
    running = [words for words in containers if words[1] != "0"]
    listening = {words[0]: listens(words[1]) for words in running}
    targets = [(words[0], address, port) for words in running for address in words[3:] for port in listening[words[0]]]
    logs = {words[0]: open_log(words[0], words[2]) for words in containers}
    children = {words[0]: fork(words[0], words[1], targets) for words in running}
    host = fork("", "", [])
    found: dict[str, Any] = {identity: {"log": read_log(process)} for identity, process in logs.items()}
    for identity, pipe in children.items():
        found[identity]["network"] = {"listens": listening[identity], **answer(pipe)}
    sys.stdout.write(json.dumps({"host": answer(host), "containers": found}))


def listens(pid: str) -> list[int]:
    """The TCP ports that something in the process's network namespace accepts on, beyond loopback."""
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            rows = [line.split() for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
        except OSError:
            continue
        for row in rows:
            address, _, port = row[1].partition(":")
            if row[3] == LISTEN and not is_loopback(address):
                found.add(int(port, 16))
    return sorted(found)


def is_loopback(address: str) -> bool:
    """True for an address of /proc/net/tcp or tcp6 on loopback: words of four bytes in the machine's order."""
    data = b"".join(
        int(address[start : start + 8], 16).to_bytes(4, sys.byteorder) for start in range(0, len(address), 8)
    )
    if len(data) == 4:
        return data[0] == 127
    return data == b"\0" * 15 + b"\1" or (data[:12] == b"\0" * 10 + b"\xff\xff" and data[12] == 127)


def fork(identity: str, pid: str, targets: list[tuple[str, str, int]]) -> int:
    """Start a child that looks around in the network namespace of ``pid``, or here; return the pipe with its answer."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return reading
    try:
        if pid:
            enter(pid)
        os.write(writing, json.dumps(look(identity, targets)).encode())
    finally:
        os._exit(0)


def answer(pipe: int) -> dict[str, Any]:
    """What a child said; nothing if it could not look, as when its container ended meanwhile."""
    with os.fdopen(pipe) as said:
        text = said.read()
    return json.loads(text) if text else {}


def enter(pid: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns is there from Python 3.12 on
    with Path(f"/proc/{pid}/ns/net").open() as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


def look(identity: str, targets: list[tuple[str, str, int]]) -> dict[str, Any]:
    others = [target for target in targets if target[0] != identity][:MOST_TARGETS]
    words = attempts([METADATA, *((address, port) for _, address, port in others)])
    reached = {others[position][::2] for position, word in enumerate(words[1:]) if word == "open"}
    return {
        "metadata": words[0],
        "outside": routed(OUTSIDE),
        "tried": sorted({(other, port) for other, _, port in others}),
        "reached": sorted(reached),
    }


def attempts(addresses: list[tuple[str, int]], seconds: float = SECONDS) -> list[str]:
    """Connect to all, ``BATCH`` at once. After ``seconds`` each comes to ``open``, ``refused``, ``unreachable`` or
    ``silent``.

    Raises OSError where this process may open no more files: that says nothing of an address.
    """
    batches = (addresses[start : start + BATCH] for start in range(0, len(addresses), BATCH))
    return [word for batch in batches for word in together(batch, seconds)]


def together(addresses: list[tuple[str, int]], seconds: float) -> list[str]:
    words = ["silent"] * len(addresses)
    waiting: dict[int, tuple[int, socket.socket]] = {}
    poll = select.poll()
    for position, address in enumerate(addresses):
        try:
            one = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                for _, other in waiting.values():
                    other.close()
                raise
            words[position] = "unreachable"  # this kernel has no IPv6
            continue
        one.setblocking(False)
        code = one.connect_ex(address)
        if code == errno.EINPROGRESS:
            waiting[one.fileno()] = (position, one)
            poll.register(one, select.POLLOUT)
        else:
            words[position] = word(code)
            one.close()
    deadline = time.monotonic() + seconds
    while waiting:
        left = max(0.0, deadline - time.monotonic())
        ready = poll.poll(left * 1000)
        if not ready and not left:  # looked once more after the time: a busy machine may have kept this process waiting
            break
        for number, _ in ready:
            position, one = waiting.pop(number)
            poll.unregister(number)
            words[position] = word(one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
            one.close()
    for _, one in waiting.values():
        one.close()
    return words


def word(code: int) -> str:
    if code == 0:
        return "open"
    return "refused" if code == errno.ECONNREFUSED else "unreachable"


def routed(address: tuple[str, int]) -> bool:
    """True if the kernel has a route there. Connecting a datagram socket sends nothing (udp(7))."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        return one.connect_ex(address) == 0


def open_log(identity: str, started: str) -> subprocess.Popen[bytes]:
    """Ask for a container's last lines since its start: what an earlier run of it wrote says nothing of this one."""
    since = f"{started[:10]} {started[11:19]} UTC"
    fields = "--output-fields=MESSAGE,CONTAINER_PARTIAL_MESSAGE"
    words = ["journalctl", "-q", "-o", "json", fields, "-n", str(LINES), "--since", since]
    return subprocess.Popen(
        [*words, f"CONTAINER_ID_FULL={identity}"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )


def read_log(process: subprocess.Popen[bytes]) -> dict[str, int]:
    return count([json.loads(line) for line in process.communicate()[0].splitlines()])


def count(entries: list[dict[str, Any]]) -> dict[str, int]:
    """How many lines there are, how many are JSON objects, and how many after the first of these are not.

    What comes before the first is what a start script says. Parts of one long line, which the engine cuts
    (moby, daemon/logger/copier.go), are passed over.
    """
    lines = json_lines = broken = 0
    for entry in entries:
        if "CONTAINER_PARTIAL_MESSAGE" in entry:
            continue
        lines += 1
        if is_object(entry.get("MESSAGE")):
            json_lines += 1
        elif json_lines:
            broken += 1
    return {"lines": lines, "json": json_lines, "broken": broken}


def is_object(message: Any) -> bool:
    """``message`` is text, or a list of bytes where it is not plain text (systemd.journal-fields(7))."""
    try:
        text = message if isinstance(message, str) else bytes(message).decode()
        return isinstance(json.loads(text), dict)
    except (ValueError, TypeError):
        return False


if __name__ == "__main__":
    main()
