"""Who asks, by the bearer token, and what they may do."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import crypto
from database import Row
from failures import bad_token, broken, denied, forbidden, not_found, unauthorized
from web import Actor, Call, Route

NO_TOKEN = "No identity access token found"
MAY = {
    "admin": {"read", "create", "edit", "delete", "manage"},
    "member": {"read", "create", "edit", "delete"},
    "viewer": {"read"},
    "no-access": set[str](),
}
"""What the built-in roles of a project may do."""


def identify(call: Call) -> Actor | None:
    """The bearer of a token. It is checked on every route but those of a login, also on public ones (recorded)."""
    if call.path.startswith("/api/v3/auth/login"):
        return None
    if "x-api-key" in call.headers:
        raise broken("Find by id")
    header = call.headers.get("authorization")
    if header is None:
        return None
    token = header[7:]  # whatever the seven characters are (recorded)
    if token.startswith("st."):
        raise not_found(f"Service token with ID '{token.split('.')[1]}' not found")
    claims = crypto.verify(call.server.settings.auth_secret, token)
    # Nobody is known without the key store: with Redis away every call with a token fails (recorded).
    call.server.cache.call(lambda redis: redis.get(f"token-status:{token[-16:]}"))
    if claims.get("authTokenType") == "accessToken":
        return _user(call, claims)
    if claims.get("authTokenType") == "identityAccessToken":
        return _identity(call, claims)
    raise bad_token(crypto.MALFORMED)


def guard(call: Call, route: Route) -> None:
    """401 without a token where one is needed, 403 for the wrong kind of bearer."""
    if not route.allowed:
        return
    if call.someone is None:
        raise unauthorized("Token missing")
    if call.someone.kind not in route.allowed:
        raise forbidden(f"Forbidden access to {call.path.partition('?')[0]}")


def token_row(call: Call, claims: dict[str, Any]) -> Row:
    """The access token that the claims name; 401 if it was revoked, or is used up or past its time (2024)."""
    found = call.db.row(
        "SELECT * FROM identity_access_tokens WHERE id = %s",
        claims["identityAccessTokenId"],
        label="IdAccessTokenFindOne",
    )
    if not found:
        raise unauthorized(NO_TOKEN)
    if found["numUsesLimit"] and found["numUses"] >= found["numUsesLimit"]:
        _drop(call, found)
        raise unauthorized("Unable to renew because access token number of uses limit reached")
    since = found["lastRenewedAt"] or found["createdAt"]
    if not call.current and found["ttl"] and (datetime.now(UTC) - since).total_seconds() > found["ttl"]:
        _drop(call, found)
        raise unauthorized("Failed to renew MI access token due to TTL expiration")
    return found


def _drop(call: Call, token: Row) -> None:
    call.db.rows("DELETE FROM identity_access_tokens WHERE id = %s", token["id"])


def _user(call: Call, claims: dict[str, Any]) -> Actor:
    user = call.db.row("SELECT * FROM users WHERE id = %s", claims["userId"])
    if not user:
        raise unauthorized("User not found")
    return Actor("user", str(user["id"]), claims.get("organizationId"), "admin", user["superAdmin"])


def _identity(call: Call, claims: dict[str, Any]) -> Actor:
    settings = call.server.settings
    if call.current and "exp" not in claims and time.time() > settings.legacy_tokens_end.timestamp():
        # v0.160 until Infisical's pull request 7716: the bootstrap token is signed without an end.
        raise unauthorized("Identity access token exceeded max age, please re-authenticate")
    token = token_row(call, claims)
    if token["numUsesLimit"]:
        call.db.rows('UPDATE identity_access_tokens SET "numUses" = "numUses" + 1 WHERE id = %s', token["id"])
    found = call.db.one("SELECT * FROM identities WHERE id = %s", token["identityId"])
    return Actor("identity", str(found["id"]), str(found["orgId"]), found["role"], found["instanceAdmin"])


def organization(call: Call, action: str, subject: str, wanted: object = None) -> str:
    """The asker's organisation, if they may do this in it; `wanted` is the one that the request names."""
    actor = call.actor
    if actor.organization is None:
        raise unauthorized("Organization scope required")
    if wanted is not None and str(wanted) != actor.organization:
        raise forbidden(
            "User not part of organization" if actor.kind == "user" else "Identity not part of organization"
        )
    if actor.role not in ("admin", "member"):
        raise denied(action, subject)
    return actor.organization


def super_admin(call: Call) -> None:
    if not call.actor.instance_admin:
        raise forbidden("Requires elevated super admin privileges")


def project(call: Call, wanted: str, action: str = "read", subject: str = "secrets") -> Row:
    """A project by id, if the asker may do this in it."""
    found = call.db.row("SELECT * FROM projects WHERE id = %s", wanted) if _is_uuid(wanted) else None
    if not found:
        if call.current:
            raise not_found(f"Project with ID '{wanted}' not found")
        again = "Are you sure you are using the correct project ID?"
        raise not_found(f"Project with ID '{wanted}' not found during bot lookup. {again}")
    return member(call, found, action, subject)


def member(call: Call, found: Row, action: str, subject: str) -> Row:
    """The project, if the asker is a member of it with a role that allows this."""
    actor = call.actor
    membership = call.db.row(
        f'SELECT * FROM project_memberships WHERE "projectId" = %s AND {actor.column} = %s', found["id"], actor.id
    )
    if not membership:
        kind = actor.kind.capitalize()
        raise forbidden(f"{kind} is not a member of the specified project with ID '{found['id']}'")
    if action not in MAY.get(membership["role"], set()):
        raise denied("edit" if action == "manage" else action, subject)
    return found


def by_slug(call: Call, slug: str, label: str, action: str = "read") -> Row:
    """A project by its slug; an unknown one is a 500 in 2024 (recorded)."""
    found = call.db.row("SELECT * FROM projects WHERE slug = %s", slug)
    if not found:
        raise not_found(f"Project with slug '{slug}' not found") if call.current else broken(label)
    return member(call, found, action, "secrets")


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
