"""``.env`` files: what Compose's documentation says of each form, and what looks like a credential."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batten import dotenv
from batten.cli import main
from batten.errors import BattenError

# The examples of Compose's own documentation (env-file syntax), and what it is silent about.
FORMS = [
    ("VAR=VAL", "VAL"),
    ("VAR: VAL", "VAL"),
    ("export VAR=VAL", "VAL"),
    ("  VAR = VAL  ", "VAL"),
    ("VAR=VAL # comment", "VAL"),
    ("VAR=VAL# not a comment", "VAL# not a comment"),
    ('VAR="VAL # not a comment"', "VAL # not a comment"),
    ('VAR="VAL" # comment', "VAL"),
    ("VAR='$OTHER'", "$OTHER"),
    ("VAR='${OTHER}'", "${OTHER}"),
    ("VAR='Let\\'s go!'", "Let's go!"),
    ('VAR="{\\"hello\\": \\"json\\"}"', '{"hello": "json"}'),
    ('VAR="some\\tvalue"', "some\tvalue"),
    ("VAR='some\\tvalue'", "some\\tvalue"),
    ("VAR=some\\tvalue", "some\\tvalue"),
    ("VAR='one\ntwo'", "one\ntwo"),
    ('VAR="one\ntwo"', "one\ntwo"),
    ('VAR="a\\$b"', "a$b"),
    ("VAR=a$$b", "a$b"),
    ("VAR=", ""),
    ('VAR=""', ""),
    ("A=one\nVAR=${A}-$A", "one-one"),
    ("A=one\nVAR=${B:-two}", "two"),
    ("\ufeffVAR=VAL", "VAL"),
    ("VAR=VAL\r\nB=2", "VAL"),
    ("# VAR=no\n\nVAR=VAL", "VAL"),
    ("VAR=pa$", "pa$"),
    ("VAR=pa$$$-x", "pa$$-x"),
    ("VAR=#x", "#x"),
    ("VAR=x\t#y", "x\t#y"),
    ("VAR=x#y z", "x#y z"),
    ("VAR='a\\\\'", "a\\\\"),
    ('VAR="a\\\\"', "a\\"),
    ('VAR="a\\x\\n"', "a\\x\n"),
    ('VAR="\\0101"', "A"),
]


@pytest.mark.parametrize(("text", "value"), FORMS)
def test_a_value_is_what_compose_reads(text: str, value: str) -> None:
    assert {entry.name: entry.value for entry in dotenv.parse(text, ".env")}["VAR"] == value


def test_lines_are_those_of_the_whole_value() -> None:
    text = "# top\nA=1\nKEY='one\ntwo\nthree' # end\nB=2\n"
    assert [(entry.name, entry.first, entry.last) for entry in dotenv.parse(text, ".env")] == [
        ("A", 2, 2),
        ("KEY", 3, 5),
        ("B", 6, 6),
    ]


@pytest.mark.parametrize("text", ["A='hunter2", 'A="hunter2', "A='hunter2' hunter2", "A=hunter2${", "=hunter2"])
def test_what_compose_refuses_names_the_line_and_no_value(text: str) -> None:
    with pytest.raises(BattenError) as caught:
        dotenv.parse("OK=1\n" + text, ".env")
    assert ".env: line 2" in str(caught.value)
    assert "hunter2" not in str(caught.value)


# A backslash before a quote is Compose's escape, so that a value with both cannot always be written.
@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\0\\")))
def test_any_text_between_single_quotes_comes_back(value: str) -> None:
    text = "VAR='" + value.replace("'", "\\'") + "'"
    assert dotenv.parse(text, ".env")[0].value == value


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("POSTGRES_PASSWORD=hunter2", "its name"),
        ("STRIPE_SECRET_KEY=x1y2z3", "its name"),
        ("PGPASSWORD=hunter2", "its name"),
        ("DATABASE_URL=postgres://app:hunter2@db/app", "a URL with a password"),
        ("SOMETHING=ghp_0123456789abcdefghij0123456789abcd", "a token by its prefix"),
        ("SIGNER='-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----'", "a private key"),
        ("WEBHOOK=9f86d081884c7d659a2feaa0c55ad015", "it looks random"),
        ("DATABASE_URL=postgres://db/app", None),
        ("PASSWORD_FILE=/run/secrets/password", None),
        ("NEXT_PUBLIC_KEY=pk_0123456789abcdefABCDEF012345", None),
        ("TOKEN_TTL=3600", None),
        ("ENABLE_SECRET=true", None),
        ("PASSWORD=", None),
        ("GREETING=hello there", None),
        ("IMAGE=registry.example.org/team/app:1.0.0", None),
    ],
)
def test_what_looks_like_a_credential(line: str, why: str | None) -> None:
    assert dotenv.suspicion(dotenv.parse(line, ".env")[0]) == why


RULES: dict[str, object] = {"db_password": {}, "app_password": {}}
DELIVERIES = {
    "db": {"password": {"secret": "db_password"}},
    "api": {"api.env": {"template": 'DATABASE_URL="postgres://app:${app_password:url}@db/app"\nMODE=prod\n'}},
}


def found(text: str) -> dict[str, tuple[str, str, bool]]:
    entries = dotenv.parse(text, ".env")
    return {
        each.entry.name: (each.secret, each.value, each.declared) for each in dotenv.assign(entries, RULES, DELIVERIES)
    }


def test_a_variable_is_a_declared_secret_by_name_or_by_the_template_that_uses_it() -> None:
    text = "DB_PASSWORD=one\nDATABASE_URL=postgres://app:p%40ss@localhost:5432/app\nMODE=dev\nMAIL_TOKEN=three\n"
    assert found(text) == {
        "DB_PASSWORD": ("db_password", "one", True),
        "DATABASE_URL": ("app_password", "p@ss", True),
        "MAIL_TOKEN": ("mail_token", "three", False),
    }


def test_two_values_for_one_secret_are_refused_without_showing_either() -> None:
    entries = dotenv.parse("APP_PASSWORD=hunter2\nDATABASE_URL=postgres://app:hunter3@db/app\n", ".env")
    problem = dotenv.disagreement(dotenv.assign(entries, RULES, DELIVERIES))
    assert problem is not None
    assert "APP_PASSWORD and DATABASE_URL are both secret app_password" in str(problem)
    assert "hunter" not in str(problem)


def test_nothing_that_prints_an_entry_shows_its_value() -> None:
    entries = dotenv.parse("DB_PASSWORD=hunter2", ".env")
    assert "hunter2" not in repr(entries) + repr(dotenv.assign(entries, RULES, DELIVERIES))


def test_a_dry_run_names_lines_and_declarations_and_no_value(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / ".env"
    file.write_text("GREETING=hello\nSTRIPE_KEY='hunter2\nhunter3'\nMAIL_URL=smtp://me:hunter4@mail/\n")
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("stack: {hosts: {web1: {stack_name: shop}}}\n")
    assert main(["secrets", "import", "-i", str(inventory), "--env-file", str(file), "--dry-run"]) == 0
    said = capsys.readouterr().out
    for text in (
        "STRIPE_KEY",
        "2-3",
        "mail_url_password (not declared yet)",
        "generator: provided",
        "nothing was touched",
    ):
        assert text in said
    assert "hunter" not in said
    assert "GREETING" not in said
