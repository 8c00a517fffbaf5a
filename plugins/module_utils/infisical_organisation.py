"""An Infisical organisation and what batten makes in it: identities, their client secrets, projects, memberships.

Names are not unique on the server, a request that was cut off may be applied all the same, and a run may be killed
anywhere: so everything is looked up before it is made, looked up again when the answer was lost, and of several things
with one name the oldest counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from .errors import BattenError
from .infisical import Client
from .infisical_http import Refused, Uncertain

Json = Any
ENVIRONMENT = "prod"
TOKEN_SECONDS = 3600  # a stolen token is of use for an hour; the client logs in again by itself
_SETTLE = (0.2, 0.5, 1.0, 2.0, 4.0)  # seconds between looks after a lost answer
_PAGE = 100
_SLUG_LENGTH = 36
_Request = tuple[str, str, "Mapping[str, str] | None", Json]  # method, path, query, body


class Organisation:
    """One organisation, through a client that is logged in as an administrator of it.

    ``changes`` says in words what was made; the client's ``remarks`` what somebody should know.
    """

    def __init__(self, client: Client, identifier: str) -> None:
        self.client = client
        self.identifier = identifier
        self.changes: list[str] = []
        self._rows: list[Json] | None = None

    # Identities

    def identity(self, name: str, role: str) -> str:
        """Return the id of the machine identity ``name``, made with ``role`` in the organisation if it is missing."""
        found = self._ensure(
            f"identity {name}",
            lambda: self.identities(name),
            lambda: self.client.call(
                "POST", "/api/v1/identities", body={"name": name, "organizationId": self.identifier, "role": role}
            ),
        )
        return str(found["id"])

    def identities(self, name: str) -> list[Json]:
        """Return all identities called ``name``, ``{"id", "name", "createdAt"}``, the oldest first."""
        rows = [{**row, **row["identity"]} if "identity" in row else row for row in self._identities()]
        return sorted((row for row in rows if row.get("name") == name), key=_age)

    def delete_identity(self, identifier: str) -> None:
        """Delete an identity and all its tokens; one that is gone already is no error."""
        try:
            self.client.call("DELETE", f"/api/v1/identities/{quote(identifier)}")
        except Refused as refused:
            if refused.status != 404:
                raise

    def universal_auth(self, identity: str, name: str) -> str:
        """Return the client id with which ``identity`` logs in; attach universal auth to it if it has none yet."""
        path = f"/api/v1/auth/universal-auth/identities/{quote(identity)}"
        found = self._ensure(
            f"login of {name}",
            lambda: self._found(path, "identityUniversalAuth", (400, 404)),
            lambda: self.client.call(
                "POST", path, body={"accessTokenTTL": TOKEN_SECONDS, "accessTokenMaxTTL": 24 * TOKEN_SECONDS}
            ),
        )
        return str(found["clientId"])

    # Client secrets

    def new_secret(self, identity: str, name: str) -> tuple[str, str]:
        """Make a client secret; return its id and the secret. One whose answer was lost is never seen again, so a new
        one is made: :meth:`revoke_secrets` removes the other."""
        path = f"/api/v1/auth/universal-auth/identities/{quote(identity)}/client-secrets"
        body = {"description": "batten", "numUsesLimit": 0, "ttl": 0}
        try:
            made = self.client.call("POST", path, body=body)
        except Uncertain:
            self.client.sleep(_SETTLE[0])
            made = self.client.call("POST", path, body=body)
        self.changes.append(f"client secret of {name}: made")
        return str(made["clientSecretData"]["id"]), str(made["clientSecret"])

    def secrets(self, identity: str) -> list[Json]:
        """Return the client secrets of ``identity`` that are not revoked, the newest last; never a value."""
        path = f"/api/v1/auth/universal-auth/identities/{quote(identity)}/client-secrets"
        rows = self.client.call("GET", path)["clientSecretData"]
        return sorted((row for row in rows if not row.get("isClientSecretRevoked")), key=_age)

    def revoke_secrets(self, identity: str, name: str, keep: Callable[[Sequence[Json]], str]) -> None:
        """Revoke all client secrets but the one whose id ``keep`` picks; none at all when it picks none."""
        there = self.secrets(identity)
        kept = keep(there)
        for row in there:
            if kept and row["id"] != kept:
                path = (
                    f"/api/v1/auth/universal-auth/identities/{quote(identity)}/client-secrets/{quote(row['id'])}/revoke"
                )
                self.client.call("POST", path, body={}, repeat=True)
                self.changes.append(f"client secret of {name}: an old one revoked")

    # Projects

    def project(self, stack: str) -> str:
        """Return the id of the project of ``stack``, made with its environment if it is missing."""
        found = self._ensure(
            f"project {stack}",
            lambda: self.projects(stack),
            lambda: self._create_project(stack),
        )
        identifier = str(found["id"])
        self._ensure(
            f"environment {ENVIRONMENT} of project {stack}",
            lambda: self._environments(identifier, found),
            lambda: self.client.call(
                "POST",
                f"/api/v1/projects/{quote(identifier)}/environments",
                body={"name": "Production", "slug": ENVIRONMENT},
            ),
        )
        return identifier

    def projects(self, stack: str) -> list[Json]:
        """Return the projects of ``stack`` that this identity is a member of, the oldest first."""
        body = self._either(
            ("GET", "/api/v1/projects", {"type": "secret-manager"}, None),
            ("GET", f"/api/v2/organizations/{quote(self.identifier)}/workspaces", None, None),
        )
        rows = body.get("projects", body.get("workspaces", []))
        slug = slug_of(stack)
        same = [row for row in rows if row.get("slug") == slug or row.get("name") == stack]
        return sorted(same, key=lambda row: (row.get("slug") != slug, *_age(row)))

    def member(self, project: str, identity: str, name: str, role: str) -> None:
        """See that ``identity`` is in ``project`` with exactly ``role``."""
        found = self._ensure(
            f"{name} in its project",
            lambda: [row for row in self._members(project) if _identity_of(row) == identity],
            lambda: self._membership("POST", project, identity, {"role": role}),
        )
        if [one.get("role") for one in found.get("roles") or []] not in ([role], []):
            self._membership("PATCH", project, identity, {"roles": [{"role": role, "isTemporary": False}]})
            self.changes.append(f"{name} in its project: role put back to {role}")

    def _membership(self, method: str, project: str, identity: str, body: Json) -> Json:
        return self._either(
            (method, f"/api/v1/projects/{quote(project)}/memberships/identities/{quote(identity)}", None, body),
            (method, f"/api/v2/workspace/{quote(project)}/identity-memberships/{quote(identity)}", None, body),
        )

    def _members(self, project: str) -> list[Json]:
        page = {"offset": "0", "limit": "1000"}
        body = self._either(
            ("GET", f"/api/v1/projects/{quote(project)}/memberships/identities", page, None),
            ("GET", f"/api/v2/workspace/{quote(project)}/identity-memberships", page, None),
        )
        return list(body["identityMemberships"])

    def _create_project(self, stack: str) -> Json:
        body = {"projectName": stack[:64], "slug": slug_of(stack), "type": "secret-manager"}
        return self._either(("POST", "/api/v1/projects", None, body), ("POST", "/api/v2/workspace", None, body))

    def _environments(self, project: str, row: Json) -> list[Json]:
        if "environments" not in row:
            body = self._either(
                ("GET", f"/api/v1/projects/{quote(project)}", None, None),
                ("GET", f"/api/v1/workspace/{quote(project)}", None, None),
            )
            row = body.get("project") or body.get("workspace") or body
        return [one for one in row.get("environments") or [] if one.get("slug") == ENVIRONMENT]

    def _identities(self) -> list[Json]:
        """Return all identities, in the shape of either route; asked for once, until one is made."""
        if self._rows is None:
            rows: list[Json] = []
            while True:
                page = {"offset": str(len(rows)), "limit": str(_PAGE)}
                body = self._either(
                    ("GET", "/api/v1/identities", {"orgId": self.identifier, **page}, None),
                    ("GET", f"/api/v2/organizations/{quote(self.identifier)}/identity-memberships", page, None),
                )
                came = body.get("identities", body.get("identityMemberships", []))
                rows += came
                if len(came) < _PAGE or len(rows) >= body.get("totalCount", 0):
                    break
            self._rows = rows
        return self._rows

    def _found(self, path: str, key: str, missing: Sequence[int]) -> list[Json]:
        try:
            body = self.client.call("GET", path)
        except Refused as refused:
            if refused.status in missing:
                return []
            raise
        return [body[key]] if body.get(key) else []

    def _ensure(self, what: str, find: Callable[[], list[Json]], make: Callable[[], Json]) -> Json:
        """Return the first thing found; make it if there is none, and look again until what was made is seen."""
        there = find()
        if not there:
            there = self._made(what, find, make)
            self.changes.append(f"{what}: made")
        if len(there) > 1:
            remark = f"{what}: there are {len(there)} of this name in Infisical; the oldest is in use"
            self.client.remarks += [] if remark in self.client.remarks else [remark]
        return there[0]

    def _made(self, what: str, find: Callable[[], list[Json]], make: Callable[[], Json]) -> list[Json]:
        refusal: BattenError | None = None
        for _ in range(2):
            self._rows = None
            try:
                make()
            except Uncertain as lost:
                refusal = lost
            except Refused as refused:  # somebody else made it in the meantime, or it is really refused
                if refused.status not in (400, 409):
                    raise
                refusal = refused
            there = find()
            for pause in _SETTLE:
                if there or isinstance(refusal, Refused):
                    break
                self.client.sleep(pause)
                self._rows = None
                there = find()
            if there:
                return there
            if isinstance(refusal, Refused):
                raise refusal
        fix = "see in its UI whether it is there, then run again"
        raise refusal or BattenError(f"Infisical does not show what was made: {what}", self.client.url, fix)

    def _either(self, new: _Request, old: _Request) -> Json:
        """Make the ``new`` request, or the ``old`` one where the server has no such route: in 2025 paths were renamed
        from workspace to project. Some lists refuse machine identities (403, recorded) where their other path does not.
        """
        try:
            return self.client.call(*new)
        except Refused as refused:
            if not refused.no_route and (new[0], refused.status) != ("GET", 403):
                raise
        return self.client.call(*old)


def slug_of(stack: str) -> str:
    """Return the slug of a stack's project, 5 to 36 characters, which the server keeps unique."""
    slug = f"batten-{stack.lower().replace('_', '-').replace('.', '-')}"
    if slug == f"batten-{stack}" and len(slug) <= _SLUG_LENGTH:
        return slug
    return f"{slug[: _SLUG_LENGTH - 9].rstrip('-')}-{hashlib.sha256(stack.encode()).hexdigest()[:8]}"


def matching(secret: str) -> Callable[[Sequence[Json]], str]:
    """Return a picker of the newest client secret that may be ``secret``: the server shows the first characters."""

    def pick(rows: Sequence[Json]) -> str:
        same = [row for row in rows if row.get("clientSecretPrefix") and secret.startswith(row["clientSecretPrefix"])]
        return str(same[-1]["id"]) if same else ""

    return pick


def _identity_of(row: Json) -> str:
    return str(row.get("identityId") or (row.get("identity") or {}).get("id"))


def _age(row: Json) -> tuple[str, str]:
    return str(row.get("createdAt") or ""), str(row.get("id") or "")
