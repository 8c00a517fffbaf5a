"""The commented examples are the documentation of the schemas: they pass, and they show every key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from batten import resources
from batten.errors import BattenError
from batten.plan import schema
from batten.plan.definition import SECTIONS, load_definition
from batten.plan.profile import PROFILE, load_profiles, split_image
from batten.plan.schema import At

if TYPE_CHECKING:
    from pathlib import Path

PROFILES = resources.compose() / "profiles"
EXAMPLE = PROFILES / "EXAMPLE.yaml"


def test_the_example_profile_passes() -> None:
    PROFILE(schema.read_yaml(EXAMPLE), At(str(EXAMPLE)))


@pytest.mark.parametrize("key", sorted(PROFILE.keys))
def test_the_example_profile_shows_every_key(key: str) -> None:
    assert re.search(rf"^(?:# ?)?{key}:", EXAMPLE.read_text(), re.MULTILINE)


def test_every_profile_of_ours_loads_and_the_example_is_none_of_them() -> None:
    records = load_profiles(PROFILES).records
    assert {"postgres", "caddy", "pgbouncer"} <= set(records)
    assert "EXAMPLE" not in records


@pytest.mark.parametrize("section", [None, *SECTIONS])
def test_the_definition_of_the_reference_stack_passes_for_every_target(section: str | None) -> None:
    path = resources.compose() / "batten.yaml"
    definition = load_definition(path, sections=(section,) if section else ())
    assert ("postgres" in definition.services) == (section != "digitalocean_managed_postgres")


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("postgres", ("postgres", None)),
        ("postgres:17-alpine", ("postgres", "17-alpine")),
        ("docker.io/library/postgres:17@sha256:ab", ("postgres", "17")),
        ("localhost:5000/library/postgres", ("postgres", None)),
        ("localhost/grafana/loki:3", ("grafana/loki", "3")),
        ("quay.io/prometheuscommunity/postgres-exporter:v1", ("prometheuscommunity/postgres-exporter", "v1")),
        ("evil/postgres:1", ("evil/postgres", "1")),
    ],
)
def test_image_references(reference: str, parts: tuple[str, str | None]) -> None:
    assert split_image(reference) == parts


def test_one_image_belongs_to_one_profile(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text("images: [redis]\nclass: database\nmemory: {floor: 64M}\n")
    with pytest.raises(BattenError, match="already in profile 'a'"):
        load_profiles(tmp_path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("memroy: {floor: 1M}", "did you mean 'memory'"),
        ("class: databse", "one of database"),
        ("writable: [{path: tmp}]", "an absolute path"),
        ("oom_score_adj: -1000", "a whole number from -999"),
        ("tunables: {A: 'two words here'}", "a formula such as"),
        ("user: postgres", "a numeric uid"),
    ],
)
def test_a_wrong_profile_names_its_file(tmp_path: Path, line: str, says: str) -> None:
    good = {"images": "[redis]", "class": "database", "memory": "{floor: 64M}"}
    good.pop(line.split(":")[0], None)
    text = "\n".join([*(f"{key}: {value}" for key, value in good.items()), line])
    (tmp_path / "redis.yaml").write_text(text)
    with pytest.raises(BattenError, match=says) as caught:
        load_profiles(tmp_path)
    assert "redis.yaml" in caught.value.where
