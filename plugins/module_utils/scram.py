"""PostgreSQL's SCRAM-SHA-256 verifiers, so that a password never travels in SQL.

A verifier is ``SCRAM-SHA-256$ITERATIONS:SALT$STORED_KEY:SERVER_KEY`` with base64 fields, where
StoredKey = H(HMAC(SaltedPassword, "Client Key")), ServerKey = HMAC(SaltedPassword, "Server Key") and SaltedPassword is
PBKDF2-HMAC-SHA-256 (RFC 5802 section 3, RFC 7677; PostgreSQL's ``src/common/scram-common.c``, scram_build_secret).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re

ITERATIONS = 4096  # RFC 7677 section 4 and PostgreSQL's default scram_iterations
SALT_BYTES = 16  # SCRAM_DEFAULT_SALT_LEN
_VERIFIER = re.compile(r"SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+\Z")


def verifier(password: str, salt: bytes | None = None, iterations: int = ITERATIONS) -> str:
    """Return the verifier of ``password``; ``salt`` is random unless given.

    Raises ValueError for a password that is not printable ASCII: SASLprep, which PostgreSQL applies to others, leaves
    ASCII alone (RFC 4013), and batten makes no others.
    """
    if not password or not all(" " <= character <= "~" for character in password):
        raise ValueError("a database password must be printable ASCII and not empty")
    salt = os.urandom(SALT_BYTES) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.new(salted, b"Client Key", hashlib.sha256).digest()).digest()
    server = hmac.new(salted, b"Server Key", hashlib.sha256).digest()
    return f"SCRAM-SHA-256${iterations}:{_text(salt)}${_text(stored)}:{_text(server)}"


def matches(existing: str | None, password: str) -> bool:
    """Return whether ``existing``, as ``pg_authid.rolpassword`` has it, is a verifier of ``password``."""
    found = _VERIFIER.match(existing or "")
    if not found:
        return False
    again = verifier(password, base64.b64decode(found.group(2)), int(found.group(1)))
    return hmac.compare_digest(again, existing or "")


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
