"""Quoting: no value can break the YAML it is put into, and Compose reads it back the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.batten.core.plugins.module_utils import survey
from batten.errors import BattenError
from batten.plan.model import Port, Tmpfs
from batten.render import template

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES)
def test_any_value_survives_in_a_line_of_yaml(value: object) -> None:
    text = template.yaml_value(value)
    assert "\n" not in text
    # Compose undoes the doubling when it interpolates.
    assert json.loads(text.replace("$$", "$")) == value
    assert text.replace("$$", "").count("$") == 0


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cs",))))
def test_a_text_survives_in_yaml_as_python_reads_it(value: str) -> None:
    line = "key: " + template.yaml_value(value)
    # YAML pairs no surrogates that JSON writes for characters beyond the first plane; Compose's parser does.
    if all(ord(character) < 0x10000 for character in value):
        assert yaml.safe_load(line)["key"].replace("$$", "$") == value


@pytest.mark.parametrize(
    ("count", "text"), [(1024**3, "1G"), (768 * 1024**2, "768M"), (1536, "1536"), (2048, "2K"), (0, "0")]
)
def test_size(count: int, text: str) -> None:
    assert template.size(count) == text


@given(st.integers(1, 2**45))
def test_a_size_loses_nothing(count: int) -> None:
    text = template.size(count)
    unit = {"K": 1024, "M": 1024**2, "G": 1024**3}.get(text[-1], 1)
    assert int(text.rstrip("KMG")) * unit == count


@pytest.mark.parametrize(("count", "text"), [(10, "10s"), (0.5, "500ms"), (90.0, "90s"), (1.25, "1250ms")])
def test_seconds(count: float, text: str) -> None:
    assert template.seconds(count) == text


@pytest.mark.parametrize(
    ("port", "text"),
    [
        (Port(80, 8080), "8080:80"),
        (Port(443, 443, "203.0.113.1", "udp"), "203.0.113.1:443:443/udp"),
        (Port(443, 443, "2001:db8::1"), "[2001:db8::1]:443:443"),
    ],
)
def test_port(port: Port, text: str) -> None:
    assert template.port(port) == text


def test_tmpfs_can_hold_neither_programs_nor_devices() -> None:
    text = template.tmpfs(Tmpfs("/run/x", 1024, "0775", 999, 998))
    assert text == "/run/x:rw,noexec,nosuid,nodev,size=1024,mode=0775,uid=999,gid=998"


@pytest.mark.parametrize("service", ["web", "stack-auth", "a.b_c-d"])
def test_the_layers_name_the_variable_that_the_host_fills_in(service: str) -> None:
    assert template.digest_variable(service) == survey.digest_variable(service)
    assert template.digest_variable("stack-auth") == "BATTEN_DIGEST_STACK_AUTH"


@pytest.mark.parametrize(
    ("text", "what"), [("{{ nothing }}", "nothing"), ("{% if %}", "not valid"), ('{% include "gone" %}', "gone")]
)
def test_a_wrong_template_is_named(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "x.j2").write_text(text)
    with pytest.raises(BattenError, match=what) as caught:
        template.render(template.environment(tmp_path), "x.j2")
    assert "x.j2" in caught.value.where
    assert caught.value.fix
