"""PostgreSQL: what differs is found purely; SQL never holds a password."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import postgres, scram

SPEC: dict[str, Any] = {
    "superuser": "postgres",
    "roles": {"app": {"secret": "a", "connection_limit": 40}, "exporter": {"secret": "e", "member_of": ["pg_monitor"]}},
    "databases": {"app": {"owner": "app"}},
}
PASSWORDS = {"app": "app-word", "exporter": "exporter-word", "postgres": "super-word"}


def role(password: str | None, **other: Any) -> dict[str, Any]:
    verifier = None if password is None else scram.verifier(password, iterations=16)
    return {"password": verifier, "login": True, "connection_limit": -1, "member_of": [], **other}


def right() -> dict[str, Any]:
    return {
        "roles": {
            "app": role("app-word", connection_limit=40),
            "exporter": role("exporter-word", member_of=["pg_monitor"]),
            "postgres": role("super-word"),
            "someone-else": role(None, login=False),
        },
        "databases": {"app": "app", "postgres": "postgres", "mine": "someone-else"},
    }


def found(state: dict[str, Any], visible: bool = True) -> list[str]:
    return [each.what for each in postgres.differences(state, SPEC, PASSWORDS, visible)]


def test_a_server_that_is_right_needs_nothing() -> None:
    assert found(right()) == []


def test_a_new_server_gets_roles_before_what_they_own() -> None:
    assert found({"roles": {"postgres": role(None)}, "databases": {}}) == [
        "role app: made",
        "role exporter: made",
        "role exporter: member of pg_monitor",
        "role postgres: password set",
        "database app: made for app",
    ]


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("app", {"password": scram.verifier("old", iterations=16)}, "role app: password set"),
        ("app", {"password": None}, "role app: password set"),
        ("app", {"password": "md5abc"}, "role app: password set"),
        ("app", {"login": False}, "role app: may log in"),
        ("app", {"connection_limit": 3}, "role app: connection limit 40"),
        ("exporter", {"member_of": []}, "role exporter: member of pg_monitor"),
    ],
)
def test_only_what_differs_is_changed(name: str, change: dict[str, Any], expected: str) -> None:
    state = right()
    state["roles"][name].update(change)
    assert found(state) == [expected]


def test_a_database_of_another_owner_is_given_back() -> None:
    state = right()
    state["databases"]["app"] = "postgres"
    assert found(state) == ["database app: owned by app"]


def test_where_the_server_hides_verifiers_a_password_is_set_only_with_its_role() -> None:
    state = right()
    for each in state["roles"].values():
        each["password"] = None
    assert found(state, visible=False) == []
    del state["roles"]["app"]
    assert found(state, visible=False) == ["role app: made"]


def test_sql_holds_verifiers_and_never_a_password() -> None:
    statements = postgres.differences({"roles": {"postgres": role(None)}, "databases": {}}, SPEC, PASSWORDS)
    sql = "\n".join(each.sql for each in statements)
    assert sql.count("SCRAM-SHA-256$4096:") == 3
    assert not any(word in sql for word in PASSWORDS.values())
    assert 'CREATE ROLE "app" LOGIN CONNECTION LIMIT 40 PASSWORD' in sql


def test_an_administrator_who_is_no_superuser_takes_on_the_role_it_gives_a_database_to() -> None:
    spec = {"roles": {}, "databases": {"app": {"owner": "app"}}}
    for databases in ({}, {"app": "doadmin"}):
        (only,) = postgres.differences({"roles": {}, "databases": databases}, spec, {}, visible=False)
        assert only.sql.startswith('GRANT "app" TO CURRENT_USER;')


def test_names_are_quoted() -> None:
    spec = {"roles": {}, "databases": {'d"; DROP ROLE x; --': {"owner": "o"}}}
    (only,) = postgres.differences({"roles": {}, "databases": {}}, spec, {})
    assert only.sql == 'CREATE DATABASE "d""; DROP ROLE x; --" OWNER "o"'
