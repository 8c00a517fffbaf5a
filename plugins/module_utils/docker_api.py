"""The Docker Engine API over its unix socket, with nothing but the standard library.

Version 1.44 is what Engine 25.0 speaks, the oldest that batten supports, and Engine 29 still accepts it
(https://docs.docker.com/reference/api/engine/version-history/).
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import queue
import socket
import struct
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from .compose_labels import PROJECT
from .errors import BattenError

SOCKET = "/var/run/docker.sock"
VERSION = "v1.44"
Json = Any
Many = list[Any]  # inside Docker, `list` is the method
Lines = list[str]
_PAUSE_SECONDS = 0.2


class DockerError(BattenError):
    """The engine refused a request; ``status`` is the HTTP status, 0 when the engine did not answer."""

    def __init__(self, status: int, what: str, where: str = "", fix: str = "") -> None:
        self.status = status
        super().__init__(what, where, fix)


@dataclass(frozen=True)
class ExecResult:
    """What a command in a container printed and returned."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Exec(NamedTuple):
    """A command that runs in a container by exec. ``attached``: it was started with somebody at the other end."""

    command: Lines
    attached: bool = False


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("docker", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Docker:
    """A client for one engine. Every method raises :class:`DockerError`. ``timeout`` is in seconds, per answer."""

    def __init__(self, path: str = SOCKET, timeout: float = 120) -> None:
        self.path = path
        self.timeout = timeout

    def answers(self) -> bool:
        """Return whether an engine answers on the socket."""
        if not os.path.exists(self.path):
            return False
        try:
            self.call("GET", "/_ping", version="")
        except DockerError:
            return False
        return True

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Json = None,
        version: str = VERSION,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        """Make one request; return its JSON, or its bytes where the engine answers otherwise."""
        connection = _Connection(self.path, self.timeout)
        try:
            response = self.send(connection, method, path, query, body, version, headers)
            data = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise _no_answer(error, self.path) from error
        finally:
            connection.close()
        if response.status >= 400:
            raise DockerError(response.status, _message(data), f"{method} {path}")
        if "json" in (response.getheader("Content-Type") or ""):
            return json.loads(data) if data.strip() else None
        return data

    # What is there

    def version(self) -> Json:
        return self.call("GET", "/version", version="")

    def info(self) -> Json:
        """Return what the engine runs with; also that of an engine too old for :data:`VERSION`."""
        return self.call("GET", "/info", version="")

    def list(self, project: str | None = None) -> Many:
        """Return summaries of all containers, also stopped ones, of one Compose project or of the whole engine."""
        labels = [f"{PROJECT}={project}"] if project else []
        return list(self.call("GET", "/containers/json", {"all": 1, "filters": {"label": labels}}))

    def inspect(self, identifier: str) -> Json | None:
        """Return a container, or None when it is gone."""
        return self._or_none(f"/containers/{quote(identifier)}/json")

    def inspect_all(self, identifiers: Iterable[str]) -> Many:
        """Inspect containers, leaving out those that vanished meanwhile."""
        return [found for found in map(self.inspect, identifiers) if found is not None]

    def image(self, reference: str) -> Json | None:
        """Return the local image that ``reference`` resolves to, or None."""
        return self._or_none(f"/images/{quote(reference, safe='/:@')}/json")

    def networks(self, project: str | None = None) -> Many:
        """Return the networks of one Compose project or of the whole engine, without who is on them."""
        labels = [f"{PROJECT}={project}"] if project else []
        return list(self.call("GET", "/networks", {"filters": {"label": labels}}))

    def distribution(self, reference: str, login: Mapping[str, str]) -> Json:
        """Ask a registry, with the engine's own connection and a login, what a reference means.

        Engine API, "Get image information from the registry": ``Descriptor`` and ``Platforms``; the login is base64url
        of ``username``, ``password`` and ``serveraddress`` in the header X-Registry-Auth.
        """
        header = base64.urlsafe_b64encode(json.dumps(login).encode()).decode()
        path = f"/distribution/{quote(reference, safe='/:@')}/json"
        return self.call("GET", path, headers={"X-Registry-Auth": header})

    def volumes(self) -> Many:
        return list(self.call("GET", "/volumes").get("Volumes") or [])

    def changes(self, identifier: str) -> Many:
        """Return what a container's files differ in from its image: ``[{"Path", "Kind": 0|1|2}]``; none if gone."""
        return list(self._or_none(f"/containers/{quote(identifier)}/changes") or [])

    def execs(self, identifier: str) -> dict[int, Exec]:
        """Return what runs in a container by exec, by its pid on the host."""
        found: dict[int, Exec] = {}
        for one in (self.inspect(identifier) or {}).get("ExecIDs") or []:
            shown = self._or_none(f"/exec/{quote(one)}/json")
            if shown and shown.get("Running") and shown.get("Pid"):
                process = shown["ProcessConfig"]
                command = [process["entrypoint"], *(process.get("arguments") or [])]
                found[int(shown["Pid"])] = Exec(command, bool(shown.get("OpenStdin") or shown.get("OpenStdout")))
        return found

    def stats(self, identifier: str) -> Json:
        """Return one sample of a container's use, without the second that the engine waits for a cpu rate."""
        return self.call("GET", f"/containers/{quote(identifier)}/stats", {"stream": 0, "one-shot": 1})

    def logs(self, identifier: str, tail: int = 20) -> Lines:
        """Return the last lines of a container's log, both streams in order of arrival."""
        data = self.call("GET", f"/containers/{quote(identifier)}/logs", {"stdout": 1, "stderr": 1, "tail": tail})
        return _demultiplex(data or b"", merged=True)[0].decode(errors="replace").splitlines()[-tail:]

    # What changes something

    def start(self, identifier: str) -> None:
        self.call("POST", f"/containers/{quote(identifier)}/start")

    def stop(self, identifier: str) -> None:
        """Stop with the container's own signal and grace, however long that is."""
        patient = Docker(self.path, timeout=1800)
        patient.call("POST", f"/containers/{quote(identifier)}/stop")

    def restart(self, identifier: str) -> None:
        self.stop(identifier)
        self.start(identifier)

    def unpause(self, identifier: str) -> None:
        self.call("POST", f"/containers/{quote(identifier)}/unpause")

    def kill(self, identifier: str, signal: str) -> None:
        self.call("POST", f"/containers/{quote(identifier)}/kill", {"signal": signal})

    def remove(self, identifier: str) -> None:
        """Remove a container, never its volumes. One that is gone already is no error."""
        try:
            self.call("DELETE", f"/containers/{quote(identifier)}", {"force": 1})
        except DockerError as error:
            if error.status != 404:
                raise

    def remove_network(self, identifier: str) -> None:
        self.call("DELETE", f"/networks/{quote(identifier)}")

    def disconnect(self, network: str, container: str) -> None:
        """Take a container off a network, by their IDs or names. One that is not on it any more is no error."""
        try:
            self.call("POST", f"/networks/{quote(network)}/disconnect", body={"Container": container, "Force": True})
        except DockerError as error:
            if error.status != 404 and "is not connected" not in error.what:
                raise

    def update(self, identifier: str, resources: Mapping[str, Any]) -> None:
        """Change limits or the restart policy of a live container; keys as in the API's ``UpdateConfig``."""
        self.call("POST", f"/containers/{quote(identifier)}/update", body=dict(resources))

    def exec(self, identifier: str, command: Sequence[str], stdin: bytes = b"", timeout: float = 600) -> ExecResult:
        """Run ``command`` in a container, feeding it ``stdin``. The place for a secret is ``stdin``, not ``command``.

        Uses the hijacked connection of ``/exec/ID/start``: after the 101 answer the socket carries raw input one way
        and frames the other way (https://docs.docker.com/reference/api/engine/version/v1.44/#tag/Exec).
        """
        setup = {"AttachStdin": True, "AttachStdout": True, "AttachStderr": True, "Cmd": list(command)}
        created = self.call("POST", f"/containers/{quote(identifier)}/exec", body=setup)["Id"]
        body = b'{"Detach":false,"Tty":false}'
        head = (
            f"POST /{VERSION}/exec/{created}/start HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
            try:
                stream.settimeout(timeout)
                stream.connect(self.path)
                stream.sendall(head.encode() + body)
                answer = stream.makefile("rb")
                status = answer.readline()
                while answer.readline().strip():
                    pass
                if b" 101 " not in status:
                    raise DockerError(0, f"exec failed: {status.decode(errors='replace').strip()}", identifier)
                if stdin:
                    stream.sendall(stdin)
                stream.shutdown(socket.SHUT_WR)
                data = answer.read()
            except OSError as error:
                raise _no_answer(error, self.path) from error
        stdout, stderr = _demultiplex(data)
        return ExecResult(int(self.call("GET", f"/exec/{created}/json")["ExitCode"] or 0), stdout, stderr)

    def events(self, project: str) -> Events:
        """Open the stream of container events of one project, from now on."""
        return Events(self, project)

    def send(
        self,
        connection: _Connection,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Json,
        version: str,
        headers: Mapping[str, str] | None = None,
    ) -> http.client.HTTPResponse:
        """Send one request; the caller reads the answer and closes the connection."""
        encoded = {
            key: json.dumps(value) if isinstance(value, (dict, list)) else value for key, value in (query or {}).items()
        }
        target = (f"/{version}" if version else "") + path + (f"?{urlencode(encoded)}" if encoded else "")
        content = None if body is None else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"} if content else {}
        connection.request(method, target, content, {**kind, **(headers or {})})
        return connection.getresponse()

    def _or_none(self, path: str) -> Json | None:
        try:
            return self.call("GET", path)
        except DockerError as error:
            if error.status == 404:
                return None
            raise


def await_answer(docker: Docker, deadline: float) -> None:
    """Wait for an engine on the socket. Raises BattenError at ``deadline`` (time.monotonic)."""
    while not docker.answers():
        if time.monotonic() >= deadline:
            raise BattenError("the Docker engine does not answer", docker.path, "see: journalctl -b -u docker")
        time.sleep(_PAUSE_SECONDS)


class Events:
    """An open event stream. ``next(timeout)`` blocks until an event comes, so nobody need poll.

    A thread reads, because a buffered reader that once timed out on a socket cannot be read again.
    """

    def __init__(self, docker: Docker, project: str) -> None:
        self._connection = _Connection(docker.path, docker.timeout)
        self._queue: queue.Queue[Json] = queue.Queue()
        filters = {"type": ["container"], "label": [f"{PROJECT}={project}"]}
        try:
            self._connection.connect()
            self._socket: socket.socket = self._connection.sock
            response = docker.send(self._connection, "GET", "/events", {"filters": filters}, None, VERSION)
            if response.status != 200:
                raise DockerError(response.status, _message(response.read()), "GET /events")
        except OSError as error:
            raise _no_answer(error, docker.path) from error
        self._socket.settimeout(None)
        threading.Thread(target=self._read, args=(response,), daemon=True).start()

    def __enter__(self) -> Events:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._connection.close()

    def next(self, timeout: float) -> Json | None:
        """Return the next event, or None when none came within ``timeout`` seconds."""
        try:
            return self._queue.get(timeout=max(timeout, 0))
        except queue.Empty:
            return None

    def _read(self, response: http.client.HTTPResponse) -> None:
        with contextlib.suppress(OSError, ValueError, AttributeError, http.client.HTTPException):  # closed under it
            for line in response:
                if line.strip():
                    self._queue.put(json.loads(line))


def _demultiplex(data: bytes, merged: bool = False) -> tuple[bytes, bytes]:
    """Split the engine's stream framing: 1 byte stream, 3 zero, 4 length big endian, then that many bytes.

    A container with a tty sends no frames; its bytes come back as they are.
    """
    streams = {1: b"", 2: b""}
    rest = data
    while len(rest) >= 8:
        kind, length = struct.unpack(">BxxxL", rest[:8])
        if kind not in (0, 1, 2) or rest[1:4] != b"\0\0\0":
            return data, b""
        streams[1 if merged or kind != 2 else 2] += rest[8 : 8 + length]
        rest = rest[8 + length :]
    return streams[1], streams[2]


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode(errors="replace").strip() or "no reason given"


def _no_answer(error: Exception, path: str) -> DockerError:
    return DockerError(0, f"the Docker engine does not answer ({error})", path, "systemctl status docker")
