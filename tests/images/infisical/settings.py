"""The environment, in the formats that Infisical checks at its start (backend/src/lib/config/env.ts)."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote


class SettingsError(Exception):
    """What is wrong, as lines that the server prints before it exits with 1."""


@dataclass(frozen=True)
class Settings:
    """What the server was told. `current` is the level of v0.165, otherwise it is that of October 2024."""

    current: bool
    host: str
    port: int
    database: str
    pool: int
    redis: str
    key: bytes
    auth_secret: bytes
    log_level: str
    request_seconds: float
    token_age: timedelta
    legacy_tokens_end: datetime
    bootstrap_token_dead: bool


def read(environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings, or SettingsError that names every variable that is wrong."""
    issues = []
    if not environment.get("AUTH_SECRET") and not environment.get("JWT_AUTH_SECRET"):
        issues.append(("AUTH_SECRET", "Required"))
    database = environment.get("DB_CONNECTION_URI") or _from_parts(environment)
    if not database:
        issues.append(("DB_CONNECTION_URI", "Required"))
    redis = environment.get("REDIS_URL", "")
    if not redis:
        issues.append(("REDIS_URL", "Either REDIS_URL, REDIS_SENTINEL_HOSTS or REDIS_CLUSTER_HOSTS must be defined."))
    if not environment.get("ENCRYPTION_KEY") and not environment.get("ROOT_ENCRYPTION_KEY"):
        issues.append(("ENCRYPTION_KEY", "Either ENCRYPTION_KEY or ROOT_ENCRYPTION_KEY must be defined."))
    if issues:
        lines = [f"  {name}: {what}" for name, what in issues]
        raise SettingsError("\n".join(["Invalid environment variables. Check the error below", *lines]))
    age = environment.get("MAX_MACHINE_IDENTITY_TOKEN_AGE", "90d")
    ends = environment.get("LEGACY_IDENTITY_ACCESS_TOKEN_EXPIRATION_ENFORCED_AT", "2026-05-04T00:00:00Z")
    return Settings(
        current=environment.get("STANDIN_LEVEL", "current") != "2024",
        host=environment.get("HOST", "0.0.0.0"),
        port=int(environment.get("PORT", "8080")),
        database=database,
        pool=int(environment.get("DB_POOL_MAX", "10")),
        redis=redis,
        key=_key(environment),
        auth_secret=(environment.get("AUTH_SECRET") or environment["JWT_AUTH_SECRET"]).encode(),
        log_level=environment.get("PINO_LOG_LEVEL", "info"),
        # The real one's is fixed; tests of what hangs need not wait that long.
        request_seconds=float(environment.get("STANDIN_REQUEST_SECONDS", "30")),
        token_age=_duration(age),
        legacy_tokens_end=_moment(ends) + _duration(age),
        bootstrap_token_dead=environment.get("STANDIN_BOOTSTRAP_TOKEN_DEAD", "") not in ("", "0", "false"),
    )


def _key(environment: Mapping[str, str]) -> bytes:
    """The 32 ASCII characters of ENCRYPTION_KEY are the AES-256 key; ROOT_ENCRYPTION_KEY is base64 of 32 bytes.

    A wrong length surfaces in a migration of the real one, as Node's RangeError.
    """
    if text := environment.get("ENCRYPTION_KEY"):
        key = text.encode()
    else:
        try:
            key = base64.b64decode(environment["ROOT_ENCRYPTION_KEY"], validate=True)
        except binascii.Error:
            key = b""
    if len(key) != 32:
        raise SettingsError("Boot up migration failed\nRangeError: Invalid key length")
    return key


def _from_parts(environment: Mapping[str, str]) -> str:
    names = ("DB_HOST", "DB_USER", "DB_PASSWORD", "DB_NAME")
    if not all(environment.get(name) for name in names):
        return ""
    host, user, password, name = (environment[name] for name in names)
    return f"postgresql://{quote(user, '')}:{quote(password, '')}@{host}:{environment.get('DB_PORT', '5432')}/{name}"


def _duration(text: str) -> timedelta:
    units = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
    return timedelta(**{units[text[-1]]: int(text[:-1])}) if text[-1:] in units else timedelta(seconds=int(text))


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
