"""The expressions of the Alloy pipeline over real lines of the software that they parse.

The recordings in ``data`` are PostgreSQL 15.18 and PgBouncer 1.18 of Debian 12, run with the settings that the profile
and pgbouncer.ini.j2 give them; Stack Auth's are the words that its entrypoint and Next.js print. The expressions are
RE2 without anything that Python's ``re`` reads differently.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from batten import resources
from batten.plan.profile import load_profiles
from batten.plan.schema import read_yaml

DATA = Path(__file__).parent / "data"
PARSERS: dict[str, Any] = read_yaml(resources.compose() / "files" / "alloy" / "parsers.data.yaml")
# RE2 has none of these (github.com/google/re2/wiki/Syntax).
NOT_RE2 = re.compile(r"\(\?(=|!|<=|<!|>)|\\[1-9]|\(\?P=")


def parse(parser: str, line: str) -> dict[str, str | None]:
    match = re.search(PARSERS[parser]["expression"], line)
    assert match, line
    return match.groupdict()


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_an_expression_is_re2_and_names_what_it_hands_on(name: str) -> None:
    expression = PARSERS[name]["expression"]
    assert not NOT_RE2.search(expression)
    assert set(PARSERS[name]["metadata"]) <= set(re.compile(expression).groupindex)


def test_every_profile_that_logs_text_has_a_parser_and_no_parser_is_left_over() -> None:
    profiles = load_profiles(resources.compose() / "profiles").records
    texts = {record["log"]["parser"] for record in profiles.values() if record["log"]["format"] == "text"}
    assert texts == set(PARSERS)


@pytest.mark.parametrize(("parser", "file"), [("postgres", "postgres-15.log"), ("pgbouncer", "pgbouncer-1.18.log")])
def test_every_recorded_line_is_understood(parser: str, file: str) -> None:
    lines = (DATA / file).read_text().splitlines()
    assert len(lines) > 15
    for line in lines:
        found = parse(parser, line)
        assert found["level"], line
        assert found["message"], line
        assert line.endswith(str(found["message"]))


def _line(file: str, part: str) -> str:
    return next(line for line in (DATA / file).read_text().splitlines() if part in line)


def test_postgres_of_a_session() -> None:
    found = parse("postgres", _line("postgres-15.log", 'relation "nope"'))
    assert (found["level"], found["user"], found["database"]) == ("ERROR", "postgres", "postgres")
    assert found["message"] == 'relation "nope" does not exist at character 15'


def test_postgres_of_no_session() -> None:
    found = parse("postgres", _line("postgres-15.log", "database system is ready"))
    assert (found["level"], found["user"], found["database"]) == ("LOG", None, None)


def test_the_prefix_that_the_postgres_profile_sets_is_the_recorded_one() -> None:
    record = load_profiles(resources.compose() / "profiles").records["postgres"]
    assert "log_line_prefix=%m [%p] %q%u@%d " in record["command_add"]


def test_pgbouncer_of_a_client() -> None:
    found = parse("pgbouncer", _line("pgbouncer-1.18.log", "password authentication failed"))
    assert (found["level"], found["user"], found["database"]) == ("ERROR", "app", "app")
    assert str(found["peer"]).startswith("C-0x")
    assert found["message"] == "password authentication failed"


def test_pgbouncer_of_itself() -> None:
    found = parse("pgbouncer", _line("pgbouncer-1.18.log", "process up"))
    assert (found["peer"], found["user"]) == (None, None)


@pytest.mark.parametrize(
    ("line", "level", "mark", "message"),
    [
        ("Running migrations...", None, None, "Running migrations..."),
        ("Copying files to working directory...", None, None, "Copying files to working directory..."),
        (" ✓ Ready in 512ms", None, "✓", "Ready in 512ms"),
        (
            " \N{VECTOR OR CROSS PRODUCT} Error: connect ECONNREFUSED",
            "Error",
            "\N{VECTOR OR CROSS PRODUCT}",
            "connect ECONNREFUSED",
        ),
        ("Starting backend on port 8102...", None, None, "Starting backend on port 8102..."),
    ],
)
def test_stack_auth(line: str, level: str | None, mark: str | None, message: str) -> None:
    assert parse("stack-auth", line) == {"level": level, "mark": mark, "message": message}


def test_curl() -> None:
    found = parse("curl", "curl: (7) Failed to connect to stack-auth port 8102 after 2 ms: Could not connect to server")
    assert found["code"] == "7"


def test_mysql_and_mariadb() -> None:
    line = "2026-11-23T06:31:12.123456Z 0 [System] [MY-010931] [Server] /usr/sbin/mysqld: ready for connections."
    found = parse("mysql", line)
    assert (found["level"], found["code"], found["subsystem"]) == ("System", "MY-010931", "Server")
    found = parse("mysql", "2026-11-23  6:31:12 0 [Note] mariadbd: ready for connections.")
    assert (found["level"], found["message"]) == ("Note", "mariadbd: ready for connections.")


def test_an_access_log() -> None:
    line = '172.18.0.1 - - [23/Nov/2026:06:31:12 +0000] "GET /a?b=c HTTP/1.1" 200 615 "-" "curl/8.14.1"'
    found = parse("combined", line)
    assert (found["method"], found["path"], found["status"], found["size"]) == ("GET", "/a?b=c", "200", "615")


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("2026-11-23 06:31:12.123456+00:00 [info] <0.208.0> Server startup complete", "info"),
        ("INFO:     Started server process [1]", "INFO"),
        ("[notice] a new worker", "notice"),
    ],
)
def test_the_level_of_a_plain_line(line: str, level: str) -> None:
    assert parse("plain", line)["level"] == level
