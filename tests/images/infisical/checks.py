"""What zod checks of a body or a query, and the issues it lists. Unknown fields are ignored, as there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from failures import ApiError

MISSING = object()
Issue = dict[str, Any]
BLANK = "\t\n\v\f\r \u00a0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200B)))
"""What JavaScript's trim() takes away (ECMA-262, WhiteSpace and LineTerminator)."""


@dataclass(frozen=True)
class Field:
    """One field: `kind` as zod names it, a default where it may be missing, and what else it must be."""

    kind: str
    default: Any = MISSING
    choices: tuple[str, ...] = ()
    items: Mapping[str, Field] | None = None
    least: int = 0
    clean: Callable[[Any], Any] = lambda value: value


def trim(words: str) -> str:
    return words.strip(BLANK)


def text(default: Any = MISSING, least: int = 0) -> Field:
    """A string whose ends are trimmed."""
    return Field("string", default, least=least, clean=trim)


def path() -> Field:
    """A folder's path: `/` where it is missing, and no slash at its end."""
    return Field("string", "/", clean=lambda value: trim(value).rstrip("/") or "/")


def value(default: Any = MISSING) -> Field:
    """A secret's value: trimmed, but one newline at the end stays (recorded)."""
    return Field("string", default, clean=lambda value: trim(value) + ("\n" if value.endswith("\n") else ""))


def number(default: Any = MISSING) -> Field:
    return Field("number", default)


def boolean(default: Any = MISSING) -> Field:
    return Field("boolean", default)


def flag(default: bool) -> Field:
    """A boolean in a query: "true" or "false" and no other word."""
    return Field("string", default, ("true", "false"), clean=lambda value: value == "true")


def choice(*choices: str, default: Any = MISSING) -> Field:
    return Field("string", default, choices)


def array(items: Mapping[str, Field], least: int = 0, default: Any = MISSING) -> Field:
    return Field("array", default, items=items, least=least)


def check(fields: Mapping[str, Field], given: Any, current: bool) -> dict[str, Any]:
    """The fields of an object, cleaned and with defaults; 401 (422 at the current level) with every issue otherwise."""
    issues: list[Issue] = []
    found = _object(fields, given, [], issues)
    if issues:
        raise ApiError(422 if current else 401, "ValidationFailure", issues)
    return found


def _object(fields: Mapping[str, Field], given: Any, where: list[Any], issues: list[Issue]) -> dict[str, Any]:
    if not isinstance(given, dict):
        issues.append(_wrong_type("object", given, where))
        return {}
    return {name: _field(field, given.get(name, MISSING), [*where, name], issues) for name, field in fields.items()}


def _field(field: Field, given: Any, where: list[Any], issues: list[Issue]) -> Any:
    if given is MISSING and field.default is not MISSING:
        return field.default
    if _kind(given) != field.kind:
        issues.append(_wrong_type(field.kind, given, where))
    elif field.choices and given not in field.choices:
        wanted = " | ".join(f"'{choice}'" for choice in field.choices)
        said = f"Invalid enum value. Expected {wanted}, received '{given}'"
        enum: Issue = {"received": given, "code": "invalid_enum_value", "options": list(field.choices)}
        issues.append(enum | {"path": where, "message": said})
    elif field.least and len(given) < field.least:
        unit = "element(s)" if field.kind == "array" else "character(s)"
        said = f"{field.kind.capitalize()} must contain at least {field.least} {unit}"
        issue: Issue = {"code": "too_small", "minimum": field.least, "type": field.kind, "inclusive": True}
        issues.append(issue | {"exact": False, "message": said, "path": where})
    elif field.items is not None:
        return [_object(field.items, item, [*where, place], issues) for place, item in enumerate(given)]
    else:
        return field.clean(given)
    return None


def _wrong_type(expected: str, given: Any, where: list[Any]) -> Issue:
    received = _kind(given)
    said = "Required" if received == "undefined" and where else f"Expected {expected}, received {received}"
    return {"code": "invalid_type", "expected": expected, "received": received, "path": where, "message": said}


def _kind(given: Any) -> str:
    if given is MISSING:
        return "undefined"
    if given is None:
        return "null"
    names = {bool: "boolean", str: "string", int: "number", float: "number", list: "array", dict: "object"}
    return names[type(given)]
