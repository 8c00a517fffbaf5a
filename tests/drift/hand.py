#!/usr/bin/python3
"""What a hand does to a container that no command of Docker's client does, on a host of the rig.

hand.py remake NAME [--kept-labels] PATH=JSON...   the same container again, with values of its inspect document changed
hand.py copy NAME NEW [PATH=JSON...]               a second one that looks like it
hand.py network NAME [PATH=JSON...]                the same network again, with its containers back on it
hand.py volume NAME [PATH=JSON...]                 the same volume again, empty, and the container that mounts it
hand.py made STACK SECRET TIME                     its value is of that time; without one, of now
hand.py immutable FILE yes|no                      chattr(1) +i or -i, which not every host has

A PATH is keys with / between, where a key has a / of its own write ~; PATH+=JSON adds to a list.

A person who edits a Compose file and runs it has Compose label the container with the hash of what was edited;
``remake`` writes another hash likewise. Who "duplicates and edits" a container in a web interface keeps all its labels,
the hash of the old definition among them: that is ``--kept-labels``.
"""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import socket
import struct
import sys
from typing import Any

ALL = "/v1.44/containers/json?all=1"
HASH = "com.docker.compose.config-hash"


class Engine(http.client.HTTPConnection):
    """The engine's API over its socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect("/run/docker.sock")

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """Return the answer; SystemExit with what the engine said if it refuses."""
        self.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
        answer = self.getresponse()
        text = answer.read()
        if answer.status >= 400:
            raise SystemExit(f"{method} {path}: {answer.status} {text.decode()}")
        return json.loads(text) if text else None


def body_of(there: dict[str, Any]) -> dict[str, Any]:
    """Return what makes a container like the inspected one."""
    config = dict(there["Config"])
    if config.get("Hostname") == there["Id"][:12]:
        config.pop("Hostname")
    networks = {
        name: {key: one[key] for key in ("Aliases", "IPAMConfig", "DriverOpts") if one.get(key)}
        for name, one in there["NetworkSettings"]["Networks"].items()
    }
    for one in networks.values():
        one["Aliases"] = [alias for alias in one.get("Aliases", []) if alias != there["Id"][:12]]
    return {**config, "HostConfig": there["HostConfig"], "NetworkingConfig": {"EndpointsConfig": networks}}


def change(body: dict[str, Any], changes: list[str]) -> None:
    """Lay each ``PATH=JSON`` over ``body``."""
    for one in changes:
        path, _, value = one.partition("=")
        *parents, last = (key.replace("~", "/") for key in path.rstrip("+").split("/"))
        place = body
        for parent in parents:
            place = place.setdefault(parent, {})
        given = json.loads(value)
        place[last] = [*(place.get(last) or []), *given] if path.endswith("+") else given


def make(engine: Engine, name: str, body: dict[str, Any]) -> None:
    host = body["HostConfig"]
    if host.get("NetworkMode") in ("host", "none") or str(host.get("NetworkMode")).startswith("container:"):
        body["NetworkingConfig"] = {}
    made = engine.ask("POST", f"/v1.44/containers/create?name={name}", body)
    engine.ask("POST", f"/v1.44/containers/{made['Id']}/start")


def remake(engine: Engine, name: str, changes: list[str], kept_labels: bool) -> None:
    there = engine.ask("GET", f"/v1.44/containers/{name}/json")
    body = body_of(there)
    if not kept_labels:
        body["Labels"] = {**body["Labels"], HASH: "e" * 64}
    change(body, changes)
    engine.ask("POST", f"/v1.44/containers/{name}/stop?t=5")
    engine.ask("DELETE", f"/v1.44/containers/{name}?force=1")
    make(engine, name, body)


def copy(engine: Engine, name: str, new: str, changes: list[str]) -> None:
    body = body_of(engine.ask("GET", f"/v1.44/containers/{name}/json"))
    body["HostConfig"] = {**body["HostConfig"], "PortBindings": {}}
    change(body, changes)
    make(engine, new, body)


def volume(engine: Engine, name: str, changes: list[str]) -> None:
    there = engine.ask("GET", f"/v1.44/volumes/{name}")
    everyone = [engine.ask("GET", f"/v1.44/containers/{one['Id']}/json") for one in engine.ask("GET", ALL)]
    users = [one for one in everyone if name in [mount.get("Name") for mount in one["Mounts"]]]
    for one in users:
        engine.ask("DELETE", f"/v1.44/containers/{one['Id']}?force=1")
    engine.ask("DELETE", f"/v1.44/volumes/{name}")
    body = {"Name": name, "Driver": there["Driver"], "DriverOpts": there["Options"], "Labels": there["Labels"]}
    change(body, changes)
    engine.ask("POST", "/v1.44/volumes/create", body)
    for one in users:
        make(engine, one["Name"].lstrip("/"), body_of(one))


def network(engine: Engine, name: str, changes: list[str]) -> None:
    there = engine.ask("GET", f"/v1.44/networks/{name}")
    members = {one: engine.ask("GET", f"/v1.44/containers/{one}/json") for one in there["Containers"]}
    for one in members:
        engine.ask("POST", f"/v1.44/networks/{name}/disconnect", {"Container": one, "Force": True})
    engine.ask("DELETE", f"/v1.44/networks/{name}")
    keys = ("Name", "Driver", "Internal", "EnableIPv6", "Options", "Labels")
    body = {key: there[key] for key in keys}
    change(body, changes)
    engine.ask("POST", "/v1.44/networks/create", body)
    for one, inspected in members.items():
        aliases = inspected["NetworkSettings"]["Networks"][name].get("Aliases")
        wanted = {"Container": one, "EndpointConfig": {"Aliases": aliases}}
        engine.ask("POST", f"/v1.44/networks/{name}/connect", wanted)


def made(stack: str, secret: str, time: str) -> None:
    """Seal a stack's values again, with another time at which one was made: as if time went by."""
    sys.path.insert(0, "/usr/local/lib/batten/batten-host.pyz")
    from batten_host import atomic, credentials, lock  # type: ignore[import-not-found]
    from batten_host.paths import StackPaths  # type: ignore[import-not-found]

    paths = StackPaths(stack)
    bundle = credentials.load(paths).having({secret: credentials.load(paths).values[secret]}, time or lock.now())
    credentials.save(paths, bundle)
    atomic.write_json(paths.made, bundle.made)


def immutable(path: str, wanted: bool) -> None:
    """Set or take a file's attribute (ioctl_iflags(2))."""
    get, put, flag = 0x80086601, 0x40086602, 0x10
    handle = os.open(path, os.O_RDONLY)
    (flags,) = struct.unpack("l", fcntl.ioctl(handle, get, struct.pack("l", 0)))
    fcntl.ioctl(handle, put, struct.pack("l", flags | flag if wanted else flags & ~flag))
    os.close(handle)


def main(words: list[str]) -> None:
    verb, name, *rest = words
    if verb == "immutable":
        immutable(name, rest == ["yes"])
        return
    if verb == "made":
        made(name, rest[0], "".join(rest[1:]))
        return
    engine = Engine("localhost", timeout=120)
    if verb == "remake":
        remake(engine, name, [one for one in rest if one != "--kept-labels"], "--kept-labels" in rest)
    elif verb == "copy":
        copy(engine, name, rest[0], rest[1:])
    elif verb == "network":
        network(engine, name, rest)
    elif verb == "volume":
        volume(engine, name, rest)
    else:
        raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
