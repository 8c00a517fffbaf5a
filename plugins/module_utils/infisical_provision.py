"""Setting an Infisical up without a browser, and giving each stack host its own way in.

Everything is done through the API, from what the host keeps sealed: the administrator's password, and the login of the
provisioning identity that is made first. Safe to repeat after a crash at any point.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from . import credentials
from .errors import BattenError
from .infisical import Client, Place
from .infisical_access import Access
from .infisical_http import Refused, Uncertain, Unreachable
from .infisical_organisation import ENVIRONMENT, Organisation, matching
from .paths import StackPaths

Json = Any
PROVISIONER = "batten-provisioning"
_BOOTSTRAP_IDENTITY = "Instance Admin Identity"  # the name that the server gives it (its super-admin-service)
_SET_UP_ALREADY = ("already been set up", "already bootstrapped")
_SETTLE = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Settings:
    """What the inventory says of the Infisical that batten runs itself."""

    email: str
    organization: str


@dataclass(frozen=True)
class Issued:
    """A new way in: ``access`` holds the client secret, ``secret_id`` names it without telling it."""

    access: Access
    secret_id: str


def bootstrap(paths: StackPaths, client: Client, settings: Settings) -> list[str]:
    """Set up the server at ``client``: administrator, organisation, provisioning identity; close sign-up.

    ``paths`` are those of Infisical's own stack, whose bundle has ``admin_password`` and gets
    ``provisioning_client_id`` and ``provisioning_client_secret``. Returns what was done, in words. Leaves ``client``
    logged in as the provisioning identity.
    """
    changes: list[str] = []
    config = _config(client)
    organisation = _as_provisioner(paths, client) if config.get("initialized") else None
    if organisation is None:
        organisation = _set_up(paths, client, settings, config, changes)
    _tidy(paths, organisation)
    changes += organisation.changes
    return changes + _close(paths, client, settings, config)


def ensure(
    paths: StackPaths, client: Client, stack: str, host: str, held: Access | None, save: Callable[[Access], object]
) -> list[str]:
    """See that ``host``, this one, has exactly one way to the secrets of ``stack``; return what was done, in words.

    ``held`` is what it has; while that opens the project it stays. Otherwise there is a new one: made, proven, handed
    to ``save``, and only then the old ones are revoked. ``client`` may be logged in or not.
    """
    organisation = open_organisation(paths, client)
    place, client_id, identity = _way(organisation, stack, host)
    secret = held.client_secret if held and held.client_id == client_id else ""
    if not secret or not _opens(client, client_id, secret, place):
        secret = _proven_secret(organisation, identity, stack, host, client_id, place)[1]
    access = Access(client.url, client_id, secret, place.project_id, place.environment, place.path)
    if access != held:
        save(access)
        organisation.changes.append(f"way to the secrets of stack {stack} on {host}: sealed")
    organisation.revoke_secrets(identity, identity_name(stack, host), matching(secret))
    return organisation.changes


def enroll(paths: StackPaths, client: Client, stack: str, host: str) -> Access:
    """Return a new and proven way for ``host`` to the secrets of ``stack``; see :func:`issue`."""
    return issue(paths, client, stack, host).access


def issue(paths: StackPaths, client: Client, stack: str, host: str, url: str = "", ca: str = "") -> Issued:
    """Make a new client secret for the identity of ``stack`` on ``host``, and prove that it opens the project.

    Project, identity and membership are made if they are missing. ``url`` and ``ca`` are how ``host`` reaches this
    server, where that is not how ``client`` does. What the identity had before stays valid until it is revoked.
    """
    organisation = open_organisation(paths, client)
    place, client_id, identity = _way(organisation, stack, host)
    secret_id, secret = _proven_secret(organisation, identity, stack, host, client_id, place)
    access = Access(url or client.url, client_id, secret, place.project_id, place.environment, place.path, ca)
    return Issued(access, secret_id)


def revoke_old(paths: StackPaths, client: Client, stack: str, host: str, access: Access) -> int:
    """Revoke what the identity of ``stack`` on ``host`` had besides ``access``; return how many that were.

    Call it when ``access`` is saved where it is used.
    """
    return _retire(paths, client, stack, host, matching(access.client_secret))


def revoke_all_but(paths: StackPaths, client: Client, stack: str, host: str, secret_id: str) -> int:
    """The same, for a host elsewhere: ``secret_id`` is :class:`Issued`'s. Revokes none if that one is not there."""
    return _retire(
        paths, client, stack, host, lambda rows: secret_id if secret_id in [row["id"] for row in rows] else ""
    )


def rotate_identity(
    paths: StackPaths, client: Client, stack: str, host: str, save: Callable[[Access], object]
) -> Access:
    """Give ``host`` a new client secret: made, proven, handed to ``save``, and only then the old ones revoked."""
    access = enroll(paths, client, stack, host)
    save(access)
    revoke_old(paths, client, stack, host, access)
    return access


def predict(paths: StackPaths, client: Client, settings: Settings) -> list[str]:
    """Return what :func:`bootstrap` would do first, for check mode: it reads, and logs in where it can."""
    first = f"Infisical: set up, with organisation {settings.organization}"
    try:
        config = _config(client)
    except Unreachable:
        return [first]
    if not config.get("initialized"):
        return [first]
    changes = [] if _as_provisioner(paths, client) else [f"identity {PROVISIONER}: given a new client secret"]
    return changes + [f"Infisical: {key} set to {str(value).lower()}" for key, value in _open_settings(config).items()]


def open_organisation(paths: StackPaths, client: Client) -> Organisation:
    """Log ``client`` in as the provisioning identity. Raises BattenError when the server was not set up by batten."""
    organisation = _as_provisioner(paths, client)
    if organisation is None:
        fix = "run site.yml, which sets it up"
        raise BattenError("this Infisical is not set up yet", f"{client.url}, stack {paths.stack}", fix)
    return organisation


def identity_name(stack: str, host: str) -> str:
    """Return the name of the machine identity of a stack's host."""
    return f"batten-{stack}-{host}"


def level(client: Client) -> str:
    """Return ``v4``, or ``v3`` where the server has only the older routes for secrets."""
    try:
        client.call("GET", "/api/v4/secrets")
    except Refused as refused:
        return "v3" if refused.no_route else "v4"
    return "v4"


def initialized(client: Client) -> bool:
    """Return whether the server has an administrator already."""
    return bool(_config(client).get("initialized"))


def _config(client: Client) -> Json:
    """Return the server's public settings."""
    body = client.call("GET", "/api/v1/admin/config")
    config = body.get("config") if isinstance(body, dict) else None
    if not isinstance(config, dict):
        raise Refused(200, "shape", "the answer is no Infisical's", client.url, "see that the URL is Infisical's own")
    return config


def _as_provisioner(paths: StackPaths, client: Client) -> Organisation | None:
    """Log in with what is kept; None when there is nothing, or the server does not know it (any more)."""
    values = credentials.load(paths).values
    known = values.get("provisioning_organization")
    if not known or "provisioning_client_secret" not in values:
        return None
    try:
        client.login(values["provisioning_client_id"], values["provisioning_client_secret"])
    except Refused as refused:
        if refused.status not in (401, 404) or refused.locked:
            raise
        client.use_token("")
        return None
    return Organisation(client, known)


def _way(organisation: Organisation, stack: str, host: str) -> tuple[Place, str, str]:
    """Make what is missing for a stack's host; return the place of its secrets, its client id and its identity's id."""
    name = identity_name(stack, host)
    project = organisation.project(stack)
    identity = organisation.identity(name, "no-access")
    organisation.member(project, identity, name, "member")
    return Place(project, ENVIRONMENT), organisation.universal_auth(identity, name), identity


def _proven_secret(
    organisation: Organisation, identity: str, stack: str, host: str, client_id: str, place: Place
) -> tuple[str, str]:
    secret_id, secret = organisation.new_secret(identity, identity_name(stack, host))
    with organisation.client.another() as proof:
        proof.login(client_id, secret)
        proof.secrets(place)
    return secret_id, secret


def _opens(client: Client, client_id: str, secret: str, place: Place) -> bool:
    try:
        with client.another() as proof:
            proof.login(client_id, secret)
            proof.secrets(place)
    except Refused as refused:
        if refused.status not in (401, 403, 404) or refused.locked:
            raise
        return False
    return True


def _retire(paths: StackPaths, client: Client, stack: str, host: str, keep: Callable[[Sequence[Json]], str]) -> int:
    organisation = open_organisation(paths, client)
    name = identity_name(stack, host)
    for found in organisation.identities(name)[:1]:
        organisation.revoke_secrets(found["id"], name, keep)
    return len(organisation.changes)


def _set_up(paths: StackPaths, client: Client, settings: Settings, config: Json, changes: list[str]) -> Organisation:
    """Become administrator, by setting the server up or by logging in, and make the provisioning identity."""
    if not config.get("initialized"):
        organisation = _first_start(paths, client, settings)
        changes.append(f"Infisical: set up, with organisation {settings.organization}")
        if organisation:
            try:
                _new_provisioner_secret(paths, organisation)
            except Refused as refused:
                # From v0.160.0 to the fix of August 2026 (Infisical #7599, #7716) the token that bootstrap returns is
                # refused with 401 "exceeded max age": the administrator's own login works.
                if refused.status not in (401, 403):
                    raise
            else:
                return organisation
    organisation = _as_administrator(paths, client, settings)
    _new_provisioner_secret(paths, organisation)
    return organisation


def _first_start(paths: StackPaths, client: Client, settings: Settings) -> Organisation | None:
    """Set the server up; None when it was done but its token is lost."""
    body = {"email": settings.email, "password": _password(paths), "organization": settings.organization}
    try:
        made = client.call("POST", "/api/v1/admin/bootstrap", body=body)
    except Refused as refused:
        if refused.no_route:
            raise _too_old(client) from None
        if any(words in refused.reason.lower() for words in _SET_UP_ALREADY):
            return None
        raise
    except Uncertain:
        for pause in _SETTLE:
            if initialized(client):
                return None
            client.sleep(pause)
        raise
    token = ((made.get("identity") or {}).get("credentials") or {}).get("token")
    organization = (made.get("organization") or {}).get("id")
    if not token or not organization:
        return None
    client.use_token(token)
    return Organisation(client, organization)


def _as_administrator(paths: StackPaths, client: Client, settings: Settings) -> Organisation:
    """Log in as the administrator (a person's login), and enter the organisation."""
    client.use_token("")
    body = {"email": settings.email, "password": _password(paths)}
    try:
        client.use_token(client.call("POST", "/api/v3/auth/login", body=body, repeat=True)["accessToken"])
    except Refused as refused:
        if refused.no_route:
            raise _too_old(client) from None
        fix = (
            f"if the password of {settings.email} was changed in Infisical, hand in the new one: as root on this host, "
            f'{{"admin_password": "..."}} on standard input of: python3 /usr/local/lib/batten/batten-host.pyz put '
            f"{paths.stack}; see that infisical_admin_email is the administrator's"
        )
        raise Refused(refused.status, refused.label, refused.reason, refused.where, fix) from None
    known = client.call("GET", "/api/v1/organization")["organizations"]
    same = [one for one in known if one.get("name") == settings.organization]
    if not same:
        names = ", ".join(sorted(str(one.get("name")) for one in known)) or "(none)"
        fix = f"set infisical_organization to one of: {names}"
        raise BattenError(f"there is no organisation {settings.organization}", client.url, fix)
    oldest = min(same, key=lambda one: (str(one.get("createdAt") or ""), one["id"]))["id"]
    chosen = client.call("POST", "/api/v3/auth/select-organization", body={"organizationId": oldest}, repeat=True)
    if chosen.get("isMfaEnabled"):
        fix = f"turn it off for {settings.email} while this runs; batten's own identity needs none afterwards"
        raise BattenError("the administrator's login asks for a second factor", client.url, fix)
    client.use_token(chosen["token"])
    return Organisation(client, oldest)


def _new_provisioner_secret(paths: StackPaths, organisation: Organisation) -> None:
    client = organisation.client
    identity = organisation.identity(PROVISIONER, "admin")
    client_id = organisation.universal_auth(identity, PROVISIONER)
    secret = organisation.new_secret(identity, PROVISIONER)[1]
    with client.another() as proof:
        proof.login(client_id, secret)
    given = {
        "provisioning_client_id": client_id,
        "provisioning_client_secret": secret,
        "provisioning_organization": organisation.identifier,
    }
    credentials.save(paths, credentials.load(paths).having(given))
    client.login(client_id, secret)


def _tidy(paths: StackPaths, organisation: Organisation) -> None:
    """Remove what bootstrap and killed runs left behind: the all-powerful identity, client secrets nobody knows."""
    for left in organisation.identities(_BOOTSTRAP_IDENTITY):
        organisation.delete_identity(left["id"])
        organisation.changes.append("bootstrap identity: deleted, and its token with it")
    secret = credentials.load(paths).values["provisioning_client_secret"]
    for found in organisation.identities(PROVISIONER)[:1]:
        organisation.revoke_secrets(found["id"], PROVISIONER, matching(secret))


def _close(paths: StackPaths, client: Client, settings: Settings, config: Json) -> list[str]:
    """Close what a new server leaves open: sign-up, and the first visitor's set-up page."""
    changes: list[str] = []
    if not config.get("initialized"):
        config = _config(client)  # setting up changed it
    wanted = _open_settings(config)
    if wanted:
        with client.another() as administrator:
            _as_administrator(paths, administrator, settings)
            answer = administrator.call("PATCH", "/api/v1/admin/config", body=wanted, repeat=True)
        after = answer.get("config") or {}
        changes += [
            f"Infisical: {key} set to {str(wanted[key]).lower()}" for key in wanted if after.get(key) == wanted[key]
        ]
        if "allowSignUp" in wanted and after.get("allowSignUp") is not False:
            fix = "close it in the Server Console, General, Allow user signups"
            raise BattenError("sign-up could not be closed", client.url, fix)
    return changes


def _open_settings(config: Json) -> dict[str, bool]:
    """Return the settings to change. A server without one of them has nothing to close there."""
    wanted = {"allowSignUp": False, "onboardingCompleted": True}
    return {key: value for key, value in wanted.items() if key in config and bool(config[key]) is not value}


def _password(paths: StackPaths) -> str:
    password = credentials.load(paths).values.get("admin_password")
    if not password:
        fix = "run site.yml, which makes it before Infisical starts"
        raise BattenError("there is no administrator's password yet", f"stack {paths.stack}", fix)
    return password


def _too_old(client: Client) -> BattenError:
    return BattenError(
        "this Infisical cannot be set up without a browser: it has no bootstrap endpoint (before v0.117, March 2025)",
        client.url,
        "set infisical_image to a newer one (v0.165.16), or set it up yourself and use infisical_mode: external",
    )
