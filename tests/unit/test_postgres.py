"""PostgreSQL: what differs is found purely; SQL never holds a password."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import (
    credentials,
    postgres,
    postgres_dumps,
    postgres_roles,
    scram,
)
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths

SPEC: dict[str, Any] = {
    "superuser": "postgres",
    "roles": {"app": {"secret": "a", "connection_limit": 40}, "exporter": {"secret": "e", "member_of": ["pg_monitor"]}},
    "databases": {"app": {"owner": "app"}},
}
PASSWORDS = {"app": "app-word", "exporter": "exporter-word", "postgres": "super-word"}


def role(password: str | None, **other: Any) -> dict[str, Any]:
    verifier = None if password is None else scram.verifier(password, iterations=16)
    plain = {"login": True, "connection_limit": -1, "member_of": [], "settings": [], "sessions": 0, "owns_in": []}
    return {"password": verifier, "mark": None, **plain, **other}


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


def found(state: dict[str, Any], marks: dict[str, str] | None = None) -> list[str]:
    return [each.what for each in postgres_roles.differences(state, SPEC, PASSWORDS, marks)]


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


def test_where_the_server_hides_verifiers_a_mark_tells_of_another_password() -> None:
    marks = {"app": "m1", "exporter": "m2", "postgres": "m3"}
    state = right()
    for name, each in state["roles"].items():
        each.update(password=None, mark=f"batten: password {marks[name]}" if name in marks else None)
    assert found(state, marks) == []
    assert found(state, {**marks, "app": "other"}) == ["role app: password set"]
    state["roles"]["exporter"]["mark"] = "a person's words"
    del state["roles"]["app"]
    assert found(state, marks) == ["role app: made", "role exporter: password set"]


def test_a_mark_is_set_in_one_transaction_with_its_password() -> None:
    state = {"roles": {"app": role(None)}, "databases": {}}
    spec = {"roles": {"app": {"secret": "a"}}, "databases": {}}
    (only,) = postgres_roles.differences(state, spec, {"app": "word"}, {"app": "m"})
    assert only.sql.startswith('BEGIN;\nALTER ROLE "app" PASSWORD \'SCRAM-SHA-256$')
    assert only.sql.endswith("COMMENT ON ROLE \"app\" IS 'batten: password m';\nCOMMIT")


def test_sql_holds_verifiers_and_never_a_password() -> None:
    statements = postgres_roles.differences({"roles": {"postgres": role(None)}, "databases": {}}, SPEC, PASSWORDS)
    sql = "\n".join(each.sql for each in statements)
    assert sql.count("SCRAM-SHA-256$4096:") == 3
    assert not any(word in sql for word in PASSWORDS.values())
    assert 'CREATE ROLE "app" LOGIN CONNECTION LIMIT 40 PASSWORD' in sql


def test_an_administrator_who_is_no_superuser_takes_on_the_role_it_gives_a_database_to() -> None:
    spec = {"roles": {}, "databases": {"app": {"owner": "app"}}}
    for databases in ({}, {"app": "doadmin"}):
        (only,) = postgres_roles.differences({"roles": {}, "databases": databases}, spec, {}, {})
        assert only.sql.startswith('GRANT "app" TO CURRENT_USER;')


def test_names_are_quoted() -> None:
    spec = {"roles": {}, "databases": {'d"; DROP ROLE x; --': {"owner": "o"}}}
    (only,) = postgres_roles.differences({"roles": {}, "databases": {}}, spec, {})
    assert only.sql == 'CREATE DATABASE "d""; DROP ROLE x; --" OWNER "o"'


# --- roles that alternate ------------------------------------------------------------------------------------------

PAIR: dict[str, Any] = {
    "superuser": "postgres",
    "roles": {"app": {"secret": "word", "connection_limit": 9, "member_of": ["pg_monitor"], "alternate": True}},
    "databases": {"app": {"owner": "app"}},
}


def login(password: str | None, **other: Any) -> dict[str, Any]:
    return role(password, connection_limit=9, member_of=["app"], settings=["role=app"], **other)


def steady(**logins: dict[str, Any]) -> dict[str, Any]:
    owner = role(None, login=False, member_of=["pg_monitor"])
    return {"roles": {"app": owner, **logins}, "databases": {"app": "app"}}


def alternating(state: dict[str, Any], **passwords: str) -> list[str]:
    return [each.what for each in postgres_roles.differences(state, PAIR, passwords)]


def test_a_role_that_alternates_is_made_as_an_owner_and_a_login() -> None:
    assert alternating({"roles": {}, "databases": {}}, app_a="one") == [
        "role app: made, owns only",
        "role app_a: made",
        "role app_a: takes on app",
        "role app: member of pg_monitor",
        "database app: made for app",
    ]
    assert alternating(steady(app_a=login("one")), app_a="one") == []


def test_a_login_is_a_member_of_its_role_from_its_first_moment() -> None:
    statements = postgres_roles.differences({"roles": {}, "databases": {}}, PAIR, {"app_a": "one"})
    (made,) = [each.sql for each in statements if each.what == "role app_a: made"]
    assert 'CREATE ROLE "app_a" LOGIN CONNECTION LIMIT 9 IN ROLE "app" PASSWORD' in made


def test_both_logins_are_there_while_the_secret_changes_hands() -> None:
    one = steady(app_a=login("one"))
    assert alternating(one, app_a="one", app_b="two") == ["role app_b: made", "role app_b: takes on app"]
    again = steady(app_a=login(None, login=False), app_b=login("two"))
    assert alternating(again, app_a="three", app_b="two") == ["role app_a: password set", "role app_a: may log in"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"member_of": []}, "role app_a: member of app"),
        ({"settings": ["work_mem=1MB"]}, "role app_a: takes on app"),
        ({"connection_limit": -1}, "role app_a: connection limit 9"),
        ({"owns_in": ["app"]}, "role app: owns what app_a owned in app"),
    ],
)
def test_a_login_that_drifted_is_repaired(change: dict[str, Any], expected: str) -> None:
    assert alternating(steady(app_a={**login("one"), **change}), app_a="one") == [expected]


@pytest.mark.parametrize("name", ["app", "app_b"])
def test_a_login_that_is_not_accepted_any_more_goes_with_its_last_session(name: str) -> None:
    state = steady(app_a=login("one"), app_b=login(None, login=False))
    state["roles"][name].update(login=True, sessions=2, password=scram.verifier("old", iterations=16))
    (waiting,) = postgres_roles.differences(state, PAIR, {"app_a": "one"})
    assert (waiting.sql, waiting.what) == ("", f"role {name}: 2 sessions left, may log in until they end")
    assert postgres_roles.waits(waiting.what)
    state["roles"][name]["sessions"] = 0
    (gone,) = postgres_roles.differences(state, PAIR, {"app_a": "one"})
    assert gone.sql == f'ALTER ROLE "{name}" NOLOGIN PASSWORD NULL'
    assert not postgres_roles.waits(gone.what)


def test_a_role_of_that_name_that_is_somebody_elses_is_not_taken() -> None:
    with pytest.raises(BattenError, match="app_b that is no login of app"):
        alternating(steady(app_a=login("one"), app_b=role("x")), app_a="one")


def test_a_role_that_alternates_no_more_logs_in_itself_and_others_of_such_names_stay() -> None:
    spec = {**PAIR, "roles": {"app": {"secret": "word", "member_of": ["pg_monitor"]}}}
    state = steady(app_a=login("one"), app_b=role("somebody else's"))
    statements = postgres_roles.differences(state, spec, {"app": "one"})
    assert [each.what for each in statements] == [
        "role app: password set",
        "role app: may log in",
        "role app_a: may not log in any more",
    ]


def test_what_is_reassigned_is_reassigned_where_it_is() -> None:
    state = steady(app_a={**login("one"), "owns_in": ["app", "it's"]})
    text = postgres_roles.script(postgres_roles.differences(state, PAIR, {"app_a": "one"}))
    first, second = text.split("\\connect ")[1:]
    assert first.startswith("-reuse-previous=on \"dbname='app'\"\n")
    assert second.startswith("-reuse-previous=on \"dbname='it\\'s'\"\n")
    assert 'REASSIGN OWNED BY "app_a" TO "app";' in first
    assert text.index("log_statement") < text.index("REASSIGN")


def test_the_bundle_says_whom_to_accept() -> None:
    spec = {**PAIR, "superuser_secret": "super", "roles": {**PAIR["roles"], "exporter": {"secret": "exporter"}}}
    values = {"word": "two", "super": "s", "exporter": "e"}
    others = {"word": credentials.Other("one", credentials.LEAVING)}
    bundle = credentials.Bundle(b"", values, others, {"word": "app_b"})
    assert postgres.accepted(bundle, spec) == {"app_b": "two", "app_a": "one", "exporter": "e", "postgres": "s"}
    assert "postgres" not in postgres.accepted(bundle, {**spec, "managed": {"user": "doadmin"}})


def test_two_dumps_of_each_database_stay_and_no_half_one(tmp_path: Path) -> None:
    paths = StackPaths("shop", str(tmp_path))
    postgres.keep_newest_dumps(paths)  # no dump was ever made
    paths.dumps.mkdir(parents=True)
    kept = [
        ".b-20261101T000000Z.dump",
        "app-20261103T000000Z.dump",
        "app-20261104T000000Z.dump",
        "app-b-20261101T000000Z.dump",
        "mine.dump",
    ]
    for name in (*kept, "app-20261101T000000Z.dump", "app-20261102T000000Z.dump", ".app.x1y2"):
        (paths.dumps / name).touch()
    postgres.keep_newest_dumps(paths)
    assert sorted(path.name for path in paths.dumps.iterdir()) == kept


def saved(name: str, **other: Any) -> dict[str, Any]:
    return {"name": name, "connection_limit": -1, "settings": None, "attributes": {}, "member_of": None, **other}


def test_roles_that_dumps_name_are_made_where_they_are_missing_and_others_stay_as_they_are() -> None:
    attributes = {"LOGIN": False, "BYPASSRLS": True}
    settings = ['search_path="$user", public, "a""b"', "my.setting=it's", "statement_timeout=3s"]
    wanted = [
        saved("app", connection_limit=5, member_of={"anon": False, "postgres": True}),
        saved("anon", attributes=attributes, settings=settings, member_of={"pg_monitor": True}),
    ]
    assert postgres_dumps.role_script(wanted, ["postgres", "app"]).splitlines() == [
        "BEGIN;",
        'CREATE ROLE "anon" NOLOGIN BYPASSRLS CONNECTION LIMIT -1;',
        """ALTER ROLE "anon" SET "search_path" TO '$user', 'public', 'a"b';""",
        """ALTER ROLE "anon" SET "my"."setting" TO 'it''s';""",
        """ALTER ROLE "anon" SET "statement_timeout" TO '3s';""",
        'GRANT "anon" TO "app";',
        'GRANT "pg_monitor" TO "anon" WITH ADMIN OPTION;',
        "COMMIT;",
    ]
