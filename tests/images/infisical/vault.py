"""Folders and secrets: v3 with its names of 2024, and v4 beside it at the current level."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import Any

import psycopg2.extras
from access import by_slug, project
from checks import Field, array, boolean, check, choice, flag, number, path, text, trim, value
from database import Row, Transaction
from failures import bad_request, broken, not_found
from web import Call, route

ENCRYPTION_SECONDS = 0.02
"""What the real one spends between looking for a name and writing it: racing creates fall into this gap (recorded)."""
EXPANSIONS = 12
SECRETS_V3, SECRETS_V4 = "/api/v3/secrets/raw", "/api/v4/secrets"
BATCH_V3, BATCH_V4 = "/api/v3/secrets/batch/raw", "/api/v4/secrets/batch"
WRITTEN: dict[str, Field] = {
    "secretComment": text(None),
    "skipMultilineEncoding": boolean(False),
    "secretReminderNote": text(None),
    "secretReminderRepeatDays": number(None),
    "type": choice("shared", "personal", default="shared"),
}


@dataclass(frozen=True)
class Place:
    """A folder of an environment of a project."""

    project: Row
    environment: str
    path: str
    folder: Row | None

    def needed(self, label: str = "NotFound") -> Row:
        """The folder, or 404."""
        if self.folder is None:
            raise not_found(
                f"Folder with path '{self.path}' in environment with slug '{self.environment}' not found", label
            )
        return self.folder


# --- folders -----------------------------------------------------------------------------------------------------


@route("POST", "/api/v1/folders")
@route("POST", "/api/v2/folders", level="current")
def create_folder(call: Call) -> Any:
    key = _project_key(call)
    wanted = call.fields(**{key: text()}, environment=text(), name=text(least=1), path=path())
    row = project(call, wanted[key], "create")
    environment = _environment(call, row, wanted["environment"])
    if not environment:
        raise not_found(f"Environment with slug '{wanted['environment']}' in project with ID '{row['id']}' not found")
    if not re.fullmatch(r"[\w-]+", wanted["name"], re.ASCII):
        if not call.current:
            raise broken("Find by secret path")
        raise bad_request("Folder name can only contain alphanumeric characters, dashes, and underscores")
    with call.db.transaction("Create") as transaction:
        parent = transaction.one(
            'SELECT * FROM secret_folders WHERE "envId" = %s AND "parentId" IS NULL', environment["id"]
        )
        for name in filter(None, wanted["path"].split("/")):
            parent = _child(transaction, parent, name) or _made(transaction, parent, name)
        existing = _child(transaction, parent, wanted["name"])
        if existing and call.current:
            raise bad_request(f"Folder with name '{wanted['name']}' already exists in path '{wanted['path']}'")
        return {"folder": _shown_folder(existing or _made(transaction, parent, wanted["name"]))}


@route("GET", "/api/v1/folders")
@route("GET", "/api/v2/folders", level="current")
def folders(call: Call) -> Any:
    key = _project_key(call)
    asked = call.asked(**{key: text()}, environment=text(), path=path())
    row = project(call, asked[key])
    if not _environment(call, row, asked["environment"]):
        raise not_found(f"Environment with slug '{asked['environment']}' not found")
    folder = _folder(call, row, asked["environment"], asked["path"])
    found = (
        call.db.rows('SELECT * FROM secret_folders WHERE "parentId" = %s ORDER BY name', folder["id"]) if folder else []
    )
    return {"folders": [_shown_folder(one) for one in found]}


@route("DELETE", "/api/v1/folders/:folder")
@route("DELETE", "/api/v2/folders/:folder", level="current")
def delete_folder(call: Call) -> Any:
    key = _project_key(call)
    wanted = call.fields(**{key: text()}, environment=text(), path=path())
    row = project(call, wanted[key], "delete")
    parent = _folder(call, row, wanted["environment"], wanted["path"])
    name = call.params["folder"]
    gone = call.db.row(
        'DELETE FROM secret_folders WHERE "parentId" = %s AND (name = %s OR id::text = %s) RETURNING *',
        parent["id"] if parent else None,
        name,
        name,
    )
    if not gone:
        raise not_found(f"Failed to delete folder with ID '{name}', not found")
    return {"folder": _shown_folder(gone)}


# --- imports -----------------------------------------------------------------------------------------------------


@route("POST", "/api/v1/secret-imports")
@route("POST", "/api/v2/secret-imports", level="current")
def create_import(call: Call) -> Any:
    key = _project_key(call)
    wanted = call.fields(**{key: text()}, environment=text(), path=path(), **{"import": Field("object")})
    source = check({"environment": text(), "path": path()}, wanted["import"], call.current)
    row = project(call, wanted[key], "create")
    folder = Place(
        row, wanted["environment"], wanted["path"], _folder(call, row, wanted["environment"], wanted["path"])
    )
    environment = _environment(call, row, source["environment"])
    if not environment:
        raise not_found(f"Imported environment with slug '{source['environment']}' not found")
    made = call.db.one(
        'INSERT INTO secret_imports ("folderId", "importEnvId", "importPath", position)'
        ' SELECT %s, %s, %s, count(*) + 1 FROM secret_imports WHERE "folderId" = %s RETURNING *',
        folder.needed()["id"],
        environment["id"],
        source["path"],
        folder.needed()["id"],
    )
    return {"message": "Successfully created secret import", "secretImport": _shown_import(made, environment)}


@route("GET", "/api/v1/secret-imports")
@route("GET", "/api/v2/secret-imports", level="current")
def imports(call: Call) -> Any:
    key = _project_key(call)
    asked = call.asked(**{key: text()}, environment=text(), path=path())
    row = project(call, asked[key])
    folder = _folder(call, row, asked["environment"], asked["path"])
    found = [_shown_import(one, environment) for one, environment in _imports(call, folder)] if folder else []
    return {"message": "Successfully fetched secret imports", "secretImports": found}


# --- secrets -----------------------------------------------------------------------------------------------------


@route("GET", SECRETS_V3, limit="secrets")
@route("GET", SECRETS_V4, limit="secrets", level="current")
def listed(call: Call) -> Any:
    """In v4 the booleans for references and imports default to true, in v3 to false."""
    v4 = call.path.startswith(SECRETS_V4)
    importing = "includeImports" if v4 else "include_imports"
    asked = call.asked(
        workspaceId=text(None),
        workspaceSlug=text(None),
        projectId=text(None),
        environment=text() if v4 else text(None),
        secretPath=path(),
        recursive=flag(False),
        expandSecretReferences=flag(v4),
        viewSecretValue=flag(True),
        includePersonalOverrides=flag(v4),
        **{importing: flag(v4)},
    )
    if not asked["environment"] or not (_named(call, asked) or asked["workspaceSlug"]):
        raise bad_request("Missing workspace id or environment")
    place = _place(call, asked, "read", "Failed to find project by slug")
    if place.folder is None:
        return {"secrets": []} | ({} if asked["recursive"] else {"imports": []})
    found = (
        _secrets_below(call, place, place.folder)
        if asked["recursive"]
        else _secrets(call, place, place.folder, place.path)
    )
    hidden = v4 and not asked["viewSecretValue"]
    answer: dict[str, Any] = {"secrets": [one | {"tags": []} for one in _cleared(call, place, found, asked, hidden)]}
    if asked[importing]:
        answer["imports"] = [_imported(call, _source(call, place, *known)) for known in _imports(call, place.folder)]
    return answer


@route("GET", f"{SECRETS_V3}/:name", limit="secrets")
@route("GET", f"{SECRETS_V4}/:name", limit="secrets", level="current")
def one(call: Call) -> Any:
    v4 = call.path.startswith(SECRETS_V4)
    importing = "includeImports" if v4 else "include_imports"
    asked = call.asked(
        workspaceId=text(None),
        workspaceSlug=text(None),
        projectId=text(None),
        environment=text() if v4 else text(None),
        secretPath=path(),
        version=text(None),
        type=choice("shared", "personal", default="shared"),
        expandSecretReferences=flag(v4),
        viewSecretValue=flag(True),
        **{importing: flag(v4)},
    )
    if not asked["environment"]:
        raise bad_request("Missing environment")
    if not (_named(call, asked) or asked["workspaceSlug"]):
        raise bad_request("You must provide workspaceSlug or workspaceId")
    place = _place(call, asked, "read", "Find project by slug")
    name = trim(call.params["name"])
    row = _by_name(call, place.needed("GetSecretByName"), name)
    found = _shown(call, place, row) | {"tags": []} if row else None
    if row and v4 and asked["version"]:
        found = _shown(call, place, row | _version(call, row, asked["version"])) | {"tags": []}
    if not row and asked[importing]:
        # The last import that has it; a folder's own secret goes before all of them.
        for source in (_source(call, place, *known) for known in reversed(_imports(call, place.needed()))):
            row = row or (_by_name(call, source.folder, name) if source.folder else None)
            found = found or (_shown(call, source, row) if row else None)
    if not found:
        raise not_found(f"Secret with name '{name}' not found")
    return {"secret": _cleared(call, place, [found], asked, v4 and not asked["viewSecretValue"])[0]}


@route("POST", f"{SECRETS_V3}/:name", limit="secrets")
@route("POST", f"{SECRETS_V4}/:name", limit="secrets", level="current")
def create(call: Call) -> Any:
    wanted = call.fields(**_where(call), secretValue=value(), **WRITTEN)
    return {"secret": _create(call, wanted, [wanted | {"secretKey": trim(call.params["name"])}], "CreateSecret")[0]}


@route("PATCH", f"{SECRETS_V3}/:name", limit="secrets")
@route("PATCH", f"{SECRETS_V4}/:name", limit="secrets", level="current")
def update(call: Call) -> Any:
    v4 = call.path.startswith(SECRETS_V4)
    wanted = call.fields(
        **_where(call), secretValue=value(None) if v4 else value(), newSecretName=text(None), **WRITTEN
    )
    place = _place(call, wanted, "edit")
    folder = place.needed("UpdateSecret")
    name = trim(call.params["name"])
    row = _by_name(call, folder, name)
    if not row:
        raise not_found(f"Secret with name {name} not found")
    renamed = wanted["newSecretName"]
    if renamed and _by_name(call, folder, renamed):
        raise bad_request("Secret with the new name already exist")
    with call.db.transaction("Update") as transaction:
        changed = _write(call, transaction, row, wanted, renamed)
    # As in the real one, the answer shows a comment only if one was sent; the stored one is kept (recorded).
    return {"secret": _shown(call, place, changed) | {"secretComment": wanted["secretComment"] or ""}}


@route("DELETE", f"{SECRETS_V3}/:name", limit="secrets")
@route("DELETE", f"{SECRETS_V4}/:name", limit="secrets", level="current")
def delete(call: Call) -> Any:
    wanted = call.fields(**_where(call), type=WRITTEN["type"])
    place = _place(call, wanted, "delete")
    row = _by_name(call, place.needed("DeleteSecret"), trim(call.params["name"]))
    if not row:
        raise not_found(f"Secret with name '{call.params['name'].strip()}' not found", "DeleteSecret")
    shown = _shown(call, place, row)
    # Every row of that name (recorded).
    call.db.rows('DELETE FROM secrets_v2 WHERE "folderId" = %s AND key = %s', row["folderId"], row["key"])
    return {"secret": shown}


@route("POST", BATCH_V3, limit="secrets")
@route("POST", BATCH_V4, limit="secrets", level="current")
def create_batch(call: Call) -> Any:
    items = array({"secretKey": text(), "secretValue": value(), **WRITTEN}, least=1)
    wanted = call.fields(**_where(call, slug=True), secrets=items)
    return {"secrets": _create(call, wanted, wanted["secrets"], "CreateManySecret")}


@route("PATCH", BATCH_V3, limit="secrets")
@route("PATCH", BATCH_V4, limit="secrets", level="current")
def update_batch(call: Call) -> Any:
    v4 = call.path.startswith(SECRETS_V4)
    item = {"secretKey": text(), "secretValue": value(None) if v4 else value(), "newSecretName": text(None), **WRITTEN}
    wanted = call.fields(**_where(call, slug=True), secrets=array(item, least=1))
    place = _place(call, wanted, "edit")
    folder = place.needed("UpdateManySecret")
    rows = _all_there(call, folder, [one["secretKey"] for one in wanted["secrets"]], "Secret does not exist")
    with call.db.transaction("Update") as transaction:
        changed = [
            _write(call, transaction, row, one, one["newSecretName"])
            for row, one in zip(rows, wanted["secrets"], strict=True)
        ]
    return {"secrets": [_shown(call, place, row) for row in changed]}


@route("DELETE", BATCH_V3, limit="secrets")
@route("DELETE", BATCH_V4, limit="secrets", level="current")
def delete_batch(call: Call) -> Any:
    wanted = call.fields(
        **_where(call, slug=True), secrets=array({"secretKey": text(), "type": WRITTEN["type"]}, least=1)
    )
    place = _place(call, wanted, "delete")
    folder = place.needed("DeleteManySecret")
    rows = _all_there(
        call, folder, [one["secretKey"] for one in wanted["secrets"]], "One or more secrets does not exist"
    )
    shown = [_shown(call, place, row) for row in rows]
    with call.db.transaction("Delete") as transaction:
        for row in rows:
            transaction.rows('DELETE FROM secrets_v2 WHERE "folderId" = %s AND key = %s', folder["id"], row["key"])
    return {"secrets": shown}


# --- what they share ---------------------------------------------------------------------------------------------


def _project_key(call: Call) -> str:
    return "workspaceId" if call.path.startswith("/api/v1/") else "projectId"


def _named(call: Call, asked: dict[str, Any]) -> str | None:
    """The project's id, by the name it has in this version of the API."""
    found: str | None = asked.get("projectId") if call.path.startswith(SECRETS_V4) else asked.get("workspaceId")
    return found


def _where(call: Call, *, slug: bool = False) -> dict[str, Field]:
    if call.path.startswith(SECRETS_V4):
        key = {"projectId": text()}
    else:
        key = {"workspaceId": text(None), "projectSlug": text(None)} if slug else {"workspaceId": text()}
    return key | {"environment": text(), "secretPath": path()}


def _place(call: Call, asked: dict[str, Any], action: str, label: str = "Find project by slug") -> Place:
    slug = asked.get("workspaceSlug") or asked.get("projectSlug")
    wanted = _named(call, asked)
    if not wanted and not slug:
        raise bad_request("Must provide workspaceId or projectSlug")
    row = project(call, wanted, action) if wanted else by_slug(call, str(slug), label, action)
    folder = _folder(call, row, asked["environment"], asked["secretPath"])
    return Place(row, asked["environment"], asked["secretPath"], folder)


def _environment(call: Call, row: Row, slug: str) -> Row | None:
    return call.db.row('SELECT * FROM project_environments WHERE "projectId" = %s AND slug = %s', row["id"], slug)


def _folder(call: Call, row: Row, environment: str, where: str) -> Row | None:
    """The folder at a path, from the root down; a path without its slash leads nowhere (recorded)."""
    if not where.startswith("/"):
        return None
    found = call.db.row(
        'SELECT f.* FROM secret_folders f JOIN project_environments e ON e.id = f."envId"'
        ' WHERE e."projectId" = %s AND e.slug = %s AND f."parentId" IS NULL',
        row["id"],
        environment,
    )
    for name in filter(None, where.split("/")):
        if found is None:
            return None
        found = call.db.row('SELECT * FROM secret_folders WHERE "parentId" = %s AND name = %s', found["id"], name)
    return found


def _child(transaction: Transaction, parent: Row, name: str) -> Row | None:
    return transaction.row('SELECT * FROM secret_folders WHERE "parentId" = %s AND name = %s', parent["id"], name)


def _made(transaction: Transaction, parent: Row, name: str) -> Row:
    return transaction.one(
        'INSERT INTO secret_folders ("envId", "parentId", name) VALUES (%s, %s, %s) RETURNING *',
        parent["envId"],
        parent["id"],
        name,
    )


def _by_name(call: Call, folder: Row, name: str) -> Row | None:
    return call.db.row('SELECT * FROM secrets_v2 WHERE "folderId" = %s AND key = %s ORDER BY id', folder["id"], name)


def _all_there(call: Call, folder: Row, names: list[str], said: str) -> list[Row]:
    """The rows of all names, or 404 that names (as recorded) those that do exist."""
    rows = [_by_name(call, folder, name) for name in names]
    if None in rows:
        there = ",".join(row["key"] for row in rows if row)
        raise not_found(f"{said}: {there}")
    return [row for row in rows if row]


def _create(call: Call, wanted: dict[str, Any], items: list[dict[str, Any]], label: str) -> list[dict[str, Any]]:
    place = _place(call, wanted, "create")
    folder = place.needed(label)
    if any(item["type"] == "personal" for item in items):
        raise bad_request("Must be user to create personal secret")
    names = [item["secretKey"] for item in items]
    if call.current and any(re.search("[:/]", name) or not name for name in names):
        raise bad_request("Secret name cannot be empty or contain colons or slashes")
    there = call.db.rows('SELECT key FROM secrets_v2 WHERE "folderId" = %s AND key = ANY(%s)', folder["id"], names)
    if there:
        raise bad_request("Secret already exist" if len(items) == 1 else _already(there))
    time.sleep(ENCRYPTION_SECONDS)
    with call.db.transaction("Create") as transaction:
        rows = [_insert(call, transaction, folder, item) for item in items]
    return [_shown(call, place, row) for row in rows]


def _already(there: list[Row]) -> str:
    return f"Secret already exist: {','.join(row['key'] for row in there)}"


def _insert(call: Call, transaction: Transaction, folder: Row, item: dict[str, Any]) -> Row:
    sealed = call.server.seal(item["secretValue"])
    row = transaction.one(
        'INSERT INTO secrets_v2 ("folderId", key, "encryptedValue", "encryptedComment", "reminderNote",'
        ' "reminderRepeatDays", "skipMultilineEncoding", "secretMetadata")'
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING *",
        folder["id"],
        item["secretKey"],
        sealed,
        call.server.seal(item["secretComment"] or ""),
        item["secretReminderNote"],
        item["secretReminderRepeatDays"],
        item["skipMultilineEncoding"],
        psycopg2.extras.Json([]),
    )
    transaction.rows("INSERT INTO secret_versions_v2 VALUES (%s, %s, %s)", row["id"], 1, sealed)
    return row


def _write(call: Call, transaction: Transaction, row: Row, item: dict[str, Any], name: str | None) -> Row:
    """The next version of a secret; it goes up for the same value too (recorded)."""
    sealed = row["encryptedValue"] if item["secretValue"] is None else call.server.seal(item["secretValue"])
    comment = row["encryptedComment"] if item["secretComment"] is None else call.server.seal(item["secretComment"])
    changed = transaction.one(
        'UPDATE secrets_v2 SET key = %s, "encryptedValue" = %s, "encryptedComment" = %s, version = version + 1,'
        ' "updatedAt" = now() WHERE id = %s RETURNING *',
        name or row["key"],
        sealed,
        comment,
        row["id"],
    )
    transaction.rows("INSERT INTO secret_versions_v2 VALUES (%s, %s, %s)", row["id"], changed["version"], sealed)
    return changed


def _secrets(call: Call, place: Place, folder: Row, where: str) -> list[dict[str, Any]]:
    rows = call.db.rows('SELECT * FROM secrets_v2 WHERE "folderId" = %s ORDER BY id', folder["id"])
    return [_shown(call, place, row) | {"secretPath": where} for row in rows]


def _secrets_below(call: Call, place: Place, folder: Row) -> list[dict[str, Any]]:
    """The secrets of a folder and of all under it."""
    found = []
    left = [(folder, place.path)]
    while left:
        here, where = left.pop(0)
        found += _secrets(call, place, here, where)
        below = call.db.rows('SELECT * FROM secret_folders WHERE "parentId" = %s ORDER BY name', here["id"])
        left += [(one, f"{where.rstrip('/')}/{one['name']}") for one in below]
    return found


def _imports(call: Call, folder: Row) -> list[tuple[Row, Row]]:
    found = call.db.rows('SELECT * FROM secret_imports WHERE "folderId" = %s ORDER BY position', folder["id"])
    return [(one, call.db.one("SELECT * FROM project_environments WHERE id = %s", one["importEnvId"])) for one in found]


def _source(call: Call, place: Place, one: Row, environment: Row) -> Place:
    """Where an import takes its secrets from."""
    folder = _folder(call, place.project, environment["slug"], one["importPath"])
    return Place(place.project, environment["slug"], one["importPath"], folder)


def _imported(call: Call, source: Place) -> dict[str, Any]:
    """What an import brings; which value counts is left to the client. There are no dates in it (recorded)."""
    secrets = _secrets(call, source, source.folder, source.path) if source.folder else []
    dropped = ("createdAt", "updatedAt", "secretPath", "secretReminderNote", "secretReminderRepeatDays")
    return {
        "secretPath": source.path,
        "environment": source.environment,
        "folderId": source.folder["id"] if source.folder else None,
        "secrets": [{k: v for k, v in secret.items() if k not in dropped} | {"workspace": ""} for secret in secrets],
    }


def _version(call: Call, row: Row, version: str) -> Row:
    """What an earlier version held."""
    old = call.db.row(
        'SELECT version, "encryptedValue" FROM secret_versions_v2 WHERE "secretId" = %s AND version::text = %s',
        row["id"],
        version,
    )
    if not old:
        raise not_found(f"Secret with name '{row['key']}' not found")
    return old


def _cleared(
    call: Call, place: Place, found: list[dict[str, Any]], asked: dict[str, Any], hidden: bool
) -> list[dict[str, Any]]:
    """Values with references followed, or hidden, as was asked."""
    if hidden:
        return [one | {"secretValue": "<hidden-by-infisical>", "secretValueHidden": True} for one in found]
    if not asked["expandSecretReferences"]:
        return found
    return [one | {"secretValue": _expanded(call, place, one["secretValue"])} for one in found]


def _expanded(call: Call, place: Place, value: str, depth: int = 0) -> str:
    """`${KEY}` and `${env.folder.KEY}` replaced by what they name; what is missing stays as it is written."""
    if depth >= EXPANSIONS - 1 or "${" not in value:
        return value

    def follow(match: re.Match[str]) -> str:
        *where, name = match.group(1).split(".")
        environment = where[0] if where else place.environment
        folder = _folder(call, place.project, environment, "/" + "/".join(where[1:]) if where else place.path)
        row = _by_name(call, folder, name) if folder else None
        if not row:
            return match.group(0)
        return _expanded(call, place, call.server.unseal(row["encryptedValue"]), depth + 1)

    return re.sub(r"\$\{([^}]+)}", follow, value)


def _shown(call: Call, place: Place, row: Row) -> dict[str, Any]:
    shown = {
        "id": row["id"],
        "_id": row["id"],
        "workspace": place.project["id"],
        "environment": place.environment,
        "version": row["version"],
        "type": "shared",
        "secretKey": row["key"],
        "secretValue": call.server.unseal(row["encryptedValue"]),
        "secretComment": call.server.unseal(row["encryptedComment"]),
        "secretReminderNote": row["reminderNote"],
        "secretReminderRepeatDays": row["reminderRepeatDays"],
        "skipMultilineEncoding": row["skipMultilineEncoding"],
        "metadata": None,
        "createdAt": row["createdAt"],
        "updatedAt": row["updatedAt"],
    }
    if call.current:
        shown |= {"secretValueHidden": False, "secretPath": place.path, "secretMetadata": row["secretMetadata"]}
        shown |= {"isRotatedSecret": False, "rotationId": None}
    return shown


def _shown_folder(row: Row) -> dict[str, Any]:
    return {**row, "isReserved": False}


def _shown_import(row: Row, environment: Row) -> dict[str, Any]:
    shown = {name: value for name, value in row.items() if name != "importEnvId"}
    return shown | {
        "isReplication": False,
        "isReplicationSuccess": None,
        "replicationStatus": None,
        "lastReplicated": None,
        "isReserved": False,
        "importEnv": {name: environment[name] for name in ("name", "slug", "id")},
    }
