"""What makes a PostgreSQL server's roles and databases as a stack's spec says (``postgres.py``). Pure.

A role that alternates cannot log in: it owns things. ROLE_a and ROLE_b log in, are members of it and take it on at once
(``ALTER ROLE ROLE_a SET role``), so that what either makes belongs to ROLE and the other can change it. Passwords are
given for the login roles to accept; the other one loses its login when its last session has ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from . import credentials, scram
from .errors import BattenError

# A verifier is no password, but it belongs into no log either, and neither into statistics that an exporter reads. Only
# a superuser may turn these off; elsewhere what the server logs stays the provider's matter.
_QUIET = """
DO $quiet$ DECLARE setting text[]; BEGIN
  FOREACH setting SLICE 1 IN ARRAY ARRAY[
    ['log_statement', 'none'], ['log_min_duration_statement', '-1'], ['log_min_duration_sample', '-1'],
    ['log_transaction_sample_rate', '0'], ['log_min_error_statement', 'panic'], ['track_activities', 'off'],
    ['pg_stat_statements.track_utility', 'off'], ['pgaudit.log', 'none']] LOOP
    BEGIN PERFORM set_config(setting[1], setting[2], false); EXCEPTION WHEN insufficient_privilege THEN NULL; END;
  END LOOP;
END $quiet$;
"""
_MARK = "batten: password "
_LEFT = "may log in until they end"


@dataclass(frozen=True)
class Statement:
    """One thing to do: the SQL, which may hold a verifier, and words for people, which do not.

    Without SQL there is nothing that can be done yet, and the words say what is waited for. ``database`` is where it
    has to run; None means anywhere.
    """

    sql: str
    what: str
    database: str | None = None


def differences(
    state: Mapping[str, Any],
    spec: Mapping[str, Any],
    passwords: Mapping[str, str],
    marks: Mapping[str, str] | None = None,
) -> list[Statement]:
    """Return what makes ``state`` (what the server has) as ``spec`` says, in order; nothing when it is already.

    ``passwords`` are of the login roles to accept. ``marks`` are given where the administrator is no superuser and so
    sees no verifiers: each is a digest of the password, kept as the role's comment, in one transaction with it.
    Every part of the list may be all that is run: the rest is found again.
    Raises BattenError where ROLE_a or ROLE_b is somebody else's.
    """
    found: list[Statement] = []
    for role, wanted in sorted(spec["roles"].items()):
        if wanted.get("alternate"):
            _refuse_foreign(state, role, wanted["secret"])
            if role not in state["roles"]:
                found.append(Statement(f"CREATE ROLE {identifier(role)} NOLOGIN", f"role {role}: made, owns only"))
        for login in logins(role, wanted):
            if login in passwords:
                found += _login(state, login, role, passwords[login], wanted.get("connection_limit"), marks)
        found += _memberships(state, role, wanted.get("member_of") or ())
    if spec.get("superuser") in passwords and spec["superuser"] not in spec["roles"]:
        superuser = spec["superuser"]
        found += _login(state, superuser, superuser, passwords[superuser], None, marks)
    found += _databases(state, spec["databases"], marks is not None)
    for role in sorted(spec["roles"]):
        for login in pair(role):
            if _is_ours(state, login, role):
                found += _reassign(state, login, role, marks is not None)
        for login in sorted({role, *pair(role)} - set(passwords)):
            if login == role or _is_ours(state, login, role):
                found += _retire(state, login, marks is not None)
    return found


def _login(
    state: Mapping[str, Any],
    login: str,
    role: str,
    password: str,
    limit: int | None,
    marks: Mapping[str, str] | None,
) -> list[Statement]:
    """Return what makes ``login`` log in with its password and take on ``role``, which may be itself."""
    name, present = identifier(login), state["roles"].get(login)
    mark = "" if marks is None else f"COMMENT ON ROLE {name} IS '{_MARK}{marks[login]}'"

    def setting_password(sql: str, what: str) -> Statement:
        sql = f"{sql} PASSWORD '{scram.verifier(password)}'"
        return Statement(f"BEGIN;\n{sql};\n{mark};\nCOMMIT" if mark else sql, what)

    takes_on = Statement(f"ALTER ROLE {name} SET role = {literal(role)}", f"role {login}: takes on {role}")
    if present is None:
        sql = f"CREATE ROLE {name} LOGIN" + ("" if limit is None else f" CONNECTION LIMIT {int(limit)}")
        # A member from its first moment: by that a role half made is known from somebody else's.
        sql += "" if login == role else f" IN ROLE {identifier(role)}"
        return [setting_password(sql, f"role {login}: made"), *([takes_on] if login != role else [])]
    found: list[Statement] = []
    if login != role and role not in present["member_of"]:
        found.append(Statement(f"GRANT {identifier(role)} TO {name}", f"role {login}: member of {role}"))
    if login != role and f"role={role}" not in present["settings"]:
        found.append(takes_on)
    right = scram.matches(present["password"], password) if marks is None else present["mark"] == _MARK + marks[login]
    if not right:
        found.append(setting_password(f"ALTER ROLE {name}", f"role {login}: password set"))
    if not present["login"]:
        found.append(Statement(f"ALTER ROLE {name} LOGIN", f"role {login}: may log in"))
    if limit is not None and limit != present["connection_limit"]:
        sql = f"ALTER ROLE {name} CONNECTION LIMIT {int(limit)}"
        found.append(Statement(sql, f"role {login}: connection limit {limit}"))
    return found


def _memberships(state: Mapping[str, Any], role: str, parents: Sequence[str]) -> list[Statement]:
    present = state["roles"].get(role)
    missing = set(parents) - set(present["member_of"] if present else ())
    return [
        Statement(f"GRANT {identifier(parent)} TO {identifier(role)}", f"role {role}: member of {parent}")
        for parent in sorted(missing)
    ]


def _databases(state: Mapping[str, Any], databases: Mapping[str, Any], hidden: bool) -> list[Statement]:
    found: list[Statement] = []
    for database, wanted in sorted(databases.items()):
        owner, name = wanted["owner"], identifier(database)
        # Who is no superuser gives a database only to a role that it can take on (PostgreSQL manual, CREATE DATABASE).
        take_on = f"GRANT {identifier(owner)} TO CURRENT_USER;\n" if hidden else ""
        if database not in state["databases"]:
            sql = f"{take_on}CREATE DATABASE {name} OWNER {identifier(owner)}"
            found.append(Statement(sql, f"database {database}: made for {owner}"))
        elif state["databases"][database] != owner:
            sql = f"{take_on}ALTER DATABASE {name} OWNER TO {identifier(owner)}"
            found.append(Statement(sql, f"database {database}: owned by {owner}"))
    return found


def _reassign(state: Mapping[str, Any], login: str, role: str, hidden: bool) -> list[Statement]:
    """Return what gives ``role`` the things that ``login`` made outside it (after SET ROLE NONE, or before batten)."""
    old, new = identifier(login), identifier(role)
    # REASSIGN OWNED needs the rights of both (PostgreSQL manual). Who comes while it waits for a lock waits too.
    take_on = f"GRANT {old} TO CURRENT_USER;\nGRANT {new} TO CURRENT_USER;\n" if hidden else ""
    sql = f"{take_on}SET lock_timeout = '5s';\nREASSIGN OWNED BY {old} TO {new}"
    return [
        Statement(sql, f"role {role}: owns what {login} owned in {database}", database)
        for database in sorted(state["roles"][login]["owns_in"])
    ]


def _retire(state: Mapping[str, Any], login: str, hidden: bool) -> list[Statement]:
    """Return what takes its login from a role that is not accepted any more, once no session of it is left."""
    present = state["roles"].get(login)
    if present is None:
        return []
    marked = hidden and (present["mark"] or "").startswith(_MARK)
    if present["login"] and present["sessions"]:
        count = present["sessions"]
        return [Statement("", f"role {login}: {count} session{'s' if count > 1 else ''} left, {_LEFT}")]
    if not (present["login"] or present["password"] or marked):
        return []
    name = identifier(login)
    comment = f";\nCOMMENT ON ROLE {name} IS NULL" if marked else ""
    sql = f"ALTER ROLE {name} NOLOGIN PASSWORD NULL{comment}"
    return [Statement(f"BEGIN;\n{sql};\nCOMMIT" if comment else sql, f"role {login}: may not log in any more")]


def _refuse_foreign(state: Mapping[str, Any], role: str, secret: str) -> None:
    for login in pair(role):
        if login in state["roles"] and not _is_ours(state, login, role):
            fix = f"rename it, or write rotation: postgres for {secret} under secrets in batten.yaml"
            raise BattenError(f"PostgreSQL has a role {login} that is no login of {role}", f"role {role}", fix)


def _is_ours(state: Mapping[str, Any], login: str, role: str) -> bool:
    present = state["roles"].get(login)
    return present is not None and (role in present["member_of"] or f"role={role}" in present["settings"])


def waits(words: str) -> bool:
    """Return whether these words of ``postgres.ensure`` say that a role waits for its last session to end."""
    return words.endswith(_LEFT)


def pair(role: str) -> tuple[str, str]:
    """Return the two login roles of a role that alternates."""
    first = credentials.alternate(role, "")
    return first, credentials.alternate(role, first)


def logins(role: str, wanted: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the roles that may log in for ``role``, which ``spec`` describes as ``wanted``."""
    return pair(role) if wanted.get("alternate") else (role,)


def script(statements: Sequence[Statement]) -> str:
    """Return psql's input for ``statements``: quiet in the server's logs, each where it has to run."""
    lines, place = [_QUIET], None
    for each in statements:
        if not each.sql:
            continue
        if each.database is not None and each.database != place:
            name = each.database.replace("\\", "\\\\").replace("'", "\\'")
            lines.append("\\connect -reuse-previous=on " + identifier(f"dbname='{name}'"))
            place = each.database
        lines.append(each.sql + ";")
    return "\n".join(lines) + "\n"


def identifier(name: str) -> str:
    """Quote an SQL identifier (PostgreSQL manual, 4.1.1)."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote an SQL string (PostgreSQL manual, 4.1.2.1)."""
    return "'" + text.replace("'", "''") + "'"  # standard_conforming_strings is on since 9.1
