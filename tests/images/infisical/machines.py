"""Identities of machines: universal auth, client secrets, tokens, lockout."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Any

import crypto
from access import NO_TOKEN, organization, token_row
from accounts import identity_token
from checks import boolean, choice, number, text
from database import Row
from failures import bad_request, denied, not_found, unauthorized
from web import ANYONE, Call, route

MONTH = 30 * 86400
ANY_ADDRESS = [{"type": "ipv4", "prefix": 0, "ipAddress": "0.0.0.0"}, {"type": "ipv6", "prefix": 0, "ipAddress": "::"}]
UNIVERSAL = "/api/v1/auth/universal-auth/identities/:identityId"
LOCKED = "This identity auth method is temporarily locked, please try again later"


@route("POST", "/api/v1/auth/universal-auth/login", ANYONE)
def login(call: Call) -> Any:
    wanted = call.fields(clientId=text(), clientSecret=text())
    auth = call.db.row('SELECT * FROM identity_universal_auths WHERE "clientId"::text = %s', wanted["clientId"])
    if not auth:
        if call.current:
            raise unauthorized("Invalid credentials")
        raise not_found("No identity with specified client ID was found")
    lock = Lockout(call, auth)
    lock.check()
    secret = _matching(call, auth, wanted["clientSecret"])
    if not secret:
        lock.failed()
        raise unauthorized("Invalid credentials")
    age = (datetime.now(UTC) - secret["createdAt"]).total_seconds()
    if secret["clientSecretTTL"] and age > secret["clientSecretTTL"]:
        _revoke(call, secret)
        raise unauthorized("Access denied due to expired client secret")
    if secret["clientSecretNumUsesLimit"] and secret["clientSecretNumUses"] >= secret["clientSecretNumUsesLimit"]:
        _revoke(call, secret)
        raise unauthorized("Access denied due to client secret usage limit reached")
    lock.clear()
    with call.db.transaction() as transaction:
        transaction.rows(
            'UPDATE identity_ua_client_secrets SET "clientSecretNumUses" = "clientSecretNumUses" + 1 WHERE id = %s',
            secret["id"],
        )
        token = transaction.one(
            'INSERT INTO identity_access_tokens ("identityId", ttl, "maxTTL", "numUsesLimit") VALUES (%s, %s, %s, %s)'
            " RETURNING *",
            auth["identityId"],
            auth["accessTokenTTL"],
            auth["accessTokenMaxTTL"],
            auth["accessTokenNumUsesLimit"],
        )
    return _granted(call, auth["identityId"], token, {"clientSecretId": str(secret["id"])})


@route("POST", "/api/v1/auth/token/renew", ANYONE)
def renew(call: Call) -> Any:
    claims = _claims(call)
    token = token_row(call, claims)
    age = (datetime.now(UTC) - token["createdAt"]).total_seconds()
    if call.current:
        if token["maxTTL"] and age >= token["maxTTL"]:
            raise unauthorized("Cannot renew: identity access token has reached its max TTL")
    elif token["maxTTL"] and age + token["ttl"] > token["maxTTL"]:
        # The refusal also deletes a token that is still good (recorded).
        call.db.rows("DELETE FROM identity_access_tokens WHERE id = %s", token["id"])
        raise unauthorized("Failed to renew MI access token past its Max TTL expiration")
    call.db.rows('UPDATE identity_access_tokens SET "lastRenewedAt" = now() WHERE id = %s', token["id"])
    return _granted(call, token["identityId"], token, {}, call.fields(accessToken=text())["accessToken"])


@route("POST", "/api/v1/auth/token/revoke", ANYONE)
def revoke_token(call: Call) -> Any:
    claims = _claims(call)
    gone = call.db.rows(
        "DELETE FROM identity_access_tokens WHERE id = %s RETURNING id", claims["identityAccessTokenId"]
    )
    if not gone:
        raise unauthorized(NO_TOKEN)
    return {"message": "Successfully revoked access token"}


@route("POST", "/api/v1/identities")
def create_identity(call: Call) -> Any:
    wanted = call.fields(
        name=text(least=1), organizationId=text(), role=text("no-access"), hasDeleteProtection=boolean(False)
    )
    organization(call, "create", "identity", wanted["organizationId"])
    if wanted["role"] not in ("admin", "member", "no-access"):
        raise bad_request("Failed to create identity with custom role due to plan restriction. Upgrade plan to use it.")
    if wanted["role"] == "admin" and call.actor.role != "admin":
        raise denied("create", "identity")
    row = call.db.one(
        'INSERT INTO identities ("orgId", name, role, "hasDeleteProtection") VALUES (%s, %s, %s, %s) RETURNING *',
        wanted["organizationId"],
        wanted["name"],
        wanted["role"],
        wanted["hasDeleteProtection"],
    )
    return {"identity": _identity(call, row)}


@route("GET", "/api/v1/identities", level="current")
def identities(call: Call) -> Any:
    asked = call.asked(orgId=text(), offset=text("0"), limit=text("20"))
    return _memberships(call, asked["orgId"], int(asked["offset"]), int(asked["limit"]), "identities")


@route("GET", "/api/v2/organizations/:organizationId/identity-memberships")
def organization_identities(call: Call) -> Any:
    asked = call.asked(offset=text("0"), limit=text("20"))
    wanted = call.params["organizationId"]
    return _memberships(call, wanted, int(asked["offset"]), int(asked["limit"]), "identityMemberships")


@route("GET", "/api/v1/identities/:identityId")
def identity(call: Call) -> Any:
    row = _known(call, "read")
    return {"identity": _membership(call, row)}


@route("PATCH", "/api/v1/identities/:identityId")
def change_identity(call: Call) -> Any:
    row = _known(call, "edit")
    wanted = call.fields(name=text(row["name"]), role=choice("admin", "member", "no-access", default=row["role"]))
    changed = call.db.one(
        'UPDATE identities SET name = %s, role = %s, "updatedAt" = now() WHERE id = %s RETURNING *',
        wanted["name"],
        wanted["role"],
        row["id"],
    )
    return {"identity": _identity(call, changed)}


@route("DELETE", "/api/v1/identities/:identityId")
def delete_identity(call: Call) -> Any:
    row = _known(call, "delete")
    if row["hasDeleteProtection"]:
        raise bad_request("Identity has delete protection")
    shown = _identity(call, row)
    call.db.rows("DELETE FROM identities WHERE id = %s", row["id"])
    return {"identity": shown}


@route("GET", "/api/v1/identities/:identityId/identity-memberships")
def identity_projects(call: Call) -> Any:
    row = _known(call, "read")
    found = call.db.rows(
        'SELECT m.*, p.name AS project FROM project_memberships m JOIN projects p ON p.id = m."projectId"'
        ' WHERE m."identityId" = %s ORDER BY m.id',
        row["id"],
    )
    shown = {"name": row["name"], "id": row["id"], "authMethod": _method(call, row["id"])}
    return {
        "identityMemberships": [
            {name: one[name] for name in ("id", "identityId", "createdAt", "updatedAt")}
            | {"roles": [roles(one)], "identity": shown, "project": {"name": one["project"], "id": one["projectId"]}}
            for one in found
        ]
    }


@route("POST", UNIVERSAL)
def attach(call: Call) -> Any:
    row = _known(call, "edit")
    wanted = call.fields(
        accessTokenTTL=number(MONTH),
        accessTokenMaxTTL=number(MONTH),
        accessTokenNumUsesLimit=number(0),
        accessTokenPeriod=number(0),
        lockoutEnabled=boolean(True),
        lockoutThreshold=number(3),
        lockoutDurationSeconds=number(300),
        lockoutCounterResetSeconds=number(30),
    )
    if _universal(call, row["id"]):
        raise bad_request("Failed to add universal auth to already configured identity")
    if wanted["accessTokenMaxTTL"] and wanted["accessTokenTTL"] > wanted["accessTokenMaxTTL"]:
        raise bad_request("Access token TTL cannot be greater than max TTL")
    names = ", ".join(f'"{name}"' for name in wanted)
    places = ", ".join(["%s"] * (len(wanted) + 1))
    statement = f'INSERT INTO identity_universal_auths ("identityId", {names}) VALUES ({places}) RETURNING *'
    return {"identityUniversalAuth": _auth(call, call.db.one(statement, row["id"], *wanted.values(), label="Create"))}


@route("GET", UNIVERSAL)
def attached(call: Call) -> Any:
    return {"identityUniversalAuth": _auth(call, _attached(call, "read"))}


@route("PATCH", UNIVERSAL)
def change_attached(call: Call) -> Any:
    auth = _attached(call, "edit")
    names = (
        "accessTokenTTL",
        "accessTokenMaxTTL",
        "accessTokenNumUsesLimit",
        "lockoutThreshold",
        "lockoutDurationSeconds",
    )
    wanted = call.fields(**{name: number(auth[name]) for name in names}, lockoutEnabled=boolean(auth["lockoutEnabled"]))
    changes = ", ".join(f'"{name}" = %s' for name in wanted)
    statement = f'UPDATE identity_universal_auths SET {changes}, "updatedAt" = now() WHERE id = %s RETURNING *'
    return {"identityUniversalAuth": _auth(call, call.db.one(statement, *wanted.values(), auth["id"]))}


@route("DELETE", UNIVERSAL)
def detach(call: Call) -> Any:
    auth = _attached(call, "delete")
    call.db.rows("DELETE FROM identity_universal_auths WHERE id = %s", auth["id"])
    return {"identityUniversalAuth": _auth(call, auth)}


@route("POST", f"{UNIVERSAL}/client-secrets")
def create_client_secret(call: Call) -> Any:
    auth = _attached(call, "create")
    wanted = call.fields(description=text(""), numUsesLimit=number(0), ttl=number(0))
    secret = secrets.token_hex(32)
    row = call.db.one(
        'INSERT INTO identity_ua_client_secrets (description, "clientSecretPrefix", "clientSecretHash",'
        ' "clientSecretNumUsesLimit", "clientSecretTTL", "identityUAId") VALUES (%s, %s, %s, %s, %s, %s) RETURNING *',
        wanted["description"],
        secret[:4],
        crypto.hashed(secret),
        wanted["numUsesLimit"],
        wanted["ttl"],
        auth["id"],
    )
    return {"clientSecret": secret, "clientSecretData": _client_secret(row)}


@route("GET", f"{UNIVERSAL}/client-secrets")
def client_secrets(call: Call) -> Any:
    auth = _attached(call, "read")
    found = call.db.rows(
        'SELECT * FROM identity_ua_client_secrets WHERE "identityUAId" = %s'
        ' AND NOT "isClientSecretRevoked" ORDER BY id',
        auth["id"],
    )
    return {"clientSecretData": [_client_secret(row) for row in found]}


@route("GET", f"{UNIVERSAL}/client-secrets/:secretId")
def client_secret(call: Call) -> Any:
    return {"clientSecretData": _client_secret(_secret(call, "read"))}


@route("POST", f"{UNIVERSAL}/client-secrets/:secretId/revoke")
def revoke_client_secret(call: Call) -> Any:
    row = _secret(call, "delete")
    _revoke(call, row)
    return {"clientSecretData": _client_secret(row | {"isClientSecretRevoked": True})}


@route("POST", "/api/v1/auth/token-auth/identities/:identityId")
def attach_token_auth(call: Call) -> Any:
    row = _known(call, "edit")
    call.db.rows("INSERT INTO identity_token_auths VALUES (%s) ON CONFLICT DO NOTHING", row["id"])
    return {"identityTokenAuth": {"identityId": row["id"], "accessTokenTTL": MONTH, "accessTokenMaxTTL": MONTH}}


@route("POST", "/api/v1/auth/token-auth/identities/:identityId/tokens")
def create_token(call: Call) -> Any:
    row = _known(call, "create")
    wanted = call.fields(name=text(""))
    if not call.db.row('SELECT * FROM identity_token_auths WHERE "identityId" = %s', row["id"]):
        raise bad_request("The identity does not have token auth")
    with call.db.transaction() as transaction:
        token = identity_token(call, transaction, row, wanted["name"])
    seconds = int(call.server.settings.token_age.total_seconds())
    return {"accessToken": token, "expiresIn": seconds, "accessTokenMaxTTL": seconds, "tokenType": "Bearer"}


class Lockout:
    """After three failures within 30 s, no login of this client for 300 s, not with the right secret either."""

    def __init__(self, call: Call, auth: Row) -> None:
        self._on = call.current and auth["lockoutEnabled"]
        self._cache = call.server.cache
        self._auth = auth
        self._key = f"lockout:identity:{auth['identityId']}:universal-auth:{auth['clientId']}"

    def check(self) -> None:
        # The key store is asked at every login, at both levels: without Redis nobody logs in (recorded).
        if self._cache.call(lambda redis: redis.get(f"{self._key}:locked")) and self._on:
            raise unauthorized(LOCKED)

    def failed(self) -> None:
        if not self._on:
            return

        def count(redis: Any) -> None:
            failures = redis.incr(f"{self._key}:failures")
            redis.expire(f"{self._key}:failures", self._auth["lockoutCounterResetSeconds"])
            if failures >= self._auth["lockoutThreshold"]:
                redis.set(f"{self._key}:locked", "1", ex=self._auth["lockoutDurationSeconds"])

        self._cache.call(count)

    def clear(self) -> None:
        if self._on:
            self._cache.call(lambda redis: redis.delete(f"{self._key}:failures"))


def roles(membership: Row) -> dict[str, Any]:
    """One role of a membership of a project."""
    return {
        "id": membership["roleId"],
        "role": membership["role"],
        "customRoleId": None,
        "customRoleName": None,
        "customRoleSlug": None,
        "isTemporary": False,
        "temporaryMode": None,
        "temporaryRange": None,
        "temporaryAccessStartTime": None,
        "temporaryAccessEndTime": None,
    }


def _matching(call: Call, auth: Row, secret: str) -> Row | None:
    found = call.db.rows(
        'SELECT * FROM identity_ua_client_secrets WHERE "identityUAId" = %s AND NOT "isClientSecretRevoked"'
        ' AND "clientSecretPrefix" = %s',
        auth["id"],
        secret[:4],
    )
    return next((row for row in found if crypto.matches(secret, row["clientSecretHash"])), None)


def _revoke(call: Call, secret: Row) -> None:
    call.db.rows(
        'UPDATE identity_ua_client_secrets SET "isClientSecretRevoked" = true, "updatedAt" = now() WHERE id = %s',
        secret["id"],
    )


def _claims(call: Call) -> dict[str, Any]:
    return crypto.verify(call.server.settings.auth_secret, call.fields(accessToken=text())["accessToken"])


def _granted(call: Call, identity_id: object, token: Row, more: dict[str, str], given: str = "") -> dict[str, Any]:
    """2024: the JWT lives as long as the longest renewal. Current: it ends with its TTL, and never lives for ever."""
    cap = call.server.settings.token_age.total_seconds()
    ttl, longest = token["ttl"], token["maxTTL"]
    if call.current:
        left = longest - (time.time() - token["createdAt"].timestamp()) if longest else cap
        lives: float | None = min(ttl or cap, left, cap)
    else:
        lives = longest or None
    if not given or call.current:
        claims = {
            "identityId": str(identity_id),
            **more,
            "identityAccessTokenId": str(token["id"]),
            "authTokenType": "identityAccessToken",
        }
        given = crypto.sign(call.server.settings.auth_secret, claims, lives)
    expires = int(lives or 0) if call.current else ttl
    return {"accessToken": given, "expiresIn": expires, "accessTokenMaxTTL": longest, "tokenType": "Bearer"}


def _known(call: Call, action: str) -> Row:
    wanted = call.params["identityId"]
    organization(call, action, "identity")
    row = call.db.row('SELECT * FROM identities WHERE id::text = %s AND "orgId" = %s', wanted, call.actor.organization)
    if not row:
        raise not_found(f"Identity with id {wanted} not found")
    return row


def _universal(call: Call, identity_id: object) -> Row | None:
    return call.db.row('SELECT * FROM identity_universal_auths WHERE "identityId" = %s', identity_id)


def _attached(call: Call, action: str) -> Row:
    auth = _universal(call, _known(call, action)["id"])
    if not auth:
        raise bad_request("The identity does not have universal auth")
    return auth


def _secret(call: Call, action: str) -> Row:
    auth = _attached(call, action)
    row = call.db.row(
        'SELECT * FROM identity_ua_client_secrets WHERE id::text = %s AND "identityUAId" = %s',
        call.params["secretId"],
        auth["id"],
    )
    if not row:
        raise not_found(f"Client secret with ID '{call.params['secretId']}' not found")
    return row


def _method(call: Call, identity_id: object) -> str | None:
    if _universal(call, identity_id):
        return "universal-auth"
    token = call.db.row('SELECT * FROM identity_token_auths WHERE "identityId" = %s', identity_id)
    return "token-auth" if token else None


def _identity(call: Call, row: Row) -> dict[str, Any]:
    shown = {name: row[name] for name in ("id", "name", "createdAt", "updatedAt")}
    method = _method(call, row["id"])
    if call.current:
        more = {"orgId": row["orgId"], "hasDeleteProtection": row["hasDeleteProtection"]}
        return shown | more | {"authMethods": [method] if method else [], "metadata": []}
    return shown | {"authMethod": method}


def _membership(call: Call, row: Row) -> dict[str, Any]:
    names = ("orgId", "createdAt", "updatedAt", "role")
    return {
        "id": row["id"],
        "identityId": row["id"],
        **{name: row[name] for name in names},
        "identity": _identity(call, row),
    }


def _memberships(call: Call, wanted: str, offset: int, limit: int, name: str) -> dict[str, Any]:
    organization(call, "read", "identity", wanted)
    rows = call.db.rows('SELECT * FROM identities WHERE "orgId"::text = %s ORDER BY name, id', wanted)
    return {name: [_membership(call, row) for row in rows[offset : offset + limit]], "totalCount": len(rows)}


def _auth(call: Call, row: Row) -> dict[str, Any]:
    lockout = [name for name in row if name.startswith("lockout")] + ["accessTokenPeriod"]
    shown = {name: value for name, value in row.items() if call.current or name not in lockout}
    return shown | {"clientSecretTrustedIps": ANY_ADDRESS, "accessTokenTrustedIps": ANY_ADDRESS}


def _client_secret(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "clientSecretHash"}
