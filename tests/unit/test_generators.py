"""Keys and certificates as secrets. Passwords and the like are in test_credentials.py."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import generators, pki
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError

CA = {"generator": "ca"}
LEAF = {"generator": "x509", "ca": "root", "names": ["postgres"], "days": 90}


@pytest.fixture(scope="module")
def values() -> dict[str, str]:
    made = generators.generate("root", CA, {})
    return {**made, **generators.generate("leaf", LEAF, made)}


def test_every_part_is_made(values: dict[str, str]) -> None:
    assert set(values) == {*generators.parts("root", CA), *generators.parts("leaf", LEAF)}
    pair = generators.generate("pair", {"generator": "keypair"}, {})
    assert tuple(pair) == generators.parts("pair", {"generator": "keypair"}) == ("pair", "pair_public")
    shown = subprocess.run(["openssl", "pkey", "-pubout"], input=pair["pair"], text=True, capture_output=True)
    assert shown.stdout == pair["pair_public"]
    assert generators.parts("given", {"from": "VARIABLE"}) == ("given",)


def test_a_leaf_is_its_cas_and_alone(values: dict[str, str]) -> None:
    assert values["leaf_certificate"].count("BEGIN CERTIFICATE") == 1
    assert pki.matches(values["leaf"], values["leaf_certificate"])
    assert pki.issued_by(values["leaf_certificate"], values["root_certificate"])


def test_a_ca_comes_before_its_leaves() -> None:
    assert generators.in_order({"a": LEAF, "root": CA, "b": {"generator": "hex"}}) == ["b", "root", "a"]


def test_a_ca_keeps_its_key_and_a_leaf_gets_a_new_one(values: dict[str, str]) -> None:
    assert generators.generate("root", CA, values)["root"] == values["root"]
    assert generators.generate("leaf", LEAF, values)["leaf"] != values["leaf"]


def test_a_leaf_without_its_ca_says_what_to_declare() -> None:
    with pytest.raises(BattenError, match="the CA root of leaf is not there") as caught:
        generators.generate("leaf", LEAF, {})
    assert caught.value.fix == "declare root: {generator: ca}"


def test_what_is_fine_is_not_due(values: dict[str, str]) -> None:
    assert not generators.due("root", CA, values)
    assert not generators.due("leaf", LEAF, values)
    assert not generators.due("leaf", {**LEAF, "names": ["postgres"], "days": 30}, values)
    assert not generators.due("word", {"generator": "password"}, {"word": "x"})


def old(values: dict[str, str]) -> dict[str, str]:
    then = datetime.now(UTC) - timedelta(days=61)
    ca = pki.make_ca("root", values["root"], now=then)
    return {**values, "leaf_certificate": pki.issue(values["root"], ca, values["leaf"], ["postgres"], 90, then)}


@pytest.mark.parametrize("what", ["old", "no certificate", "another's", "other names", "another CA"])
def test_a_leaf_is_due(values: dict[str, str], what: str) -> None:
    rule: dict[str, Any] = LEAF
    seen = dict(values)
    if what == "old":
        seen = old(values)
    if what == "no certificate":
        del seen["leaf_certificate"]
    if what == "another's":
        seen["leaf_certificate"] = generators.generate("leaf", LEAF, values)["leaf_certificate"]
    if what == "other names":
        rule = {**LEAF, "names": ["postgres", "db.example.org"]}
    if what == "another CA":
        seen.update(generators.generate("root", CA, {}))
    assert generators.due("leaf", rule, seen)
    assert not generators.due("leaf", rule, {**seen, **generators.generate("leaf", rule, seen)})


FITTING = [
    ({"generator": "hex"}, "00ff"),
    ({"generator": "base64"}, "AAE="),
    ({"generator": "base64url"}, "AAE-_w"),
    ({"generator": "uuid"}, "123e4567-e89b-42d3-a456-426614174000"),
    ({"generator": "password"}, 'anything $ "at" all\n'),
    ({"generator": "provided", "format": "sk_[a-z0-9]{8}"}, "sk_0123abcd"),
    ({"from": "VARIABLE"}, "x"),
]


@pytest.mark.parametrize(("rule", "value"), FITTING)
def test_a_value_that_its_rule_allows(rule: dict[str, str], value: str) -> None:
    generators.check("it", rule, value)


def test_every_generators_own_values_fit(values: dict[str, str]) -> None:
    for generator in ("password", "hex", "base64", "base64url", "uuid", "keypair"):
        rule = {"generator": generator}
        generators.check("it", rule, generators.generate("it", rule, {})["it"])
    generators.check("root", CA, values["root"])
    generators.check("leaf", LEAF, values["leaf"])


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ({"generator": "x509"}, "the value of it is not a private key in PEM, as its generator x509 makes it"),
        ({"generator": "uuid"}, "is not a UUID"),
        ({"generator": "hex"}, "is not hexadecimal digits"),
        ({"generator": "password", "format": "[a-z]+"}, "does not match its format"),
    ],
)
def test_a_value_of_another_kind_is_refused_and_not_shown(rule: dict[str, str], what: str) -> None:
    with pytest.raises(BattenError, match=what) as caught:
        generators.check("it", rule, "S3cret!")
    assert "S3cret!" not in str(caught.value)


@pytest.mark.parametrize(
    ("rotation", "value"),
    [
        ("postgres_role", "p\u00e4ss"),
        ("postgres", "two\nlines"),
        ("redis", "x nopass"),
        ("redis", "x\nuser evil on"),
        ("", ""),
    ],
)
def test_a_value_that_its_software_cannot_take_is_refused_before_it_is_tried(rotation: str, value: str) -> None:
    with pytest.raises(BattenError, match="the value of word is not") as caught:
        generators.check("word", {"generator": "password", "rotation": rotation}, value)
    assert not value or value not in str(caught.value)
