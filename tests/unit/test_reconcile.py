"""What follows where Infisical and a host's copy differ."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.batten.core.plugins.module_utils import reconcile
from ansible_collections.batten.core.plugins.module_utils.credentials import Bundle
from ansible_collections.batten.core.plugins.module_utils.infisical import Stored

PASSWORD = {"generator": "password"}
PAIR = {"generator": "keypair"}
PROVIDED = {"generator": "provided", "from": "stack_api_key"}
HERE = Bundle(b"k", values={"a": "1"}, versions={"a": 3})


@pytest.mark.parametrize(
    ("rule", "bundle", "remote", "want"),
    [
        (PASSWORD, Bundle(b"k"), {}, {"make": ("a",)}),
        (PASSWORD, Bundle(b"k"), {"a": Stored("1", 1)}, {"take": {"a": "1"}}),
        (PASSWORD, HERE, {"a": Stored("1", 3)}, {}),
        (PASSWORD, HERE, {"a": Stored("1", 9)}, {}),
        (PASSWORD, HERE, {"a": Stored("2", 4)}, {"change": {"a": "2"}}),
        (PASSWORD, HERE, {"a": Stored("2", 3)}, {"update": ("a",)}),
        (PASSWORD, HERE, {}, {"create": ("a",), "back": ("a",)}),
        (PASSWORD, Bundle(b"k", values={"a": "1"}), {}, {"create": ("a",)}),
        (PROVIDED, Bundle(b"k"), {}, {"ask": ("a",)}),
        (PROVIDED, Bundle(b"k"), {"a": Stored("given", 1)}, {"take": {"a": "given"}}),
        ({**PASSWORD, "from": "stack_a"}, Bundle(b"k"), {}, {"make": ("a",)}),
        ({**PASSWORD, "format": "[0-9]+"}, HERE, {"a": Stored("x", 4)}, {"wrong": ("a",)}),
        (PAIR, Bundle(b"k"), {}, {"make": ("a",)}),
        (PAIR, Bundle(b"k", values={"a": "x", "a_public": "y"}), {}, {"create": ("a", "a_public")}),
    ],
)
def test_one_secret(rule: Any, bundle: Bundle, remote: Any, want: dict[str, Any]) -> None:
    assert reconcile.compare({"a": rule}, bundle, remote, {}) == reconcile.Outcome(**want)


def test_a_version_that_did_not_work_is_not_tried_again_until_it_changes() -> None:
    remote = {"a": Stored("bad", 4)}
    assert reconcile.compare({"a": PASSWORD}, HERE, remote, {"a": 4}) == reconcile.Outcome()
    assert reconcile.compare({"a": PASSWORD}, HERE, {"a": Stored("good", 5)}, {"a": 4}).change == {"a": "good"}


@pytest.mark.parametrize(
    ("version", "updated", "older"),
    [
        (2, "2026-11-01T06:00:00.000Z", True),  # an Infisical that came back from a backup
        (1, "2026-11-03T06:00:00.000Z", False),  # a person deleted it and made it again
        (2, "", False),
        (4, "2026-11-01T06:00:00.000Z", False),
    ],
)
def test_what_was_rotated_since_is_not_taken_back_from_an_infisical_that_was_restored(
    version: int, updated: str, older: bool
) -> None:
    here = replace(HERE, made={"a": "2026-11-02T06:00:00Z"})
    found = reconcile.compare({"a": PASSWORD}, here, {"a": Stored("old", version, updated)}, {})
    assert found == (reconcile.Outcome(update=("a",)) if older else reconcile.Outcome(change={"a": "old"}))


def test_what_is_coming_with_this_run_is_not_asked_for() -> None:
    assert reconcile.compare({"a": PROVIDED}, Bundle(b"k"), {}, {}, coming=["a"]).ask == ()


def test_values_are_in_no_text() -> None:
    outcome = reconcile.compare(
        {"a": PASSWORD, "b": PASSWORD}, HERE, {"a": Stored("s3cret", 4), "b": Stored("s3cret", 1)}, {}
    )
    assert outcome.change
    assert outcome.take
    assert "s3cret" not in repr(outcome) + str(outcome.words)


VALUES = st.dictionaries(st.sampled_from("abc"), st.sampled_from("xyz"))


@given(here=VALUES, there=VALUES, seen=st.booleans())
def test_doing_what_follows_leaves_both_sides_equal(here: dict[str, str], there: dict[str, str], seen: bool) -> None:
    rules = dict.fromkeys("abc", PASSWORD)
    bundle = Bundle(b"k", values=here, versions=dict.fromkeys(here, 1) if seen else {})
    remote = {name: Stored(value, 1) for name, value in there.items()}
    outcome = reconcile.compare(rules, bundle, remote, {})
    made = dict.fromkeys(outcome.make, "made")
    after = bundle.having({**outcome.take, **outcome.change, **made})
    ours = {name: after.values[name] for name in (*outcome.create, *outcome.update, *outcome.make)}
    remote |= {name: Stored(value, 2) for name, value in ours.items()}
    assert {name: one.value for name, one in remote.items()} == dict(after.values)
    settled = replace(after, versions={name: one.version for name, one in remote.items()})
    assert reconcile.compare(rules, settled, remote, {}) == reconcile.Outcome()
