"""Checks of what people write: small parsers that compose, and name the file and the path of what is wrong.

A :data:`Check` takes a value as YAML gave it and its :class:`At`, and returns the value in the type that the plan uses
(sizes in bytes, durations in seconds), or raises :class:`BattenError`. Unknown keys are refused with the nearest known
one, keys that start with ``x-`` pass: kamal's configuration does the same, and people thank it for it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import yaml

from batten.errors import BattenError

if TYPE_CHECKING:
    from pathlib import Path

    from yaml import SafeLoader
else:
    # libyaml's is ten times as fast, and a plan reads some fifteen files.
    SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class At:
    """Where a value stands: a file (or what stands for one) and the keys that lead to it."""

    source: str
    path: str = ""

    def key(self, name: object) -> At:
        return replace(self, path=f"{self.path}.{name}" if self.path else str(name))

    def item(self, index: int) -> At:
        return replace(self, path=f"{self.path}[{index}]")

    def __str__(self) -> str:
        return f"{self.source}: {self.path}" if self.path else self.source

    @property
    def top(self) -> str:
        """What a person looks for where no key leads to it: an option of the command line, or the top of a file."""
        return self.source if self.source.startswith("--") else "the top"

    def error(self, what: str, fix: str) -> BattenError:
        return BattenError(what, str(self), fix)


Check = Callable[[Any, At], Any]

_SHOWN = 60
_TYPE_NAMES: Mapping[type, str] = {
    dict: "a mapping",
    list: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
}


def type_name(value: object) -> str:
    """Return the YAML word for a value's type; Ansible's values are of subclasses."""
    if value is None:
        return "empty"
    return next((name for kind, name in _TYPE_NAMES.items() if isinstance(value, kind)), type(value).__name__)


def expected(wanted: str, value: object, at: At, fix: str = "") -> BattenError:
    """Return the error for a value of the wrong type; ``fix`` is what to write, where the type's name is not enough."""
    shown = "" if value is None else f" {value!r}" if len(repr(value)) <= _SHOWN else f" {repr(value)[:_SHOWN]}..."
    return at.error(
        f"expected {wanted}, found {type_name(value)}{shown}", fix or f"write {wanted} at {at.path or at.top}"
    )


def unknown_key(key: str, known: Collection[str], at: At) -> BattenError:
    """Return the error for a key that nobody knows, naming the nearest known one."""
    near = difflib.get_close_matches(key, known, 1) or [name for name in known if key in name.split("_")]
    if near:
        return at.error(
            f"unknown key {key!r}; did you mean {near[0]!r}?", f"write {near[0]}, or x-{key} for a note of your own"
        )
    return at.error(f"unknown key {key!r}", f"known keys: {', '.join(sorted(known))}")


def any_value(value: Any, at: At) -> Any:
    """Accept anything."""
    return value


def text(value: Any, at: At) -> str:
    """Accept text that is not empty."""
    if not isinstance(value, str) or not value:
        raise expected("text", value, at)
    return value


def scalar_text(value: Any, at: At) -> str:
    """Accept a scalar as Compose does for an environment value: booleans become ``true`` and ``false``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise expected("a text or a number", value, at)


def boolean(value: Any, at: At) -> bool:
    """Accept true or false."""
    if not isinstance(value, bool):
        raise expected("true or false", value, at)
    return value


def integer(minimum: int, maximum: int) -> Check:
    """Accept a whole number from ``minimum`` to ``maximum``."""

    def check(value: Any, at: At) -> int:
        wanted = f"a whole number from {minimum} to {maximum}"
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise expected(wanted, value, at)
        return value

    return check


def number(minimum: float, maximum: float) -> Check:
    """Accept a number from ``minimum`` to ``maximum``, also as text such as ``"0.5"``."""

    def check(value: Any, at: At) -> float:
        try:
            result = float(value) if not isinstance(value, bool) else float("nan")
        except (TypeError, ValueError):
            result = float("nan")
        if not minimum <= result <= maximum:
            raise expected(f"a number from {minimum:g} to {maximum:g}", value, at)
        return result

    return check


def choice(*options: str) -> Check:
    """Accept one of some words."""

    def check(value: Any, at: At) -> str:
        if value not in options:
            raise expected(f"one of {', '.join(options)}", value, at, f"write {at.path}: {' or '.join(options)}")
        return str(value)

    return check


def pattern(expression: str, wanted: str) -> Check:
    """Accept text that matches a whole regular expression; ``wanted`` says it in words."""
    compiled = re.compile(expression)

    def check(value: Any, at: At) -> str:
        given = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(given, str) or not compiled.fullmatch(given):
            raise expected(wanted, value, at)
        return given

    return check


_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)


def size(value: Any, at: At) -> int:
    """Accept a size such as ``512M``, ``1.5G`` or a number of bytes; return bytes.

    Units are powers of 1024, as in Compose (compose-spec, "Specifying byte values").
    """
    match = (
        _SIZE.fullmatch(str(value).strip())
        if isinstance(value, (str, int, float)) and not isinstance(value, bool)
        else None
    )
    if not match or float(match[1]) <= 0:
        raise expected("a size such as 512M or 1.5G", value, at)
    return round(float(match[1]) * 1024.0 ** " kmgt".index(match[2].lower() or " "))


_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")


def duration(value: Any, at: At) -> float:
    """Accept a duration as Compose writes it (``10s``, ``1m30s``, ``500ms``) or a number of seconds; return seconds."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0:
        return float(value)
    match = _DURATION.fullmatch(value.strip()) if isinstance(value, str) and value.strip() else None
    if not match:
        raise expected("a duration such as 10s or 1m30s", value, at)
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def days(value: Any, at: At) -> int:
    """Accept a number of days such as ``90d``."""
    match = re.fullmatch(r"([1-9]\d{0,4})d", value) if isinstance(value, str) else None
    if not match:
        raise expected("a number of days such as 90d", value, at)
    return int(match[1])


def optional(check: Check) -> Check:
    """Accept what ``check`` accepts, or nothing."""
    return lambda value, at: None if value is None else check(value, at)


_PLAIN = re.compile(r"[A-Za-z0-9_./-]+")


def list_of(check: Check) -> Check:
    """Accept a list of what ``check`` accepts; return a tuple."""

    def check_list(value: Any, at: At) -> tuple[Any, ...]:
        if not isinstance(value, list):
            plain = isinstance(value, str) and bool(_PLAIN.fullmatch(value))
            raise expected("a list", value, at, f"write {at.path}: [{value}]" if plain else "")
        return tuple(check(item, at.item(index)) for index, item in enumerate(value))

    return check_list


def command(value: Any, at: At) -> tuple[str, ...]:
    """Accept a command as a list of arguments; one text would go through a shell, so it is refused."""
    if isinstance(value, str):
        raise at.error(f"expected a list of arguments, found text {value!r}", 'write [program, "argument", ...]')
    return tuple(list_of(scalar_text)(value, at))


def map_of(check: Check, *, keep_null: bool = False) -> Check:
    """Accept a mapping with free names whose values ``check`` accepts; return a dict.

    An empty value takes its key away, or with ``keep_null`` goes to ``check`` as None.
    """

    def check_map(value: Any, at: At) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise expected("a mapping", value, at)
        return {
            str(key): check(item, at.key(key))
            for key, item in value.items()
            if not str(key).startswith("x-") and (keep_null or item is not None)
        }

    return check_map


environment = map_of(optional(scalar_text), keep_null=True)


# What YAML 1.1, and so PyYAML, makes of these bare words where they are keys.
_TRUTH = {"True": "on", "False": "off"}


@dataclass(frozen=True)
class Record:
    """A mapping with known keys. Keys that are left out or empty are left out of the result."""

    keys: Mapping[str, Check]
    required: tuple[str, ...] = ()

    def __call__(self, value: Any, at: At) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise expected("a mapping", value, at)
        for key in value:
            if key not in self.keys and not str(key).startswith("x-"):
                raise unknown_key(_TRUTH.get(str(key), str(key)), self.keys, at)
        for key in self.required:
            if value.get(key) is None:
                raise at.error(f"{key!r} is missing", f"add {key}: ... at {at.path or at.top}")
        return {key: check(value[key], at.key(key)) for key, check in self.keys.items() if value.get(key) is not None}


class _UniqueKeyLoader(SafeLoader):
    """YAML that refuses a key written twice: PyYAML silently takes the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is written twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_yaml(content: str, source: str) -> Any:
    """Parse YAML text; ``source`` names the file in errors."""
    try:
        return yaml.load(content, Loader=_UniqueKeyLoader)  # noqa: S506 - it is a SafeLoader
    except yaml.YAMLError as error:
        raise not_yaml(error, source) from error


def not_yaml(error: yaml.YAMLError, source: str) -> BattenError:
    """Return the error for text that is not YAML, with the line where reading it ended."""
    mark = getattr(error, "problem_mark", None)
    where = f"{source}:{mark.line + 1}" if mark else source
    problem = getattr(error, "problem", None) or str(error)
    return BattenError(f"this is not valid YAML: {problem}", where, "correct that line, or the one above it")


def dump_yaml(value: Any) -> str:
    """Return a value as YAML text that :func:`load_yaml` reads back the same."""
    text: str = yaml.safe_dump(value, sort_keys=False, width=120, allow_unicode=True)
    return text


def read_yaml(path: Path) -> Any:
    """Read a YAML file; an absent or unreadable one is an error that names it."""
    try:
        return load_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise BattenError(
            f"cannot read the file: {reason}", str(path), "correct the path or the file's mode"
        ) from error


def merge(below: Any, above: Any, whole: Collection[str] = ()) -> Any:
    """Lay one YAML value over another: mappings merge key by key, anything else (null too) replaces what was there.

    The entries of mappings named in ``whole`` are replaced as they stand, not merged into.
    """
    if not isinstance(below, Mapping) or not isinstance(above, Mapping):
        return above
    merged = dict(below)
    for key, value in above.items():
        old = merged.get(key)
        if key in whole and isinstance(old, Mapping) and isinstance(value, Mapping):
            merged[key] = {**old, **value}
        else:
            merged[key] = merge(old, value, whole)
    return merged
