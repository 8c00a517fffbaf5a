"""Roles and databases of a stack's PostgreSQL, and dumps of it.

``spec`` is the release's ``postgres`` (docs/architecture.md)::

    {"service": NAME or null,           the service in the stack that is the server
     "managed": {"host", "port", "database", "user", "password_secret", "ca_file"} or null,  or elsewhere
     "client_image": IMAGE,             whose psql talks to a managed server
     "superuser": ROLE, "superuser_secret": SECRET or null,
     "roles": {ROLE: {"secret": SECRET, "member_of": [ROLE, ...], "connection_limit": N, "alternate": BOOLEAN}},
     "databases": {DATABASE: {"owner": ROLE}}}           only "secret" of a role has to be there

SECRET names a value of the stack's credentials. A password reaches the server as a SCRAM verifier, made here. Nothing
is ever dropped, and roles that ``spec`` does not name are left alone.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import atomic, credentials, mounts
from .docker_api import Docker
from .errors import BattenError
from .paths import StackPaths
from .postgres_dumps import dump_words, first_line, program_words, psql_words, running
from .postgres_roles import differences, logins, script

# One query over catalogs that all databases share. pg_shdepend tells who owns things in which database (manual, 51.47).
_STATE = """
SELECT json_build_object(
  'roles', (SELECT json_object_agg(role.rolname, json_build_object(
      'password', {password}, 'login', role.rolcanlogin, 'connection_limit', role.rolconnlimit,
      'settings', coalesce(role.rolconfig, '{{}}'), 'mark', shobj_description(role.oid, 'pg_authid'),
      'sessions', (SELECT count(*) FROM pg_stat_activity AS session WHERE session.usesysid = role.oid),
      'member_of', (SELECT coalesce(json_agg(DISTINCT parent.rolname), '[]')
        FROM pg_auth_members AS link JOIN pg_roles AS parent ON parent.oid = link.roleid WHERE link.member = role.oid),
      'owns_in', (SELECT coalesce(json_agg(DISTINCT coalesce(place.datname, current_database())), '[]')
        FROM pg_shdepend AS link LEFT JOIN pg_database AS place ON place.oid = link.dbid
        WHERE link.refclassid = 'pg_authid'::regclass AND link.refobjid = role.oid AND link.deptype = 'o'
        AND (place.datallowconn OR link.dbid = 0))))
    FROM pg_roles AS role),
  'databases', (SELECT json_object_agg(datname, pg_get_userbyid(datdba)) FROM pg_database));
"""
_SESSIONS = """
SELECT coalesce(json_object_agg(name, number), '{}') FROM
  (SELECT usename AS name, count(*) AS number FROM pg_stat_activity WHERE usename IS NOT NULL GROUP BY 1) AS found;
"""

_DUMP = re.compile(r"(?P<database>.+)-\d{8}T\d{6}Z\.dump\Z", re.DOTALL)
_DUMPS_KEPT = 2


def accepted(bundle: credentials.Bundle, spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the passwords of all login roles that the server has to accept."""
    found: dict[str, str] = {}
    for role, wanted in spec["roles"].items():
        value = _value(bundle.values, wanted["secret"])
        found.update(credentials.accounts(bundle, wanted["secret"], role) if wanted.get("alternate") else {role: value})
    if spec.get("superuser_secret") and not spec.get("managed"):
        found[spec["superuser"]] = _value(bundle.values, spec["superuser_secret"])
    return found


def ensure(docker: Docker, project: str, spec: Mapping[str, Any], paths: StackPaths, check: bool = False) -> list[str]:
    """Make roles and databases as ``spec`` says; return what changed, in words. Needs a server that answers.

    Reads first: a second call does nothing. Of a role that may not go yet, because it has sessions, the words tell
    (``postgres_roles.waits``), and a later call finishes it. Raises BattenError with the server's own message.
    """
    bundle = credentials.load(paths)
    passwords = accepted(bundle, spec)
    managed = spec.get("managed")
    # pg_authid is for superusers, and a managed server's administrator is none.
    marks = {login: _mark(bundle.digest_key, login, word) for login, word in passwords.items()} if managed else None
    with _client(docker, project, spec, paths, bundle.values) as client:
        database = managed["database"] if managed else "postgres"
        statements = differences(json.loads(_psql(client, database, _state_query(not managed))), spec, passwords, marks)
        if any(each.sql for each in statements) and not check:
            _psql(client, database, script(statements))
    return [each.what for each in statements]


def sessions(docker: Docker, project: str, spec: Mapping[str, Any], paths: StackPaths) -> dict[str, int]:
    """Return how many sessions each role of ``spec`` that can have any has now; 0 for those without."""
    with _client(docker, project, spec, paths, credentials.load(paths).values) as client:
        database = spec["managed"]["database"] if spec.get("managed") else "postgres"
        found = json.loads(_psql(client, database, _SESSIONS))
    names = {name for role, wanted in spec["roles"].items() for name in (role, *logins(role, wanted))}
    return {name: int(found.get(name, 0)) for name in sorted(names)}


def _state_query(visible: bool) -> str:
    verifier = "(SELECT rolpassword FROM pg_authid WHERE pg_authid.oid = role.oid)"
    return _STATE.format(password=verifier if visible else "NULL")


def _mark(key: bytes, login: str, password: str) -> str:
    """Return what tells of another password and of nothing else: whoever reads it lacks the key."""
    return hmac.new(key, f"{login}\0{password}".encode(), hashlib.sha256).hexdigest()


def dump(docker: Docker, project: str, spec: Mapping[str, Any], paths: StackPaths, database: str) -> tuple[Path, str]:
    """Dump ``database`` in pg_dump's custom format to a file that only root reads.

    Returns its path and the command that restores it. A dump that fails leaves no file.
    """
    values = credentials.load(paths).values
    atomic.make_directory(paths.dumps, 0o700)
    path = paths.dumps / f"{database}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.dump"
    with _client(docker, project, spec, paths, values) as client:
        handle, temporary = tempfile.mkstemp(prefix=f".{database}.", dir=str(paths.dumps))
        try:
            with os.fdopen(handle, "wb") as stream:
                words = client.words("pg_dump", dump_words(database))
                done = subprocess.run(
                    words, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.PIPE, check=False
                )
                os.fsync(stream.fileno())
            if done.returncode:
                raise BattenError(
                    f"pg_dump failed: {first_line(done.stderr.decode(errors='replace'))}",
                    f"database {database}",
                    "see: df -h",
                )
            Path(temporary).rename(path)
        except BaseException:
            Path(temporary).unlink()
            raise
        atomic.sync_directory(paths.dumps)
        return path, client.restore.format(database=database, path=path)


def keep_newest_dumps(paths: StackPaths) -> None:
    """Remove all but the newest dumps of each database, and what a killed one left: they hold all data in plain.

    For a release that is healthy, by a caller who holds the stack's lock.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(paths.dumps.iterdir()) if paths.dumps.is_dir() else ():
        match = _DUMP.match(path.name)
        if match:
            found.setdefault(match["database"], []).append(path)
        elif path.name.startswith("."):
            path.unlink()
    for dumps in found.values():
        for path in dumps[:-_DUMPS_KEPT]:
            path.unlink()


@dataclass(frozen=True)
class _Client:
    """How to run PostgreSQL's programs against this server, and the restore command that a person types."""

    prefix: tuple[str, ...]
    user: str
    restore: str

    def words(self, program: str, arguments: Sequence[str]) -> list[str]:
        return [*self.prefix, *program_words(program, self.user, arguments)]


@contextmanager
def _client(
    docker: Docker, project: str, spec: Mapping[str, Any], paths: StackPaths, values: Mapping[str, str]
) -> Iterator[_Client]:
    if not spec.get("managed"):
        yield _local(docker, project, spec["service"], spec["superuser"])
        return
    managed = spec["managed"]
    mounts.ensure(paths.secrets, check=False)
    place = Path(tempfile.mkdtemp(prefix=".postgres-", dir=str(paths.secrets)))  # in memory, gone when this ends
    try:
        fields = (managed["host"], managed["port"], "*", managed["user"], _value(values, managed["password_secret"]))
        atomic.write(place / "pgpass", (":".join(map(_pgpass, fields)) + "\n").encode(), 0o400)
        atomic.write(place / "ca.crt", Path(managed["ca_file"]).read_bytes(), 0o400)
        yield _remote(managed, spec["client_image"], place)
    finally:
        shutil.rmtree(place)


def _local(docker: Docker, project: str, service: str, superuser: str) -> _Client:
    """Return a client inside the server's container: its socket trusts the container's own user."""
    prefix = ("docker", "exec", "-i", running(docker, project, service))
    restore = f"{' '.join(prefix)} pg_restore --clean --if-exists -U {superuser} -d {{database}} < {{path}}"
    return _Client(prefix, superuser, restore)


def _remote(managed: Mapping[str, Any], image: str, place: Path) -> _Client:
    """Return a client in a container that lives for one command and holds nothing: password and CA come from memory."""
    host, port, user = managed["host"], managed["port"], managed["user"]
    environment = {
        "PGHOST": host,
        "PGPORT": port,
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "/run/batten/ca.crt",
        "PGPASSFILE": "/run/batten/pgpass",
    }
    # On the host's network: the server's name resolves and its address is reached as on the host.
    prefix = [
        "docker",
        "run",
        "--rm",
        "--quiet",
        "-i",
        "--network=host",
        "--user=0:0",
        "--read-only",
        "--cap-drop=ALL",
        "--memory=256m",
    ]
    prefix += ["--pids-limit=32", "--security-opt=no-new-privileges", "--log-driver=none", "--entrypoint="]
    prefix += [f"--volume={place}:/run/batten:ro", *(f"--env={name}={value}" for name, value in environment.items())]
    url = f"postgresql://{user}@{host}:{port}/{{database}}?sslmode=verify-full&sslrootcert={managed['ca_file']}"
    return _Client((*prefix, image), user, f"pg_restore --clean --if-exists -d '{url}' {{path}}")


def _psql(client: _Client, database: str, sql: str) -> str:
    """Run ``sql``, given on standard input, and return what it prints."""
    words = client.words("psql", psql_words(database))
    done = subprocess.run(words, input=sql, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BattenError(f"PostgreSQL says: {first_line(done.stderr)}", f"database {database}", "see the server's log")
    return done.stdout


def _pgpass(field: Any) -> str:
    """Escape a field of a password file (PostgreSQL manual, 32.16)."""
    return str(field) if field == "*" else str(field).replace("\\", "\\\\").replace(":", "\\:")


def _value(values: Mapping[str, str], name: str) -> str:
    if name not in values:
        raise BattenError(f"no secret is named {name}", "postgres", "name it under secrets in batten.yaml")
    return values[name]
