"""``.env`` files as Compose reads them, and which of their values look like credentials.

Syntax: https://docs.docker.com/compose/how-tos/environment-variables/variable-interpolation/#env-file-syntax, and where
that is silent, what its parser does (compose-go, dotenv/parser.go); tests compare with a real Compose. No error and no
description here holds a value.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from batten.errors import BattenError
from batten.plan.interpolate import interpolate
from batten.plan.schema import At

_KEY = re.compile(r"[ \t]*(?:export[ \t]+)?(?P<name>[A-Za-z0-9_.-]+)[ \t]*(?P<sign>[=:]?)[ \t]*")
_ESCAPE = re.compile(r'\\(?:[abcfnrtv$"\\]|0\d{0,3})')
_LONE_DOLLAR = re.compile(r"(?<!\$)((?:\$\$)*)\$(?![A-Za-z_{$])")  # compose-go takes it as it is
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", '"': '"', "\\": "\\"}


@dataclass(frozen=True)
class Entry:
    """One variable, its value with everything filled in, and the first and last line (from 1) that say so."""

    name: str
    value: str
    first: int
    last: int

    def __repr__(self) -> str:
        return f"Entry({self.name}, lines {self.first}-{self.last})"


def parse(text: str, source: str, environment: Mapping[str, str] | None = None) -> list[Entry]:
    """Return the variables of a ``.env`` file in order; a name without ``=`` takes its value from ``environment``.

    Raises BattenError, naming the line, for what Compose would refuse.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    known = dict(environment or {})
    found: list[Entry] = []
    place = 0
    while place < len(text):
        end = _line_end(text, place)
        line = text[place:end]
        if not line.strip() or line.lstrip().startswith("#"):
            place = end + 1
            continue
        first = text.count("\n", 0, place) + 1
        at = At(source, f"line {first}")
        key = _KEY.match(text, place, end)
        if key is None or (not key["sign"] and key.end() != end):
            raise at.error("this is no NAME=value", "write NAME=value, or # before a comment")
        if not key["sign"]:
            if key["name"] in known:
                found.append(Entry(key["name"], known[key["name"]], first, first))
            place = end + 1
            continue
        value, place = _value(text, key.end(), known, at)
        last = text.count("\n", 0, max(place - 1, 0)) + 1
        place = _line_end(text, place) + 1
        known[key["name"]] = value
        found.append(Entry(key["name"], value, first, last))
    return found


def _line_end(text: str, place: int) -> int:
    end = text.find("\n", place)
    return len(text) if end < 0 else end


def _value(text: str, place: int, known: Mapping[str, str], at: At) -> tuple[str, int]:
    """Return the value that begins at ``place``, and where it ends."""
    quote = text[place : place + 1]
    if quote not in ('"', "'") or not quote:
        end = _line_end(text, place)
        plain = text[place:end]
        return _filled(plain.partition(" #")[0], known, at).strip(), end
    characters: list[str] = []
    escaped = False
    for index in range(place + 1, len(text)):
        character = text[index]
        if character == quote and not escaped:
            rest = text[index + 1 : _line_end(text, index + 1)].strip()
            if rest and not rest.startswith("#"):
                raise at.error(
                    "something follows the closing quote", "escape a quote within the value with a backslash"
                )
            content = "".join(characters)
            return (_filled(_unescaped(content), known, at) if quote == '"' else content), index + 1
        if character == "\\" and not escaped:
            escaped = True
            continue
        if escaped and character != quote:
            characters.append("\\")
        escaped = False
        characters.append(character)
    raise at.error("a quote is not closed", f"end the value with {quote}")


def _unescaped(content: str) -> str:
    def replace(match: re.Match[str]) -> str:
        sequence = match[0][1:]
        if sequence == "$":
            return "$$"  # which interpolation reads as a dollar sign
        if sequence.startswith("0"):
            return chr(int(sequence, 8))
        return _ESCAPED.get(sequence, match[0])

    return _ESCAPE.sub(replace, content)


def _filled(content: str, known: Mapping[str, str], at: At) -> str:
    try:
        return interpolate(_LONE_DOLLAR.sub(r"\1$$", content), known, at)
    except BattenError:  # it quotes the text, which may be a password
        fix = "put a value with a dollar sign between single quotes, or write $$"
        raise at.error("a $ that is no variable", fix) from None


# What people call credentials, as whole words of a name. Public ones, and names of files, are none.
_WORDS = {
    *("PASSWORD", "PASSWD", "PASS", "PASSPHRASE", "PWD", "SECRET", "SECRETS", "TOKEN", "APIKEY", "KEY"),
    *("CREDENTIAL", "CREDENTIALS", "DSN", "SALT", "PEPPER", "JWT"),
}
_HARMLESS = {
    *("PUBLIC", "PUBLISHABLE", "FILE", "PATH", "DIR", "ID", "URL", "HOST", "TTL", "NAME", "LENGTH"),
    *("EXPIRY", "EXPIRES", "ALGORITHM"),
}
_PUBLIC = {"GPG_KEY"}  # the fingerprint that the python images carry
_TRIVIAL = re.compile(r"(?i)(true|false|yes|no|on|off|none|null|\d{1,9}[a-z]{0,2})")
_PREFIXES = (
    *("sk_live_", "sk_test_", "rk_live_", "whsec_", "sk-", "ghp_", "gho_", "ghs_", "github_pat_", "glpat-"),
    *("xoxb-", "xoxp-", "AKIA", "ASIA", "SG.", "AGE-SECRET-KEY-", "dop_v1_", "npm_", "pypi-", "st."),
)
_OPAQUE = re.compile(r"[A-Za-z0-9+/_=-]{20,}")
_LEAST_ENTROPY = 3.6  # bits a character; English words without blanks have less, random hex has just below 4


def url_password(value: str) -> str | None:
    """Return the password inside a connection URL, decoded; None where there is none."""
    try:
        parts = urlsplit(value)
        return unquote(parts.password) if parts.scheme and parts.password else None
    except ValueError:
        return None


def names_credential(name: str) -> bool:
    """True for the name of a variable, or of a label, that usually holds a credential, and not the path of one."""
    words = _words(name)
    if name.upper() in _PUBLIC or not words:
        return False
    if _WORDS & set(words) and not _HARMLESS & set(words):
        return True
    return words[-1].endswith(("PASSWORD", "SECRET", "TOKEN", "APIKEY"))


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[_.-]", name.upper()) if word]


def suspicion(entry: Entry) -> str | None:
    """Say why a variable looks like a credential, in words without its value; None if it does not."""
    value = entry.value
    if not value or _TRIVIAL.fullmatch(value):
        return None
    if url_password(value):
        return "a URL with a password"
    if "PRIVATE KEY-----" in value:
        return "a private key"
    if value.startswith(_PREFIXES) and len(value) >= 16:
        return "a token by its prefix"
    if names_credential(entry.name):
        return "its name"
    if (
        _OPAQUE.fullmatch(value)
        and _entropy(value) >= _LEAST_ENTROPY
        and re.search(r"\d", value)
        and "PUBLIC" not in _words(entry.name)
    ):
        return "it looks random"
    return None


def _entropy(value: str) -> float:
    """Return Shannon's entropy of the characters, in bits a character."""
    return -sum(count / len(value) * math.log2(count / len(value)) for count in Counter(value).values())


@dataclass(frozen=True)
class Found:
    """A credential in the file: the secret that it becomes, whether that is declared, and why it is one."""

    entry: Entry
    secret: str
    value: str
    declared: bool
    why: str

    def __repr__(self) -> str:
        return f"Found({self.entry!r}, {self.secret})"


def assign(
    entries: list[Entry], rules: Mapping[str, object], deliveries: Mapping[str, Mapping[str, Mapping[str, str]]]
) -> list[Found]:
    """Return what of ``entries`` is a credential and which secret it belongs to.

    ``rules`` are the declared secrets, ``deliveries`` the files of each service, as ``{"secret"}`` or ``{"template"}``.
    A variable is a declared secret's by its name, or because a template gives that variable the secret.
    """
    named = {_plain(name): name for name in rules}
    through = dict(_templated(deliveries))
    found = []
    for entry in {entry.name: entry for entry in entries}.values():  # of a name that comes twice, the last counts
        why = suspicion(entry)
        secret = named.get(_plain(entry.name)) or through.get(entry.name)
        if why is None and secret is None:
            continue
        inside = url_password(entry.value)
        value = inside if inside is not None else entry.value
        if not value:
            continue
        fallback = _plain(entry.name) + ("_password" if inside is not None else "")
        found.append(Found(entry, secret or fallback, value, secret is not None, why or "it is declared"))
    return found


def _templated(deliveries: Mapping[str, Mapping[str, Mapping[str, str]]]) -> Iterator[tuple[str, str]]:
    """Yield ``(variable, secret)`` for each line ``VARIABLE=...${secret}...`` of a template with one secret in it."""
    for files in deliveries.values():
        for delivery in files.values():
            for line in delivery.get("template", "").splitlines():
                name, sign, rest = line.partition("=")
                secrets = {each.partition(".")[0] for each in re.findall(r"(?<!\$)\$\{([A-Za-z0-9_.-]+)", rest)}
                if sign and len(secrets) == 1:
                    yield name.strip().removeprefix("export "), next(iter(secrets))


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


def disagreement(found: list[Found]) -> BattenError | None:
    """Return the error for two variables that give one secret different values."""
    first: dict[str, Found] = {}
    for each in found:
        other = first.setdefault(each.secret, each)
        if other.value != each.value:
            what = f"{other.entry.name} and {each.entry.name} are both secret {each.secret}, with different values"
            return BattenError(what, f"line {each.entry.first}", "take the one that is not in use out of the file")
    return None
