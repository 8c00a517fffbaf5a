"""SCRAM verifiers against RFC 7677's example and PostgreSQL's format."""

from __future__ import annotations

import base64
import hmac

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.batten.core.plugins.module_utils import scram

PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=40)

# RFC 7677 section 3: user "user", password "pencil", this salt. The server signature of that exchange proves the
# server key: ServerSignature = HMAC(ServerKey, AuthMessage).
SALT = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
AUTH_MESSAGE = (
    b"n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
)


def test_the_example_of_rfc_7677() -> None:
    made = scram.verifier("pencil", SALT)
    head, keys = made.rsplit("$", 1)
    assert head == "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ=="
    server_key = base64.b64decode(keys.split(":")[1])
    signature = base64.b64encode(hmac.new(server_key, AUTH_MESSAGE, "sha256").digest()).decode()
    assert signature == "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


@settings(max_examples=25, deadline=None)
@given(PRINTABLE, PRINTABLE)
def test_a_verifier_matches_its_password_and_no_other(password: str, other: str) -> None:
    made = scram.verifier(password, iterations=16)
    assert scram.matches(made, password)
    assert scram.matches(made, other) == (password == other)


def test_salts_differ() -> None:
    assert scram.verifier("pencil") != scram.verifier("pencil")


@pytest.mark.parametrize("stored", [None, "", "md5aa", "SCRAM-SHA-256$4096:x", "pencil"])
def test_what_is_no_verifier_matches_nothing(stored: str | None) -> None:
    assert not scram.matches(stored, "pencil")


@pytest.mark.parametrize("password", ["", "smörgås", "tab\t"])
def test_a_password_that_saslprep_would_change_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        scram.verifier(password)
