"""Who is in a container: its own processes, health checks, and who came later."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import processes
from ansible_collections.batten.core.plugins.module_utils.desired import Desired, Engine
from ansible_collections.batten.core.plugins.module_utils.docker_api import Exec
from ansible_collections.batten.core.plugins.module_utils.observed import Observed

CHECK = ["pg_isready", "-h", "127.0.0.1"]
OWN = [(733, 710, 999, "docker-init"), (740, 733, 999, "postgres"), (741, 740, 999, "postgres")]


def host(root: Path, entries: list[tuple[int, int, int, str]]) -> str:
    for pid, parent, uid, name in [(1, 0, 0, "systemd"), *entries]:
        place = root / f"proc/{pid}"
        (place / "ns").mkdir(parents=True)
        (place / "ns/pid").symlink_to("pid:[1]" if pid == 1 else "pid:[4026534581]")
        (place / "status").write_text(f"Name:\t{name}\nPPid:\t{parent}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n")
        (place / "stat").write_text(f"{pid} ({name}) S {parent} 0 0\n")
        (place / "uid_map").write_text("         0          0 4294967295\n")
    return str(root)


def look(
    root: str,
    execs: dict[int, list[str] | Exec] | None = None,
    service: dict[str, Any] | None = None,
    firsts: Any = (733,),
    test: list[str] | None = None,
    user: str | None = None,
) -> list[tuple[Any, str]]:
    desired = Desired("shop", "db", {"user": "999:999", **(service or {})}, {}, {}, Engine())
    config = {"Healthcheck": {"Test": test or ["CMD", *CHECK]}, "User": user or desired.service["user"]}
    observed = Observed({"Id": "x", "State": {"Pid": 733}, "HostConfig": {}, "Config": config})
    everyone = processes.by_namespace(root)
    running = {pid: one if isinstance(one, Exec) else Exec(one) for pid, one in (execs or {}).items()}
    found = processes.compare_service("shop", desired, observed, everyone, firsts, lambda _: running, root)
    return [(one.actual, one.action) for one in found]


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(processes.os, "kill", lambda pid, kind: asked.append((pid, int(kind))))
    monkeypatch.setattr(processes, "_GRACE_SECONDS", 0.0)
    return asked


def test_a_service_and_its_children_are_its_own(tmp_path: Path) -> None:
    assert look(host(tmp_path, OWN)) == []


def test_what_was_left_running_by_exec_is_found_and_ended_without_a_restart(tmp_path: Path) -> None:
    root = host(tmp_path, [*OWN, (900, 710, 0, "sleep"), (901, 900, 0, "nc")])
    assert look(root) == [(["nc (entered)", "sleep (entered)"], "update")]
    assert look(root, {900: ["sleep", "500"]}) == [(["nc (entered)", "sleep (entered)"], "update")]


def test_what_somebody_waits_for_is_told_and_left_to_them(tmp_path: Path, killed: list[tuple[int, int]]) -> None:
    root = host(tmp_path, [*OWN, (900, 710, 0, "pg_dump"), (901, 900, 0, "gzip"), (905, 710, 0, "nc")])
    execs = {900: Exec(["pg_dump"], attached=True), 905: Exec(["nc"])}
    told = (["gzip (docker exec)", "pg_dump (docker exec)"], "none")
    assert look(root, {900: execs[900]}) == [(["nc (entered)"], "update"), told]
    observed = Observed({"Id": "x", "State": {"Pid": 733}, "HostConfig": {}, "Config": {}})
    assert processes.end(observed, (733,), lambda _: execs, root) == ["nc"]
    assert {pid for pid, _kind in killed} == {905}


def test_a_health_check_with_its_children_and_what_is_being_set_up_are_not_taken_for_that(tmp_path: Path) -> None:
    root = host(tmp_path, [*OWN, (900, 710, 999, "sh"), (901, 900, 999, "psql"), (902, 710, 0, "runc:[2:INIT]")])
    assert look(root, {900: CHECK}) == []


def test_a_check_by_the_shell_of_the_image_is_one_too(tmp_path: Path) -> None:
    root = host(tmp_path, [*OWN, (900, 710, 999, "bash")])
    shell = ["CMD-SHELL", "pg_isready | grep -q accepting"]
    assert look(root, {900: ["/bin/bash", "-o", "pipefail", "-c", shell[1]]}, test=shell) == []
    assert look(root, {900: ["/bin/bash", "-c", "nc -l"]}, test=shell) == [(["bash (entered)"], "update")]


def test_what_ended_meanwhile_may_have_been_a_health_check(tmp_path: Path) -> None:
    root = host(tmp_path, [*OWN, (900, 710, 999, "pg_isready")])
    (tmp_path / "proc/900/stat").write_text("900 (pg_isready) Z 710 0 0\n")
    assert look(root) == []
    (tmp_path / "proc/900/stat").unlink()
    assert look(root) == []


def test_a_process_of_another_uid_within_the_service_is_a_reason_to_restart_it(tmp_path: Path) -> None:
    root = host(tmp_path, [*OWN, (742, 740, 0, "sh")])
    assert look(root) == [(["sh (uid 0)"], "restart")]
    assert look(root, service={"user": "0"}) == []  # it may change to any
    assert look(root, service={"user": None}) == []
    assert look(root, user="0:0") == []  # the facet `user` says so


def test_a_user_by_name_is_looked_up_in_the_container(tmp_path: Path) -> None:
    root = host(tmp_path, [*OWN, (742, 740, 5, "sh")])
    (tmp_path / "proc/733/root/etc").mkdir(parents=True)
    (tmp_path / "proc/733/root/etc/passwd").write_text("root:x:0:0::/:\npostgres:x:999:999::/:\n")
    assert look(root, service={"user": "postgres"}) == [(["sh (uid 5)"], "restart")]
    assert look(root, service={"user": "nobody"}) == []


def test_uids_are_those_of_the_container_also_where_the_engine_maps_them(tmp_path: Path) -> None:
    root = host(tmp_path, [(pid, parent, uid + 100000, name) for pid, parent, uid, name in OWN])
    for pid, *_ in OWN:
        (tmp_path / f"proc/{pid}/uid_map").write_text("0 100000 65536\n")
    assert look(root) == []


def test_another_container_in_the_same_namespace_is_no_stranger(tmp_path: Path) -> None:
    root = host(tmp_path, [*OWN, (950, 711, 999, "exporter")])
    assert look(root, firsts=(733, 950)) == []
    assert look(root) == [(["exporter (entered)"], "update")]


def test_a_container_that_shares_the_hosts_processes_is_not_judged(tmp_path: Path) -> None:
    root = host(tmp_path, [*OWN, (900, 1, 0, "sleep")])
    desired = Desired("shop", "db", {"user": "999"}, {}, {}, Engine())
    observed = Observed({"Id": "x", "State": {"Pid": 733}, "HostConfig": {"PidMode": "host"}})
    everyone = processes.by_namespace(root)
    assert processes.compare_service("shop", desired, observed, everyone, (), lambda _: {}, root) == []


def test_what_entered_is_ended_politely_first(tmp_path: Path, killed: list[tuple[int, int]]) -> None:
    root = host(tmp_path, [*OWN, (900, 710, 0, "sleep")])
    observed = Observed({"Id": "x", "State": {"Pid": 733}, "HostConfig": {}, "Config": {}})
    assert processes.end(observed, (733,), lambda _: {}, root) == ["sleep"]
    assert killed == [(900, 15), (900, 9)]


def test_a_number_that_is_somebody_elses_by_now_is_not_killed(
    tmp_path: Path, killed: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = host(tmp_path, [*OWN, (900, 710, 0, "sleep")])

    def kill(pid: int, kind: int) -> None:
        killed.append((pid, int(kind)))
        (tmp_path / "proc/900/ns/pid").unlink()
        (tmp_path / "proc/900/ns/pid").symlink_to("pid:[1]")

    monkeypatch.setattr(processes.os, "kill", kill)
    observed = Observed({"Id": "x", "State": {"Pid": 733}, "HostConfig": {}, "Config": {}})
    processes.end(observed, (733,), lambda _: {}, root)
    assert killed == [(900, 15)]


def test_a_program_that_calls_itself_runc_is_found_once_no_exec_takes_so_long(tmp_path: Path) -> None:
    root = host(tmp_path, [*OWN, (900, 710, 0, "runc")])
    (tmp_path / "proc/900/stat").write_text("900 (runc) S 710 " + "0 " * 17 + "200 0\n")  # 2 s after the boot
    (tmp_path / "proc/uptime").write_text("12.5 20.0\n")
    assert look(root) == []
    (tmp_path / "proc/uptime").write_text("1000.5 2000.0\n")
    assert look(root) == [(["runc (entered)"], "update")]


def test_a_zombie_of_another_uid_runs_nothing(tmp_path: Path) -> None:
    """What ``docker exec -u root`` left, where the first process takes no orphan away."""
    root = host(tmp_path, [*OWN, (742, 733, 0, "pg_dump")])
    (tmp_path / "proc/742/stat").write_text("742 (pg_dump) Z 733 0 0\n")
    assert look(root) == []


@pytest.mark.parametrize("plant", ["pipe", "link", "directory link", "endless"])
def test_a_list_of_users_that_somebody_in_the_container_planted_is_not_read(tmp_path: Path, plant: str) -> None:
    root = host(tmp_path, [*OWN, (742, 740, 5, "sh")])
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "passwd").write_text("postgres:x:999:999::/:\n")
    inner = tmp_path / "proc/733/root/etc"
    inner.parent.mkdir(parents=True)
    if plant == "directory link":
        inner.symlink_to(outside)
    else:
        inner.mkdir()
    if plant == "pipe":
        os.mkfifo(inner / "passwd")
    elif plant == "link":
        (inner / "passwd").symlink_to(outside / "passwd")
    elif plant == "endless":
        (inner / "passwd").symlink_to("/dev/zero")
    assert look(root, service={"user": "postgres"}) == []


def test_thousands_of_processes_are_judged_in_one_pass() -> None:
    there = [processes.Process(pid, pid - 1, 999, "x") for pid in range(1, 5001)]
    assert processes._under({1}, there) == set(range(1, 5001))
    assert processes._under({4999}, there) == {4999, 5000}
    assert processes._under({1}, [processes.Process(2, 2, 0, "its own parent")]) == set()
