"""Settings out of the environment; a credential may be in a file, which is read anew whenever it is needed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


class SettingsError(ValueError):
    """What is wrong in the environment, and which variable to set."""


@dataclass(frozen=True)
class Settings:
    """How to listen and how to reach the database. `user` and `password` read their source at each call."""

    port: int
    version: str
    pool_size: int
    host: str
    database_port: int
    database: str
    sslmode: str
    user: Callable[[], str]
    password: Callable[[], str]

    def connection(self) -> dict[str, str | int | None]:
        """Keyword arguments of `psycopg.connect` for a new connection, with the credentials as they are now."""
        return {
            "host": self.host,
            "port": self.database_port,
            "dbname": self.database,
            "user": self.user(),
            "password": self.password(),
            "sslmode": self.sslmode,
            "connect_timeout": 3,
            "application_name": "sample-api",
            # PgBouncer in transaction mode may give the next statement another server connection.
            "prepare_threshold": None,
        }


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Settings out of DATABASE_* and API_* variables; SettingsError names the variable that is missing or wrong."""
    return Settings(
        port=_number(environment, "API_PORT", 8000),
        version=environment.get("API_VERSION", "development"),
        pool_size=_number(environment, "API_POOL_SIZE", 4),
        host=_needed(environment, "DATABASE_HOST"),
        database_port=_number(environment, "DATABASE_PORT", 5432),
        database=_needed(environment, "DATABASE_NAME"),
        sslmode=environment.get("DATABASE_SSLMODE", "prefer"),
        user=_credential(environment, "DATABASE_USER"),
        password=_credential(environment, "DATABASE_PASSWORD"),
    )


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
