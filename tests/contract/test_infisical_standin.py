"""What answers under Infisical's name: as recorded in October 2024, and as documented for 2026.

Where this machine has the official images under their own names (or the rig pulled them, BATTEN_IMAGES=registry), the
same tests run against those.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.contract.infisical_replay import Replay, recorded
from tests.contract.infisical_server import CURRENT, OF_2024, Infisical
from tests.rig import engine, images, registry

REQUEST_SECONDS = 2
EMAIL, PASSWORD = "admin@example.test", "Dummy-password-1"
LOGIN = "/api/v1/auth/universal-auth/login"


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Infisical]]:
    """One of each level, started side by side."""
    engine.ensure_engine()
    registry.ensure_registry()
    images.ensure_images()
    found = {OF_2024: Infisical(OF_2024), CURRENT: Infisical(CURRENT, STANDIN_REQUEST_SECONDS=str(REQUEST_SECONDS))}
    try:
        with ThreadPoolExecutor(len(found)) as pool:
            list(pool.map(Infisical.start, found.values()))
        yield found
    finally:
        for server in found.values():
            server.remove()


# --- the level of October 2024 -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def replay(servers: dict[str, Infisical]) -> Replay:
    """A server that was set up as the recorded one was."""
    replay = Replay(servers[OF_2024])
    wrong = {exchange["id"]: difference for exchange in recorded("setup") if (difference := replay.setup(exchange))}
    assert not wrong
    replay.enrol()
    time.sleep(1.1)  # one client secret lives for a second
    return replay


def test_every_exchange_is_answered_as_recorded(replay: Replay) -> None:
    """One story: what one exchange creates, another one lists."""
    groups = ("status", "login", "auth-errors", "projects", "secrets", "folders", "references", "imports", "list")
    exchanges = recorded(*groups, "batch", "permissions", "malformed", "extra")
    wrong = {}
    for exchange in exchanges:
        if exchange["id"] == "expired-jwt":
            time.sleep(2.1)  # two tokens live for two seconds
        if difference := replay.difference(exchange, replay.send(exchange)):
            wrong[f"{exchange['group']}/{exchange['id']}"] = difference
    assert not wrong
    assert len(exchanges) > 200


@pytest.mark.parametrize(("store", "group"), [("pg", "pg-stopped"), ("redis", "redis-stopped")])
def test_a_stopped_store_is_felt_as_recorded(replay: Replay, store: str, group: str) -> None:
    exchanges = recorded(group)
    replay.server.ask("GET", "/api/status")  # so that the configuration is cached
    replay.server.act("stop", store)
    with ThreadPoolExecutor(8) as pool:
        at_once = [exchange for exchange in exchanges if exchange["id"].startswith("at0/")]
        found = list(zip(at_once, pool.map(replay.send, at_once), strict=True))
    for exchange in exchanges:
        if exchange["id"].startswith("at70/"):
            replay.server.forget_configuration()
            found.append((exchange, replay.send(exchange)))
    replay.server.act("start", store)
    replay.server.wait(30)
    found += [(one, replay.send(one)) for one in exchanges if one["id"].startswith("recovered/")]
    assert {one["id"]: said for one, answer in found if (said := replay.difference(one, answer))} == {}
    instant = [answer.seconds for one, answer in found if one["id"] in ("at0/no-token", "at0/garbage-token")]
    assert max(instant) < 1


def test_requests_are_counted_by_address_and_route(replay: Replay) -> None:
    one = next(exchange for exchange in recorded("list") if exchange["id"] == "list-root")
    path, other = one["request"]["path"], one["request"]["path"].replace("/raw?", "/raw/DB_PASSWORD?")

    def status(path: str, address: str) -> tuple[int | None, dict[str, str]]:
        headers = {**one["request"]["headers"], "X-Forwarded-For": address}
        answer = replay.send({"request": {"method": "GET", "path": path, "headers": headers}})
        return answer.status, answer.headers

    assert {status(path, "192.0.2.1")[0] for _ in range(40)} == {200}
    refused, headers = status(path, "192.0.2.1")
    assert (refused, headers["x-ratelimit-remaining"]) == (429, "0")
    assert 0 < int(headers["retry-after"]) <= 60
    assert [status(path, "192.0.2.2")[0], status(other, "192.0.2.1")[0]] == [200, 200]


def test_racing_creates_of_one_name_succeed_together(replay: Replay) -> None:
    example = next(exchange for exchange in recorded("secrets") if exchange["id"] == "create-minimal")
    made = 0
    for number in range(20):  # on a busy machine they may come one after the other
        request = {**example["request"], "path": f"/api/v3/secrets/raw/RACE_{number}"}
        with ThreadPoolExecutor(6) as pool:
            made = [answer.status for answer in pool.map(replay.send, [{"request": request}] * 6)].count(200)
        assert replay.server.sql(f"SELECT count(*) FROM secrets_v2 WHERE key = 'RACE_{number}'") == str(made)
        if made > 1:
            break
    assert made > 1


# --- the level of 2026 -------------------------------------------------------------------------------------------


@dataclass
class Instance:
    """A server of 2026 that was bootstrapped, and what that gave."""

    server: Infisical
    made: dict[str, Any]

    @property
    def token(self) -> str:
        found: str = self.made["identity"]["credentials"]["token"]
        return found

    @property
    def organization(self) -> str:
        found: str = self.made["organization"]["id"]
        return found

    def get(self, path: str, token: str | None = None, **headers: str) -> Any:
        return self.server.ask("GET", path, token=token or self.token, headers=headers)

    def post(self, path: str, body: Any, token: str | None = None) -> Any:
        """A request that succeeds: its JSON."""
        answer = self.server.ask("POST", path, body, token or self.token)
        assert answer.status == 200, answer.json
        return answer.json

    def identity(self, name: str, role: str = "no-access", **limits: Any) -> tuple[str, dict[str, str]]:
        """A new identity's id and its login."""
        body = {"name": name, "organizationId": self.organization, "role": role}
        known: str = self.post("/api/v1/identities", body)["identity"]["id"]
        path = f"/api/v1/auth/universal-auth/identities/{known}"
        client = self.post(path, limits)["identityUniversalAuth"]["clientId"]
        secret = self.post(f"{path}/client-secrets", {"description": "test"})["clientSecret"]
        return known, {"clientId": client, "clientSecret": secret}

    def login(self, credentials: dict[str, str]) -> str:
        found: str = self.post(LOGIN, credentials, "")["accessToken"]
        return found

    def project(self, name: str) -> str:
        found: str = self.post("/api/v1/projects", {"projectName": name})["project"]["id"]
        return found

    def host(self, project: str, name: str) -> str:
        """The token of a new identity that is a member of this project."""
        known, credentials = self.identity(name)
        self.post(f"/api/v1/projects/{project}/memberships/identities/{known}", {"role": "member"})
        return self.login(credentials)


def bootstrap(server: Infisical) -> Any:
    body = {"email": EMAIL, "password": PASSWORD, "organization": "Acme"}
    return server.ask("POST", "/api/v1/admin/bootstrap", body)


@pytest.fixture(scope="module")
def now(servers: dict[str, Infisical]) -> Instance:
    server = servers[CURRENT]
    config = server.ask("GET", "/api/v1/admin/config").json["config"]
    assert (config["initialized"], config["allowSignUp"]) == (False, True)
    return Instance(server, bootstrap(server).json)


REFUSED: dict[str, tuple[dict[str, str], str, tuple[float, float]]] = {
    "short key": ({"ENCRYPTION_KEY": "short"}, "Invalid key length", (0, 120)),
    "other key": ({"ENCRYPTION_KEY": "f" * 32}, "", (0, 120)),
    "no Redis": ({"REDIS_URL": ""}, "REDIS_URL", (0, 120)),
    "no secret": ({"AUTH_SECRET": ""}, "AUTH_SECRET", (0, 120)),
    "PostgreSQL away": ({"DB_CONNECTION_URI": "postgres://u:p@127.0.0.1:1/x"}, "", (2, 120)),
    "Redis away": ({"REDIS_URL": "redis://127.0.0.1:1"}, "", (8, 120)),
}
"""What is wrong, what the server says, and between how many seconds it gives up (recorded: 2.6 and 12.8)."""


@pytest.fixture(scope="module", autouse=True)
def starts(now: Instance) -> Iterator[dict[str, Future[tuple[int, str, float]]]]:
    """Starts that are to fail; they take their time beside the other tests."""
    with ThreadPoolExecutor(1) as pool:
        yield {name: pool.submit(now.server.run_once, **changes) for name, (changes, _, _) in REFUSED.items()}


@pytest.fixture(scope="module")
def place(now: Instance) -> dict[str, str]:
    """A project, and who may write to it."""
    project = now.project("shop")
    return {"project": project, "token": now.host(project, "host-1")}


def v4(place: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"projectId": place["project"], "environment": "prod", "secretPath": "/", **more}


def listing(place: dict[str, str], *, flags: str = "false") -> str:
    off = "&".join(
        f"{name}={flags}" for name in ("expandSecretReferences", "includeImports", "includePersonalOverrides")
    )
    where = f"projectId={place['project']}&environment=prod&secretPath=%2F"
    return f"/api/v4/secrets?{where}" + (f"&{off}" if flags else "")


def test_bootstrap_answers_once(now: Instance) -> None:
    assert now.made["user"]["superAdmin"] is True
    assert now.made["identity"]["name"] == "Instance Admin Identity"
    assert now.made["organization"]["slug"].startswith("acme-")
    again = bootstrap(now.server)
    assert (again.status, again.json["message"]) == (400, "Instance has already been set up")
    assert again.json.keys() >= {"reqId", "statusCode", "error", "message"}
    config = now.server.ask("GET", "/api/v1/admin/config").json["config"]
    assert (config["initialized"], config["allowSignUp"]) == (True, False)


def test_the_administrator_logs_in_and_selects_the_organisation(now: Instance) -> None:
    first = now.post("/api/v3/auth/login", {"email": EMAIL, "password": PASSWORD}, "")["accessToken"]
    assert now.get("/api/v1/organization", first).json["organizations"][0]["id"] == now.organization
    entered = now.post("/api/v3/auth/select-organization", {"organizationId": now.organization}, first)
    changed = now.server.ask("PATCH", "/api/v1/admin/config", {"allowSignUp": False}, entered["token"])
    assert changed.status == 200
    wrong = now.server.ask("POST", "/api/v3/auth/login", {"email": EMAIL, "password": "wrong"})
    assert wrong.status is not None
    assert 400 <= wrong.status < 500


def test_identities_have_one_way_in_and_are_found_again(now: Instance) -> None:
    known, _ = now.identity("twice")
    path = f"/api/v1/auth/universal-auth/identities/{known}"
    again = now.server.ask("POST", path, {}, now.token)
    assert again.status == 400
    assert "already configured identity" in again.json["message"]
    assert now.get(path).json["identityUniversalAuth"]["accessTokenTTL"] == 2592000
    found = now.get(f"/api/v1/identities?orgId={now.organization}&limit=100").json
    assert known in [one["identity"]["id"] for one in found["identities"]]
    assert now.server.ask("DELETE", f"/api/v1/identities/{known}", token=now.token).status == 200
    assert now.get(f"/api/v1/identities/{known}").status == 404


def test_a_revoked_client_secret_and_a_revoked_token_open_nothing(now: Instance) -> None:
    known, credentials = now.identity("revoked")
    token = now.login(credentials)
    assert now.get("/api/v1/projects", token).status == 200
    now.post("/api/v1/auth/token/revoke", {"accessToken": token}, "")
    assert now.get("/api/v1/projects", token).status == 401
    path = f"/api/v1/auth/universal-auth/identities/{known}/client-secrets"
    (row,) = now.get(path).json["clientSecretData"]
    assert credentials["clientSecret"].startswith(row["clientSecretPrefix"])
    now.post(f"{path}/{row['id']}/revoke", {})
    assert now.get(path).json["clientSecretData"] == []
    assert now.server.ask("POST", LOGIN, credentials).status == 401


def test_three_wrong_secrets_lock_the_right_one_out(now: Instance) -> None:
    _, credentials = now.identity("locked")
    wrong = {**credentials, "clientSecret": "0" * 64}
    said = [now.server.ask("POST", LOGIN, wrong).json["message"] for _ in range(3)]
    assert said == ["Invalid credentials"] * 3
    refused = now.server.ask("POST", LOGIN, credentials)
    assert (refused.status, "temporarily locked" in refused.json["message"]) == (401, True)


def test_a_lockout_ends(now: Instance) -> None:
    _, credentials = now.identity("short", lockoutThreshold=1, lockoutDurationSeconds=30)
    now.server.ask("POST", LOGIN, {**credentials, "clientSecret": "0" * 64})
    assert now.server.ask("POST", LOGIN, credentials).status == 401
    keys = [f"lockout:identity:*{credentials['clientId']}*"]
    forget = f"redis-cli --no-auth-warning -a p4ssw0rd --scan --pattern '{keys[0]}' | xargs redis-cli -a p4ssw0rd del"
    now.server.inside("redis", "sh", "-c", forget)
    assert now.server.ask("POST", LOGIN, credentials).status == 200


def test_projects_are_closed_to_identities_of_others(now: Instance, place: dict[str, str]) -> None:
    other = {**place, "project": now.project("other")}
    assert now.get(listing(other), place["token"]).status == 403
    assert now.server.ask("POST", "/api/v1/projects", {"projectName": "mine"}, place["token"]).status == 403
    assert [one["id"] for one in now.get("/api/v1/projects", place["token"]).json["projects"]] == [place["project"]]
    members = now.get(f"/api/v1/projects/{place['project']}/memberships/identities").json
    assert [one["roles"][0]["role"] for one in members["identityMemberships"] if "host-1" in json.dumps(one)] == [
        "member"
    ]


def test_an_environment_is_made_once(now: Instance, place: dict[str, str]) -> None:
    path = f"/api/v1/projects/{place['project']}/environments"
    now.post(path, {"name": "Demo", "slug": "demo"})
    assert now.server.ask("POST", path, {"name": "Demo", "slug": "demo"}, now.token).status == 400
    assert "demo" in [
        one["slug"] for one in now.get(f"/api/v1/projects/{place['project']}").json["project"]["environments"]
    ]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("plain", "plain"),
        ("  padded  \n\n", "padded\n"),
        ("one newline\n", "one newline\n"),
        ("\ufeffmark", "mark"),
        ("\x1cseparator\x85", "\x1cseparator\x85"),
        ("$dollar ${NOT_THERE} 'q' \"q\" \\ zażółć 🗝️", "$dollar ${NOT_THERE} 'q' \"q\" \\ zażółć 🗝️"),
        ("x" * 65536, "x" * 65536),
    ],
)
def test_values_come_back_trimmed(now: Instance, place: dict[str, str], sent: str, kept: str) -> None:
    path = "/api/v4/secrets/TRIMMED"
    now.post(path, v4(place, secretValue=sent), place["token"])
    found = now.get(path + listing(place).removeprefix("/api/v4/secrets"), place["token"]).json["secret"]
    assert now.server.ask("DELETE", path, v4(place), place["token"]).status == 200
    assert (found["secretValue"], found["version"]) == (kept, 1)


def test_a_batch_is_all_or_nothing(now: Instance, place: dict[str, str]) -> None:
    path, token = "/api/v4/secrets/batch", place["token"]
    names = ["ONE", "TWO"]
    now.post(path, v4(place, secrets=[{"secretKey": name, "secretValue": "1"} for name in names]), token)
    more = v4(place, secrets=[{"secretKey": name, "secretValue": "2"} for name in ("TWO", "THREE")])
    existing = now.server.ask("POST", path, more, token)
    missing = now.server.ask("PATCH", path, more, token)
    assert (existing.status, missing.status) == (400, 404)
    assert "already exist" in existing.json["message"]
    found = {one["secretKey"]: one for one in now.get(listing(place), token).json["secrets"]}
    assert {name: found[name]["secretValue"] for name in names} == {"ONE": "1", "TWO": "1"}
    assert "THREE" not in found
    changed = now.server.ask("PATCH", path, v4(place, secrets=[{"secretKey": "ONE", "secretValue": "2"}]), token)
    assert changed.json["secrets"][0]["version"] == 2
    gone = now.server.ask("DELETE", path, v4(place, secrets=[{"secretKey": name} for name in names]), token)
    assert gone.status == 200
    huge = [{"secretKey": f"H{number}", "secretValue": "x" * 65536} for number in range(20)]
    assert now.server.ask("POST", path, v4(place, secrets=huge), token).status in (413, 500)


def test_flags_are_on_in_v4_and_off_in_v3(now: Instance, place: dict[str, str]) -> None:
    token = place["token"]
    now.post("/api/v4/secrets/NAME", v4(place, secretValue="value"), token)
    now.post("/api/v4/secrets/REFERENCE", v4(place, secretValue="a-${NAME}"), token)
    older = f"/api/v3/secrets/raw?workspaceId={place['project']}&environment=prod&secretPath=%2F"
    answers = [now.get(path, token).json for path in (listing(place, flags=""), listing(place), older)]
    values = [{one["secretKey"]: one["secretValue"] for one in answer["secrets"]}["REFERENCE"] for answer in answers]
    assert values == ["a-value", "a-${NAME}", "a-${NAME}"]
    assert "imports" in answers[0]
    for name in ("NAME", "REFERENCE"):
        assert now.server.ask("DELETE", f"/api/v4/secrets/{name}", v4(place), token).status == 200


def test_a_conditional_get_of_what_is_known_brings_nothing(now: Instance, place: dict[str, str]) -> None:
    token = place["token"]
    forty = [{"secretKey": f"S{number}", "secretValue": "v" * 40} for number in range(40)]
    now.post("/api/v4/secrets/batch", v4(place, secrets=forty), token)
    whole = [now.get(listing(place), token) for _ in range(10)]
    tag = whole[0].headers["etag"]
    same = now.get(listing(place), token, **{"If-None-Match": tag})
    assert (same.status, same.json) == (304, None)
    assert len(whole[0].json["secrets"]) == 40
    changed = now.server.ask("PATCH", "/api/v4/secrets/S1", v4(place, secretValue="new"), token)
    assert changed.json["secret"]["version"] == 2
    after = now.get(listing(place), token, **{"If-None-Match": tag})
    assert (after.status, after.headers["etag"] != tag) == (200, True)


def test_values_lie_encrypted(now: Instance, place: dict[str, str]) -> None:
    now.post("/api/v4/secrets/HIDDEN", v4(place, secretValue="to-be-found-nowhere"), place["token"])
    dump = now.server.output("pg", "pg_dump", "-U", "postgres", "--inserts", "infisical")
    assert "HIDDEN" in dump
    assert not [form for form in ("to-be-found-nowhere", b"to-be-found-nowhere".hex(), PASSWORD) if form in dump]


def test_a_hung_store_gives_no_answer_and_what_was_cut_off_is_applied(now: Instance, place: dict[str, str]) -> None:
    limit = REQUEST_SECONDS if now.server.is_stand_in else 30
    _, credentials = now.identity("patient")
    for store in ("pg", "redis"):
        now.server.act("pause", store)
        try:
            body, token = v4(place, secretValue="late"), place["token"]
            with ThreadPoolExecutor(2) as pool:
                create = pool.submit(now.server.ask, "POST", f"/api/v4/secrets/LATE_{store}", body, token)
                login = pool.submit(now.server.ask, "POST", LOGIN, credentials)
            cut = [create.result(), login.result()]
            assert [answer.status for answer in cut] == [None] * len(cut)
            assert limit - 0.5 < min(answer.seconds for answer in cut)
            assert max(answer.seconds for answer in cut) < limit + 15
        finally:
            now.server.act("unpause", store)
    now.server.wait(30)
    found = _names(now, place, until="LATE_pg")
    assert "LATE_pg" in found


@pytest.mark.parametrize("name", REFUSED)
def test_a_wrong_start_is_refused(starts: dict[str, Future[tuple[int, str, float]]], name: str) -> None:
    """Nothing listens before the environment, PostgreSQL, the key and Redis are right."""
    _, said, (least, most) = REFUSED[name]
    code, printed, seconds = starts[name].result()
    assert code == 1, printed
    assert said in printed
    assert least < seconds < most


def test_lines_of_the_log_and_the_end_on_sigterm(now: Instance, place: dict[str, str]) -> None:
    def chatter() -> int:
        return sum("vent loop" in line for line in now.server.logs().splitlines())

    before = chatter()
    now.server.ask("GET", "/api/status")
    assert chatter() == before + 2
    lines = [json.loads(line) for line in now.server.logs().splitlines() if line.startswith("{")]
    assert all(line.keys() >= {"level", "time", "pid", "hostname", "severity", "msg"} for line in lines)
    now.server.act("stop", "app")
    assert now.server.exit_code() == 0
    now.server.start_app(PINO_LOG_LEVEL="warn")
    assert chatter() == 0
    assert now.get(listing(place), place["token"]).status == 200
    assert now.server.output("app", "id", "-u").strip() == "1001"
    for program in ("bash", "curl", "wget", "node"):
        assert now.server.inside("app", "sh", "-c", f"command -v {program}") == 0


@pytest.mark.parametrize(
    ("more", "works"),
    [({}, False), ({"LEGACY_IDENTITY_ACCESS_TOKEN_EXPIRATION_ENFORCED_AT": "2099-01-01T00:00:00Z"}, True)],
)
def test_the_bootstrap_token_of_v0_160(now: Instance, more: dict[str, str], works: bool) -> None:
    """Signed without an end, it is refused; the administrator's login works. A later date before boot helps."""
    server = now.server
    server.act("stop", "app")
    server.wipe()
    server.start_app(STANDIN_BOOTSTRAP_TOKEN_DEAD="1", **more)
    made = Instance(server, bootstrap(server).json)
    answer = made.get(f"/api/v1/identities?orgId={made.organization}")
    if works or not server.is_stand_in:
        assert answer.status == 200
    else:
        said = "Identity access token exceeded max age, please re-authenticate"
        assert (answer.status, answer.json["message"]) == (401, said)
    first = made.post("/api/v3/auth/login", {"email": EMAIL, "password": PASSWORD}, "")["accessToken"]
    token = made.post("/api/v3/auth/select-organization", {"organizationId": made.organization}, first)["token"]
    assert made.get(f"/api/v1/identities?orgId={made.organization}", token).status == 200


def _names(now: Instance, place: dict[str, str], until: str, seconds: float = 5) -> set[str]:
    """Names of the secrets, once that one is there or the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        found = {one["secretKey"] for one in now.get(listing(place), place["token"]).json["secrets"]}
        if until in found or time.monotonic() > deadline:
            return found
        time.sleep(0.1)
