"""Settings out of the environment. Where the database is, and as whom it is entered, may be in a file, which is read
anew whenever it is needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit


class SettingsError(ValueError):
    """What is wrong in the environment, and which variable to set."""


@dataclass(frozen=True)
class Settings:
    """How to listen and how to reach the database. `database` reads its sources at each call: host, port, dbname, user,
    password and what else libpq takes."""

    port: int
    version: str
    pool_size: int
    database: Callable[[], Mapping[str, str]]

    def connection(self) -> dict[str, str | int | None]:
        """Keyword arguments of `psycopg.connect` for a new connection, with the credentials as they are now."""
        return {
            **self.database(),
            "connect_timeout": 3,
            "application_name": "sample-api",
            # PgBouncer in transaction mode may give the next statement another server connection.
            "prepare_threshold": None,
        }


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Settings out of DATABASE_* and API_* variables; SettingsError names the variable that is missing or wrong.

    DATABASE_URL_FILE names a file with all of it, so that a user and its password change at one moment; without it,
    DATABASE_HOST and the others say it one by one.
    """
    return Settings(
        port=_number(environment, "API_PORT", 8000),
        version=environment.get("API_VERSION", "development"),
        pool_size=_number(environment, "API_POOL_SIZE", 4),
        database=_url(environment) or _parts(environment),
    )


def parse_url(url: str) -> dict[str, str]:
    """What a URL like postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=require says, by libpq's names."""
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("postgres", "postgresql") or not (parts.hostname and parts.username):
        # Not with the URL itself: it holds a password.
        raise SettingsError("DATABASE_URL is not postgresql://USER:PASSWORD@HOST:PORT/DATABASE")
    return {
        **dict(parse_qsl(parts.query)),
        "host": parts.hostname,
        "port": str(port),
        "dbname": unquote(parts.path.lstrip("/")) or unquote(parts.username),
        "user": unquote(parts.username),
        "password": unquote(parts.password or ""),
    }


def _url(environment: Mapping[str, str]) -> Callable[[], Mapping[str, str]] | None:
    if not (environment.get("DATABASE_URL") or environment.get("DATABASE_URL_FILE")):
        return None
    url = _credential(environment, "DATABASE_URL")
    try:
        parse_url(url())
    except OSError as error:
        raise SettingsError(f"DATABASE_URL_FILE cannot be read: {error.strerror}") from error
    return lambda: parse_url(url())


def _parts(environment: Mapping[str, str]) -> Callable[[], Mapping[str, str]]:
    place = {
        "host": _needed(environment, "DATABASE_HOST"),
        "port": str(_number(environment, "DATABASE_PORT", 5432)),
        "dbname": _needed(environment, "DATABASE_NAME"),
        "sslmode": environment.get("DATABASE_SSLMODE", "prefer"),
    }
    user, password = _credential(environment, "DATABASE_USER"), _credential(environment, "DATABASE_PASSWORD")
    return lambda: {**place, "user": user(), "password": password()}


def _credential(environment: Mapping[str, str], name: str) -> Callable[[], str]:
    plain, file = environment.get(name), environment.get(f"{name}_FILE")
    if plain and file:
        raise SettingsError(f"both {name} and {name}_FILE are set; keep one")
    if file:
        return lambda: Path(file).read_text().rstrip("\n")
    if not plain:
        raise SettingsError(f"set {name}_FILE to the path of a file, or {name} in development")
    return lambda: plain


def _needed(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise SettingsError(f"set {name}")
    return value


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    value = environment.get(name) or str(default)
    if not re.fullmatch(r"[1-9]\d{0,4}", value):
        raise SettingsError(f"{name} is {value!r}; set it to a whole number from 1 to 99999")
    return int(value)
