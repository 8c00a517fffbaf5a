"""Docker on a host: what is decided from one look at it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import engine, engine_host
from ansible_collections.batten.core.plugins.module_utils.engine_host import JOURNAL, UNIT, Observed
from ansible_collections.batten.core.plugins.module_utils.engine_packages import Package
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError
from tests.unit.conftest import role_yaml

OPTIONS = engine.Options(source="distro", daemon=({"name": "live-restore", "value": True},))
PACKAGES = ("docker.io", "docker-cli", "docker-compose", "ca-certificates", "iptables", "openssl")
INFO: dict[str, Any] = {
    "Containers": 0,
    "Images": 0,
    "DockerRootDir": "/var/lib/docker",
    "Driver": "overlay2",
    "DriverStatus": [],
    "LiveRestoreEnabled": True,
    "Swarm": {"LocalNodeState": "inactive"},
}
BARE = Observed(
    release={"ID": "debian", "VERSION_ID": "13", "VERSION_CODENAME": "trixie"},
    architecture="amd64",
    installed={},
    repositories={},
    key=None,
    daemon={},
    record={},
    command=(),
    enabled=False,
    info=None,
    running=(),
    stored=0,
    engine_version="",
    compose_version="",
    nofile_limit=20000,
    members=(),
)
READY = replace(
    BARE,
    installed={name: Package("26.1.5") for name in PACKAGES},
    daemon={"live-restore": True},
    record={"ours": {"live-restore": True}, "replaced": {}},
    command=("/usr/sbin/dockerd", "-H", "fd://"),
    enabled=True,
    info=INFO,
    engine_version="26.1.5+dfsg1",
    compose_version="2.26.1-4",
    texts={str(JOURNAL): engine.journal_text("1G"), str(UNIT): engine.unit_text(15)},
)


def entries(**values: Any) -> tuple[dict[str, Any], ...]:
    return tuple({"name": name.replace("_", "-"), "value": value} for name, value in values.items())


def test_a_bare_host_gets_everything() -> None:
    plan = engine.compare(OPTIONS, BARE)
    assert plan.engine == "start"
    assert plan.packages.install == (
        "docker.io",
        "docker-cli",
        "docker-compose",
        "ca-certificates",
        "iptables",
        "openssl",
    )
    assert {one.name for one in plan.differences} >= {"docker.io", str(JOURNAL), str(UNIT), "/etc/docker/daemon.json"}
    assert engine.diff(plan, BARE)[0]["after_header"] == "/etc/docker/daemon.json"


def test_a_host_that_is_as_wanted_is_left_alone() -> None:
    plan = engine.compare(OPTIONS, READY)
    assert plan.differences == ()
    assert plan.engine is None
    assert engine.diff(plan, READY) == []


@pytest.mark.parametrize(
    ("seen", "daemon", "action", "first"),
    [
        ({"running": ("db",)}, {"live_restore": True, "icc": False}, "restart", False),
        (
            {"running": ("db",), "info": {**INFO, "LiveRestoreEnabled": False}},
            {"live_restore": True, "icc": False},
            "restart",
            True,
        ),
        (
            {"running": (), "info": {**INFO, "LiveRestoreEnabled": False}},
            {"live_restore": True, "icc": False},
            "restart",
            False,
        ),
        ({"info": {**INFO, "LiveRestoreEnabled": False}}, {"live_restore": True}, "reload", False),
        ({}, {"live_restore": True, "debug": True}, "reload", False),
        ({"running": ("db",)}, {"live_restore": False}, "reload", False),
        ({"record": {"ours": {"live-restore": True}, "pending": "restart"}}, {"live_restore": True}, "restart", False),
        ({"record": {"ours": {"live-restore": True}, "pending": "reload"}}, {"live_restore": True}, "reload", False),
        ({"info": None}, {"live_restore": True}, "start", False),
    ],
)
def test_what_happens_to_the_engine(seen: dict[str, Any], daemon: dict[str, Any], action: str, first: bool) -> None:
    plan = engine.compare(replace(OPTIONS, daemon=entries(**daemon)), replace(READY, **seen))
    assert (plan.engine, plan.live_restore_first) == (action, first)
    assert plan.changed


@pytest.mark.parametrize(
    ("seen", "options", "said"),
    [
        ({"running": ("db",)}, {"daemon": entries(icc=False)}, "stops db"),
        (
            {"info": {**INFO, "Containers": 2}},
            {"daemon": entries(data_root="/srv")},
            "2 containers and 0 images would vanish",
        ),
        ({"info": {**INFO, "Images": 1}}, {"daemon": entries(userns_remap="default")}, "userns-remap would change"),
        ({"info": {**INFO, "Swarm": {"LocalNodeState": "active"}}}, {}, "swarm"),
        ({"command": ("dockerd", "--live-restore")}, {}, "set by the flag --live-restore"),
        ({"engine_version": "24.0.7"}, {}, "Docker Engine 24.0.7 is too old; batten needs 25.0.0"),
        ({"compose_version": "2.21.0"}, {}, "Docker Compose 2.21.0 is too old"),
        ({"compose_version": ""}, {}, "Docker Compose is missing"),
        ({"stored": 3, "running": ("db",)}, {"source": "upstream"}, r"it holds 3 containers \(db run\)"),
        ({}, {"journal_max_use": "1 GB"}, "'1 GB' is no size"),
        ({"info": None, "command": ()}, {"source": "preinstalled"}, "no Docker Engine"),
        ({"release": {"ID": "debian", "VERSION_ID": "12"}}, {}, "set docker_source: upstream"),
    ],
)
def test_what_must_not_be_done_is_refused_with_what_to_type(
    seen: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(BattenError, match=said) as caught:
        engine.compare(replace(OPTIONS, **options), replace(READY, **seen))
    assert caught.value.fix


def test_an_empty_engine_may_move() -> None:
    assert engine.compare(replace(OPTIONS, daemon=entries(data_root="/srv")), READY).engine == "restart"


def test_absent_gives_the_users_values_back_and_stops_nothing() -> None:
    record = {"ours": {"icc": False, "live-restore": True}, "replaced": {"icc": True}}
    seen = replace(READY, daemon={"icc": False, "live-restore": True, "mtu": 1400}, record=record, running=("db",))
    plan = engine.compare(engine.Options(state="absent"), seen)
    assert plan.merged.file == {"icc": True, "mtu": 1400}
    assert plan.texts == {str(JOURNAL): None, str(UNIT): None}
    assert plan.engine is None
    assert "from the next start" in plan.warnings[0]


def test_absent_on_a_host_without_anything_changes_nothing() -> None:
    assert not engine.compare(engine.Options(state="absent"), BARE).changed


def test_members_of_group_docker_are_reported() -> None:
    assert "ann, bob" in engine.compare(OPTIONS, replace(READY, members=("ann", "bob"))).warnings[0]


def test_open_files_of_the_defaults_are_lowered_to_what_the_host_grants() -> None:
    nofile = {"nofile": {"Name": "nofile", "Soft": 65536, "Hard": 65536}}
    plan = engine.compare(replace(OPTIONS, daemon=entries(default_ulimits=nofile)), BARE)
    assert plan.merged.file["default-ulimits"]["nofile"]["Hard"] == 20000


def test_command_line_with_an_environment_file(tmp_path: Path) -> None:
    file = tmp_path / "docker"
    file.write_text('# a comment\nDOCKER_OPTS="--label=a=b --debug" # more\n')
    unit = {
        "ExecStart": "{ path=/sbin/dockerd ; argv[]=/sbin/dockerd -H fd:// $DOCKER_OPTS ${N}x ; ignore_errors=no ; }",
        "EnvironmentFiles": f"{file} (ignore_errors=yes)",
    }
    assert engine_host.command_line(unit) == ("/sbin/dockerd", "-H", "fd://", "--label=a=b", "--debug", "x")
    assert engine_host.command_line({}) == ()


def test_dpkg_rows() -> None:
    rows = "vim\t9\tinstall\tinstalled\ndocker.io\t26\thold\tinstalled\nold\t1\tdeinstall\tconfig-files\n"
    assert engine_host.parse_dpkg(rows) == {"vim": Package("9"), "docker.io": Package("26", True)}


@pytest.mark.parametrize(("text", "said"), [("{", "not JSON"), ("[]", "not a JSON object")])
def test_a_broken_daemon_json_is_named(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "daemon.json"
    path.write_text(text)
    with pytest.raises(BattenError, match=said) as caught:
        engine_host.read_daemon(path)
    assert f"mv {path}" in caught.value.fix


def test_a_signing_key_is_fetched_over_https_only() -> None:
    with pytest.raises(BattenError, match="https only"):
        engine_host.fetch_key("http://mirror.example.net/gpg", "00")


def test_the_roles_defaults_merge_into_a_file_with_no_user_and_no_nproc() -> None:
    defaults = role_yaml(Path(__file__).parents[2] / "roles/docker/defaults/main.yml")
    plan = engine.compare(replace(OPTIONS, daemon=tuple(defaults["docker_daemon_default"])), READY)
    assert plan.merged.file["log-opts"]["tag"] == "{{.Name}}"
    assert set(plan.merged.file["default-ulimits"]) == {"core", "nofile"}
    assert "hosts" not in plan.merged.file  # Debian's unit passes -H fd://
