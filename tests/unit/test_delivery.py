"""Delivery: templates, digests, and files that change only when they differ."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.batten.core.plugins.module_utils import delivery
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError

if TYPE_CHECKING:
    from pathlib import Path

VALUES = {"a": "x'y", "pass-word": 'q"$ /', "plain": "abc"}
ME = (os.getuid(), os.getgid())


@pytest.mark.parametrize(
    ("template", "rendered"),
    [
        ("", ""),
        ("no token", "no token"),
        ("${plain}", "abc"),
        ("cost: $$5, $${plain}", "cost: $5, ${plain}"),
        ("${plain}${plain}", "abcabc"),
        ("A=${a:sh}", "A='x'\"'\"'y'"),
        ("postgres://u:${pass-word:url}@h", "postgres://u:q%22%24%20%2F@h"),
        ('"u" ${pass-word:pgbouncer}', '"u" "q""$ /"'),
        ("${plain:pgbouncer}", '"abc"'),
    ],
)
def test_templates(template: str, rendered: str) -> None:
    assert delivery.render(template, VALUES) == rendered


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("${nobody}", "no secret is named nobody"),
        ("${a:rot13}", "unknown encoding rot13"),
        ("$HOME", "lone \\$"),
        ("${a", "lone \\$"),
        ("${}", "lone \\$"),
        ("100$", "lone \\$"),
    ],
)
def test_bad_templates_are_refused_without_showing_a_value(template: str, says: str) -> None:
    with pytest.raises(BattenError, match=says) as caught:
        delivery.render(template, VALUES)
    assert not any(value in str(caught.value) for value in VALUES.values())


@given(st.text())
def test_a_value_is_never_taken_for_a_template(value: str) -> None:
    assert delivery.render("<${a}>", {"a": value}) == f"<{value}>"
    assert unquote(delivery.render("${a:url}", {"a": value})) == value


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
@settings(max_examples=50)
def test_sh_encoding_is_one_word_of_the_shell(value: str) -> None:
    assert shlex.split("A=" + delivery.render("${a:sh}", {"a": value})) == ["A=" + value]


def test_sh_encoding_in_a_real_shell() -> None:
    nasty = "$(id) `id` ' \" \\ \n end"
    script = "set -a; " + delivery.render("A=${a:sh}", {"a": nasty}) + '; printf %s "$A"'
    done = subprocess.run(["/bin/sh", "-ec", script], capture_output=True, text=True, check=True)
    assert done.stdout == nasty


def spec(**files: dict[str, str]) -> dict[str, object]:
    return {"api": {"uid": ME[0], "gid": ME[1], "files": files}}


def test_files_are_written_once_and_rewritten_only_when_they_differ(tmp_path: Path) -> None:
    wanted = delivery.consumers(spec(one={"secret": "plain"}, two={"template": "v=${plain}\n"}), VALUES)
    assert delivery.write(tmp_path, wanted, check=True) == ["api/one: written", "api/two: written"]
    assert not list(tmp_path.iterdir())
    delivery.write(tmp_path, wanted, check=False)
    one = tmp_path / "api" / "one"
    assert one.read_text() == "abc"
    assert (one.stat().st_mode & 0o7777, (tmp_path / "api").stat().st_mode & 0o7777) == (0o400, 0o711)
    before = one.stat()
    assert delivery.write(tmp_path, wanted, check=False) == []
    assert one.stat() == before
    changed = delivery.consumers(spec(one={"secret": "a"}), VALUES)
    assert delivery.write(tmp_path, changed, check=False) == ["api/one: rewritten", "api/two: removed"]
    assert one.stat().st_ino != before.st_ino


def test_a_wrong_mode_is_repaired(tmp_path: Path) -> None:
    wanted = delivery.consumers(spec(one={"secret": "plain"}), VALUES)
    delivery.write(tmp_path, wanted, check=False)
    (tmp_path / "api" / "one").chmod(0o444)
    assert delivery.write(tmp_path, wanted, check=False) == ["api/one: rewritten"]
    assert (tmp_path / "api" / "one").stat().st_mode & 0o7777 == 0o400


def test_the_directory_of_a_service_that_went_stays_for_who_has_it_mounted(tmp_path: Path) -> None:
    delivery.write(tmp_path, delivery.consumers(spec(one={"secret": "plain"}), VALUES), check=False)
    (tmp_path / "stray").write_text("x")
    assert delivery.write(tmp_path, {}, check=False) == ["api/one: removed", "stray: removed"]
    assert [place.name for place in tmp_path.iterdir()] == ["api"]


@pytest.mark.parametrize("name", ["../x", "", ".", "a/b", ".hidden"])
def test_a_name_cannot_leave_its_directory(name: str) -> None:
    with pytest.raises(BattenError, match="file's name"):
        delivery.consumers(spec(**{name: {"secret": "plain"}}), VALUES)


def test_a_digest_depends_on_key_names_and_contents() -> None:
    def digest(key: bytes, files: dict[str, bytes]) -> str:
        return delivery.digest(key, delivery.Consumer(1, 1, files))

    same = digest(b"k", {"a": b"1", "b": b"2"})
    assert same == digest(b"k", {"b": b"2", "a": b"1"})
    assert (
        len({same, digest(b"K", {"a": b"1", "b": b"2"}), digest(b"k", {"a": b"1b", "": b"2"}), digest(b"k", {})}) == 4
    )
