"""Projects, who is in them, and their environments; under the names of 2024 (workspace) and the current ones."""

from __future__ import annotations

from typing import Any

from access import by_slug, member, organization, project
from accounts import slug as slug_of
from checks import array, boolean, choice, number, text
from database import Row, Transaction
from failures import bad_request, broken, forbidden, not_found
from machines import roles
from web import ALL, USERS, Actor, Call, route

ENVIRONMENTS = (("Development", "dev"), ("Staging", "staging"), ("Production", "prod"))
MEMBERS_2024 = "/api/v2/workspace/:projectId/identity-memberships"
MEMBERS = "/api/v1/projects/:projectId/memberships/identities"
ROLES = ("admin", "member", "viewer", "no-access")


@route("POST", "/api/v2/workspace")
@route("POST", "/api/v1/projects", level="current")
def create(call: Call) -> Any:
    wanted = call.fields(
        projectName=text(least=1),
        projectDescription=text(None),
        slug=text(None),
        type=text("secret-manager"),
        shouldCreateDefaultEnvs=boolean(True),
    )
    org = organization(call, "create", "workspace")
    slug = wanted["slug"] or slug_of(wanted["projectName"])
    if call.current and call.db.row("SELECT 1 FROM projects WHERE slug = %s", slug):
        raise bad_request(f"A project with slug '{slug}' already exists")
    with call.db.transaction("Create") as transaction:
        row = transaction.one(
            'INSERT INTO projects (name, slug, description, type, "orgId") VALUES (%s, %s, %s, %s, %s) RETURNING *',
            wanted["projectName"],
            slug,
            wanted["projectDescription"],
            wanted["type"],
            org,
        )
        _join(transaction, row, call.actor, "admin")
        for position, (name, short) in enumerate(ENVIRONMENTS if wanted["shouldCreateDefaultEnvs"] else (), 1):
            _environment(transaction, row["id"], name, short, position)
    return {"project": _shown(call, row)}


@route("GET", "/api/v1/projects", level="current")
def listed(call: Call) -> Any:
    asked = call.asked(type=text(None))
    found = [row for row in _mine(call) if asked["type"] in (None, "all", row["type"])]
    return {"projects": [_shown(call, row) for row in found]}


@route("GET", "/api/v1/workspace", USERS, level="2024")
@route("GET", "/api/v1/workspace", ALL, level="current")
def workspaces(call: Call) -> Any:
    return {"workspaces": [_shown(call, row) for row in _mine(call)]}


@route("GET", "/api/v2/organizations/:organizationId/workspaces")
def organization_workspaces(call: Call) -> Any:
    if call.params["organizationId"] != call.actor.organization:
        raise forbidden(f"{call.actor.kind.capitalize()} not part of organization")
    return {
        "workspaces": [
            {
                **{name: row[name] for name in ("id", "name", "slug")},
                "organization": row["orgId"],
                "environments": [{"name": one["name"], "slug": one["slug"]} for one in _environments(call, row["id"])],
            }
            for row in _mine(call)
        ]
    }


@route("GET", "/api/v1/workspace/:projectId")
def workspace(call: Call) -> Any:
    return {"workspace": _shown(call, _known(call))}


@route("GET", "/api/v1/projects/:projectId", level="current")
def one(call: Call) -> Any:
    return {"project": _shown(call, _known(call))}


@route("GET", "/api/v2/workspace/:slug")
@route("GET", "/api/v1/projects/slug/:slug", level="current")
def one_by_slug(call: Call) -> Any:
    return _shown(call, by_slug(call, call.params["slug"], "Failed to find project by slug"))


@route("PATCH", "/api/v1/projects/:projectId", level="current")
def change(call: Call) -> Any:
    row = project(call, call.params["projectId"], "manage", "project")
    wanted = call.fields(name=text(row["name"]), description=text(row["description"]))
    changed = call.db.one(
        'UPDATE projects SET name = %s, description = %s, "updatedAt" = now() WHERE id = %s RETURNING *',
        wanted["name"],
        wanted["description"],
        row["id"],
    )
    return {"project": _shown(call, changed)}


@route("DELETE", "/api/v1/workspace/:projectId")
@route("DELETE", "/api/v1/projects/:projectId", level="current")
def delete(call: Call) -> Any:
    row = project(call, call.params["projectId"], "manage", "project")
    shown = _shown(call, row)
    call.db.rows("DELETE FROM projects WHERE id = %s", row["id"])
    return {"workspace" if "/workspace/" in call.path else "project": shown}


@route("POST", f"{MEMBERS_2024}/:identityId")
@route("POST", f"{MEMBERS}/:identityId", level="current")
def add_member(call: Call) -> Any:
    row = project(call, call.params["projectId"], "manage", "identity")
    role = _wanted_role(call)
    wanted = call.params["identityId"]
    identity = call.db.row('SELECT id FROM identities WHERE id::text = %s AND "orgId" = %s', wanted, row["orgId"])
    if not identity:
        raise not_found(f"Identity with ID '{wanted}' not found")
    if _membership(call, row["id"], wanted):
        raise bad_request(f"Identity with ID '{wanted}' already exists in project with ID '{row['id']}'")
    with call.db.transaction("Create") as transaction:
        joined = _join(transaction, row, Actor("identity", wanted, None, ""), role)
    names = ("id", "projectId", "identityId", "createdAt", "updatedAt")
    return {"identityMembership": {name: joined[name] for name in names}}


@route("GET", MEMBERS_2024)
@route("GET", MEMBERS, level="current")
def members(call: Call) -> Any:
    row = project(call, call.params["projectId"], "read", "identity")
    asked = call.asked(offset=text("0"), limit=text("20"))
    start, most = int(asked["offset"]), int(asked["limit"])
    found = call.db.rows(f'{_MEMBERS} WHERE m."projectId" = %s ORDER BY i.name, i.id', row["id"])
    shown = [_shown_member(one, row) for one in found]
    return {"identityMemberships": shown[start : start + most], "totalCount": len(shown)}


@route("GET", f"{MEMBERS_2024}/:identityId")
@route("GET", f"{MEMBERS}/:identityId", level="current")
def one_member(call: Call) -> Any:
    row = project(call, call.params["projectId"], "read", "identity")
    return {"identityMembership": _shown_member(_must_be_member(call, row), row)}


@route("PATCH", f"{MEMBERS_2024}/:identityId")
@route("PATCH", f"{MEMBERS}/:identityId", level="current")
def change_member(call: Call) -> Any:
    row = project(call, call.params["projectId"], "manage", "identity")
    found = _must_be_member(call, row)
    changed = call.db.one(
        'UPDATE project_memberships SET role = %s, "updatedAt" = now() WHERE id = %s RETURNING *',
        _wanted_role(call),
        found["id"],
    )
    return {"roles": [roles(changed) | {"projectMembershipId": changed["id"]}]}


@route("DELETE", f"{MEMBERS_2024}/:identityId")
@route("DELETE", f"{MEMBERS}/:identityId", level="current")
def remove_member(call: Call) -> Any:
    row = project(call, call.params["projectId"], "manage", "identity")
    found = _must_be_member(call, row)
    call.db.rows("DELETE FROM project_memberships WHERE id = %s", found["id"])
    names = ("id", "projectId", "identityId", "createdAt", "updatedAt")
    return {"identityMembership": {name: found[name] for name in names}}


@route("POST", "/api/v1/workspace/:projectId/environments")
@route("POST", "/api/v1/projects/:projectId/environments", level="current")
def create_environment(call: Call) -> Any:
    row = project(call, call.params["projectId"], "create", "environments")
    wanted = call.fields(name=text(least=1), slug=text(least=1), position=number(None))
    existing = _environments(call, row["id"])
    if wanted["slug"] in {one["slug"] for one in existing}:
        raise bad_request("Environment with slug already exist")
    position = wanted["position"] or len(existing) + 1
    with call.db.transaction("Create") as transaction:
        made = _environment(transaction, row["id"], wanted["name"], wanted["slug"], position)
    return {"message": "Successfully created new environment", _project_key(call): row["id"], "environment": made}


@route("GET", "/api/v1/workspace/:projectId/environments/:environmentId")
@route("GET", "/api/v1/projects/:projectId/environments/:environmentId", level="current")
def environment(call: Call) -> Any:
    row = project(call, call.params["projectId"], "read", "environments")
    return {"environment": _known_environment(call, row, "id", call.params["environmentId"])}


@route("GET", "/api/v1/projects/:projectId/environments/slug/:slug", level="current")
def environment_by_slug(call: Call) -> Any:
    row = project(call, call.params["projectId"], "read", "environments")
    return {"environment": _known_environment(call, row, "slug", call.params["slug"])}


@route("DELETE", "/api/v1/workspace/:projectId/environments/:environmentId")
@route("DELETE", "/api/v1/projects/:projectId/environments/:environmentId", level="current")
def delete_environment(call: Call) -> Any:
    row = project(call, call.params["projectId"], "manage", "environments")
    found = _known_environment(call, row, "id", call.params["environmentId"])
    call.db.rows("DELETE FROM project_environments WHERE id = %s", found["id"])
    return {"message": "Successfully deleted environment", _project_key(call): row["id"], "environment": found}


_MEMBERS = 'SELECT m.*, i.name FROM project_memberships m JOIN identities i ON i.id = m."identityId"'


def _known(call: Call) -> Row:
    """A project by id; a missing one is a 500 in 2024 (recorded)."""
    wanted = call.params["projectId"]
    row = call.db.row("SELECT * FROM projects WHERE id::text = %s", wanted)
    if not row:
        raise (
            not_found(f"Project with ID '{wanted}' not found")
            if call.current
            else broken("Failed to find project by id")
        )
    return member(call, row, "read", "project")


def _mine(call: Call) -> list[Row]:
    statement = (
        'SELECT p.* FROM projects p JOIN project_memberships m ON m."projectId" = p.id'
        f' WHERE m.{call.actor.column} = %s AND p."orgId"::text = %s ORDER BY p."createdAt"'
    )
    return call.db.rows(statement, call.actor.id, call.actor.organization)


def _environments(call: Call, project_id: object) -> list[Row]:
    return call.db.rows('SELECT * FROM project_environments WHERE "projectId" = %s ORDER BY position', project_id)


def _known_environment(call: Call, row: Row, name: str, wanted: str) -> Row:
    found = next((one for one in _environments(call, row["id"]) if str(one[name]) == wanted), None)
    if not found:
        raise not_found(f"Environment with {name} '{wanted}' in project with ID '{row['id']}' not found")
    return found


def _environment(transaction: Transaction, project_id: object, name: str, slug: str, position: int) -> Row:
    made = transaction.one(
        'INSERT INTO project_environments ("projectId", name, slug, position) VALUES (%s, %s, %s, %s) RETURNING *',
        project_id,
        name,
        slug,
        position,
    )
    transaction.rows("""INSERT INTO secret_folders ("envId", name) VALUES (%s, 'root')""", made["id"])
    return made


def _join(transaction: Transaction, row: Row, actor: Actor, role: str) -> Row:
    statement = f'INSERT INTO project_memberships ("projectId", {actor.column}, role) VALUES (%s, %s, %s) RETURNING *'
    return transaction.one(statement, row["id"], actor.id, role)


def _wanted_role(call: Call) -> str:
    wanted = call.fields(role=choice(*ROLES, default=None), roles=array({"role": choice(*ROLES)}, 1, None))
    if wanted["roles"]:
        return str(wanted["roles"][0]["role"])
    return wanted["role"] or "no-access"


def _membership(call: Call, project_id: object, identity_id: str) -> Row | None:
    return call.db.row(f'{_MEMBERS} WHERE m."projectId" = %s AND m."identityId"::text = %s', project_id, identity_id)


def _must_be_member(call: Call, row: Row) -> Row:
    wanted = call.params["identityId"]
    found = _membership(call, row["id"], wanted)
    if not found:
        raise not_found(f"Identity with ID '{wanted}' not found in project with ID '{row['id']}'")
    return found


def _shown_member(membership: Row, row: Row) -> dict[str, Any]:
    return {
        **{name: membership[name] for name in ("id", "identityId", "createdAt", "updatedAt")},
        "roles": [roles(membership)],
        "identity": {"name": membership["name"], "id": membership["identityId"], "authMethods": ["universal-auth"]},
        "project": {"name": row["name"], "id": row["id"]},
    }


def _shown(call: Call, row: Row) -> dict[str, Any]:
    shown = {name: row[name] for name in ("id", "name", "slug", "orgId", "createdAt", "updatedAt")}
    shown |= {
        "autoCapitalization": True,
        "version": 3,
        "upgradeStatus": None,
        "pitVersionLimit": 10,
        "kmsCertificateKeyId": None,
        "auditLogsRetentionDays": None,
        "_id": row["id"],
        "environments": [
            {name: one[name] for name in ("name", "slug", "id")} for one in _environments(call, row["id"])
        ],
    }
    current = {"description": row["description"], "type": row["type"], "hasDeleteProtection": False}
    return shown | (current if call.current else {})


def _project_key(call: Call) -> str:
    return "workspace" if "/workspace/" in call.path else "projectId"
