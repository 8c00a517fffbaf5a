"""Roles that alternate, on a real PostgreSQL: under migrations, held sessions, PgBouncer, and cut off anywhere.

Each story runs twice: by a superuser, and by an administrator that is none, as managed servers give one.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import credentials, postgres, postgres_roles
from ansible_collections.batten.core.plugins.module_utils.credentials import ENTERING, LEAVING, Bundle, Other
from ansible_collections.batten.core.plugins.module_utils.docker_api import Docker
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths
from tests.rig import images, registry
from tests.rig.docker import LABEL, docker

NAME = "batten-roles"
SPEC: dict[str, Any] = {
    "service": "db",
    "managed": None,
    "client_image": "unused",
    "superuser": "postgres",
    "superuser_secret": "super",
    "roles": {
        "app": {"secret": "app", "connection_limit": 20, "alternate": True},
        "exporter": {"secret": "exporter", "member_of": ["pg_monitor"], "connection_limit": 5},
    },
    "databases": {"app": {"owner": "app"}},
}
MANAGED = {"database": "postgres", "user": "boss", "password_secret": "super"}
FIRST = Bundle(b"k" * 32, {"app": "word0", "exporter": "exporter-word", "super": "super-word"})
CLEAN = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename IN ('app', 'app_a', 'app_b');
DROP DATABASE IF EXISTS app WITH (FORCE);
SELECT format('DROP ROLE %I', rolname) FROM pg_roles
  WHERE rolname IN ('app_a', 'app_b', 'app', 'exporter', 'boss') \\gexec
CREATE ROLE boss LOGIN CREATEROLE CREATEDB;
GRANT pg_monitor TO boss WITH ADMIN OPTION;
"""


class Server:
    """The server in its container. ``managed`` says whether batten comes as ``boss``, who is no superuser."""

    def __init__(self, patch: pytest.MonkeyPatch, managed: bool) -> None:
        self.patch, self.managed, self.bundle = patch, managed, FIRST
        self.spec = {**SPEC, "managed": MANAGED if managed else None}
        self.address = docker("exec", NAME, "hostname", "-i").stdout.strip()
        patch.setattr(credentials, "load", lambda _: self.bundle)
        if managed:
            patch.setattr(postgres, "_client", self._boss)

    @contextmanager
    def _boss(self, *_: Any) -> Iterator[postgres._Client]:
        yield postgres._Client(("docker", "exec", "-i", NAME), "boss", "")

    def ensure(self, bundle: Bundle | None = None, spec: Mapping[str, Any] | None = None) -> list[str]:
        self.bundle = bundle or self.bundle
        return postgres.ensure(Docker(), NAME, spec or self.spec, StackPaths("roles"))

    def sessions(self) -> dict[str, int]:
        return postgres.sessions(Docker(), NAME, self.spec, StackPaths("roles"))

    def root(self, sql: str, database: str = "postgres") -> str:
        return docker("exec", "-i", NAME, "psql", "-XAtqU", "postgres", "-d", database, stdin=sql).stdout.strip()

    def words(self, login: str, password: str, port: int = 5432) -> list[str]:
        """A psql that comes over the network, where the server asks for the password."""
        host = self.address if port == 5432 else "127.0.0.1"
        place = f"host={host} port={port} user={login} dbname=app"
        return [
            "docker",
            "exec",
            "-i",
            "-e",
            f"PGPASSWORD={password}",
            NAME,
            "psql",
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            place,
        ]

    def run(self, login: str, password: str, sql: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.words(login, password), input=sql, text=True, capture_output=True, check=False)

    def able(self, login: str, password: str, sql: str) -> str:
        done = self.run(login, password, sql)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @contextmanager
    def session(self, login: str, password: str) -> Iterator[Session]:
        session = Session(self.words(login, password))
        try:
            session.ask("SELECT 1")
            yield session
        finally:
            session.end()


class Session:
    """A connection that stays open."""

    def __init__(self, words: list[str]) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True)

    def ask(self, sql: str) -> list[str]:
        """Return what the server answers; AssertionError if the session is over."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{sql};\n\\echo done\n")
        self.process.stdin.flush()
        lines: list[str] = []
        for line in self.process.stdout:
            if line == "done\n":
                return lines
            lines.append(line.strip())
        raise AssertionError(lines)

    def end(self) -> None:
        self.process.communicate()


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    registry.ensure_registry()
    images.ensure_images()
    docker("rm", "--force", "--volumes", NAME, check=False)
    labels = (LABEL, f"com.docker.compose.project={NAME}", "com.docker.compose.service=db")
    options = [f"--label={label}" for label in labels]
    image = registry.name_in_registry("postgres:17.6-trixie")
    # Everything is logged, so that what must not be would be seen.
    settings = ["log_statement=all", "log_min_duration_statement=0", "fsync=off", "max_connections=60"]
    arguments = [word for setting in settings for word in ("-c", setting)]
    place = "--tmpfs=/var/lib/postgresql/data:mode=1777"
    docker("run", "-d", f"--name={NAME}", *options, place, "-e", "POSTGRES_PASSWORD=x", image, "postgres", *arguments)
    try:
        deadline = time.monotonic() + 30
        while docker("exec", NAME, "pg_isready", "-q", "-h", "127.0.0.1", check=False).returncode:
            assert time.monotonic() < deadline, docker("logs", NAME).stderr
            time.sleep(0.2)
        yield NAME
    finally:
        docker("rm", "--force", "--volumes", NAME, check=False)


@pytest.fixture(params=["superuser", "administrator"])
def server(container: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Server:
    found = Server(monkeypatch, request.param == "administrator")
    found.root(CLEAN)
    return found


def entering(word: str, login: str, new: str) -> Bundle:
    return Bundle(FIRST.digest_key, {**FIRST.values, "app": word}, {"app": Other(new, ENTERING)}, {"app": login})


def leaving(word: str, login: str, old: str) -> Bundle:
    return Bundle(FIRST.digest_key, {**FIRST.values, "app": word}, {"app": Other(old, LEAVING)}, {"app": login})


def settled(word: str, login: str) -> Bundle:
    return Bundle(FIRST.digest_key, {**FIRST.values, "app": word}, {}, {"app": login})


def wait_for_no_session(server: Server, login: str) -> None:
    deadline = time.monotonic() + 5
    while server.sessions()[login]:
        assert time.monotonic() < deadline, server.sessions()
        time.sleep(0.05)


def test_three_rotations_with_migrations_and_sessions_that_stay_open(server: Server) -> None:
    server.ensure()
    assert server.ensure() == []
    server.able("app_a", "word0", "CREATE TABLE t0 (i int); CREATE TABLE kept (i int); CREATE SCHEMA s;")
    word, login = "word0", "app_a"
    for number in (1, 2, 3):
        new, other = f"word{number}", credentials.alternate("app", login)
        with server.session(login, word) as held:
            assert server.ensure(entering(word, login, new))
            assert server.ensure() == []
            assert server.ensure(leaving(new, other, word)) == []
            migration = f"""
                CREATE TABLE t{number} (i int); CREATE TABLE s.t{number} (); ALTER TABLE kept ADD c{number} int;
                ALTER TABLE t{number - 1} ADD j int; DROP TABLE t{number - 1}; CREATE INDEX ON kept (c{number});"""
            server.able(other, new, migration)
            assert held.ask("INSERT INTO kept VALUES (1) RETURNING current_user") == ["app"]
            assert server.ensure(settled(new, other)) == [f"role {login}: 1 session left, may log in until they end"]
            assert held.ask(f"ALTER TABLE t{number} ADD k int; SELECT session_user") == [login]
            assert server.sessions() == {"app": 0, login: 1, other: 0, "exporter": 0}
        wait_for_no_session(server, login)
        assert server.ensure() == [f"role {login}: may not log in any more"]
        assert server.ensure() == []
        assert server.run(login, word, "SELECT 1").returncode != 0
        word, login = new, other
    assert server.able(login, word, "SELECT count(*) FROM kept") == "3"
    assert server.root("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname IN ('public', 's')", "app") == "app"


def test_a_role_that_logged_in_itself_moves_over_with_its_sessions_and_its_things(server: Server) -> None:
    before = {**server.spec, "roles": {**SPEC["roles"], "app": {"secret": "app"}}}
    server.ensure(spec=before)
    server.able("app", "word0", "CREATE TABLE mine (i int);")
    with server.session("app", "word0") as held:
        assert server.ensure()[-1] == "role app: 1 session left, may log in until they end"
        server.able("app_a", "word0", "ALTER TABLE mine ADD j int; INSERT INTO mine VALUES (1, 2);")
        assert held.ask("SELECT i + j FROM mine") == ["3"]
    wait_for_no_session(server, "app")
    assert server.ensure() == ["role app: may not log in any more"]
    assert server.ensure() == []
    assert server.run("app", "word0", "SELECT 1").returncode != 0


def test_what_a_login_made_outside_its_role_is_given_to_the_role(server: Server) -> None:
    server.ensure()
    server.able("app_a", "word0", "SET ROLE NONE; CREATE TABLE astray (i int); CREATE TABLE astray2 (i int);")
    assert server.ensure(entering("word0", "app_a", "word1"))[-1] == "role app: owns what app_a owned in app"
    assert server.ensure() == []
    server.able("app_b", "word1", "ALTER TABLE astray ADD j int; DROP TABLE astray2;")


def test_a_changed_password_reaches_the_server_once(server: Server) -> None:
    server.ensure()
    changed = Bundle(FIRST.digest_key, {**FIRST.values, "exporter": "other-word"})
    assert server.ensure(changed) == ["role exporter: password set"]
    assert server.ensure() == []
    login = server.run("exporter", "other-word", "SELECT 1")
    assert login.returncode == 0, login.stderr


def test_a_run_that_is_cut_off_between_any_two_statements_is_finished_by_the_next(server: Server) -> None:
    """Every list of statements, each prefix of it, then all again from what that left."""
    old = {**server.spec, "roles": {**SPEC["roles"], "app": {"secret": "app"}}}
    states: list[tuple[Mapping[str, Any], Bundle]] = [
        (old, FIRST),
        (server.spec, entering("word0", "app_a", "word1")),
        (server.spec, leaving("word1", "app_b", "word0")),
        (server.spec, settled("word1", "app_b")),
    ]
    cut = 0
    for spec, bundle in states:
        done = 0
        while statements := pending(server, spec, bundle):
            run(server, statements[:1])  # the process dies here
            done += 1
            assert done < 20, [each.what for each in statements]
        cut += done
        assert server.ensure(bundle, spec) == []
    assert cut >= 9
    server.able("app_b", "word1", "CREATE TABLE works (i int); DROP TABLE works;")
    assert server.run("app_a", "word0", "SELECT 1").returncode != 0


def pending(server: Server, spec: Mapping[str, Any], bundle: Bundle) -> list[postgres_roles.Statement]:
    server.bundle = bundle
    state = json.loads(psql(server, postgres._state_query(not server.managed)))
    words = postgres.accepted(bundle, spec)
    marks = {name: postgres._mark(bundle.digest_key, name, word) for name, word in words.items()}
    return postgres_roles.differences(state, spec, words, marks if server.managed else None)


def run(server: Server, statements: list[postgres_roles.Statement]) -> None:
    psql(server, postgres_roles.script(statements))


def psql(server: Server, sql: str) -> str:
    with postgres._client(Docker(), NAME, server.spec, StackPaths("roles"), {}) as client:
        return postgres._psql(client, "postgres", sql)


def test_no_verifier_is_in_the_log_and_no_password_anywhere(container: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = docker("exec", NAME, "date", "-u", "+%Y-%m-%dT%H:%M:%S.%NZ").stdout.strip()
    server = Server(monkeypatch, managed=False)
    server.root(CLEAN)
    server.ensure(entering("word0", "app_a", "word1"))
    server.ensure(settled("word1", "app_b"))
    seen = docker("logs", f"--since={begun}", NAME)
    log = seen.stdout + seen.stderr
    assert "pg_shdepend" in log, "statements are logged"
    assert "SCRAM-SHA-256$" not in log
    assert not any(word in log for word in ("word0", "word1", "super-word"))


POOL = 6
INI = f"""
[databases]
app = host=%s port=5432 dbname=app
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = 6432
unix_socket_dir =
auth_type = scram-sha-256
auth_file = /tmp/userlist.txt
pool_mode = transaction
default_pool_size = {POOL}
max_db_connections = {POOL}
server_idle_timeout = 1
"""


class PgBouncer:
    """PgBouncer beside the server, told of its users as the stack's is: by what templates may name."""

    def __init__(self, server: Server) -> None:
        self.put("pgbouncer.ini", INI % server.address)
        self.tell(server.bundle)
        docker("exec", "-d", "-u", "postgres", NAME, "pgbouncer", "-q", "/tmp/pgbouncer.ini")

    def put(self, name: str, text: str) -> None:
        write = f"cat >/tmp/{name}.new && mv /tmp/{name}.new /tmp/{name}"
        docker("exec", "-i", "-u", "postgres", NAME, "sh", "-c", write, stdin=text)

    def tell(self, bundle: Bundle) -> None:
        rules = {"app": {"rotation": "postgres_role", "role": "app"}}
        self.put("userlist.txt", credentials.delivered(bundle, rules)["app.userlist"] + "\n")
        docker("exec", NAME, "sh", "-c", "! pid=$(pidof pgbouncer) || kill -HUP $pid")

    def bench(self, login: str, password: str, *words: str) -> subprocess.Popen[str]:
        """Start pgbench through PgBouncer, by more clients than the pool has connections."""
        head = ["docker", "exec", "-u", "postgres", "-e", f"PGPASSWORD={password}", NAME, "pgbench", "-h", "127.0.0.1"]
        place = ["-p", "6432", "-U", login, *words, "app"]
        return subprocess.Popen(head + place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.parametrize("server", ["superuser"], indirect=True)
def test_through_pgbouncer_no_transaction_fails_while_the_login_changes(server: Server) -> None:
    server.ensure(FIRST)
    pool = PgBouncer(server)
    deadline = time.monotonic() + 10
    while (made := pool.bench("app_a", "word0", "-i", "-q")).wait():
        assert time.monotonic() < deadline, made.communicate()
    load = ("-c", str(2 * POOL), "-j", "2")
    old = pool.bench("app_a", "word0", *load, "-T", "3")
    most = 0
    for bundle in (entering("word0", "app_a", "word1"), leaving("word1", "app_b", "word0")):
        server.ensure(bundle)
        pool.tell(bundle)
    new = pool.bench("app_b", "word1", *load, "-T", "5")
    while old.poll() is None or not most:
        found = server.sessions()
        most = max(most, found["app_a"] + found["app_b"])
    # Whoever rotates goes on when the old login has no session, and PgBouncer closes what is idle.
    wait_for_no_session(server, "app_a")
    server.bundle = settled("word1", "app_b")
    pool.tell(server.bundle)
    assert server.ensure() == ["role app_a: may not log in any more"]
    for bench in (old, new):
        said, _ = bench.communicate(timeout=30)
        assert bench.returncode == 0, said
        assert "number of failed transactions: 0 " in said
    assert 0 < most <= POOL
    refused = pool.bench("app_a", "word0", "-c", "1", "-t", "1")
    assert refused.wait() != 0
