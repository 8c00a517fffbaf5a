"""Setting an Infisical up: the same end whatever is cut off or killed on the way, with no duplicate of anything."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import (
    atomic,
    cms,
    credentials,
    infisical_access,
    infisical_http,
    infisical_organisation,
    infisical_provision,
    systemd_creds,
)
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError
from ansible_collections.batten.core.plugins.module_utils.infisical import Client, Refused, Unreachable
from ansible_collections.batten.core.plugins.module_utils.infisical_access import Access
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths
from ansible_collections.batten.core.plugins.modules import infisical
from tests.unit.fake_infisical import Fake, no
from tests.unit.scripted_server import Asked, Say, serving

PASSWORD = "admin-password-nobody-may-see"
SETTINGS = infisical_provision.Settings("admin@example.com", "Example")


class Killed(BaseException):
    """The process is gone; nothing of it cleans up."""


@pytest.fixture(autouse=True)
def unsealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the sealed files as plain JSON, as a test has no host key; and wait for no disk, as no power is cut here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(systemd_creds, "write", lambda path, _, value: atomic.write_json(path, value))
    monkeypatch.setattr(systemd_creds, "read", lambda path, _: json.loads(path.read_bytes()))


@pytest.fixture
def host(tmp_path: Path) -> Callable[[str], StackPaths]:
    def make(name: str = "host") -> StackPaths:
        paths = StackPaths("infisical", str(tmp_path / name))
        credentials.save(paths, credentials.empty().having({"admin_password": PASSWORD}))
        return paths

    return make


def client_of(url: str) -> Client:
    return Client(url, timeout=2.0, sleep=lambda _: None)


WAYS = (("shop", "web1"), ("shop", "web2"), ("blog", "web1"))


def all_of_it(url: str, paths: StackPaths, ways: Sequence[tuple[str, str]] = WAYS) -> list[str]:
    """Set up, and let the hosts of ``ways`` in; return what was done."""
    with client_of(url) as client:
        changes = infisical_provision.bootstrap(paths, client, SETTINGS)
        for stack, name in ways:
            here = StackPaths(stack, f"{paths.root}-{name}")

            def save(one: Access, here: StackPaths = here) -> None:
                infisical_access.save(here, one)

            changes += infisical_provision.ensure(paths, client, stack, name, infisical_access.load(here), save)
        return changes


def check_ways(url: str, paths: StackPaths, ways: Sequence[tuple[str, str]] = WAYS) -> None:
    """See that everything that was kept opens what it should."""
    for stack, name in ways:
        known = infisical_access.load(StackPaths(stack, f"{paths.root}-{name}"))
        assert known is not None
        with client_of(url) as client:
            client.login(known.client_id, known.client_secret)
            client.call("GET", "/api/v4/secrets", {"projectId": known.project_id})


EXPECTED: dict[str, Any] = {
    "organizations": ["Example"],
    "config": {"allowSignUp": False, "onboardingCompleted": True},
    "identities": [
        ("batten-blog-web1", "no-access", 3600),
        ("batten-provisioning", "admin", 3600),
        ("batten-shop-web1", "no-access", 3600),
        ("batten-shop-web2", "no-access", 3600),
    ],
    "secrets": [
        ("batten-blog-web1", 1),
        ("batten-provisioning", 1),
        ("batten-shop-web1", 1),
        ("batten-shop-web2", 1),
    ],
    "projects": ["blog", "shop"],
    "members": [
        ("batten-blog-web1", "member"),
        ("batten-provisioning", "admin"),
        ("batten-provisioning", "admin"),
        ("batten-shop-web1", "member"),
        ("batten-shop-web2", "member"),
    ],
}


def test_everything_is_there_afterwards_and_a_second_run_changes_nothing(host: Callable[[str], StackPaths]) -> None:
    fake, paths = Fake(), host("host")
    with serving(fake) as (url, _):
        changes = all_of_it(url, paths)
        assert fake.state() == EXPECTED
        check_ways(url, paths)
        assert "identity batten-shop-web1: made" in changes
        assert all_of_it(url, paths) == []
        assert fake.state() == EXPECTED
    assert PASSWORD not in "".join(changes)
    assert fake.failed_logins == 0


def test_the_first_run_makes_few_requests_and_the_next_fewer(host: Callable[[str], StackPaths]) -> None:
    fake, paths = Fake(), host("host")
    with serving(fake) as (url, asked), client_of(url) as client:
        infisical_provision.bootstrap(paths, client, SETTINGS)
        first = len(asked)
        infisical_provision.bootstrap(paths, client, SETTINGS)
    assert (first, len(asked) - first) == (19, 4)


@contextlib.contextmanager
def in_process(fake: Fake, kill: int = 0, applied: bool = True) -> Iterator[str]:
    """Connect every client to ``fake`` without a socket: the loops below make some ten thousand requests.

    ``kill`` is the number of the request at which the process dies, before or after the server carries it out.
    """

    def exchange(_: Any, method: str, target: str, content: bytes | None, headers: dict[str, str]) -> Any:
        dying = fake.count + 1 == kill
        if dying and not applied:
            fake.count += 1
            raise Killed
        said = fake(Asked(method, target, headers, json.loads(content) if content else None))
        if dying:
            raise Killed
        if not isinstance(said, Say):
            raise infisical_http._Lost("it closed the connection", sent=True, final=False)
        return Received(said), json.dumps(said.body).encode()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(infisical_http.Http, "_exchange", exchange)
        yield "http://127.0.0.1:1"


class Received:
    """As much of an ``http.client.HTTPResponse`` as is looked at."""

    def __init__(self, said: Say) -> None:
        self.status = said.status
        self.getheader = said.headers.get


def undisturbed(host: Callable[[str], StackPaths], **options: Any) -> tuple[dict[str, Any], range]:
    """Return the state after a run that nothing disturbs, and the numbers of its requests."""
    fake = Fake(**options)
    with in_process(fake) as url:
        all_of_it(url, host("undisturbed"), WAYS[:1])
    return fake.state(), range(1, fake.count + 1)


@pytest.mark.parametrize("applied", [False, True], ids=["before it is applied", "after it is applied"])
def test_killed_at_any_request_a_second_run_ends_in_the_same_state(
    host: Callable[[str], StackPaths], applied: bool
) -> None:
    expected, numbers = undisturbed(host)
    for number in numbers:
        fake, paths = Fake(), host(f"killed{number}")
        with in_process(fake, number, applied) as url, pytest.raises(Killed):
            all_of_it(url, paths, WAYS[:1])
        with in_process(fake) as url:
            all_of_it(url, paths, WAYS[:1])
            assert fake.state() == expected, f"killed at request {number}"
            check_ways(url, paths, WAYS[:1])
            assert all_of_it(url, paths, WAYS[:1]) == []
        assert fake.failed_logins == 0


@pytest.mark.parametrize("applied", [False, True], ids=["not applied", "applied all the same"])
@pytest.mark.parametrize("old", [False, True], ids=["2026", "2025"])
def test_an_answer_that_is_lost_anywhere_leaves_no_duplicate(
    host: Callable[[str], StackPaths], applied: bool, old: bool
) -> None:
    expected, numbers = undisturbed(host, old=old)
    for number in numbers:
        fake, paths = Fake(lose=number, applied=applied, old=old), host(f"lost{number}")
        with in_process(fake) as url:
            said = ""
            try:
                all_of_it(url, paths, WAYS[:1])
            except Unreachable as error:  # an error is allowed, a duplicate or a leak is not
                said = str(error)
                all_of_it(url, paths, WAYS[:1])
            assert fake.state() == expected, f"request {number} lost"
            assert all_of_it(url, paths, WAYS[:1]) == []
        assert PASSWORD not in said
        assert "client-secret-value" not in said


def test_a_server_that_was_set_up_already_is_taken_over_by_the_administrators_login(
    host: Callable[[str], StackPaths],
) -> None:
    fake = Fake()
    with serving(fake) as (url, _):
        all_of_it(url, host("first"))
        restored = host("restored")  # with the administrator's password, and without our own login
        all_of_it(url, restored)
        assert fake.state() == EXPECTED
        check_ways(url, restored)


def test_with_the_sealed_copy_alone_a_changed_administrators_password_is_no_matter(
    host: Callable[[str], StackPaths],
) -> None:
    fake, first = Fake(), host("first")
    with serving(fake) as (url, _):
        all_of_it(url, first)
        fake.admin["password"] = "changed in the UI"
        restored = host("restored")  # by batten restore, or after an uninstall
        credentials.save(restored, credentials.load(first))
        all_of_it(url, restored)
        assert fake.state() == EXPECTED


def test_a_bootstrap_token_that_is_dead_at_birth_is_no_obstacle(host: Callable[[str], StackPaths]) -> None:
    fake = Fake(dead_token=True)
    with serving(fake) as (url, _):
        all_of_it(url, host("host"))
    assert fake.state() == EXPECTED


def test_sign_up_that_was_opened_again_is_closed(host: Callable[[str], StackPaths]) -> None:
    fake, paths = Fake(), host("host")
    with serving(fake) as (url, _), client_of(url) as client:
        infisical_provision.bootstrap(paths, client, SETTINGS)
        fake.config["allowSignUp"] = True
        assert infisical_provision.predict(paths, client, SETTINGS) == ["Infisical: allowSignUp set to false"]
        assert infisical_provision.bootstrap(paths, client, SETTINGS) == ["Infisical: allowSignUp set to false"]
    assert fake.config["allowSignUp"] is False


def test_check_mode_says_what_would_be_done_and_does_nothing(host: Callable[[str], StackPaths]) -> None:
    fake, paths = Fake(), host("host")
    with serving(fake) as (url, _), client_of(url) as client:
        assert infisical_provision.predict(paths, client, SETTINGS) == ["Infisical: set up, with organisation Example"]
    assert not fake.initialized
    with client_of(url) as client:
        assert infisical_provision.predict(paths, client, SETTINGS) == ["Infisical: set up, with organisation Example"]


def test_a_role_that_was_raised_is_put_back(host: Callable[[str], StackPaths]) -> None:
    fake, paths = Fake(), host("host")
    with serving(fake) as (url, _):
        all_of_it(url, paths)
        raised = next(one for one in fake.members if fake.known(one["identity"])["name"] == "batten-shop-web1")
        raised["role"] = "admin"
        assert all_of_it(url, paths) == ["batten-shop-web1 in its project: role put back to member"]
        assert fake.state() == EXPECTED


def test_of_duplicates_from_a_race_the_oldest_is_used_and_said(host: Callable[[str], StackPaths]) -> None:
    fake, paths = Fake(), host("host")
    with serving(fake) as (url, _), client_of(url) as client:
        infisical_provision.bootstrap(paths, client, SETTINGS)
        first, _second = (fake.new_identity("batten-shop-web1", "no-access") for _ in range(2))
        way = infisical_provision.enroll(paths, client, "shop", "web1")
        assert client.remarks == [
            "identity batten-shop-web1: there are 2 of this name in Infisical; the oldest is in use"
        ]
    assert first["clientId"] == way.client_id


def test_a_revoked_way_is_replaced_and_a_working_one_kept(host: Callable[[str], StackPaths]) -> None:
    fake, paths = Fake(), host("host")
    with serving(fake) as (url, _):
        all_of_it(url, paths)
        identity = next(one for one in fake.identities if one["name"] == "batten-shop-web1")
        fake.valid_secrets(identity["id"])[0]["revoked"] = True
        assert all_of_it(url, paths) == [
            "client secret of batten-shop-web1: made",
            "way to the secrets of stack shop on web1: sealed",
        ]
        assert fake.state() == EXPECTED
        check_ways(url, paths)


def test_rotating_an_identity_revokes_the_old_secret_last(host: Callable[[str], StackPaths]) -> None:
    fake, paths = Fake(), host("host")
    with serving(fake) as (url, _), client_of(url) as client:
        all_of_it(url, paths)
        identity = next(one for one in fake.identities if one["name"] == "batten-shop-web1")
        before = fake.valid_secrets(identity["id"])[0]["value"]
        saved: list[Access] = []

        def save(one: Access) -> None:
            assert [each["value"] for each in fake.valid_secrets(identity["id"])] == [before, one.client_secret]
            saved.append(one)

        infisical_provision.rotate_identity(paths, client, "shop", "web1", save)
        assert [each["value"] for each in fake.valid_secrets(identity["id"])] == [saved[0].client_secret]


def test_a_host_elsewhere_keeps_its_old_way_until_it_confirms_the_new_one(host: Callable[[str], StackPaths]) -> None:
    fake, paths = Fake(), host("host")
    with serving(fake) as (url, _), client_of(url) as client:
        infisical_provision.bootstrap(paths, client, SETTINGS)
        old = infisical_provision.issue(paths, client, "shop", "web9", "https://infisical.example", "CA")
        new = infisical_provision.issue(paths, client, "shop", "web9", "https://infisical.example", "CA")
        assert (new.access.url, new.access.ca) == ("https://infisical.example", "CA")
        identity = next(one for one in fake.identities if one["name"] == "batten-shop-web9")
        assert len(fake.valid_secrets(identity["id"])) == 2
        assert infisical_provision.revoke_all_but(paths, client, "shop", "web9", "unknown") == 0
        assert infisical_provision.revoke_all_but(paths, client, "shop", "web9", new.secret_id) == 1
        assert [one["value"] for one in fake.valid_secrets(identity["id"])] == [new.access.client_secret]
    assert old.access.client_secret != new.access.client_secret


def test_a_server_from_before_bootstrap_is_refused_with_the_way_out(host: Callable[[str], StackPaths]) -> None:
    words = r"no bootstrap endpoint.*\n  fix: .*infisical_mode: external"
    with serving(Fake(bootstraps=False)) as (url, _), client_of(url) as client, pytest.raises(BattenError, match=words):
        infisical_provision.bootstrap(host("host"), client, SETTINGS)


def test_a_changed_administrators_password_is_one_refused_login(host: Callable[[str], StackPaths]) -> None:
    fake = Fake()
    with serving(fake) as (url, _), client_of(url) as client:
        infisical_provision.bootstrap(host("first"), client, SETTINGS)
        fake.admin["password"] = "changed in the UI"
        with pytest.raises(Refused, match=r"Invalid credentials\n  fix: .*admin_password") as error:
            infisical_provision.bootstrap(host("second"), client, SETTINGS)
    assert fake.failed_logins == 1
    assert PASSWORD not in str(error.value)


def test_another_organisation_is_an_error_that_names_what_is_there(host: Callable[[str], StackPaths]) -> None:
    fake = Fake()
    with serving(fake) as (url, _), client_of(url) as client:
        infisical_provision.bootstrap(host("first"), client, SETTINGS)
        with pytest.raises(BattenError, match=r"no organisation Other\n  fix: .*: Example"):
            infisical_provision.bootstrap(
                host("second"), client, infisical_provision.Settings("admin@example.com", "Other")
            )


def test_a_lockout_is_not_mistaken_for_a_lost_login(
    host: Callable[[str], StackPaths], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake, paths = Fake(), host("host")
    with serving(fake) as (url, _), client_of(url) as client:
        infisical_provision.bootstrap(paths, client, SETTINGS)
        locked = "This identity auth method is temporarily locked, please try again later"
        monkeypatch.setattr(fake, "login", lambda **_: no(401, "UnauthorizedError", locked))
        before = len(fake.secrets)
        with pytest.raises(Refused, match="wait five minutes"):
            infisical_provision.bootstrap(paths, client, SETTINGS)
    assert len(fake.secrets) == before


def test_more_identities_than_a_page_holds_are_all_seen(host: Callable[[str], StackPaths]) -> None:
    fake, paths = Fake(), host("host")
    with serving(fake) as (url, _), client_of(url) as client:
        infisical_provision.bootstrap(paths, client, SETTINGS)
        for number in range(250):
            fake.new_identity(f"other{number}", "no-access")
        wanted = fake.new_identity("batten-shop-web1", "no-access")
        infisical_provision.enroll(paths, client, "shop", "web1")
    assert [one["id"] for one in fake.identities if one["name"] == "batten-shop-web1"] == [wanted["id"]]


@pytest.mark.parametrize("stack", ["shop", "a", "my_stack", "Shop", "a.b", "a-b", "x" * 60, "x" * 61])
def test_a_slug_is_what_the_server_takes_and_its_own(stack: str) -> None:
    slug = infisical_organisation.slug_of(stack)
    assert 5 <= len(slug) <= 36
    assert slug.replace("-", "").isalnum()
    assert slug == slug.lower()
    assert [slug == infisical_organisation.slug_of(other) for other in ("my-stack", "x" * 62)] == [False, False]


# The module


@pytest.fixture
def run(host: Callable[[str], StackPaths], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Return the module as a function of its parameters, on a host of its own."""
    paths = host("module")
    monkeypatch.setattr(infisical, "StackPaths", lambda stack: StackPaths(stack, paths.root))

    def call(url: str, check: bool = False, **more: Any) -> dict[str, Any]:
        given = {"stack": "infisical", "url": url, "email": SETTINGS.email, "organization": SETTINGS.organization}
        remote = {"remote_url": "https://infisical.example", "remote_ca_secret": ""}
        return infisical.run({**given, **remote, "enroll": [], "confirm": [], "timeout": 2.0, **more}, check)

    return call


def test_the_module_hands_a_host_elsewhere_what_only_that_host_can_open(
    run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    there = StackPaths("shop", str(tmp_path / "there"))
    wanted = {"stack": "shop", "host": "web9", "public_key": cms.public_key(there)}
    fake = Fake()
    with in_process(fake) as url:
        first = run(url, enroll=[wanted])
        second = run(url, enroll=[wanted])
        given = second["enrolled"][0]
        confirmed = run(url, confirm=[{"stack": "shop", "host": "web9", "secret_id": given["secret_id"]}])
        assert run(url)["changes"] == []
    assert (first["initialized"], second["initialized"], second["level"]) == (False, True, "v4")
    assert "web9: given a way to the secrets of stack shop" in first["changes"]
    assert confirmed["changes"] == ["web9: its old way to the secrets of stack shop revoked"]
    way = infisical_access.from_json(json.loads(cms.unseal(there, given["sealed"])))
    identity = next(one for one in fake.identities if one["name"] == "batten-shop-web9")
    assert [one["value"] for one in fake.valid_secrets(identity["id"])] == [way.client_secret]
    assert way.url == "https://infisical.example"
    said = json.dumps([first, second, confirmed])
    assert not [one["value"] for one in fake.secrets if one["value"] in said]
    assert PASSWORD not in said


def test_the_module_predicts_on_a_bare_host_and_on_a_new_server(run: Callable[..., dict[str, Any]]) -> None:
    wanted = {"stack": "shop", "host": "web9", "public_key": "not looked at"}
    expected = ["Infisical: set up, with organisation Example", "web9: given a way to the secrets of stack shop"]
    bare = run("http://127.0.0.1:1", check=True, enroll=[wanted])
    assert (bare["changes"], bare["level"], bare["enrolled"]) == (expected, "", [])
    fake = Fake()
    with in_process(fake) as url:
        assert run(url, check=True, enroll=[wanted])["changes"] == expected
    assert not fake.initialized


def test_the_module_names_a_ca_that_is_not_there(run: Callable[..., dict[str, Any]]) -> None:
    wanted = {"stack": "shop", "host": "web9", "public_key": "x"}
    with in_process(Fake()) as url, pytest.raises(BattenError, match=r"there is no CA https_ca"):
        run(url, enroll=[wanted], remote_ca_secret="https_ca")
