"""Databases in a stack's own PostgreSQL containers: which there are, their dumps as streams, and loading them again.

All goes through ``docker exec`` and the server's own programs, so that client and server are of one version. How these
programs are called (``postgres.py`` calls them too) is said here alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .compose_labels import SERVICE
from .docker_api import Docker
from .errors import BattenError
from .postgres_roles import identifier, literal
from .preflight import is_postgres

_USER_OPTIONS = ("-U", "--username")
# All but the server's own, whose names begin with pg_ (manual, 21.5). No password: those are the bundle's.
_ROLES = """
SELECT json_agg(json_build_object('name', rolname, 'connection_limit', rolconnlimit, 'settings', rolconfig,
  'attributes', json_build_object('SUPERUSER', rolsuper, 'INHERIT', rolinherit, 'CREATEROLE', rolcreaterole,
    'CREATEDB', rolcreatedb, 'LOGIN', rolcanlogin, 'REPLICATION', rolreplication, 'BYPASSRLS', rolbypassrls),
  'member_of', (SELECT json_object_agg(parent, admin) FROM (SELECT above.rolname AS parent,
      bool_or(link.admin_option) AS admin FROM pg_auth_members AS link JOIN pg_roles AS above ON above.oid = link.roleid
      WHERE link.member = role.oid GROUP BY 1) AS links)) ORDER BY rolname)
FROM pg_roles AS role WHERE rolname NOT LIKE 'pg\\_%';
"""
_LISTS = ("local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces")
"""Settings of a role whose values are lists of quoted words (GUC_LIST_QUOTE in PostgreSQL's guc_tables.c)."""
_WORD = re.compile(r'"((?:[^"]|"")*)"|([^",\s]+)')


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

    def roles(self, docker: Docker) -> list[dict[str, Any]]:
        """Return the server's roles, as :func:`role_script` takes them. Without passwords."""
        found: list[dict[str, Any]] = json.loads(self.psql(docker, _ROLES))
        return found

    def create_roles(self, docker: Docker, wanted: Sequence[Mapping[str, Any]]) -> list[str]:
        """Make those roles that are not there; return their names. They have no password."""
        there = self.psql(docker, "SELECT rolname FROM pg_roles").splitlines()
        missing = [str(role["name"]) for role in wanted if role["name"] not in there]
        if missing:
            self.psql(docker, role_script(wanted, there))
        return missing

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


def role_script(wanted: Sequence[Mapping[str, Any]], there: Collection[str]) -> str:
    """Return the SQL that makes those roles that are not ``there``; those that are stay as they are.

    Dumps name owners and who is granted what, also roles that a migration or a person has made: without them
    pg_restore loads nothing. The same as pg_dumpall --roles-only --no-role-passwords does, but for existing roles.
    """
    missing = [role for role in wanted if role["name"] not in there]
    new = {role["name"] for role in missing}
    lines = []
    for role in missing:
        name = identifier(role["name"])
        options = [word if on else f"NO{word}" for word, on in role["attributes"].items()]
        lines.append(f"CREATE ROLE {name} {' '.join(options)} CONNECTION LIMIT {int(role['connection_limit'])}")
    for role in missing:
        for setting in role["settings"] or ():
            key, _, value = setting.partition("=")
            lines.append(f"ALTER ROLE {identifier(role['name'])} SET {_setting_name(key)} TO {_setting(key, value)}")
    for role in wanted:
        for parent, admin in (role["member_of"] or {}).items():
            if new & {role["name"], parent}:
                option = " WITH ADMIN OPTION" if admin else ""
                lines.append(f"GRANT {identifier(parent)} TO {identifier(role['name'])}{option}")
    return "".join(f"{line};\n" for line in ["BEGIN", *lines, "COMMIT"])


def _setting_name(key: str) -> str:
    return ".".join(identifier(part) for part in key.split("."))  # an extension's own have a prefix


def _setting(key: str, value: str) -> str:
    if key not in _LISTS:
        return literal(value)
    words = [quoted.replace('""', '"') or plain for quoted, plain in _WORD.findall(value)]
    return ", ".join(map(literal, words)) or "''"


def first_line(said: str) -> str:
    """Return the first line of what a program says of its failure: psql's next one would quote the statement."""
    return (said.strip().splitlines() or ["nothing"])[0]
