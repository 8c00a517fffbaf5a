"""An Infisical in memory, as far as setting one up goes: names are not unique, and an answer can be lost.

Paths and shapes are those of facts recorded for mid 2026; ``old`` has the paths of before 2025's renaming.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.unit.scripted_server import Asked, Drop, Hang, Say

Json = dict[str, Any]


@dataclass
class Fake:
    """``lose`` is the number of the request whose answer is lost, ``applied`` whether it is carried out first."""

    lose: int = 0
    applied: bool = True
    old: bool = False  # v2/workspace paths, no v4
    dead_token: bool = False  # the trap of v0.160
    bootstraps: bool = True
    initialized: bool = False
    config: Json = field(default_factory=lambda: {"allowSignUp": True, "onboardingCompleted": False})
    admin: Json = field(default_factory=dict)
    organizations: list[Json] = field(default_factory=list)
    identities: list[Json] = field(default_factory=list)
    secrets: list[Json] = field(default_factory=list)
    projects: list[Json] = field(default_factory=list)
    members: list[Json] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)  # token → who: user, user@org, or an identity's id
    count: int = 0
    failed_logins: int = 0
    _numbers: Any = field(default_factory=lambda: itertools.count(1))

    def __call__(self, asked: Asked) -> Say | Drop | Hang:
        self.count += 1
        if self.count == self.lose and not self.applied:
            return Drop()
        answer = self.answer(asked)
        return Drop() if self.count == self.lose else answer

    def number(self, prefix: str) -> str:
        return f"{prefix}{next(self._numbers):04d}"

    def answer(self, asked: Asked) -> Say:
        path = urlsplit(asked.path).path
        query = {name: values[0] for name, values in parse_qs(urlsplit(asked.path).query).items()}
        token = asked.headers.get("Authorization", "").removeprefix("Bearer ")
        for method, pattern, handler, public in self.routes():
            matched = re.fullmatch(pattern, path)
            if method == asked.method and matched:
                if not public and token not in self.tokens:
                    return no(401, "UnauthorizedError", "Token missing" if not token else "token revoked")
                if token and self.dead_token and self.tokens.get(token) == "bootstrap":
                    return no(
                        401, "UnauthorizedError", "Identity access token exceeded max age, please re-authenticate"
                    )
                who = self.tokens.get(token, "")
                found: Say = handler(*matched.groups(), body=asked.body or {}, query=query, who=who)
                return found
        return no(404, "Not Found", f"Route {asked.method}:{asked.path} not found")

    def routes(self) -> list[tuple[str, str, Any, bool]]:
        universal = r"/api/v1/auth/universal-auth/identities/([^/]+)"
        project = "/api/v2/workspace" if self.old else "/api/v1/projects"
        members = rf"{project}/([^/]+)/" + ("identity-memberships" if self.old else "memberships/identities")
        found = [
            ("GET", "/api/v1/admin/config", self.get_config, True),
            ("PATCH", "/api/v1/admin/config", self.set_config, False),
            ("POST", "/api/v3/auth/login", self.user_login, True),
            ("POST", "/api/v3/auth/select-organization", self.select, False),
            ("GET", "/api/v1/organization", self.list_organizations, False),
            ("POST", "/api/v1/identities", self.create_identity, False),
            ("DELETE", "/api/v1/identities/([^/]+)", self.delete_identity, False),
            ("GET", universal, self.get_universal, False),
            ("POST", universal, self.attach_universal, False),
            ("POST", f"{universal}/client-secrets", self.create_secret, False),
            ("GET", f"{universal}/client-secrets", self.list_secrets, False),
            ("POST", f"{universal}/client-secrets/([^/]+)/revoke", self.revoke_secret, False),
            ("POST", "/api/v1/auth/universal-auth/login", self.login, True),
            ("POST", project, self.create_project, False),
            ("GET", members, self.list_members, False),
            ("POST", rf"{members}/([^/]+)", self.add_member, False),
            ("PATCH", rf"{members}/([^/]+)", self.change_member, False),
        ]
        if self.bootstraps:
            found.append(("POST", "/api/v1/admin/bootstrap", self.bootstrap, True))
        if self.old:
            return [
                *found,
                ("GET", "/api/v2/organizations/([^/]+)/identity-memberships", self.list_identities, False),
                ("GET", "/api/v2/organizations/([^/]+)/workspaces", self.list_projects, False),
                ("GET", "/api/v3/secrets/raw", self.list_values, False),
            ]
        return [
            *found,
            ("GET", "/api/v1/identities", lambda **given: self.list_identities("", **given), False),
            ("GET", project, lambda **given: self.list_projects("", **given), False),
            ("GET", "/api/v4/secrets", self.list_values, False),
        ]

    # The instance

    def get_config(self, **_: Any) -> Say:
        return Say(200, {"config": {"initialized": self.initialized, **self.config}})

    def set_config(self, body: Json, who: str, **_: Any) -> Say:
        if who not in ("user", "user@org", "bootstrap"):
            return no(403, "PermissionDenied", "Requires elevated super admin privileges")
        self.config.update(body)
        return self.get_config()

    def bootstrap(self, body: Json, **_: Any) -> Say:
        if self.initialized:
            return no(400, "BadRequest", "Instance has already been set up")
        self.initialized, self.admin = True, {"email": body["email"], "password": body["password"]}
        self.config["allowSignUp"] = False
        organization = {"id": self.number("org"), "name": body["organization"], "createdAt": "2026-01-01"}
        self.organizations.append(organization)
        identity = self.new_identity("Instance Admin Identity", "admin")
        token = self.number("token")
        self.tokens[token] = "bootstrap"
        identity = {"id": identity["id"], "name": identity["name"], "credentials": {"token": token}}
        return Say(200, {"organization": organization, "identity": identity, "user": {}})

    def user_login(self, body: Json, **_: Any) -> Say:
        if body != self.admin:
            self.failed_logins += 1
            return no(401, "UnauthorizedError", "Invalid credentials")
        return Say(200, {"accessToken": self.granted("user")})

    def select(self, **_: Any) -> Say:
        return Say(200, {"token": self.granted("user@org"), "isMfaEnabled": False})

    def list_organizations(self, **_: Any) -> Say:
        return Say(200, {"organizations": self.organizations})

    # Identities

    def new_identity(self, name: str, role: str) -> Json:
        made = {"id": self.number("identity"), "name": name, "role": role, "createdAt": self.number("2026-")}
        self.identities.append(made)
        return made

    def create_identity(self, body: Json, who: str, **_: Any) -> Say:
        if who == "user":
            return no(403, "PermissionDenied", "select an organization first")
        return Say(200, {"identity": self.new_identity(body["name"], body["role"])})

    def list_identities(self, _: str, query: Json, **__: Any) -> Say:
        rows = [{"id": f"m{one['id']}", "createdAt": one["createdAt"], "role": one["role"]} for one in self.identities]
        for row, one in zip(rows, self.identities, strict=True):
            row["identity"] = {"id": one["id"], "name": one["name"]}
        start, size = int(query["offset"]), int(query["limit"])
        name = "identityMemberships" if self.old else "identities"
        return Say(200, {name: rows[start : start + size], "totalCount": len(rows)})

    def delete_identity(self, identifier: str, **_: Any) -> Say:
        gone = [one for one in self.identities if one["id"] == identifier]
        if not gone:
            return no(404, "NotFound", "Identity not found")
        self.identities.remove(gone[0])
        self.tokens = {token: who for token, who in self.tokens.items() if who not in (identifier, "bootstrap")}
        return Say(200, {"identity": gone[0]})

    def get_universal(self, identifier: str, **_: Any) -> Say:
        one = self.known(identifier)
        if "clientId" not in one:
            return no(400, "BadRequest", "The identity does not have universal auth")
        return Say(200, {"identityUniversalAuth": {"clientId": one["clientId"]}})

    def attach_universal(self, identifier: str, body: Json, **_: Any) -> Say:
        one = self.known(identifier)
        if "clientId" in one:
            return no(400, "BadRequest", "Failed to add universal auth to already configured identity")
        one["clientId"], one["ttl"] = self.number("client"), body["accessTokenTTL"]
        return self.get_universal(identifier)

    def create_secret(self, identifier: str, **_: Any) -> Say:
        secret = f"{next(self._numbers):04d}-client-secret-value"
        data = {"id": self.number("secret"), "clientSecretPrefix": secret[:4], "createdAt": self.number("2026-")}
        self.secrets.append({**data, "identity": identifier, "value": secret, "revoked": False})
        return Say(200, {"clientSecret": secret, "clientSecretData": {**data, "isClientSecretRevoked": False}})

    def list_secrets(self, identifier: str, **_: Any) -> Say:
        shown = ("id", "clientSecretPrefix", "createdAt")
        rows = [{key: one[key] for key in shown} for one in self.valid_secrets(identifier)]
        return Say(200, {"clientSecretData": rows})

    def revoke_secret(self, _: str, secret: str, **__: Any) -> Say:
        next(one for one in self.secrets if one["id"] == secret)["revoked"] = True
        return Say(200, {"clientSecretData": {}})

    def login(self, body: Json, **_: Any) -> Say:
        for one in self.identities:
            if one.get("clientId") == body["clientId"]:
                if any(each["value"] == body["clientSecret"] for each in self.valid_secrets(one["id"])):
                    return Say(200, {"accessToken": self.granted(one["id"]), "expiresIn": 3600})
                self.failed_logins += 1
                return no(401, "UnauthorizedError", "Invalid credentials")
        return no(404, "NotFound", "No identity with specified client ID was found")

    # Projects

    def create_project(self, body: Json, who: str, **_: Any) -> Say:
        if any(one["slug"] == body["slug"] for one in self.projects):
            return no(400, "BadRequest", "Project with the same slug already exists")
        made = {"id": self.number("project"), "name": body["projectName"], "slug": body["slug"]}
        made |= {"createdAt": self.number("2026-"), "environments": [{"slug": "dev"}, {"slug": "prod"}]}
        self.projects.append(made)
        self.members.append({"project": made["id"], "identity": who, "role": "admin"})
        return Say(200, {"project": made})

    def list_projects(self, _: str, who: str, **__: Any) -> Say:
        mine = {one["project"] for one in self.members if one["identity"] == who}
        rows = [one for one in self.projects if one["id"] in mine]
        return Say(200, {"workspaces" if self.old else "projects": rows})

    def list_members(self, project: str, **_: Any) -> Say:
        rows = [
            {"identity": {"id": one["identity"]}, "roles": [{"role": one["role"]}]}
            for one in self.members
            if one["project"] == project
        ]
        return Say(200, {"identityMemberships": rows, "totalCount": len(rows)})

    def add_member(self, project: str, identity: str, body: Json, **_: Any) -> Say:
        if any((one["project"], one["identity"]) == (project, identity) for one in self.members):
            return no(400, "BadRequest", "Identity is already a member of this project")
        self.members.append({"project": project, "identity": identity, "role": body["role"]})
        return Say(200, {"identityMembership": {}})

    def change_member(self, project: str, identity: str, body: Json, **_: Any) -> Say:
        for one in self.members:
            if (one["project"], one["identity"]) == (project, identity):
                one["role"] = body["roles"][0]["role"]
        return Say(200, {"roles": []})

    def list_values(self, query: Json, who: str, **_: Any) -> Say:
        project = query.get("projectId") or query.get("workspaceId")
        if not any((one["project"], one["identity"]) == (project, who) for one in self.members):
            return no(403, "Identity is not a member", "You are not allowed to access this resource")
        return Say(200, {"secrets": [], "imports": []}, {"ETag": '"x"'})

    # What a test asks

    def known(self, identifier: str) -> Json:
        return next(one for one in self.identities if one["id"] == identifier)

    def valid_secrets(self, identifier: str) -> list[Json]:
        return [one for one in self.secrets if one["identity"] == identifier and not one["revoked"]]

    def granted(self, who: str) -> str:
        token = self.number("token")
        self.tokens[token] = who
        return token

    def state(self) -> Json:
        """Return all that should be the same after a run that went through and one that was disturbed."""
        names = {one["id"]: one["name"] for one in self.identities}
        return {
            "organizations": [one["name"] for one in self.organizations],
            "config": self.config,
            "identities": sorted((one["name"], one["role"], one.get("ttl")) for one in self.identities),
            "secrets": sorted((names[one["id"]], len(self.valid_secrets(one["id"]))) for one in self.identities),
            "projects": sorted(one["name"] for one in self.projects),
            "members": sorted((names.get(one["identity"], "?"), one["role"]) for one in self.members),
        }


def no(status: int, error: str, message: str) -> Say:
    return Say(status, {"reqId": "r", "statusCode": status, "error": error, "message": message})
