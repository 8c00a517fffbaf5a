"""An Infisical with its own PostgreSQL and Redis on the rig's engine, for tests of what answers under that name."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from tests.rig import registry
from tests.rig.docker import LABEL, docker, inspect

CURRENT = "infisical/infisical:v0.165.16"
OF_2024 = "infisical/infisical:v0.93.1-postgres"
POSTGRES, REDIS = "postgres:17.6-trixie", "redis:7.4.11-alpine"
KEY = "0123456789abcdef0123456789abcdef"
PASSWORD = "p4ssw0rd"
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Answer:
    """What came back; `status` is None where the connection ended without an answer."""

    status: int | None
    headers: dict[str, str]
    json: Any
    seconds: float


class Infisical:
    """One server of one image. `more` are variables besides the required ones."""

    def __init__(self, image: str, **more: str) -> None:
        self.image = _found(image)
        self.is_stand_in = _label(self.image, "batten.standin") == "true"
        self.name = f"batten-infisical-{os.getpid()}-{next(_NUMBERS)}"
        self._more = more
        self._port: int | None = None
        self._asked = itertools.count(1)
        docker("network", "create", "--label", LABEL, self.name)

    @property
    def url(self) -> str:
        """Where it answers, on loopback; another port after each start."""
        return f"http://127.0.0.1:{self._address()}"

    def start(self) -> None:
        """All three, and wait until it answers."""
        self.start_stores()
        self.start_app()

    def start_stores(self) -> None:
        """PostgreSQL, empty, and Redis, and wait until both answer."""
        self._run("pg", _found(POSTGRES), env={"POSTGRES_PASSWORD": PASSWORD, "POSTGRES_DB": "infisical"})
        self._run("redis", _found(REDIS), "redis-server", "--requirepass", PASSWORD, "--save", "")
        for name, words in {"pg": ["pg_isready", "-h", "127.0.0.1"], "redis": ["redis-cli", "ping"]}.items():
            _until(partial(self._succeeds, name, *words))

    def start_app(self, **changes: str) -> None:
        """The server alone, read-only as batten runs it, until it answers."""
        self.create_app(**changes)
        self.act("start", "app")
        self.wait()

    def create_app(self, **changes: str) -> None:
        """The server alone, not started."""
        self._port = None
        docker("rm", "--force", f"{self.name}-app", check=False)
        env = self._environment(changes)
        if "-postgres" in self.image and not self.is_stand_in:  # migrations ran apart from the server until v0.111
            self._run("migrate", self.image, "npm", "run", "migration:latest", env=env, verb=["run", "--rm"])
        hardened = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--publish", "127.0.0.1::8080"]
        self._run("app", self.image, env=env, verb=["create"], options=hardened)

    def run_once(self, **changes: str) -> tuple[int, str, float]:
        """Start a server beside that should end by itself: exit code, what it printed, and how many seconds it took."""
        words = ["run", "--rm", "--label", LABEL, "--network", self.name]
        words += [word for pair in self._environment(changes).items() for word in ("--env", "=".join(pair))]
        began = time.monotonic()
        done = docker(*words, self.image, check=False)
        return done.returncode, done.stdout + done.stderr, time.monotonic() - began

    def wait(self, seconds: float = 120) -> None:
        _until(lambda: self.ask("GET", "/api/status").status == 200, seconds)

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        token: str | None = None,
        headers: dict[str, str] | None = None,
        raw: bytes | None = None,
        seconds: float = 40,
    ) -> Answer:
        """One request on a connection of its own, from an address of its own (the limits of 2024 are per address)."""
        sent = {"Accept": "application/json", "X-Forwarded-For": f"2001:db8::{next(self._asked):x}"}
        if body is not None:
            raw = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self._address(), timeout=seconds)
        try:
            connection.request(method, path, raw, {**sent, **(headers or {})})
            response = connection.getresponse()
            payload = response.read()
        except (http.client.RemoteDisconnected, ConnectionError, TimeoutError):
            return Answer(None, {}, None, time.monotonic() - began)
        finally:
            connection.close()
        found = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, found, json.loads(payload) if payload else None, time.monotonic() - began)

    def inside(self, name: str, *words: str, check: bool = True) -> int:
        return docker("exec", f"{self.name}-{name}", *words, check=check).returncode

    def output(self, name: str, *words: str) -> str:
        return docker("exec", f"{self.name}-{name}", *words).stdout

    def exit_code(self) -> int:
        return int(docker("inspect", "--format", "{{.State.ExitCode}}", f"{self.name}-app").stdout)

    def sql(self, statement: str) -> str:
        """What a statement gives, in the server's own database."""
        words = ["psql", "-U", "postgres", "-d", "infisical", "-qtAc", statement]
        return docker("exec", f"{self.name}-pg", *words).stdout.strip()

    def forget_configuration(self) -> None:
        """As after 60 s: the instance's configuration is no longer cached in Redis."""
        self.inside("redis", "redis-cli", "--no-auth-warning", "-a", PASSWORD, "del", "infisical-admin-cfg")

    def wipe(self) -> None:
        """An empty database and an empty Redis, for a server that is not started yet."""
        self.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        self.inside("redis", "redis-cli", "--no-auth-warning", "-a", PASSWORD, "flushall")

    def act(self, verb: str, name: str) -> None:
        """stop, start, pause or unpause a container."""
        self._port = None
        docker(verb, f"{self.name}-{name}")

    def logs(self) -> str:
        done = docker("logs", f"{self.name}-app")
        return done.stdout + done.stderr

    def remove(self) -> None:
        for name in ("app", "pg", "redis"):
            docker("rm", "--force", "--volumes", f"{self.name}-{name}", check=False)
        docker("network", "rm", self.name, check=False)

    def _environment(self, changes: dict[str, str]) -> dict[str, str]:
        stores = {
            "DB_CONNECTION_URI": f"postgres://postgres:{PASSWORD}@pg:5432/infisical",
            "REDIS_URL": f"redis://:{PASSWORD}@redis:6379",
        }
        return {"ENCRYPTION_KEY": KEY, "AUTH_SECRET": "dummy", **stores, **self._more, **changes}

    def _succeeds(self, name: str, *words: str) -> bool:
        return self.inside(name, *words, check=False) == 0

    def _address(self) -> int:
        """The port on loopback; the engine chooses another one at each start."""
        if self._port is None:
            shown = docker("port", f"{self.name}-app", "8080/tcp", check=False).stdout.split()
            self._port = int(shown[0].rpartition(":")[2]) if shown else None
        return self._port or 1  # nothing listens there

    def _run(
        self,
        name: str,
        image: str,
        *command: str,
        env: dict[str, str] | None = None,
        verb: list[str] | None = None,
        options: list[str] | None = None,
    ) -> None:
        words = [*(verb or ["run", "--detach"]), "--label", LABEL, "--name", f"{self.name}-{name}", *(options or [])]
        words += ["--network", self.name, "--network-alias", name]
        words += [word for pair in (env or {}).items() for word in ("--env", "=".join(pair))]
        docker(*words, image, *command)


def _found(image: str) -> str:
    """The official image where this machine has it under its own name, else what the rig's registry has."""
    return image if inspect("image", image) else registry.name_in_registry(image)


def _label(image: str, name: str) -> str | None:
    shown = inspect("image", image)
    labels = (shown or {})["Config"].get("Labels") or {}
    found: str | None = labels.get(name)
    return found


def _until(ready: Any, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"not ready after {seconds:.0f} s"
        time.sleep(0.1)
