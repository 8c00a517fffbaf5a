"""batten's client and set-up of Infisical, against what answers under that name, at both levels of its API.

Where this machine has the official images, the same tests run against those; see ``infisical_server.py``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from ansible_collections.batten.core.plugins.module_utils import (
    atomic,
    credentials,
    infisical_access,
    infisical_provision,
    systemd_creds,
)
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError
from ansible_collections.batten.core.plugins.module_utils.infisical import (
    Client,
    Place,
    Refused,
    Uncertain,
    Unreachable,
)
from ansible_collections.batten.core.plugins.module_utils.infisical_access import Access
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths
from tests.contract.infisical_replay import Replay, recorded
from tests.contract.infisical_server import CURRENT, OF_2024, Infisical
from tests.rig import engine, images, registry

PASSWORD = "Adm1n-password-nobody-may-see"
SETTINGS = infisical_provision.Settings("admin@example.com", "Example Org")
VALUES = {
    "plain": "p4ss",
    "empty": "",
    "blanks": " \t x \n\n",
    "large": "é\n" * 21000 + "\n",
    "looks_encoded": "batten-base64:eA==",
    "dollar": "${plain} $$ '\" \\ %s",
    "pem": "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n",
    "carriage": "a\r\nb\r\n",
    "nul": "a\0b",
    "bom": "\ufeffx\u00a0",
}


@dataclass(frozen=True)
class Ours:
    """A server that batten has set up, and what the host keeps of it."""

    server: Infisical
    paths: StackPaths

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server._address()}"

    def client(self, timeout: float = 10.0) -> Client:
        return Client(self.url, timeout=timeout, sleep=lambda seconds: time.sleep(seconds / 4))

    def ensure(self, stack: str, host: str) -> list[str]:
        here = StackPaths(stack, f"{self.paths.root}/{host}")
        with self.client() as client:
            return infisical_provision.ensure(
                self.paths,
                client,
                stack,
                host,
                infisical_access.load(here),
                lambda one: infisical_access.save(here, one),
            )

    def way(self, stack: str, host: str) -> Access:
        known = infisical_access.load(StackPaths(stack, f"{self.paths.root}/{host}"))
        assert known is not None
        return known

    def inside(self, stack: str = "shop", host: str = "web1", timeout: float = 10.0) -> tuple[Client, Place]:
        known = self.way(stack, host)
        client = self.client(timeout)
        client.login(known.client_id, known.client_secret)
        return client, Place(known.project_id)


@pytest.fixture(scope="module", autouse=True)
def rig() -> Iterator[None]:
    """Start what the servers need. Sealed files are plain here: the machine that tests has no host key."""
    engine.ensure_engine()
    registry.ensure_registry()
    images.ensure_images()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(systemd_creds, "write", lambda path, _, value: atomic.write_json(path, value))
        patch.setattr(systemd_creds, "read", lambda path, _: json.loads(path.read_bytes()))
        yield


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[Infisical, Infisical]]:
    """Both levels, the current one first, started side by side."""
    both = Infisical(CURRENT), Infisical(OF_2024)
    try:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(Infisical.start, both))
        yield both
    finally:
        for server in both:
            server.remove()


@pytest.fixture(scope="module")
def ours(servers: tuple[Infisical, Infisical], tmp_path_factory: pytest.TempPathFactory) -> Ours:
    ours = Ours(servers[0], kept(tmp_path_factory.mktemp("host")))
    with ours.client() as client:
        first = infisical_provision.bootstrap(ours.paths, client, SETTINGS)
        assert first[0] == "Infisical: set up, with organisation Example Org"
        assert "bootstrap identity: deleted, and its token with it" in first
        assert infisical_provision.bootstrap(ours.paths, client, SETTINGS) == []
        assert infisical_provision.predict(ours.paths, client, SETTINGS) == []
        assert infisical_provision.level(client) == "v4"
    for stack, host in (("shop", "web1"), ("shop", "web2"), ("blog", "web1")):
        assert ours.ensure(stack, host)
        assert ours.ensure(stack, host) == []
    return ours


def kept(root: Path) -> StackPaths:
    paths = StackPaths("infisical", str(root))
    credentials.save(paths, credentials.empty().having({"admin_password": PASSWORD}))
    return paths


def test_stacks_do_not_see_each_other_and_hosts_of_one_stack_share(ours: Ours) -> None:
    shop, place = ours.inside("shop", "web1")
    shop.create(place, {"shared": "1"})
    other, same = ours.inside("shop", "web2")
    assert same == place
    listing = other.secrets(place)
    assert listing is not None
    assert listing.secrets["shared"].value == "1"
    blog, _ = ours.inside("blog", "web1")
    with pytest.raises(Refused) as error:
        blog.secrets(place)
    assert error.value.status in (403, 404)


def test_what_a_restored_host_has_lost_is_made_again_and_nothing_twice(ours: Ours, tmp_path: Path) -> None:
    restored = Ours(ours.server, kept(tmp_path))
    with restored.client() as client:
        assert "client secret of batten-provisioning: an old one revoked" in infisical_provision.bootstrap(
            restored.paths, client, SETTINGS
        )
        assert client.remarks == []
    with ours.client() as client:  # the first host's login is revoked: it logs in as the administrator, and goes on
        assert infisical_provision.bootstrap(ours.paths, client, SETTINGS)
        found = infisical_provision.open_organisation(ours.paths, client)
        assert len(found.identities(infisical_provision.PROVISIONER)) == 1
        assert len(found.projects("shop")) == 1


@pytest.mark.parametrize("name", sorted(VALUES))
def test_values_come_back_byte_for_byte(ours: Ours, name: str) -> None:
    client, place = ours.inside()
    listing = client.create_missing(place, {f"value_{name}": VALUES[name]})
    assert listing.secrets[f"value_{name}"].value == VALUES[name]
    assert listing.secrets[f"value_{name}"].version == 1


def test_a_listing_is_sent_again_only_when_something_changed(ours: Ours) -> None:
    client, place = ours.inside()
    before = client.create_missing(place, {"turning": "1"})
    assert client.secrets(place, before.etag) is None
    assert client.update(place, {"turning": "2"}) == {"turning": 2}
    after = client.secrets(place, before.etag)
    assert after is not None
    assert (after.secrets["turning"].value, after.secrets["turning"].version) == ("2", 2)
    client.delete(place, ["turning"])
    gone = client.secrets(place, after.etag)
    assert gone is not None
    assert "turning" not in gone.secrets


def test_hosts_that_create_at_once_end_with_the_same_values(ours: Ours) -> None:
    clients = [ours.inside("shop", host)[0] for host in ("web1", "web2") for _ in range(2)]
    place = Place(ours.way("shop", "web1").project_id)
    names = [f"raced{number}" for number in range(5)]
    with ThreadPoolExecutor(len(clients)) as pool:
        list(
            pool.map(
                lambda pair: pair[1].create_missing(place, dict.fromkeys(names, f"by {pair[0]}")), enumerate(clients)
            )
        )
    seen = [client.create_missing(place, dict.fromkeys(names, "late")) for client in clients]
    assert all(one.secrets == seen[0].secrets for one in seen)
    assert "late" not in {seen[0].secrets[name].value for name in names}


def test_what_the_server_refuses_is_one_error_without_a_value(ours: Ours) -> None:
    client, place = ours.inside()
    client.create_missing(place, {"there": "1"})
    writes: tuple[tuple[Callable[[], object], str], ...] = (
        (lambda: client.create(place, {"there": PASSWORD}), "already exist"),
        (lambda: client.update(place, {"missing": PASSWORD}), "404"),
        (lambda: client.create(place, {"a:b": PASSWORD}), "colons or slashes"),
        (lambda: client.create(Place(place.project_id, "nowhere"), {"a": PASSWORD}), "nowhere"),
    )
    for write, words in writes:
        with pytest.raises(Refused, match=words) as error:
            write()
        assert PASSWORD not in str(error.value)


def test_a_rotated_identity_replaces_the_old_login(ours: Ours) -> None:
    before = ours.way("shop", "web2")
    with ours.client() as client:
        here = StackPaths("shop", f"{ours.paths.root}/web2")
        after = infisical_provision.rotate_identity(
            ours.paths, client, "shop", "web2", lambda one: infisical_access.save(here, one)
        )
    with ours.client() as client, pytest.raises(Refused, match="Invalid credentials"):
        client.login(before.client_id, before.client_secret)
    assert ours.way("shop", "web2") == after
    assert ours.ensure("shop", "web2") == []


def test_a_lockout_is_said_and_not_made_longer(ours: Ours) -> None:
    ours.ensure("locked", "web1")
    known = ours.way("locked", "web1")
    for _ in range(3):
        with ours.client() as client, pytest.raises(Refused, match="Invalid credentials"):
            client.login(known.client_id, "wrong")
    with ours.client() as client, pytest.raises(Refused, match="wait five minutes"):
        client.login(known.client_id, known.client_secret)


def test_a_hanging_database_costs_one_timeout_and_what_was_cut_off_is_found(ours: Ours) -> None:
    client, place = ours.inside(timeout=1.0)
    ours.server.act("pause", "pg")
    try:
        begun = time.monotonic()
        with pytest.raises(Uncertain, match="may have done it all the same"):
            client.create(place, {"cut_off": "1"})
        with pytest.raises(Unreachable, match="none within 1 s"):
            client.secrets(place)
        assert time.monotonic() - begun < 20
    finally:
        ours.server.act("unpause", "pg")
    ours.server.wait()
    listing = client.create_missing(place, {"cut_off": "1"})
    assert "cut_off" not in listing.duplicates
    assert listing.secrets["cut_off"].value == "1"


@pytest.mark.parametrize("store", ["pg", "redis"])
def test_a_stopped_store_is_unreachable_and_back_when_it_is_back(ours: Ours, store: str) -> None:
    client, place = ours.inside(timeout=1.0)
    ours.server.act("stop", store)
    try:
        begun = time.monotonic()
        with pytest.raises(Unreachable) as error:
            client.secrets(place)
        assert time.monotonic() - begun < 20
        with pytest.raises(Unreachable):
            client.update(place, {"shared": PASSWORD})
        assert PASSWORD not in str(error.value)
    finally:
        ours.server.act("start", store)
    deadline = time.monotonic() + 30
    while not answers(client, place):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def answers(client: Client, place: Place) -> bool:
    try:
        return client.secrets(place) is not None
    except Unreachable:
        return False


def test_a_bootstrap_token_that_is_dead_at_birth_is_no_obstacle(ours: Ours, tmp_path: Path) -> None:
    """The last one: it begins with an empty server."""
    ours.server.act("stop", "app")
    ours.server.wipe()
    ours.server.start_app(STANDIN_BOOTSTRAP_TOKEN_DEAD="1")
    new = Ours(ours.server, kept(tmp_path))
    with new.client() as client:
        infisical_provision.bootstrap(new.paths, client, SETTINGS)
        assert infisical_provision.bootstrap(new.paths, client, SETTINGS) == []
    assert new.ensure("shop", "web1")


# The level of October 2024: what external mode may meet


@pytest.fixture(scope="module")
def old(servers: tuple[Infisical, Infisical]) -> Replay:
    """An old server, set up as the recorded one was."""
    replay = Replay(servers[1])
    for exchange in recorded("setup"):
        replay.setup(exchange)
    replay.enrol()
    return replay


def test_an_old_server_is_spoken_to_by_v3(old: Replay) -> None:
    token = old.placeholders["admin_token"]
    attached = old.server.ask("GET", old._live(old.clients["writer"]), token=token).json["identityUniversalAuth"]
    place = Place(old._live("e292eccd-0707-4c98-adbc-9297ec6699d0"), "dev")  # the recorded project's id
    with Client(f"http://127.0.0.1:{old.server._address()}") as client:
        assert infisical_provision.level(client) == "v3"
        client.login(attached["clientId"], old.placeholders["writer.client_secret"])
        listing = client.create_missing(place, VALUES)
        assert client.level == "v3"
        assert {name: listing.secrets[name].value for name in VALUES} == VALUES
        assert client.secrets(place, listing.etag) is None
        assert client.update(place, {"plain": "new"}) == {"plain": 2}
        client.delete(place, ["nul"])
        after = client.secrets(place)
        assert after is not None
        assert (after.secrets["plain"].value, "nul" in after.secrets) == ("new", False)
        with pytest.raises(Refused, match="already exist"):
            client.create(place, {"plain": "x"})


def test_an_old_server_cannot_be_set_up_and_says_so(old: Replay, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{old.server._address()}"
    with Client(url) as client, pytest.raises(BattenError, match="infisical_mode: external"):
        infisical_provision.bootstrap(kept(tmp_path), client, SETTINGS)
