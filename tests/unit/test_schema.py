"""The small parsers that check what people write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batten.errors import BattenError
from batten.plan import schema
from batten.plan.schema import At, Record

if TYPE_CHECKING:
    from pathlib import Path

AT = At("file.yaml", "here")


@pytest.mark.parametrize(
    ("written", "count"),
    [("512M", 512 << 20), ("1.5G", 3 << 29), ("64k", 64 << 10), ("2gib", 2 << 30), ("100", 100), (4096, 4096)],
)
def test_sizes_are_powers_of_1024(written: object, count: int) -> None:
    assert schema.size(written, AT) == count


@pytest.mark.parametrize("written", ["", "M", "12Q", "-1M", 0, True, None, [], "1 2M"])
def test_what_is_no_size_is_refused_with_an_example(written: object) -> None:
    with pytest.raises(BattenError, match="expected a size such as 512M") as caught:
        schema.size(written, AT)
    assert caught.value.where == "file.yaml: here"


@pytest.mark.parametrize(
    ("written", "seconds"), [("10s", 10), ("1m30s", 90), ("2h", 7200), ("500ms", 0.5), ("1.5s", 1.5), (5, 5)]
)
def test_durations(written: object, seconds: float) -> None:
    assert schema.duration(written, AT) == seconds


@pytest.mark.parametrize("written", ["10", "", "s", "ten seconds", None, True, -1])
def test_what_is_no_duration_is_refused(written: object) -> None:
    with pytest.raises(BattenError, match="expected a duration"):
        schema.duration(written, AT)


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    record = Record({"memory": schema.size, "pids": schema.integer(1, 10)})
    with pytest.raises(BattenError, match="unknown key 'memroy'; did you mean 'memory'") as caught:
        record({"memroy": "1M"}, AT)
    assert "write memory" in caught.value.fix


def test_an_unknown_key_that_is_near_to_none_lists_all() -> None:
    with pytest.raises(BattenError) as caught:
        Record({"memory": schema.size, "pids": schema.size})({"zzz": 1}, AT)
    assert caught.value.fix == "known keys: memory, pids"


def test_notes_pass_and_empty_keys_are_left_out() -> None:
    record = Record({"a": schema.text, "b": schema.text})
    assert record({"a": "1", "b": None, "x-why": ["anything"]}, AT) == {"a": "1"}


def test_a_missing_key_is_named() -> None:
    with pytest.raises(BattenError, match="'a' is missing"):
        Record({"a": schema.text}, required=("a",))({}, AT)


def test_errors_name_the_path_to_the_value() -> None:
    check = schema.map_of(schema.list_of(Record({"n": schema.integer(1, 3)})))
    with pytest.raises(BattenError) as caught:
        check({"k": [{"n": 1}, {"n": 9}]}, At("f"))
    assert caught.value.where == "f: k[1].n"


def test_a_command_written_as_text_is_refused() -> None:
    with pytest.raises(BattenError, match="expected a list of arguments"):
        schema.command("sleep 1", AT)


def test_environment_values_become_text_and_null_stays() -> None:
    assert schema.environment({"A": 1, "B": True, "C": None, "D": "x"}, AT) == {
        "A": "1",
        "B": "true",
        "C": None,
        "D": "x",
    }


def test_a_key_written_twice_is_refused_with_its_line() -> None:
    with pytest.raises(BattenError, match="'a' is written twice") as caught:
        schema.load_yaml("a: 1\nb: 2\na: 3\n", "f.yaml")
    assert caught.value.where == "f.yaml:3"


def test_anchors_and_merge_keys_still_work() -> None:
    assert schema.load_yaml("x: &x {a: 1}\ny: {<<: *x, b: 2}\n", "f")["y"] == {"a": 1, "b": 2}


def test_broken_yaml_names_file_and_line() -> None:
    with pytest.raises(BattenError, match="not valid YAML") as caught:
        schema.load_yaml("a: [1\nb: 2\n", "f.yaml")
    assert caught.value.where.startswith("f.yaml:")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BattenError, match="cannot read the file") as caught:
        schema.read_yaml(tmp_path / "none.yaml")
    assert "none.yaml" in caught.value.where


def test_merge_lays_mappings_key_by_key_and_replaces_the_rest() -> None:
    below = {"a": {"x": 1, "y": [1]}, "b": 1}
    assert schema.merge(below, {"a": {"y": [2], "z": None}}) == {"a": {"x": 1, "y": [2], "z": None}, "b": 1}


def test_merge_replaces_the_entries_of_whole_mappings() -> None:
    below = {"secrets": {"a": {"generator": "hex"}, "b": {}}}
    assert schema.merge(below, {"secrets": {"a": {"from": "v"}}}, ("secrets",)) == {
        "secrets": {"a": {"from": "v"}, "b": {}}
    }


values = st.recursive(
    st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner), max_leaves=8
)


@given(below=st.dictionaries(st.text(), values), above=st.dictionaries(st.text(), values))
def test_merge_is_idempotent_and_empty_changes_nothing(below: dict[str, object], above: dict[str, object]) -> None:
    once = schema.merge(below, above)
    assert schema.merge(once, above) == once
    assert schema.merge(below, {}) == below


def test_the_error_shows_what_where_and_fix() -> None:
    assert str(BattenError("it is wrong", "file: key", "type this")) == "file: key: it is wrong\n  fix: type this"
    assert str(BattenError("it is wrong")) == "it is wrong"
