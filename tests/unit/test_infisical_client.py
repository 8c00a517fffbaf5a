"""The client of Infisical, against a server whose answers are written down here."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.batten.core.plugins.module_utils.errors import BattenError
from ansible_collections.batten.core.plugins.module_utils.infisical import (
    MARKER,
    Client,
    Listing,
    Place,
    Refused,
    Stored,
    Uncertain,
    Unreachable,
    decode,
    encode,
)
from tests.unit.scripted_server import Asked, Drop, Hang, Say, serving

PLACE = Place("p1")
LOGIN = "/api/v1/auth/universal-auth/login"
NO_ROUTE = Say(404, {"message": "Route GET:/api/v4/secrets not found", "error": "Not Found", "statusCode": 404})
SECRET = "s3cret-value-nobody-may-see"


def token(name: str = "t1", seconds: int = 3600) -> Say:
    return Say(200, {"accessToken": name, "expiresIn": seconds, "accessTokenMaxTTL": seconds, "tokenType": "Bearer"})


def row(name: str, value: str, version: int = 1, at: str = "2026-01-01", **more: Any) -> dict[str, Any]:
    return {"id": f"{name}{version}{at}", "secretKey": name, "secretValue": value, "version": version} | {
        "type": "shared",
        "updatedAt": at,
        **more,
    }


def rows(*given: dict[str, Any], etag: str = '"e1"') -> Say:
    return Say(200, {"secrets": list(given), "imports": []}, {"ETag": etag})


def refusal(status: int, error: str, message: Any) -> Say:
    return Say(status, {"statusCode": status, "error": error, "message": message})


class Script:
    """Answers in order; the last one again and again. A login is answered by itself, unless ``logins`` are given."""

    def __init__(self, *answers: Any, logins: tuple[Any, ...] = ()) -> None:
        self.answers = list(answers)
        self.logins = list(logins)

    def __call__(self, asked: Asked) -> Any:
        if asked.path == LOGIN:
            return self.logins.pop(0) if self.logins else token()
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def paths_of(asked: list[Asked]) -> list[str]:
    return [f"{one.method} {one.path.partition('?')[0]}" for one in asked]


def client_of(url: str, **options: Any) -> Client:
    return Client(url, **{"timeout": 2.0, "sleep": lambda _: None, **options})


def logged_in(url: str, **options: Any) -> Client:
    client = client_of(url, **options)
    client.login("id", SECRET)
    return client


# Values


@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("")
@example("  both ends ")
@example("one\n")
@example("two\n\n")
@example("carriage\r\n")
@example("\ufeffbom")
@example("nbsp\u00a0")
@example("\x1cseparator\x85")
@example("nul\0")
@example(MARKER)
@example(MARKER + "bm8=")
@example(MARKER + "no base64")
@example("${NOT.A.REFERENCE} $x \\ ' \"")
@example("é" * 32768)
def test_a_value_comes_back_byte_for_byte_through_a_server_that_trims(value: str) -> None:
    assert decode(trimmed(encode(value))) == value


def trimmed(text: str) -> str:
    """What the server does: ``trim()`` of JavaScript, one final newline kept (recorded: group secrets)."""
    blank = (
        " \t\n\v\f\r\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f"
    )
    core = text.strip(blank + "\u205f\u3000\ufeff")
    return f"{core}\n" if text.endswith("\n") else core


def test_what_needs_no_encoding_stays_readable() -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"
    assert [encode(value) for value in ("p4ss", "a b", pem)] == ["p4ss", "a b", pem]


def test_what_a_person_typed_behind_the_marker_is_left_alone() -> None:
    assert decode(MARKER + "%%%") == MARKER + "%%%"


def test_a_value_over_the_limit_is_refused_before_anything_is_sent() -> None:
    with serving(Script(rows())) as (url, asked):
        with pytest.raises(BattenError, match=r"secret big: .*longer than Infisical takes") as error:
            client_of(url).create(PLACE, {"small": "x", "big": SECRET * 40000})
        assert not asked
    assert SECRET not in str(error.value)


def test_a_lone_surrogate_is_no_text() -> None:
    with pytest.raises(BattenError, match="no valid text"):
        encode("\ud800")


# Listing


def test_a_listing_says_value_version_and_etag_and_sends_every_flag() -> None:
    with serving(Script(rows(row("a", "1", 3), row("b", encode(" x "))))) as (url, asked):
        listing = logged_in(url).secrets(PLACE)
    assert listing == Listing('"e1"', {"a": Stored("1", 3), "b": Stored(" x ", 1)})
    assert listing.secrets["a"].updated == "2026-01-01"
    assert asked[1].headers["Authorization"] == "Bearer t1"
    for flag in ("viewSecretValue=true", "expandSecretReferences=false", "includeImports=false", "projectId=p1"):
        assert flag in asked[1].path
    assert SECRET not in "".join(one.path for one in asked)


def test_an_etag_that_still_holds_brings_nothing() -> None:
    with serving(Script(Say(304))) as (url, asked):
        assert logged_in(url).secrets(PLACE, '"e1"') is None
    assert asked[1].headers["If-None-Match"] == '"e1"'


def test_of_several_rows_with_one_name_the_newest_counts_and_is_reported() -> None:
    twice = rows(row("a", "new", 1, "2026-01-02"), row("a", "old", 7, "2026-01-01"), row("a", "mine", type="personal"))
    with serving(Script(twice)) as (url, _):
        listing = logged_in(url).secrets(PLACE)
    assert listing is not None
    assert (listing.secrets["a"].value, listing.duplicates) == ("new", ("a",))


def test_an_identity_that_may_see_no_values_is_told_so() -> None:
    with (
        serving(Script(rows(row("a", "<hidden>", secretValueHidden=True)))) as (url, _),
        pytest.raises(Refused, match="names, not values"),
    ):
        logged_in(url).secrets(PLACE)


def test_a_server_without_v4_is_asked_by_v3_from_then_on() -> None:
    with serving(lambda asked: NO_ROUTE if "/v4/" in asked.path else Script(rows(row("a", "1")))(asked)) as (
        url,
        asked,
    ):
        client = logged_in(url)
        client.secrets(PLACE)
        client.create(PLACE, {"a": "1"})
    assert client.level == "v3"
    assert paths_of(asked)[1:] == [
        "GET /api/v4/secrets",
        "GET /api/v3/secrets/raw",
        "POST /api/v3/secrets/batch/raw",
    ]
    assert "workspaceId=p1" in asked[2].path
    assert asked[3].body["workspaceId"] == "p1"


def test_a_missing_project_is_no_missing_route() -> None:
    with serving(Script(refusal(404, "NotFound", "Project with ID 'p1' not found"))) as (url, asked):
        client = logged_in(url)
        with pytest.raises(Refused, match="Project with ID 'p1' not found"):
            client.secrets(PLACE)
    assert client.level == "v4"
    assert len(asked) == 2


# Writing


def test_create_update_and_delete_are_batches() -> None:
    with serving(Script(rows(row("a", "1", 4)))) as (url, asked):
        client = logged_in(url)
        assert client.create(PLACE, {"a": " 1"}) == {"a": 4}
        client.update(PLACE, {"a": "2"})
        client.delete(PLACE, ["a"])
    assert paths_of(asked)[1:] == [f"{verb} /api/v4/secrets/batch" for verb in ("POST", "PATCH", "DELETE")]
    assert asked[1].body["secrets"] == [{"secretKey": "a", "secretValue": MARKER + base64.b64encode(b" 1").decode()}]
    assert asked[3].body["secrets"] == [{"secretKey": "a", "type": "shared"}]


def test_batches_stay_under_the_servers_body_limit() -> None:
    values = {f"n{number}": "é" * 60000 for number in range(8)} | {f"s{number}": "x" for number in range(250)}
    with serving(Script(rows())) as (url, asked):
        logged_in(url).create(PLACE, values)
    sent = asked[1:]
    assert max(len(json.dumps(one.body)) for one in sent) < 1024 * 1024
    assert max(len(one.body["secrets"]) for one in sent) <= 100
    assert sorted(item["secretKey"] for one in sent for item in one.body["secrets"]) == sorted(values)


def test_nothing_to_write_asks_nobody() -> None:
    with serving(Script(rows())) as (url, asked):
        assert client_of(url).create(PLACE, {}) == {}
    assert not asked


def test_an_approval_policy_is_an_error() -> None:
    with (
        serving(Script(Say(200, {"approval": {"id": "x"}}))) as (url, _),
        pytest.raises(Refused, match="approval policy"),
    ):
        logged_in(url).create(PLACE, {"a": SECRET})


@pytest.mark.parametrize("broken", [Drop(), Say(500, {"error": "x", "message": "y"}), Say(502, b"<html>")])
def test_a_write_whose_answer_is_lost_is_not_sent_again(broken: Any) -> None:
    with serving(Script(broken)) as (url, asked):
        client = logged_in(url)
        for write in (lambda: client.create(PLACE, {"a": SECRET}), lambda: client.delete(PLACE, ["a"])):
            with pytest.raises(Uncertain, match="may have done it all the same") as error:
                write()
            assert SECRET not in str(error.value)
    assert len(asked) == 3


class Vault:
    """A place that applies creates, and loses the answers that it is told to lose."""

    def __init__(self, lose: tuple[int, ...] = (), late: int = 0) -> None:
        self.rows: list[dict[str, Any]] = []
        self.lose = lose
        self.late = late  # how many lists a create that was cut off takes to appear
        self.creates = 0
        self.pending: list[dict[str, Any]] = []

    def __call__(self, asked: Asked) -> Any:
        if asked.path == LOGIN:
            return token()
        if asked.method == "GET":
            self.late -= 1
            if self.late < 0:
                self.rows, self.pending = self.rows + self.pending, []
            return rows(*self.rows)
        self.creates += 1
        names = {one["secretKey"] for one in self.rows}
        if any(item["secretKey"] in names for item in asked.body["secrets"]):
            return refusal(400, "BadRequest", "Secret already exist: ...")
        made = [row(item["secretKey"], item["secretValue"]) for item in asked.body["secrets"]]
        if self.creates in self.lose:
            self.pending = made
            return Drop()
        self.rows += made
        return rows(*made)


@pytest.mark.parametrize("late", [0, 1, 3])
def test_a_create_that_was_cut_off_but_applied_is_found_and_not_made_twice(late: int) -> None:
    vault = Vault(lose=(1,), late=late + 1)
    with serving(vault) as (url, _):
        listing = logged_in(url).create_missing(PLACE, {"a": "1", "b": " 2 "})
    assert {name: one.value for name, one in listing.secrets.items()} == {"a": "1", "b": " 2 "}
    assert (vault.creates, len(vault.rows), listing.duplicates) == (1, 2, ())


def test_a_create_that_never_appears_is_made_again_and_given_up_in_the_end() -> None:
    def lost(asked: Asked) -> Any:
        return token() if asked.path == LOGIN else rows() if asked.method == "GET" else Drop()

    with serving(lost) as (url, asked), pytest.raises(Uncertain, match="does not show what was created: a"):
        logged_in(url).create_missing(PLACE, {"a": SECRET})
    assert paths_of(asked).count("POST /api/v4/secrets/batch") == 3


def test_what_another_host_created_in_the_meantime_stays() -> None:
    vault = Vault()

    def raced(asked: Asked) -> Any:
        if asked.method == "POST" and asked.path != LOGIN and not vault.rows:
            vault.rows.append(row("a", "theirs"))
        return vault(asked)

    with serving(raced) as (url, _):
        listing = logged_in(url).create_missing(PLACE, {"a": "mine", "b": "2"})
    assert {name: one.value for name, one in listing.secrets.items()} == {"a": "theirs", "b": "2"}


@pytest.mark.parametrize("value", ["e", "exist", "already exist", "a"])
def test_what_exists_is_understood_whatever_the_values_are(value: str) -> None:
    vault = Vault()

    def raced(asked: Asked) -> Any:
        if asked.method == "POST" and asked.path != LOGIN and not vault.rows:
            vault.rows.append(row("a", "theirs"))
        return vault(asked)

    with serving(raced) as (url, _):
        assert logged_in(url).create_missing(PLACE, {"a": value}).secrets["a"].value == "theirs"


# Logging in


def test_a_refused_login_is_never_tried_again() -> None:
    wrong = refusal(401, "UnauthorizedError", "Invalid credentials")
    with serving(Script(rows(), logins=(wrong, wrong))) as (url, asked):
        with pytest.raises(Refused, match="Invalid credentials") as error:
            client_of(url).login("id", SECRET)
        assert len(asked) == 1
    assert (error.value.status, error.value.locked) == (401, False)
    assert SECRET not in "".join(traceback.format_exception(error.value))


def test_a_lockout_says_how_long_to_wait() -> None:
    locked = refusal(
        401, "UnauthorizedError", "This identity auth method is temporarily locked, please try again later"
    )
    with (
        serving(Script(rows(), logins=(locked,))) as (url, _),
        pytest.raises(Refused, match="wait five minutes") as error,
    ):
        client_of(url).login("id", SECRET)
    assert error.value.locked


@pytest.mark.parametrize(
    "over",
    [
        refusal(403, "TokenError", "Your token has expired. Please re-authenticate."),
        refusal(401, "UnauthorizedError", "No identity access token found"),
    ],
)
def test_a_token_that_ran_out_is_renewed_once_by_logging_in(over: Say) -> None:
    script = Script(over, rows(row("a", "1")), logins=(token("t1"), token("t2")))
    with serving(script) as (url, asked):
        listing = logged_in(url).secrets(PLACE)
    assert listing is not None
    assert [one.headers.get("Authorization") for one in asked] == [None, "Bearer t1", None, "Bearer t2"]


def test_a_token_that_is_refused_for_ever_ends_after_one_more_login() -> None:
    with (
        serving(Script(refusal(401, "UnauthorizedError", "revoked"))) as (url, asked),
        pytest.raises(Refused, match="revoked"),
    ):
        logged_in(url).secrets(PLACE)
    assert paths_of(asked).count(f"POST {LOGIN}") == 2


def test_a_login_that_fails_while_renewing_is_the_last_one() -> None:
    over = refusal(403, "TokenError", "expired")
    wrong = refusal(401, "UnauthorizedError", "Invalid credentials")
    with serving(Script(over, logins=(token(), wrong))) as (url, asked):
        client = logged_in(url)
        for _ in range(3):
            with pytest.raises(Refused):
                client.secrets(PLACE)
    assert paths_of(asked).count(f"POST {LOGIN}") == 2


def test_a_malformed_request_is_401_too_and_no_reason_to_log_in() -> None:
    issues = [{"path": ["secrets", 0, "secretValue"], "message": f"too long: {SECRET}"}]
    with (
        serving(Script(refusal(401, "ValidationFailure", issues))) as (url, asked),
        pytest.raises(Refused, match=r"secrets\.0\.secretValue: too long: \(value\)") as error,
    ):
        logged_in(url).create(PLACE, {"a": SECRET})
    assert SECRET not in str(error.value)
    assert len(asked) == 2


def test_an_old_token_is_renewed_before_it_is_used() -> None:
    with serving(Script(rows(), logins=(token("t1", seconds=0.001), token("t2")))) as (url, asked):  # type: ignore[arg-type]
        client = logged_in(url)
        time.sleep(0.01)
        client.secrets(PLACE)
    assert asked[-1].headers["Authorization"] == "Bearer t2"


def test_a_ready_made_token_is_not_renewed() -> None:
    with serving(Script(refusal(401, "UnauthorizedError", "exceeded max age"))) as (url, asked):
        client = client_of(url)
        client.use_token(SECRET)
        with pytest.raises(Refused) as error:
            client.call("GET", "/api/v1/identities")
    assert len(asked) == 1
    assert SECRET not in str(error.value)


# Answers that fail


def test_reads_are_tried_again_after_what_may_pass() -> None:
    pauses: list[float] = []
    script = Script(Say(500, {"error": "x", "message": "y"}), Drop(), rows(row("a", "1")))
    with serving(script) as (url, asked):
        assert logged_in(url, sleep=pauses.append).secrets(PLACE) is not None
    assert len(asked) == 4
    assert pauses == [0.2, 0.6]


def test_reads_are_not_tried_for_ever() -> None:
    with (
        serving(Script(Say(503, {"message": "down"}))) as (url, asked),
        pytest.raises(Unreachable, match=r"it answered 503 \(down\)"),
    ):
        logged_in(url).secrets(PLACE)
    assert len(asked) == 5


def test_too_many_requests_are_waited_out_as_the_server_says() -> None:
    pauses: list[float] = []
    busy = Say(429, {"error": "RateLimitExceeded", "message": "x"}, {"Retry-After": "7"})
    with serving(Script(busy, busy, rows())) as (url, asked):
        logged_in(url, sleep=pauses.append).create(PLACE, {"a": "1"})
    assert pauses == [7, 7]
    assert len(asked) == 4


@pytest.mark.parametrize("after", ["30", "100000", "soon", "-1", None])
def test_too_many_requests_for_too_long_are_given_up(after: str | None) -> None:
    pauses: list[float] = []
    busy = Say(429, {"message": "x"}, {"Retry-After": after} if after else {})
    with serving(Script(busy)) as (url, _):
        client = logged_in(url, sleep=pauses.append)
        with pytest.raises(Unreachable, match="too many requests"):
            client.secrets(PLACE)
    assert sum(pauses) <= 65


@pytest.mark.parametrize("slow", [Hang(5), Say(200, {"secrets": []}, drip=0.1)])
def test_an_answer_that_does_not_come_or_drips_is_given_up_after_the_timeout(slow: Any) -> None:
    with serving(Script(slow)) as (url, asked):
        client = logged_in(url, timeout=0.3)
        for request in (lambda: client.secrets(PLACE), lambda: client.create(PLACE, {"a": "1"})):
            begun = time.monotonic()
            with pytest.raises(Unreachable, match=r"none within 0\.3 s"):
                request()
            assert time.monotonic() - begun < 4
    assert len(asked) == 3


def test_nobody_there_is_said_with_the_reason() -> None:
    with serving(Script(rows())) as (url, _):
        pass
    with pytest.raises(Unreachable, match=r"Connection refused\n  fix: see: curl"):
        client_of(url).login("id", SECRET)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            Say(302, None, {"Location": f"https://u:{SECRET}@elsewhere.example/x?{SECRET}"}),
            "sends us to https://elsewhere",
        ),
        (Say(200, b"<html>proxy</html>"), "no Infisical's"),
        (Say(200, {"other": 1}), "no Infisical's"),
        (Say(200, [1]), "no Infisical's"),
        (Say(404, b"<html>"), "no Infisical's"),
        (Say(413, {"error": "Payload Too Large", "message": "x"}), "413 Payload Too Large"),
    ],
)
def test_an_answer_that_is_no_infisicals_is_refused(said: Say, words: str) -> None:
    with serving(Script(said)) as (url, asked), pytest.raises(Refused, match=words) as error:
        logged_in(url).secrets(PLACE)
    assert len(asked) == 2
    assert SECRET not in str(error.value)


def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.batten.core.plugins.module_utils.infisical_http.MAX_ANSWER", 1024)
    with serving(Script(Say(200, {"secrets": "x" * 4096}))) as (url, _), pytest.raises(Unreachable, match="more than"):
        logged_in(url).secrets(PLACE)


def test_a_truncated_answer_is_no_answer() -> None:
    short = Say(200, b'{"secrets": []}', {"Content-Length": "400", "Connection": "close"})
    with serving(Script(short)) as (url, _), pytest.raises(Unreachable):
        logged_in(url, timeout=0.5).secrets(PLACE)


def test_one_connection_serves_many_requests_and_a_closed_one_loses_no_write() -> None:
    closing = Say(200, {"secrets": []}, {"Connection": "close"})
    with serving(Script(rows(), closing, rows())) as (url, asked):
        client = logged_in(url)
        client.secrets(PLACE)
        client.secrets(PLACE)
        client.create(PLACE, {"a": "1"})
    assert len(asked) == 4


# Addresses


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://infisical.example", "plain HTTP to infisical.example"),
        ("http://10.0.0.1:8080", r"plain HTTP to 10\.0\.0\.1"),
        ("http://localhost.example", "plain HTTP"),
        ("http://127.0.0.1.example", "plain HTTP"),
        ("ftp://127.0.0.1", "is none"),
        ("https://", "is none"),
        ("127.0.0.1:8222", "is none"),
        ("https://u:p@h", "a login in it"),
        ("https://h:port", "cannot be read"),
        ("https://h?x=1", "is none"),
    ],
)
def test_an_address_that_would_show_secrets_is_refused(url: str, words: str) -> None:
    with pytest.raises(BattenError, match=words):
        Client(url)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1", "http://127.9.9.9", "http://[::1]:8222", "http://localhost:1", "https://h/api/"]
)
def test_loopback_may_be_plain(url: str) -> None:
    assert not Client(url).url.endswith(("/", "/api"))


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], tuple[str, ssl.SSLContext]]:
    """Return a maker of ``(CA, server context)`` for a leaf with the given name, all by openssl."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder)

    def make(ca: str, name: str) -> tuple[str, ssl.SSLContext]:
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2")
        if not (folder / f"{ca}.pem").exists():
            openssl("req", "-x509", *curve, "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-subj", f"/CN={ca}")
        (folder / "ext").write_text(f"subjectAltName={name}\nauthorityKeyIdentifier=keyid\n")
        openssl("req", *curve[:-2], "-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=leaf")
        signing = ("-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial", "-days", "2", "-extfile", "ext")
        openssl("x509", "-req", "-in", "leaf.csr", *signing, "-out", "leaf.pem")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(str(folder / "leaf.pem"), str(folder / "leaf.key"))
        return Path(folder / f"{ca}.pem").read_text(), context

    return make


def test_the_pinned_ca_and_the_name_are_what_counts(
    authority: Callable[[str, str], tuple[str, ssl.SSLContext]],
) -> None:
    ca, good = authority("ours", "IP:127.0.0.1")
    _, wrong_name = authority("ours", "DNS:elsewhere.example")
    other, _ = authority("other", "IP:127.0.0.1")
    with serving(Script(rows(row("a", "1"))), good) as (url, _):
        assert logged_in(url, ca=ca).secrets(PLACE) is not None
        for trusted in (other, ""):
            with pytest.raises(Unreachable, match=r"certificate is not valid.*\n  fix: give the CA"):
                client_of(url, ca=trusted).login("id", SECRET)
    with serving(Script(rows()), wrong_name) as (url, asked):
        with pytest.raises(Unreachable, match="certificate is not valid"):
            client_of(url, ca=ca).login("id", SECRET)
        assert not asked


def test_a_hanging_tls_server_is_given_up_too(authority: Callable[[str, str], tuple[str, ssl.SSLContext]]) -> None:
    ca, context = authority("ours", "IP:127.0.0.1")
    with serving(Script(Hang(5)), context) as (url, _):
        client = logged_in(url, ca=ca, timeout=0.4)
        begun = time.monotonic()
        with pytest.raises(Unreachable, match="none within"):
            client.secrets(PLACE)
        assert time.monotonic() - begun < 4


def test_a_ca_that_is_none_is_refused() -> None:
    with pytest.raises(BattenError, match="infisical_ca"):
        Client("https://h", "no certificate")


# Leaks


def test_no_value_is_in_what_is_printed_of_a_secret() -> None:
    assert SECRET not in repr(Listing("", {"a": Stored(SECRET, 1)}))
