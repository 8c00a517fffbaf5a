"""Tokens (HS256), hashes of passwords and client secrets, and AES-256-GCM for what is stored."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from failures import bad_token

MALFORMED = "The provided access token is malformed. Please use a valid token or generate a new one and try again."


def encrypt(key: bytes, plain: bytes) -> bytes:
    """Nonce, ciphertext and tag in one."""
    nonce = os.urandom(12)
    return nonce + AESGCM(key).encrypt(nonce, plain, None)


def decrypt(key: bytes, sealed: bytes) -> bytes:
    """ValueError, worded as Node words it, if this is not the key."""
    try:
        return AESGCM(key).decrypt(sealed[:12], sealed[12:], None)
    except InvalidTag:
        raise ValueError("Unsupported state or unable to authenticate data") from None


def hashed(secret: str) -> str:
    """A slow salted hash, about as slow as the real one's bcrypt (60 ms): logins cost what they cost."""
    salt = os.urandom(16)
    return f"{salt.hex()}:{_slow(secret, salt)}"


def matches(secret: str, stored: str) -> bool:
    salt, _, digest = stored.partition(":")
    return hmac.compare_digest(_slow(secret, bytes.fromhex(salt)), digest)


def sign(secret: bytes, claims: dict[str, Any], lives: float | None) -> str:
    """A JWT; without `exp` where it lives for ever (None)."""
    now = int(time.time())
    payload = claims | {"iat": now} | ({} if lives is None else {"exp": now + int(lives)})
    body = f"{_encoded({'alg': 'HS256', 'typ': 'JWT'})}.{_encoded(payload)}"
    return f"{body}.{_signature(secret, body)}"


def verify(secret: bytes, token: str) -> dict[str, Any]:
    """The claims of a token; 403 in the words of the jsonwebtoken package, as recorded."""
    if not token:
        raise bad_token("jwt must be provided")
    try:
        head, body, signature = token.split(".")
        _decoded(head)
        claims = _decoded(body)
    except ValueError:
        raise bad_token(MALFORMED) from None
    if not signature:
        raise bad_token("jwt signature is required")
    if not hmac.compare_digest(_signature(secret, f"{head}.{body}"), signature):
        raise bad_token("invalid signature")
    if claims.get("exp") is not None and claims["exp"] <= time.time():
        raise bad_token("Your token has expired. Please re-authenticate.")
    return claims


def _slow(secret: str, salt: bytes) -> str:
    return hashlib.scrypt(secret.encode(), salt=salt, n=2**14, r=8, p=1).hex()


def _signature(secret: bytes, body: str) -> str:
    return _base64url(hmac.new(secret, body.encode(), hashlib.sha256).digest())


def _encoded(value: dict[str, Any]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _decoded(text: str) -> dict[str, Any]:
    value = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    if not isinstance(value, dict):
        raise ValueError(text)
    return value


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
