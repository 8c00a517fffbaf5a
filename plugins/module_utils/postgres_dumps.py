"""Databases in a stack's own PostgreSQL containers: which there are, their dumps as streams, and loading them again.

All goes through ``docker exec`` and the server's own programs, so that client and server are of one version. How these
programs are called (``postgres.py`` calls them too) is said here alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .compose_labels import SERVICE
from .docker_api import Docker
from .errors import BattenError
from .postgres_roles import identifier
from .preflight import is_postgres

_USER_OPTIONS = ("-U", "--username")


@dataclass(frozen=True)
class Server:
    """A running container of service ``service``, and the superuser that its socket lets in without a password."""

    service: str
    container: str
    user: str

    def words(self, program: str, arguments: Sequence[str]) -> list[str]:
        """Return the command line that runs one of PostgreSQL's programs beside the server."""
        return ["docker", "exec", "-i", self.container, *program_words(program, self.user, arguments)]

    def psql(self, docker: Docker, sql: str) -> str:
        """Run ``sql``, which holds no secret, and return what it prints. Raises BattenError with the server's words."""
        done = docker.exec(self.container, program_words("psql", self.user, psql_words("postgres")), stdin=sql.encode())
        if done.exit_code:
            said = first_line(done.stderr.decode(errors="replace"))
            raise BattenError(f"PostgreSQL says: {said}", f"service {self.service}", "see the server's log")
        return done.stdout.decode()

    def databases(self, docker: Docker) -> list[str]:
        """Return the databases that hold anything of a user's: all but templates."""
        sql = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname"
        return self.psql(docker, sql).splitlines()

    def major(self, docker: Docker) -> int:
        """Return the server's major version."""
        return int(self.psql(docker, "SHOW server_version_num")) // 10000

    def create(self, docker: Docker, database: str) -> None:
        """Make ``database`` if it is not there."""
        if database not in self.databases(docker):
            self.psql(docker, f"CREATE DATABASE {identifier(database)}")


def dumps(service: Mapping[str, Any]) -> bool:
    """Whether this service of a plan (as JSON) is a PostgreSQL whose databases are dumped one by one."""
    return bool(service.get("dump")) and is_postgres(str(service["image"]))


def server(docker: Docker, payload: Mapping[str, Any], service: str) -> Server:
    """Return the running server. Raises BattenError when its container does not run."""
    container = running(docker, payload["project"], service)
    spec = payload.get("postgres") or {}
    if spec.get("service") == service and spec.get("superuser"):
        return Server(service, container, spec["superuser"])
    words = list(payload["plan"]["services"][service]["dump"])
    named = [words[at + 1] for at, word in enumerate(words[:-1]) if word in _USER_OPTIONS]
    config = (docker.inspect(container) or {}).get("Config") or {}
    environment = dict(pair.partition("=")[::2] for pair in config.get("Env") or [])
    return Server(service, container, environment.get("POSTGRES_USER") or (named or ["postgres"])[0])


def running(docker: Docker, project: str, service: str) -> str:
    """Return the name of a service's running container."""
    for container in docker.list(project):
        if container["Labels"].get(SERVICE) == service and container["State"] == "running":
            return str(container["Names"][0].lstrip("/"))
    raise BattenError("it does not run", f"service {service}", f"see: docker logs {project}-{service}-1")


def program_words(program: str, user: str, arguments: Sequence[str]) -> list[str]:
    """Return the command line of one of PostgreSQL's programs, which never asks for a password."""
    return [program, f"--username={user}", "--no-password", *arguments]


def psql_words(database: str) -> list[str]:
    """Options of psql that have it run what standard input holds up to the first error, and print bare values."""
    alike = ["--no-psqlrc", "--tuples-only", "--no-align", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"]
    return [*alike, f"--dbname={database}"]


def dump_words(database: str) -> list[str]:
    """Options of pg_dump for a dump that :func:`load_words` takes."""
    return ["--format=custom", f"--dbname={database}"]


CHECK_WORDS = ("--file=/dev/null",)
"""Options of pg_restore that make it read a dump from end to end, and write the SQL to nowhere."""


def load_words(database: str) -> list[str]:
    """Options of pg_restore: all or nothing, and the same when it is done again."""
    return ["--clean", "--if-exists", "--single-transaction", f"--dbname={database}"]


def first_line(said: str) -> str:
    """Return the first line of what a program says of its failure: psql's next one would quote the statement."""
    return (said.strip().splitlines() or ["nothing"])[0]
