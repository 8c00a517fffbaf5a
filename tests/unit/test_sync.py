"""A stack's values between Infisical and its host, with an Infisical of a few lines and a host of a few files."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import (
    atomic,
    credentials,
    generators,
    metrics,
    pki,
    release,
    rotation,
    sync,
)
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError
from ansible_collections.batten.core.plugins.module_utils.infisical import Listing, Refused, Stored, Unreachable
from ansible_collections.batten.core.plugins.module_utils.infisical_access import Access
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths

RULES: dict[str, Any] = {
    "password": {"generator": "password", "rotation": "restart"},
    "token": {"generator": "hex", "rotation": "restart"},
}
ACCESS = Access("http://127.0.0.1:8222", "id", "secret", "project")


class Vault(sync.Vault):
    """Infisical: an ETag is the sum of all versions."""

    def __init__(self) -> None:
        super().__init__(ACCESS)
        self.stored: dict[str, Stored] = {}
        self.answers = True
        self.asked: list[str] = []

    def listing(self, etag: str = "") -> Listing | None:
        self.asked.append(etag)
        if not self.answers:
            raise Unreachable("Infisical does not answer", ACCESS.url, "see: docker logs infisical")
        now = f"v{sum(one.version for one in self.stored.values())}"
        return None if etag == now else Listing(now, dict(self.stored))

    def offer(self, values: Mapping[str, str]) -> Mapping[str, Stored]:
        self.push({name: value for name, value in values.items() if name not in self.stored})
        return self.stored

    def push(self, values: Mapping[str, str]) -> dict[str, int]:
        for name, value in values.items():
            self.type(name, value)
        return {name: self.stored[name].version for name in values}

    def type(self, name: str, value: str) -> None:
        """What a person does in the browser."""
        old = self.stored.get(name)
        self.stored[name] = Stored(value, old.version + 1 if old else 1)


@pytest.fixture
def paths(tmp_path: Path, fake_program: Callable[[str, str], None]) -> StackPaths:
    fake_program("systemd-creds", "#!/bin/sh\ncase $1 in encrypt) base64 ;; decrypt) base64 -d ;; esac\n")
    return StackPaths("demo", str(tmp_path))


@pytest.fixture
def vault() -> Vault:
    return Vault()


def look(paths: StackPaths, vault: Vault | None, rules: Any = RULES, **options: Any) -> sync.Result:
    return sync.Sync(paths, rules, None, vault, **options).run()  # type: ignore[arg-type]


def test_the_first_look_makes_seals_and_stores(paths: StackPaths, vault: Vault) -> None:
    assert look(paths, vault).changes == ["password: made", "token: made"]
    bundle = credentials.load(paths)
    assert {name: one.value for name, one in vault.stored.items()} == dict(bundle.values)
    assert bundle.versions == {"password": 1, "token": 1}


def test_the_second_is_one_question(paths: StackPaths, vault: Vault) -> None:
    look(paths, vault)
    vault.asked.clear()
    again = look(paths, vault)
    assert (again.changes, again.versions) == ([], {"password": 1, "token": 1})
    assert vault.asked == ["v2"]


def test_check_asks_and_changes_nothing(paths: StackPaths, vault: Vault) -> None:
    vault.type("token", "ab")
    assert look(paths, vault, check=True).changes == ["password: made", "token: taken from Infisical"]
    assert not paths.credentials.exists()
    assert set(vault.stored) == {"token"}


def test_what_infisical_has_is_taken_over(paths: StackPaths, vault: Vault) -> None:
    vault.type("token", "ab12")
    look(paths, vault)
    assert credentials.load(paths).values["token"] == "ab12"


def test_of_two_hosts_that_make_a_value_at_once_the_faster_counts(paths: StackPaths, vault: Vault) -> None:
    class Slow(Vault):
        def listing(self, etag: str = "") -> Listing | None:
            found = super().listing(etag)
            if not self.stored:
                self.type("token", "beef")
            return found

    vault = Slow()
    look(paths, vault)
    assert credentials.load(paths).values["token"] == "beef"
    assert vault.stored["token"] == Stored("beef", 1)


def test_what_was_deleted_there_is_put_back_and_said(paths: StackPaths, vault: Vault) -> None:
    look(paths, vault)
    before = vault.stored.pop("token")
    assert look(paths, vault).changes == ["token: gone from Infisical, put back from this host's copy"]
    assert vault.stored["token"].value == before.value


def test_copies_that_are_lost_come_back_from_infisical(paths: StackPaths, vault: Vault) -> None:
    look(paths, vault)
    before = credentials.load(paths).values
    atomic.write_json(paths.secrets_spec, {"generate": RULES, "deliveries": {}})
    paths.credentials.unlink()
    look(paths, vault)
    assert credentials.load(paths).values == before


def test_a_value_that_nobody_has_any_more_is_not_silently_made_anew(paths: StackPaths, vault: Vault) -> None:
    look(paths, vault)
    atomic.write_json(paths.secrets_spec, {"generate": RULES, "deliveries": {}})
    paths.credentials.unlink()
    del vault.stored["password"]
    with pytest.raises(BattenError, match="neither Infisical nor this host has password") as caught:
        look(paths, vault)
    assert "batten restore" in caught.value.fix
    assert "password" not in vault.stored


def test_without_an_answer_the_copies_do(paths: StackPaths, vault: Vault) -> None:
    look(paths, vault)
    vault.answers = False
    found = look(paths, vault)
    assert (found.changes, found.stale) == ([], "Infisical does not answer")
    assert atomic.read_json(paths.refreshed, {})["problem"] == "Infisical does not answer"
    vault.answers = True
    vault.type("token", "beef")
    assert look(paths, vault).stale == ""
    assert atomic.read_json(paths.refreshed, {})["problem"] == ""


def test_an_answer_clears_the_problem_also_where_nothing_has_changed(paths: StackPaths, vault: Vault) -> None:
    look(paths, vault)
    vault.answers = False
    look(paths, vault)
    vault.answers = True
    look(paths, vault)
    assert atomic.read_json(paths.refreshed, {})["problem"] == ""


LEAVES: dict[str, Any] = {
    "ca": {"generator": "ca", "rotation": "none"},
    "web": {"generator": "x509", "ca": "ca", "names": ["web"], "rotation": "tls"},
}


@pytest.mark.parametrize("why", [Unreachable, Refused])
def test_certificates_are_renewed_whatever_infisical_says(
    paths: StackPaths, vault: Vault, why: type[BattenError], monkeypatch: pytest.MonkeyPatch
) -> None:
    look(paths, vault, LEAVES)
    before = credentials.load(paths)
    old = before.values["web_certificate"]
    monkeypatch.setattr(pki, "due", lambda certificate, _now=None: certificate == old)
    answered = vault.listing

    def listing(etag: str = "") -> Listing | None:
        raise Unreachable("no answer", "") if why is Unreachable else Refused(401, "Unauthorized", "no", "")

    monkeypatch.setattr(vault, "listing", listing)
    if why is Refused:
        with pytest.raises(Refused):
            look(paths, vault, LEAVES)
    else:
        found = look(paths, vault, LEAVES)
        assert (found.changes, found.stale) == (["web: renewed"], "no answer")
    new = credentials.load(paths).values
    assert new["web_certificate"] != old
    assert vault.stored["web_certificate"].value == old
    assert new["ca"] == before.values["ca"]
    monkeypatch.setattr(vault, "listing", answered)
    assert look(paths, vault, LEAVES).changes == ["web: updated in Infisical", "web_certificate: updated in Infisical"]
    assert vault.stored["web_certificate"].value == new["web_certificate"]


def leaf(ca: Mapping[str, str], names: tuple[str, ...] = ("web",), **more: Any) -> dict[str, str]:
    """A pair of ``web`` as a person would make it with the CA of ``ca``."""
    key = pki.make_key()
    return {"web": key, "web_certificate": pki.issue(ca["ca"], ca["ca_certificate"], key, list(names), **more)}


def test_a_certificate_that_a_run_would_make_anew_is_not_taken_from_infisical(
    paths: StackPaths, vault: Vault, running: type[Running]
) -> None:
    look(paths, vault, LEAVES)
    ours = credentials.load(paths).values
    strangers = generators.generate_all({"ca": LEAVES["ca"]}, {})
    long_ago = datetime.now(UTC) - timedelta(days=61)
    other_ca, other_names = leaf(strangers), leaf(ours, ("other",))
    same_ca = {**ours, "ca_certificate": pki.make_ca("ca", ours["ca"], now=long_ago)}
    for theirs in (other_ca, other_names, leaf(same_ca, days=90, now=long_ago), {"web_certificate": "none"}):
        for name, value in theirs.items():
            vault.type(name, value)
        found = look(paths, vault, LEAVES)
        assert "does not work here as it is in Infisical" in found.changes[-1]
        assert set(theirs) <= set(found.refused)
        assert look(paths, vault, LEAVES).changes == []
        assert credentials.load(paths).values == ours


def test_one_that_fits_is_taken_also_when_its_halves_are_typed_one_after_the_other(
    paths: StackPaths, vault: Vault, running: type[Running]
) -> None:
    look(paths, vault, LEAVES)
    theirs = leaf(credentials.load(paths).values)
    vault.type("web_certificate", theirs["web_certificate"])
    assert look(paths, vault, LEAVES).refused == {"web_certificate": 2}
    vault.type("web", theirs["web"])
    found = look(paths, vault, LEAVES)
    assert (found.refused, found.rotations[0]["rotated"]) == ({}, ["web", "web_certificate"])
    assert credentials.load(paths).values.items() >= theirs.items()
    assert look(paths, vault, LEAVES).changes == []


def test_a_pair_that_does_not_work_stays_a_pair(paths: StackPaths, vault: Vault, running: type[Running]) -> None:
    rules = {**LEAVES, **RULES}
    look(paths, vault, rules)
    before = credentials.load(paths).values
    theirs = leaf(before)
    running.bad = frozenset({theirs["web"]})
    for name, value in {**theirs, "token": "cafe"}.items():
        vault.type(name, value)
    assert look(paths, vault, rules).refused == {"web": 2, "web_certificate": 2}
    assert credentials.load(paths).values == {**before, "token": "cafe"}


def test_without_an_answer_and_without_copies_it_is_an_error(paths: StackPaths, vault: Vault) -> None:
    vault.answers = False
    with pytest.raises(Unreachable):
        look(paths, vault)


def test_a_value_that_only_a_person_has_is_asked_for_with_the_place(paths: StackPaths, vault: Vault) -> None:
    rules = {"api_key": {"generator": "provided", "from": "stack_api_key"}}
    with pytest.raises(BattenError, match="no value was given for api_key") as caught:
        look(paths, vault, rules)
    assert "Infisical at http://127.0.0.1:8222, project project, environment prod, path /" in caught.value.fix
    assert "stack_api_key" in caught.value.fix


def test_one_of_another_format_is_refused_unseen(paths: StackPaths, vault: Vault) -> None:
    vault.type("token", "not-hexadecimal")
    with pytest.raises(BattenError, match="not of the declared format: token") as caught:
        look(paths, vault)
    assert "not-hexadecimal" not in str(caught.value)


class Running:
    """Stands for a stack that runs: ``bad`` values do not get healthy."""

    bad: frozenset[str] = frozenset()

    def __init__(self, docker: Any, paths: StackPaths, push: Any = None, say: Any = None) -> None:
        self.paths = paths

    def adopt(self, new: Mapping[str, str]) -> rotation.Result:
        if wrong := sorted(name for name, value in new.items() if value in self.bad):
            raise rotation.Returned(f"{wrong} did not get healthy", "", "see its log")
        credentials.save(self.paths, credentials.load(self.paths).having(new))
        return rotation.Result(rotated=sorted(new))


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> type[Running]:
    monkeypatch.setattr(release, "running", lambda _: "r")
    monkeypatch.setattr(rotation, "Rotation", Running)
    monkeypatch.setattr(Running, "bad", frozenset())
    return Running


def test_what_a_person_changes_reaches_its_consumers(paths: StackPaths, vault: Vault, running: type[Running]) -> None:
    look(paths, vault)
    vault.type("token", "cafe")
    found = look(paths, vault)
    assert found.changes == ["token: changed in Infisical"]
    assert found.rotations[0]["rotated"] == ["token"]
    assert credentials.load(paths).values["token"] == "cafe"
    assert look(paths, vault).changes == []


def test_what_does_not_work_is_remembered_until_it_changes(
    paths: StackPaths, vault: Vault, running: type[Running]
) -> None:
    look(paths, vault)
    old = credentials.load(paths).values["token"]
    running.bad = frozenset({"bad0"})
    vault.type("token", "bad0")
    vault.type("password", "good")
    found = look(paths, vault)
    assert found.refused == {"token": 2}
    assert credentials.load(paths).values == {"token": old, "password": "good"}
    assert look(paths, vault).changes == []
    assert atomic.read_json(paths.refreshed, {})["refused"] == {"token": 2}
    vault.type("token", "50da")
    assert look(paths, vault).refused == {}
    assert credentials.load(paths).values["token"] == "50da"


def test_what_is_newer_here_is_stored_though_nothing_has_changed_there(paths: StackPaths, vault: Vault) -> None:
    look(paths, vault)
    credentials.put(paths, {"token": "cafe"})
    assert look(paths, vault).changes == ["token: updated in Infisical"]
    assert vault.stored["token"].value == "cafe"
    vault.asked.clear()
    assert look(paths, vault).changes == []
    assert vault.asked[0] != ""


def test_what_a_person_changes_there_is_not_undone_by_the_variable_it_first_came_from(
    paths: StackPaths, vault: Vault, running: type[Running]
) -> None:
    credentials.put(paths, {"token": "cafe"})
    look(paths, vault)
    vault.type("token", "beef")
    for _ in range(2):  # site.yml hands it over before each of its two tasks
        credentials.put(paths, {"token": "cafe"})
        look(paths, vault)
    assert vault.stored["token"].value == credentials.load(paths).values["token"] == "beef"


def test_what_a_person_types_during_a_look_is_for_the_next(
    paths: StackPaths, vault: Vault, running: type[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    def adopt(self: Running, new: Mapping[str, str]) -> rotation.Result:
        if "token" in new:
            vault.type("password", "typed meanwhile")
        credentials.save(self.paths, credentials.load(self.paths).having(new))
        return rotation.Result(rotated=sorted(new))

    look(paths, vault)
    monkeypatch.setattr(Running, "adopt", adopt)
    vault.type("token", "cafe")
    assert look(paths, vault).changes == ["token: changed in Infisical"]
    assert look(paths, vault).changes == ["password: changed in Infisical"]
    assert credentials.load(paths).values["password"] == "typed meanwhile"


def test_what_does_not_work_is_remembered_also_when_infisical_goes_away(
    paths: StackPaths, vault: Vault, running: type[Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    def adopt(self: Running, new: Mapping[str, str]) -> rotation.Result:
        vault.answers = False
        raise rotation.Returned("api did not get healthy", "", "see its log")

    look(paths, vault)
    monkeypatch.setattr(Running, "adopt", adopt)
    vault.type("token", "bad0")
    assert look(paths, vault).refused == {"token": 2}
    vault.answers = True
    assert look(paths, vault).changes == []


def test_metrics_tell_what_is_refused_and_what_waits() -> None:
    written = metrics.text("demo", sync.Result(refused={"token": 2}, stale="no answer"), {"app_a": 3}, 1.0)
    assert 'batten_secret_refused{stack="demo",name="token"} 1\n' in written
    assert 'batten_rotation_waiting_sessions{stack="demo",role="app_a"} 3\n' in written
    assert 'batten_secrets_stale{stack="demo"} 1\n' in written


def test_everyone_may_read_the_metrics_whatever_the_umask_of_the_unit(paths: StackPaths) -> None:
    before = os.umask(0o077)
    try:
        metrics.write(paths, sync.Result(), {})
    finally:
        os.umask(before)
    assert paths.metrics.stat().st_mode & 0o777 == 0o644
    assert {place.stat().st_mode & 0o777 for place in list(paths.metrics.parents)[:2]} == {0o755}
