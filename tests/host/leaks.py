"""Run on a host as root, `python3 - STACK...`: where secret values of stacks are found but where they belong.

Prints one line for each, `NAME in PLACE`, never a value, and at the end how much was searched. Values are looked for as
they are, URL-encoded, and in base64 at each of the three offsets that they may have in a longer text.
"""

# ruff: noqa: T201 - standard output is what it is for
from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

STACKS = sys.argv[1:]
FOLDERS = ("/dev/shm", "/etc", "/home", "/opt", "/root", "/run", "/srv", "/tmp", "/usr/local", "/var")
PASSED = (
    *(f"/opt/batten/{stack}/secrets" for stack in STACKS),
    "/var/lib/docker/overlay2",
    "/var/lib/docker/image",
    "/var/lib/apt",
    "/var/lib/dpkg",
)
LARGEST = 64 * 2**20


def output(*words: str) -> bytes:
    done = subprocess.run(words, capture_output=True, check=False)
    return done.stdout + done.stderr


def values() -> Iterator[tuple[str, bytes]]:
    for stack in STACKS:
        bundle = unsealed(stack, "secrets", f"batten-{stack}")
        # A certificate is no secret, and its user sends it to whoever connects.
        own = {name: value for name, value in bundle["values"].items() if not value.startswith("-----BEGIN CERT")}
        own |= {f"{name} (other)": other["value"] for name, other in bundle.get("others", {}).items()}
        access = unsealed(stack, "infisical", f"batten-{stack}-infisical")
        own |= {"digest key": bundle["digest_key"], "login to Infisical": access.get("client_secret", "")}
        for name, value in own.items():
            if value:
                yield (name if len(STACKS) == 1 else f"{stack}/{name}"), value.encode()


def unsealed(stack: str, kind: str, name: str) -> dict[str, Any]:
    path = Path(f"/var/lib/batten/{stack}/{kind}.cred")
    if not path.exists():
        return {}
    found: dict[str, Any] = json.loads(output("systemd-creds", "decrypt", f"--name={name}", str(path), "-"))
    return found


def encodings(value: bytes) -> Iterator[bytes]:
    yield value
    yield urllib.parse.quote(value, safe="").encode()
    for offset in range(3):
        yield base64.b64encode(b"x" * offset + value)[4 if offset else 0 : -4]


def containers() -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(
        output("docker", "inspect", *output("docker", "ps", "-aq").decode().split())
    )
    return found


def places() -> Iterator[tuple[str, bytes]]:
    """Yield all that a person or a program could look at, as its name and its bytes."""
    for one in containers():
        identity = str(one["Id"])
        yield f"docker inspect {one['Name']}", json.dumps(one).encode()
        yield f"docker logs {one['Name']}", output("docker", "logs", identity)
        yield from files(one["GraphDriver"]["Data"]["UpperDir"], ())  # type: ignore[index]  # what it wrote itself
    for kind in ("image", "network", "volume"):
        names = output("docker", kind, "ls", "-q").decode().split()
        yield f"docker {kind} inspect", output("docker", kind, "inspect", *names)
    for stack in STACKS:
        current = Path(f"/opt/batten/{stack}/current")
        layers = [layer["name"] for layer in json.loads((current / "release.json").read_text())["layers"]]
        words = [word for name in layers for word in ("-f", str(current / name))]
        merged = output(
            "docker", "compose", "--env-file", str(current / "stack.env"), *words, "--profile", "*", "config"
        )
        assert b"services:" in merged, merged
        yield f"docker compose config of {stack}", merged
    yield "the journal", output("journalctl", "--sync") + output("journalctl", "--no-pager", "--all", "-o", "export")
    for folder in FOLDERS:
        yield from files(folder, PASSED)


def files(folder: str, passed: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    for directory, inside, names in os.walk(folder):
        inside[:] = [name for name in inside if f"{directory}/{name}" not in passed]
        for path in (Path(directory, name) for name in names):
            try:
                if path.is_file() and not path.is_symlink() and path.stat().st_size < LARGEST:
                    yield str(path), path.read_bytes()
            except OSError:  # gone, or one of the kernel's
                continue


def processes() -> Iterator[tuple[str, str, bytes]]:
    """Yield name, service and bytes of every process's arguments and environment."""
    labels = {one["Id"]: one["Config"]["Labels"] for one in containers()}  # type: ignore[index]
    project, service = "com.docker.compose.project", "com.docker.compose.service"
    services = {one: f"{has.get(project, '')}/secrets/{has.get(service, '')}" for one, has in labels.items()}
    for process in Path("/proc").glob("[0-9]*"):
        for part in ("cmdline", "environ"):
            try:
                content, name = (process / part).read_bytes(), (process / "comm").read_text().strip()
                identity = re.search(r"[0-9a-f]{64}", (process / "cgroup").read_text())
            except OSError:  # it has ended
                continue
            yield f"{part} of {name}", services.get(identity[0] if identity else "", ""), content


def main() -> None:
    wanted = {text: name for name, value in values() for text in encodings(value) if len(text) >= 12}
    known = dict(values())
    count = 0
    for place, content in places():
        count += 1
        print(*(f"{name} in {place}\n" for needle, name in wanted.items() if needle in content), sep="", end="")
    for place, service, content in processes():
        count += 1
        # A service may hold its own: PostgreSQL's entrypoint reads the file into its environment.
        own = (
            b"".join(path.read_bytes() for path in Path("/opt/batten", service).glob("*"))
            if service and "environ" in place
            else b""
        )
        for needle, name in wanted.items():
            if needle in content and known[name] not in own:
                print(f"{name} in {place} {service}")
    print(f"{len(known)} values in {count} places")


main()
