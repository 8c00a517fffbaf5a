"""The lock and what a plan makes of it; pinning as a command against a registry that the test writes down."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from datetime import date
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from batten import pin, resources
from batten.cli import main
from batten.cli.pin import daemon_entries
from batten.errors import BattenError
from batten.plan.lock import FILE, Lock, Pin, beside, findings, load_lock
from batten.plan.model import Capacity
from batten.plan.settings import StackSettings
from batten.plan.stack import load_inputs, plan_stack
from batten.registry import Resolved, UnreachableError
from batten.render import release
from tests.unit.scripted_server import Asked, Drop, Say, serving

A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / FILE
    path.write_text(text)
    return path


def test_a_lock_is_read_with_its_age(tmp_path: Path) -> None:
    text = f"images:\n  redis:8: {{digest: '{A}', resolved_at: 2026-11-01, platforms: [linux/amd64]}}\n"
    lock = load_lock(written(tmp_path, text), date(2026, 11, 23))
    assert lock.images == {"redis:8": Pin(A, "2026-11-01", ("linux/amd64",))}
    assert lock.ages == {"redis:8": 22}
    assert lock.pinned("redis:8") == f"redis:8@{A}"
    assert lock.pinned(f"redis:8@{B}") == f"redis:8@{B}"
    assert lock.pinned("redis:7") == "redis:7"


def test_no_file_locks_nothing(tmp_path: Path) -> None:
    assert load_lock(tmp_path / FILE).images == {}
    assert load_lock(None).pinned("redis:8") == "redis:8"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "expected a mapping"),
        ("[]", "expected a mapping"),
        ("images: 3", "expected a mapping"),
        ("imges: {}", "did you mean 'images'"),
        ("images: {redis:8: {digest: abc, resolved_at: 2026-11-01}}", "expected a digest"),
        ("images: {redis:8: {resolved_at: 2026-11-01}}", "'digest' is missing"),
        (f"images: {{redis:8: {{digest: '{A}', resolved_at: yesterday}}}}", "is no date"),
        (f"images: {{redis:8: {{digest: 'nginx@{A}', resolved_at: 2026-11-01}}}}", "digest of nginx"),
        (f"images: {{'redis:8@{A}': {{digest: '{A}', resolved_at: 2026-11-01}}}}", "has a digest already"),
        ("images: {redis:8: {", "not valid YAML"),
    ],
)
def test_a_malformed_lock_is_refused_by_name(tmp_path: Path, text: str, what: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BattenError, match=what) as error:
        load_lock(path)
    assert str(path) in error.value.where
    assert error.value.fix


def test_the_lock_lies_beside_the_users_definition_or_in_the_inventory(tmp_path: Path) -> None:
    own = tmp_path / "app" / "compose.yaml"
    assert beside(own, None, tmp_path / "inv") == tmp_path / "app" / FILE
    assert beside(own, tmp_path / "ops" / "batten.yaml", tmp_path) == tmp_path / "ops" / FILE
    product = resources.compose()
    assert beside(product / "compose.yaml", product / "batten.yaml", tmp_path / "inv") == tmp_path / "inv" / FILE
    assert beside(product / "infisical" / "compose.yaml", None, tmp_path) == tmp_path / FILE


def test_findings_of_a_lock() -> None:
    lock = Lock(
        "x.yaml",
        {"redis:8": Pin(A, "2026-11-01"), "postgres:18": Pin(A, "2026-11-01")},
        {"redis:8": 3, "postgres:18": 100},
    )
    (foreign,) = findings(lock, ["caddy:2"], "app")
    assert (foreign.severity, "another stack's" in foreign.what) == ("warning", True)
    (fresh,) = findings(lock, [f"redis:8@{A}", "caddy:2"], "app")
    assert (fresh.severity, fresh.what) == ("note", "1 images are pinned by x.yaml, the oldest 3 days ago")
    same, old = findings(lock, [f"redis:8@{A}", f"postgres:18@{A}"], "app")
    assert same.what == "x.yaml gives redis:8 the digest of postgres:18"
    assert (old.severity, "100 days ago" in old.what) == ("warning", True)
    assert findings(Lock(), ["redis:8"], "app") == []


def test_a_mirror_of_the_same_image_may_have_its_digest() -> None:
    lock = Lock("x", {"redis:8": Pin(A, "2026-11-01"), "mirror.example/library/redis:8": Pin(A, "2026-11-01")}, {})
    both = [f"{name}@{A}" for name in lock.images]
    assert not [one for one in findings(replaced(lock), both, "app") if one.severity == "warning"]


def replaced(lock: Lock) -> Lock:
    return Lock(lock.source, lock.images, dict.fromkeys(lock.images, 0))


BASE = """\
services:
  cache: {image: "redis:8"}
  web: {image: "caddy:2"}
  app: {build: .}
"""


def stack(tmp_path: Path, **variables: object) -> StackSettings:
    base = tmp_path / "compose.yaml"
    base.write_text(BASE)
    given = {"stack_name": "app", "stack_base": str(base), "stack_images": {"app": "example/app:1"}, **variables}
    return StackSettings.from_variables(given, root=tmp_path)


def test_layers_use_the_lock_and_an_override_comes_first(tmp_path: Path) -> None:
    settings = stack(tmp_path, stack_images={"app": "example/app:1", "web": f"caddy:2.11@{B}"})
    entries = {"redis:8": A, "caddy:2": A}
    lock = {"images": {name: {"digest": digest, "resolved_at": "2026-11-01"} for name, digest in entries.items()}}
    (tmp_path / FILE).write_text(yaml.safe_dump(lock))
    plan, found = plan_stack(settings, Capacity(8 * 1024**3, 4))
    images = {name: service.image for name, service in plan.services.items()}
    assert images == {"cache": f"redis:8@{A}", "web": f"caddy:2.11@{B}", "app": "example/app:1"}
    assert plan.services["cache"].profile == "redis"
    assert [one.what for one in found if one.what.startswith("not pinned")] == ["not pinned by digest: app"]
    text = release(plan, settings, load_inputs(settings).definition)["layers"][1]["text"]
    assert f'image: "redis:8@{A}"' in text


def test_wanted_names_what_is_used_where(tmp_path: Path) -> None:
    settings = stack(tmp_path, stack_images={"app": "example/app:1", "web": f"caddy:2.11@{B}"})
    found = pin.wanted({"h1": [settings], "h2": [settings]}, "linux/arm64")
    ((path, entry),) = found.items()
    assert path == tmp_path / FILE
    assert entry.used_by == {"redis:8": {"h1/app/cache", "h2/app/cache"}, "example/app:1": {"h1/app/app", "h2/app/app"}}
    assert entry.platforms["redis:8"] == {"linux/arm64"}


def test_changes_tell_new_moved_same_and_what_is_missing() -> None:
    lock = Lock("", {"a:1": Pin(A, "2026-01-01"), "b:1": Pin(A, "2026-01-01")}, {})
    entry = pin.Wanted(
        lock,
        {"a:1": {"h/s/a"}, "b:1": {"h/s/b"}, "c:1": {"h/s/c"}},
        {"a:1": {"linux/arm64"}, "b:1": {"linux/arm64"}, "c:1": set()},
    )
    amd, arm = Resolved(A, ("linux/amd64",)), Resolved(B, ("linux/amd64", "linux/arm64/v8"))
    found = pin.changes(entry, {"a:1": amd, "b:1": arm, "c:1": arm})
    assert [(one.reference, one.status, one.missing) for one in found] == [
        ("a:1", "same", "linux/arm64"),
        ("b:1", "moved", None),
        ("c:1", "new", None),
    ]


names = st.from_regex(r"\A[a-z0-9]{1,8}(/[a-z0-9]{1,8})?:[a-z0-9]{1,6}\Z")
digests = st.integers(0, 2**256 - 1).map(lambda number: f"sha256:{number:064x}")


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(names, digests, max_size=5), st.dictionaries(names, digests, max_size=5))
def test_what_is_written_is_read_back_and_keeps_what_others_use(before: dict[str, str], now: dict[str, str]) -> None:
    lock = Lock("", {name: Pin(digest, "2026-01-01", ("linux/amd64",)) for name, digest in before.items()}, {})
    found = [pin.Change(name, before.get(name), digest, ("linux/arm64/v8",), ()) for name, digest in now.items()]
    text = pin.lock_text(lock, found, date(2026, 11, 23))
    read = yaml.safe_load(text)["images"]
    assert {name: entry["digest"] for name, entry in read.items()} == {**before, **now}
    assert all(read[name]["resolved_at"] == "2026-11-23" for name in now)


def test_one_problem_a_registry() -> None:
    def ask(name: str) -> Resolved:
        if name.startswith("away"):
            raise UnreachableError("away.example", "Connection refused")
        if name == "bad:1":
            raise BattenError("has no bad:1", "bad:1", "correct it")
        return Resolved(A, ())

    found, problems = pin.resolve(["away.example/a:1", "away.example/b:1", "bad:1", "good:1"], ask)
    assert sorted(found) == ["good:1"]
    assert [one.where for one in problems] == ["away.example", "bad:1"]


def test_mirrors_are_those_of_the_hosts_daemons() -> None:
    mirrors = {"name": "registry-mirrors", "value": ["http://a:5000"]}
    plain = {"name": "insecure-registries", "value": ["b:5000"]}
    off = {"name": "registry-mirrors", "state": "absent"}
    assert daemon_entries([{"docker_daemon": [mirrors, plain]}, {}]) == {
        "registry-mirrors": ("http://a:5000",),
        "insecure-registries": ("b:5000",),
    }
    assert daemon_entries([{"docker_daemon": [mirrors], "docker_daemon_host": [off]}])["registry-mirrors"] == ()


def inventory(tmp_path: Path, mirror: str) -> Path:
    place = tmp_path / "inv"
    place.mkdir(exist_ok=True)
    (tmp_path / "compose.yaml").write_text("services:\n  cache: {image: 'redis:8'}\n  web: {image: 'caddy:2'}\n")
    variables = {
        "stack_name": "app",
        "stack_base": str(tmp_path / "compose.yaml"),
        "infisical_mode": "none",
        "docker_daemon": [{"name": "registry-mirrors", "value": [mirror]}],
    }
    hosts = {"stack": {"hosts": {"h1": {"ansible_connection": "local"}}, "vars": variables}}
    (place / "hosts.yml").write_text(yaml.safe_dump(hosts))
    return place


def test_the_command_from_nothing_to_what_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = {"mark": "1"}

    def answer(asked: Asked) -> Say:
        platform = {"os": "linux", "architecture": "amd64"}
        body = {"of": asked.path.split("/")[3], "mark": version["mark"], "manifests": [{"platform": platform}]}
        digest = "sha256:" + hashlib.sha256(json.dumps(body).encode()).hexdigest()
        return Say(200, body, {"Content-Type": INDEX_TYPE, "Docker-Content-Digest": digest})

    with serving(answer) as (mirror, _):
        where = str(inventory(tmp_path, mirror))
        assert main(["pin", "-i", where, "--check"]) == 2
        assert not (tmp_path / FILE).exists()
        assert "2 images, 0 moved, 2 new; nothing written" in capsys.readouterr().out
        assert main(["pin", "-i", where]) == 0
        first = (tmp_path / FILE).read_text()
        assert main(["pin", "-i", where]) == 0
        assert (tmp_path / FILE).read_text() == first
        assert main(["pin", "-i", where, "--check"]) == 0
        version["mark"] = "2"
        capsys.readouterr()
        assert main(["pin", "-i", where, "--check", "--json"]) == 2
        (lock,) = json.loads(capsys.readouterr().out)["locks"]
        assert [one["status"] for one in lock["images"]] == ["moved", "moved"]
        assert lock["images"][0]["used_by"] == ["h1/app/web"]
        assert main(["pin", "-i", where, "--platform", "linux/arm64"]) == 2
        assert "is not made for linux/arm64, which h1/app/web needs" in capsys.readouterr().out
    assert (tmp_path / FILE).read_text() != first
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_registry_that_is_away_leaves_the_lock(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(lambda _: Drop()) as (mirror, _):
        where = inventory(tmp_path, mirror)
        name = mirror.removeprefix("http://")
        (tmp_path / "compose.yaml").write_text(
            f"services:\n  a: {{image: '{name}/a:1'}}\n  b: {{image: '{name}/b:1'}}\n"
        )
        (tmp_path / FILE).write_text(f"images: {{'{name}/a:1': {{digest: '{A}', resolved_at: 2026-11-01}}}}\n")
        before = (tmp_path / FILE).read_bytes()
        assert main(["pin", "-i", str(where)]) == 1
    said = capsys.readouterr().err
    assert said.count("cannot be reached") == 1
    assert "the lock is as it was" in said
    assert (tmp_path / FILE).read_bytes() == before


def test_a_lock_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BattenError, match="cannot write the lock"):
        pin.write_lock(tmp_path / "file" / FILE, "x")


def test_a_login_on_standard_input_reaches_its_registry_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = "Basic " + base64.b64encode(b"robot:s3cret").decode()
    body = {"manifests": [{"platform": {"os": "linux", "architecture": "amd64"}}]}

    def answer(asked: Asked) -> Say:
        if asked.headers.get("Authorization") != wanted:
            return Say(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        return Say(200, body, {"Content-Type": INDEX_TYPE})

    with serving(answer) as (url, _):
        where, name = str(inventory(tmp_path, url)), url.removeprefix("http://")
        (tmp_path / "compose.yaml").write_text(f"services:\n  a: {{image: '{name}/a:1'}}\n")
        monkeypatch.setattr("sys.stdin", io.StringIO("s3cret\n"))
        assert main(["pin", "-i", where, "--login", f"{name}=robot"]) == 0
        monkeypatch.setattr("sys.stdin", io.StringIO(""))
        assert main(["pin", "-i", where, "--login", f"{name}=robot"]) == 1
    captured = capsys.readouterr()
    assert "a password on standard input" in captured.err
    assert "s3cret" not in captured.out + captured.err
    assert "s3cret" not in (tmp_path / FILE).read_text()
