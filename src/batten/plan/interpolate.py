"""Compose's variable interpolation (compose-spec, "Interpolation"), for values that planning needs to read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batten.plan.schema import At

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?[-?+]")


def interpolate(text: str, environment: Mapping[str, str], at: At) -> str:
    """Return ``text`` with its variables filled in; ``$$`` is a dollar sign, an unset variable is empty.

    Raises BattenError where ``${NAME:?message}`` finds nothing, and for a ``$`` that is no variable.
    """
    result, rest = [], text
    while True:
        before, dollar, rest = rest.partition("$")
        result.append(before)
        if not dollar:
            return "".join(result)
        if rest.startswith("$"):
            result.append("$")
            rest = rest[1:]
        elif rest.startswith("{"):
            inner, rest = _braces(rest, text, at)
            result.append(_expression(inner, environment, at))
        elif name := _NAME.match(rest):
            result.append(environment.get(name[0], ""))
            rest = rest[name.end() :]
        else:
            raise at.error(f"a lone $ in {text!r}", "write $$ for a dollar sign")


def interpolate_all(value: Any, environment: Mapping[str, str], at: At) -> Any:
    """Interpolate every text value of nested mappings and lists; keys stay, as in Compose."""
    if isinstance(value, str):
        return interpolate(value, environment, at)
    if isinstance(value, Mapping):
        return {key: interpolate_all(item, environment, at.key(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolate_all(item, environment, at.item(index)) for index, item in enumerate(value)]
    return value


def _braces(rest: str, text: str, at: At) -> tuple[str, str]:
    """Split what starts with ``{`` at its matching brace: defaults nest."""
    depth = 0
    for index, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[1:index], rest[index + 1 :]
    raise at.error(f"a brace is not closed in {text!r}", "write ${NAME}")


def _expression(inner: str, environment: Mapping[str, str], at: At) -> str:
    name = _NAME.match(inner)
    operator = _OPERATOR.match(inner, name.end()) if name else None
    if not name or (operator is None and name.end() != len(inner)):
        raise at.error(f"${{{inner}}} is not a variable", "write ${NAME}, ${NAME:-default} or ${NAME:?message}")
    value = environment.get(name[0])
    if operator is None:
        return value or ""
    word = inner[operator.end() :]
    present = bool(value) if operator[0].startswith(":") else value is not None
    if operator[0].endswith("+"):
        return interpolate(word, environment, at) if present else ""
    if present:
        return value or ""
    if operator[0].endswith("?"):
        raise at.error(f"the variable {name[0]} is not set: {word}", f"set {name[0]} in stack_environment")
    return interpolate(word, environment, at)
