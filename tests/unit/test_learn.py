"""Learning without an engine: what is kept apart, what follows from what was seen, and what a failure leads to."""

from __future__ import annotations

import json
import string
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batten.cli import main
from batten.errors import BattenError
from batten.learn import engine, isolate, propose, session
from batten.learn.propose import Directory, Listener, Observation, Outcome, Process, Shape
from batten.learn.watch import candidates
from batten.plan.profile import COMMON_CAPABILITIES, load_profiles
from tests.unit.fake_engine import Answers, served

PROJECT = "batten-learn-1"


def model(**services: Any) -> dict[str, Any]:
    return {"name": "app", "services": services}


def alone(service: dict[str, Any], **others: Any) -> isolate.Isolated:
    given = model(app=service, **others)
    return isolate.isolate(given, ["app", *others], PROJECT, "/scratch", alike=lambda real: f"<{len(real)}>")


def test_nothing_is_published_shared_or_privileged() -> None:
    made = alone(
        {
            "image": "app:1",
            "ports": [{"target": 80, "published": "80"}],
            "container_name": "app",
            "privileged": True,
            "network_mode": "host",
            "pid": "host",
            "cap_add": ["SYS_ADMIN"],
            "devices": [{"source": "/dev/kvm"}],
            "command": ["run"],
            "labels": {"a": "b"},
        }
    )
    (service,) = made.model["services"].values()
    assert set(service) == {"image", "command", "environment", "volumes", "networks"}
    assert made.left_out == tuple(f"app: {key}" for key in ("cap_add", "devices", "network_mode", "pid", "privileged"))
    overlay = isolate.apart(["app"], PROJECT)
    assert overlay["networks"]["default"]["internal"] is True
    assert overlay["services"]["app"]["labels"] == {isolate.LABEL: PROJECT}


def test_what_is_built_is_built_under_our_name() -> None:
    made = alone({"build": {"context": "/src"}, "image": "mine:1"})
    assert made.model["services"]["app"]["image"] == f"{PROJECT}-app:learn"
    assert made.builds == {f"{PROJECT}-app:learn": {"context": "/src"}}


def test_mounts_are_copies_and_new_volumes() -> None:
    made = alone(
        {
            "volumes": [
                {"type": "volume", "source": "data", "target": "/data"},
                {"type": "bind", "source": "/home/me/app/conf", "target": "/conf", "read_only": True},
                {"type": "bind", "source": "/var/run/docker.sock", "target": "/var/run/docker.sock"},
                {"type": "bind", "source": "/", "target": "/host"},
                {"type": "bind", "source": "/proc", "target": "/host/proc"},
                {"type": "tmpfs", "target": "/cache"},
                {"type": "volume", "target": "/anonymous"},
            ]
        }
    )
    assert made.model["services"]["app"]["volumes"] == [
        {"type": "volume", "source": "data", "target": "/data"},
        {"type": "bind", "source": "/scratch/binds/app/1/conf", "target": "/conf", "read_only": True},
        {"type": "volume", "source": "anonymous-6", "target": "/anonymous"},
    ]
    assert made.binds == (isolate.Bind("/home/me/app/conf", "/scratch/binds/app/1/conf", read_only=True),)
    assert [what.partition(" at ")[2] for what in made.left_out] == ["/var/run/docker.sock", "/host", "/host/proc"]
    assert set(made.model["volumes"]) == {"data", "anonymous-6"}


def test_credentials_are_replaced_alike_everywhere() -> None:
    made = alone(
        {"environment": {"DATABASE_URL": "postgres://app:p%40ss$$word@db/app", "LOG_LEVEL": "info", "EMPTY": None}},
        db={"environment": {"POSTGRES_PASSWORD": "p@ss$$word"}},
    )
    app, db = made.model["services"]["app"]["environment"], made.model["services"]["db"]["environment"]
    assert app == {"DATABASE_URL": "postgres://app:<9>@db/app", "LOG_LEVEL": "info", "EMPTY": None}
    assert db == {"POSTGRES_PASSWORD": "<9>"}
    assert made.replaced == ("app: DATABASE_URL", "db: POSTGRES_PASSWORD")


@settings(deadline=None)
@given(st.text(string.ascii_letters + string.digits + "-_=/+", min_size=1, max_size=80))
def test_a_throw_away_value_has_the_form_of_the_real_one(real: str) -> None:
    made = isolate.like(real)
    assert len(made) == len(real)
    if all(sign in "0123456789abcdef" for sign in real):
        assert int(made, 16) >= 0
    assert [sign.isdigit() for sign in made] == [sign.isdigit() for sign in real]


def test_dependencies_are_followed_only_if_asked() -> None:
    given = model(app={"depends_on": {"db": {}, "gone": {}}}, db={"depends_on": {"disk": {}}}, disk={}, other={})
    assert isolate.chosen(given, "app", dependencies=False) == ("app",)
    assert isolate.chosen(given, "app", dependencies=True) == ("app", "db", "disk")
    with pytest.raises(BattenError, match="no service 'ap'") as error:
        isolate.chosen(given, "ap", dependencies=False)
    assert "app" in error.value.fix


ROOT, OTHER = Process(0, 0, "app", ("CHOWN",)), Process(999, 1000, "app", ())
SEEN = Observation(
    image="registry.example/team/app:1",
    ended=False,
    processes=(OTHER,),
    directories=(),
    volumes={"/data": True},
    listening=(Listener(8000, "tcp", False), Listener(9, "tcp", True)),
    programs=("sh",),
    probe=("CMD", "wget", "http://127.0.0.1:8000/health"),
    has_healthcheck=False,
    log_is_json=True,
    memory_bytes=40 * propose.MIB,
    pids=9,
    start_seconds=6.0,
    stop_seconds=7.0,
)
CACHE = Directory("/var/cache/app", 0, 0, "0755", empty=True, bytes=3 * propose.MIB)


def test_the_first_try_is_the_least_privilege() -> None:
    plan = propose.first(SEEN)
    assert plan.shape == Shape("999:1000", (), True, ())
    assert plan.rungs == (
        ("999:1000", ("NET_BIND_SERVICE",)),
        (None, ()),
        (None, ("NET_BIND_SERVICE",)),
        (None, COMMON_CAPABILITIES),
    )


def test_capabilities_that_others_than_root_hold_come_first() -> None:
    held = replace(SEEN, processes=(replace(OTHER, capabilities=("IPC_LOCK",)), ROOT))
    assert propose.first(held).rungs[0] == ("999:1000", ("IPC_LOCK",))


def test_root_stays_root_where_nothing_else_was_seen() -> None:
    plan = propose.first(replace(SEEN, processes=(ROOT,)))
    assert plan.shape.user is None
    assert {user for user, _ in plan.rungs} == {None}


def test_a_place_with_the_images_own_files_is_not_masked() -> None:
    own = replace(CACHE, path="/etc/app", empty=False)
    assert propose.first(replace(SEEN, directories=(CACHE, own))).shape.read_only is False
    assert propose.first(replace(SEEN, directories=(CACHE, replace(own, path="/run")))).shape.read_only is True


@pytest.mark.parametrize(
    ("said", "path"),
    [
        ("mkdir: cannot create directory '/var/cache/nginx/client_temp': Read-only file system", "/var/cache/nginx"),
        ("OSError: [Errno 30] Read-only file system: '/app/run/app.pid'", "/app/run"),
        ("open /opt/app/x.lock: read-only file system", "/opt/app"),
        ("Error: EROFS: read-only file system, mkdir '/srv/.cache/a'", "/srv/.cache"),
    ],
)
def test_a_path_that_could_not_be_written_becomes_writable(said: str, path: str) -> None:
    plan = propose.after(propose.first(SEEN), Outcome(False, f"it ended with 1\n{said}\nbye"))
    assert plan is not None
    assert [one.path for one in plan.shape.writable] == [path]
    assert plan.shape.user == "999:1000"


def test_a_read_only_root_is_given_up_before_privileges() -> None:
    plan = propose.after(propose.first(SEEN), Outcome(False, "Read-only file system"))
    assert plan is not None
    assert plan.shape == Shape("999:1000", (), False, ())


def test_failures_end() -> None:
    plan: propose.Plan | None = propose.first(SEEN)
    seen = []
    while plan is not None:
        seen.append(plan.shape)
        plan = propose.after(plan, Outcome(False, "Permission denied"))
    assert len(seen) == len(set(seen)) == 6
    assert seen[-1] == Shape(None, COMMON_CAPABILITIES, False, ())


@settings(deadline=None)
@given(st.lists(st.sampled_from(["Permission denied", "Read-only file system: '/a/b/c'", "EROFS", "x"]), max_size=30))
def test_no_row_of_failures_goes_round_in_circles(said: list[str]) -> None:
    plan: propose.Plan | None = propose.first(SEEN)
    seen = []
    for line in said:
        if plan is None:
            break
        seen.append(plan.shape)
        plan = propose.after(plan, Outcome(False, line))
    assert len(seen) == len(set(seen)) <= propose.MOST_TRIES


def test_what_is_written_is_a_profile(tmp_path: Path) -> None:
    shape = Shape("999:1000", ("NET_BIND_SERVICE",), True, (CACHE,))
    made = propose.profile(SEEN, shape, {"class": "database", "stateful": True})
    text = propose.text(made, propose.remarks(SEEN, shape, ["app: devices"]), "compose.yaml, service app")
    (tmp_path / "app.yaml").write_text(text)
    found = load_profiles(tmp_path).match("team/app:2")
    assert found is not None
    profile = found.profile
    assert (profile.confidence, profile.user, profile.cap_add) == ("observed", "999:1000", ("NET_BIND_SERVICE",))
    assert (profile.service_class, profile.stateful, profile.log_format) == ("database", True, "json")
    assert profile.memory.floor == 80 * propose.MIB
    assert [(one.path, one.tmpfs_bytes, one.owner) for one in profile.writable] == [
        ("/tmp", 16 * propose.MIB, None),
        ("/var/cache/app", 12 * propose.MIB, "999:1000"),
        ("/data", None, None),
    ]
    assert (profile.stop_grace_seconds, profile.ports) == (21, (8000,))
    assert profile.healthcheck is not None
    assert profile.healthcheck.start_period_seconds == 24
    assert "# not seen:" in text
    assert "app: devices, which it was not given here" in text


def test_a_service_that_ends_is_a_batch() -> None:
    ended = replace(SEEN, ended=True, probe=None, processes=(), listening=())
    assert propose.profile(ended, Shape(None, (), True, ()))["class"] == "batch"


def test_the_images_own_health_check_is_kept() -> None:
    assert "healthcheck" not in propose.profile(replace(SEEN, has_healthcheck=True), Shape(None, (), True, ()))


def test_diffs_become_directories() -> None:
    changes = [
        (0, "/etc"), (0, "/etc/app"), (1, "/etc/app/app.ini"),
        (0, "/run"), (1, "/run/app"), (1, "/run/app/deep"), (1, "/run/app/deep/pid"),
        (1, "/data"), (1, "/data/x"), (0, "/var"), (0, "/var/lib"), (0, "/var/lib/owned"),
        (2, "/srv/gone"), (0, "/srv"),
    ]  # fmt: skip
    directories = {"/var/lib/owned", "/run/app", "/run/app/deep"}
    assert propose.written_directories(changes, ["/data"], directories) == (
        "/etc/app",
        "/run/app",
        "/srv",
        "/var/lib/owned",
    )


paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), paths)), st.lists(paths, max_size=2))
def test_every_change_is_within_a_mount_or_a_directory(changes: list[tuple[int, str]], mounts: list[str]) -> None:
    found = propose.written_directories(changes, mounts, ())
    for _, path in propose.leaves(changes, mounts):
        assert any(propose._within(path, place) for place in found)
    for place in found:
        assert not any(other != place and propose._within(place, other) for other in found)


def test_sockets_of_proc() -> None:
    header = "  sl  local_address rem_address   st\n"
    tcp = header + (
        "   0: 00000000:18EB 00000000:0000 0A 00\n"
        "   1: 0100007F:07E3 00000000:0000 0A 00\n"
        "   2: 0B00007F:A1B2 00000000:0000 0A 00\n"
        "   3: 0100007F:07E3 0100007F:9999 01 00\n"
    )
    assert propose.listeners(tcp, "tcp") == [Listener(6379, "tcp", False), Listener(2019, "tcp", True)]
    tcp6 = header + "   0: 00000000000000000000000001000000:0050 0:0 0A 00\n   1: " + "0" * 32 + ":0051 0:0 0A 0\n"
    assert propose.listeners(tcp6, "tcp") == [Listener(80, "tcp", True), Listener(81, "tcp", False)]
    assert propose.listeners("", "udp") == []


def test_capability_sets() -> None:
    assert propose.capability_names(0x400) == ("NET_BIND_SERVICE",)
    assert len(propose.capability_names(0xA80425FB)) == 14  # the engine's defaults
    assert propose.capability_names(0) == ()


@pytest.mark.parametrize(
    ("lines", "expected"),
    [([], None), (["", " "], None), (['{"a": 1}'] * 4 + ["x"], True), (["x", '{"a": 1}'], False), (["3", "[]"], False)],
)
def test_logs(lines: list[str], expected: bool | None) -> None:
    assert propose.is_json(lines) is expected


def test_probes_ask_the_loopback_address_with_what_the_image_has() -> None:
    assert candidates(set(), [80]) == []
    assert candidates({"redis-cli"}, [6379])[0] == ("CMD", "redis-cli", "-h", "127.0.0.1", "-p", "6379", "ping")
    for test in candidates({"curl", "wget", "bash", "python3", "pg_isready"}, [80, 5432]):
        assert "127.0.0.1" in " ".join(test)
        assert test[1] != "wget"  # curl is there
    assert candidates({"bash"}, [80]) == [("CMD", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/80")]


def test_the_overlay_replaces_the_layers_logging() -> None:
    from batten.learn import trial

    text = trial._overlay({"services": {"a": {"logging": trial._MARK}}})
    assert text.endswith('"logging": !override ' + json.dumps(isolate.LOGGING) + "}}}")


def test_copies_can_be_read_by_the_service_and_keep_their_owner(tmp_path: Path) -> None:
    source, place = tmp_path / "conf", tmp_path / "scratch" / "conf"
    source.mkdir(mode=0o700)
    (source / "key").write_text("k")
    (source / "key").chmod(0o600)
    (source / "run").write_text("#!/bin/sh")
    (source / "run").chmod(0o750)
    (source / "away").symlink_to("/etc/hostname")
    bind = isolate.Bind(str(source), str(place), read_only=True)
    missing = isolate.Bind(str(tmp_path / "none"), str(tmp_path / "scratch" / "none"))
    refused = session._copied(isolate.Isolated({}, (bind, missing), {}, (), (), ()))
    assert [oct(path.stat().st_mode & 0o777) for path in (place, place / "key", place / "run")] == [
        "0o705",
        "0o604",
        "0o755",
    ]
    assert (place / "away").is_symlink()
    assert (place / "key").stat().st_uid == (source / "key").stat().st_uid
    assert ["none" in one for one in refused] == [True]
    assert Path(missing.place).is_dir()


@pytest.mark.parametrize(
    ("words", "host", "said"),
    [
        (["--seconds", "0"], "", "1 to 3600 seconds"),
        ([], "tcp://10.0.0.1:2375", "needs an engine on this machine"),
        ([], "unix:///nowhere/docker.sock", "no Docker engine answers"),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    words: list[str],
    host: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    path = tmp_path / "compose.yaml"
    path.write_text("services: {app: {image: 'app:1'}}")
    assert main(["learn", str(path), "app", *words]) == 1
    assert said in capsys.readouterr().err
    assert main(["learn", str(tmp_path / "no.yaml"), "app"]) == 1
    assert "no such Compose file" in capsys.readouterr().err


class _FailingEngine(Answers):
    """Answers that it is there, and refuses all else."""

    def reply(self) -> None:
        if self.path.endswith("/_ping"):
            self.answer(200, b"OK", "text/plain")
        else:
            self.answer(500, b'{"message": "the disk is broken"}')


def test_what_the_engine_refuses_is_one_error_and_one_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engine, "_run", lambda words: subprocess.CompletedProcess(words, 0, "", ""))
    path = tmp_path / "compose.yaml"
    path.write_text("services: {app: {image: 'app:1'}}")
    with served(tmp_path, _FailingEngine) as socket:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
        code = main(["learn", str(path), "app", "--json"])
    said = capsys.readouterr()
    assert (code, json.loads(said.out)["error"]["what"]) == (1, "the disk is broken")
    last = said.err.splitlines()[-1]
    assert last.startswith("batten: GET /containers/json: the disk is broken")
