"""The instance, its administrator and organisations: /api/status, admin, login of users, select-organization."""

from __future__ import annotations

import json
import re
import secrets
from datetime import UTC, datetime
from typing import Any

import crypto
from access import super_admin
from checks import boolean, text
from database import Row, Transaction
from failures import bad_request, forbidden, not_found, unauthorized
from web import ANYONE, USERS, Call, _plain, route

USER_TOKEN_SECONDS = 10 * 86400
CONFIG_SECONDS = 60
CONFIG = (
    "id", "initialized", "allowSignUp", "allowedSignUpDomain", "instanceId", "trustSamlEmails", "trustLdapEmails",
    "trustOidcEmails", "defaultAuthOrgId", "enabledLoginMethods",
)  # fmt: skip


@route("GET", "/api/status", ANYONE, limit="none")
def status(call: Call) -> Any:
    """No probe of what is behind it: the configuration comes from Redis, for up to 60 s after PostgreSQL is gone."""
    config = _config(call)
    for moment in ("before", "after"):
        call.server.log.say("info", f"Event loop utilization {moment} the health check (stand-in)")
    found = {
        "date": datetime.now(UTC),
        "message": "Ok",
        "emailConfigured": False,
        "inviteOnlySignup": bool(config["allowSignUp"]),  # as in the real one, the other way round than it is named
        "redisConfigured": True,
        "secretScanningConfigured": False,
    }
    return found | ({"auditLogStorageDisabled": False} if call.current else {})


@route("GET", "/api/v1/admin/config", ANYONE)
def config(call: Call) -> Any:
    return {"config": _shown(call, _config(call))}


@route("PATCH", "/api/v1/admin/config")
def change_config(call: Call) -> Any:
    super_admin(call)
    wanted = call.fields(allowSignUp=boolean(None), onboardingCompleted=boolean(None), allowedSignUpDomain=text(None))
    for name, value in wanted.items():
        if value is not None:
            call.db.rows(f'UPDATE super_admin SET "{name}" = %s', value)
    call.server.cache.call(lambda redis: redis.delete("infisical-admin-cfg"))
    return {"config": _shown(call, _config(call))}


@route("POST", "/api/v1/admin/bootstrap", ANYONE, level="current")
def bootstrap(call: Call) -> Any:
    wanted = call.fields(email=text(least=1), password=text(least=1), organization=text(least=1))
    with call.db.transaction("Create") as transaction:
        # Locked: of two that bootstrap at once, one is too late.
        if transaction.one("SELECT initialized FROM super_admin FOR UPDATE")["initialized"]:
            raise bad_request("Instance has already been set up")
        user, organization = _set_up(transaction, wanted, "Admin", "User", wanted["organization"])
        transaction.rows('UPDATE super_admin SET "allowSignUp" = false')
        identity = transaction.one(
            'INSERT INTO identities ("orgId", name, role, "instanceAdmin") '
            "VALUES (%s, 'Instance Admin Identity', 'admin', true) RETURNING *",
            organization["id"],
        )
        transaction.rows("INSERT INTO identity_token_auths VALUES (%s)", identity["id"])
        token = identity_token(call, transaction, identity, "Instance Admin Token", bootstrap=True)
    call.server.cache.call(lambda redis: redis.delete("infisical-admin-cfg"))
    return {
        "message": "Successfully bootstrapped instance",
        "user": {
            "username": user["email"],
            "firstName": "Admin",
            "lastName": "User",
            "email": user["email"],
            "id": user["id"],
            "superAdmin": True,
        },
        "organization": {name: organization[name] for name in ("id", "name", "slug")},
        "identity": {"id": identity["id"], "name": identity["name"], "credentials": {"token": token}},
    }


@route("POST", "/api/v1/admin/signup", ANYONE)
def signup(call: Call) -> Any:
    """The first user. In 2024 with what a browser computes for SRP, none of which is looked at here."""
    material = (
        "protectedKey", "protectedKeyIV", "protectedKeyTag", "publicKey", "encryptedPrivateKey",
        "encryptedPrivateKeyIV", "encryptedPrivateKeyTag", "salt", "verifier",
    )  # fmt: skip
    srp = {} if call.current else {name: text() for name in material}
    wanted = call.fields(email=text(), password=text(), firstName=text(), lastName=text(None), **srp)
    with call.db.transaction("Create") as transaction:
        if transaction.one("SELECT initialized FROM super_admin FOR UPDATE")["initialized"]:
            raise bad_request("Admin account has already been set up")
        name = "Admin Org" if call.current else f"{wanted['firstName']} Org"
        user, organization = _set_up(transaction, wanted, wanted["firstName"], wanted["lastName"], name)
    call.server.cache.call(lambda redis: redis.delete("infisical-admin-cfg"))
    token = _user_token(call, user, None)
    answer = {
        "message": "Successfully set up admin account",
        "user": _user(user),
        "organization": _organization(organization),
    }
    return answer | {"token": token, "new": "123"}


@route("POST", "/api/v3/auth/login", ANYONE, level="current")
def login(call: Call) -> Any:
    wanted = call.fields(email=text(), password=text())
    user = call.db.row("SELECT * FROM users WHERE email = %s", wanted["email"].lower())
    if not user or not crypto.matches(wanted["password"], user["password"]):
        raise unauthorized("Invalid credentials")
    return {"accessToken": _user_token(call, user, None)}


@route("POST", "/api/v3/auth/select-organization", USERS)
def select_organization(call: Call) -> Any:
    wanted = call.fields(organizationId=text())
    membership = call.db.row(
        'SELECT * FROM org_memberships WHERE "orgId"::text = %s AND "userId" = %s',
        wanted["organizationId"],
        call.actor.id,
    )
    if not membership:
        raise forbidden("User not a member of the organization")
    user = call.db.one("SELECT * FROM users WHERE id = %s", call.actor.id)
    return {"token": _user_token(call, user, wanted["organizationId"]), "isMfaEnabled": False}


@route("GET", "/api/v1/organization", USERS)
def organizations(call: Call) -> Any:
    found = call.db.rows(
        'SELECT o.* FROM organizations o JOIN org_memberships m ON m."orgId" = o.id WHERE m."userId" = %s',
        call.actor.id,
    )
    return {"organizations": [_organization(one) | {"orgAuthMethod": ""} for one in found]}


@route("GET", "/api/v1/organization/:organizationId", USERS)
def organization(call: Call) -> Any:
    found = call.db.row(
        'SELECT o.* FROM organizations o JOIN org_memberships m ON m."orgId" = o.id'
        ' WHERE m."userId" = %s AND o.id::text = %s',
        call.actor.id,
        call.params["organizationId"],
    )
    if not found:
        raise not_found(f"Organization with ID '{call.params['organizationId']}' not found")
    return {"organization": _organization(found)}


def identity_token(call: Call, transaction: Transaction, identity: Row, name: str, *, bootstrap: bool = False) -> str:
    """A token-auth token of an identity: 90 days, or for ever where the bootstrap of v0.160 is played."""
    settings = call.server.settings
    lives = None if bootstrap and settings.bootstrap_token_dead else settings.token_age.total_seconds()
    row = transaction.one(
        'INSERT INTO identity_access_tokens ("identityId", name, ttl, "maxTTL") VALUES (%s, %s, %s, %s) RETURNING id',
        identity["id"],
        name,
        lives or 0,
        lives or 0,
    )
    claims = {
        "identityId": str(identity["id"]),
        "identityAccessTokenId": str(row["id"]),
        "authTokenType": "identityAccessToken",
    }
    return crypto.sign(settings.auth_secret, claims, lives)


def slug(name: str) -> str:
    """A name as a slug with a random end, as Infisical's `slugify(name) + alphaNumericNanoId(4)`."""
    return f"{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}-{secrets.token_hex(2)}"


def _config(call: Call) -> dict[str, Any]:
    if cached := call.server.cache.call(lambda redis: redis.get("infisical-admin-cfg")):
        found: dict[str, Any] = json.loads(cached)
        return found
    row = call.db.one("SELECT * FROM super_admin", label="InternalServerError")
    text = json.dumps(row, default=_plain)
    call.server.cache.call(lambda redis: redis.set("infisical-admin-cfg", text, ex=CONFIG_SECONDS))
    return row


def _shown(call: Call, config: dict[str, Any]) -> dict[str, Any]:
    shown = {name: config[name] for name in CONFIG}
    shown |= {"isMigrationModeOn": False, "defaultAuthOrgSlug": None, "isSecretScanningDisabled": True}
    return shown | ({"onboardingCompleted": config["onboardingCompleted"]} if call.current else {})


def _set_up(
    transaction: Transaction, wanted: dict[str, Any], first: str, last: str | None, name: str
) -> tuple[Row, Row]:
    user = transaction.one(
        'INSERT INTO users (email, "firstName", "lastName", password) VALUES (%s, %s, %s, %s) RETURNING *',
        wanted["email"].lower(),
        first,
        last,
        crypto.hashed(wanted["password"]),
    )
    organization = transaction.one(
        "INSERT INTO organizations (name, slug) VALUES (%s, %s) RETURNING *", name, slug(name)
    )
    transaction.rows("INSERT INTO org_memberships VALUES (%s, %s, 'admin')", organization["id"], user["id"])
    transaction.rows("UPDATE super_admin SET initialized = true")
    return user, organization


def _user_token(call: Call, user: Row, organization: str | None) -> str:
    claims = {"authMethod": "email", "authTokenType": "accessToken", "userId": str(user["id"])}
    if organization:
        claims["organizationId"] = organization
    return crypto.sign(call.server.settings.auth_secret, claims, USER_TOKEN_SECONDS)


def _user(user: Row) -> dict[str, Any]:
    shown = {
        name: user[name] for name in ("id", "email", "superAdmin", "firstName", "lastName", "createdAt", "updatedAt")
    }
    return shown | {
        "authMethods": ["email"],
        "isAccepted": True,
        "isMfaEnabled": False,
        "mfaMethods": None,
        "devices": None,
        "isGhost": False,
        "username": user["email"],
        "isEmailVerified": True,
        "consecutiveFailedMfaAttempts": 0,
        "isLocked": False,
        "temporaryLockDateEnd": None,
        "consecutiveFailedPasswordAttempts": 0,
    }


def _organization(organization: Row) -> dict[str, Any]:
    return organization | {
        "customerId": None,
        "authEnforced": False,
        "scimEnabled": False,
        "kmsDefaultKeyId": None,
        "kmsEncryptedDataKey": None,
        "defaultMembershipRole": "member",
        "enforceMfa": False,
    }
