"""What is refused before anything stops."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import adoption, preflight
from ansible_collections.batten.core.plugins.module_utils.desired import Desired
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError
from ansible_collections.batten.core.plugins.module_utils.observed import Observed
from tests.unit.recorded import CONTAINERS


def service(**keys: Any) -> dict[str, Desired]:
    model = {"services": {"web": keys}, "volumes": {"data": {"name": "s_data"}}}
    return {"web": Desired("s", "web", keys, model)}


def postgres(image: str, environment: list[str] | None = None) -> Observed:
    one = copy.deepcopy(CONTAINERS[0])
    one["Config"].update(Image=image, Env=environment or [])
    one["Mounts"] = [{"Type": "volume", "Name": "s_data", "Destination": "/var/lib/postgresql/data", "RW": True}]
    return Observed(one)


MOUNT = {"type": "volume", "source": "data", "target": "/var/lib/postgresql/data"}


@pytest.mark.parametrize(
    ("old", "new", "volumes", "words"),
    [
        ("postgres:16.4", "postgres:17.6-trixie", [MOUNT], "PostgreSQL 16 holds the data"),
        ("postgres:17-alpine", "postgres:17.6", [MOUNT], "sort text differently"),
        ("postgres:17.5", "postgres:17.6", [], "its data are in volume s_data"),
        ("postgres:17.5", "registry.example/library/postgres:17.6@sha256:00", [MOUNT], ""),
        ("redis:7", "redis:8", [], ""),
    ],
)
def test_data_that_another_image_cannot_read(old: str, new: str, volumes: list[Any], words: str) -> None:
    found = preflight.data_changes(service(image=new, volumes=volumes)["web"], postgres(old))
    assert [words in one.what for one in found] == ([True] if words else [])


def test_a_port_that_somebody_else_has_is_named() -> None:
    wanted = service(ports=[{"target": 80, "published": "80", "protocol": "tcp"}])
    for taken in ({("tcp", "0.0.0.0", 80): "nginx (pid 7)"}, {("tcp", "::1", 80): "nginx (pid 7)"}):
        found = preflight.used_ports(wanted, {}, {}, taken)
        assert [one.what for one in found] == ["port 80/tcp is in use by nginx (pid 7)"]
    assert preflight.used_ports(wanted, {}, {}, {("udp", "0.0.0.0", 80): "x", ("tcp", "0.0.0.0", 81): "x"}) == []


@pytest.mark.parametrize(
    ("state", "holder", "refused"),
    [
        ("created", "dockerd (pid 111)", False),  # the engine takes the port, then calls the container running
        ("exited", "docker-proxy (pid 9)", False),
        ("exited", "nginx (pid 7)", True),
        ("running", "nginx (pid 7)", False),  # ours has it; whatever /proc says of its inode
    ],
)
def test_a_port_that_the_engine_takes_for_a_container_that_starts_is_ours(
    state: str, holder: str, refused: bool
) -> None:
    wanted = service(ports=[{"target": 80, "published": "80", "protocol": "tcp"}])
    one = copy.deepcopy(CONTAINERS[0])
    one["State"]["Status"] = state
    one["HostConfig"]["PortBindings"] = {"80/tcp": [{"HostIp": "", "HostPort": "80"}]}
    taken = {("tcp", "0.0.0.0", 80): holder}
    assert bool(preflight.used_ports(wanted, {"web": [Observed(one)]}, {}, taken)) is refused
    (nobodys,) = preflight.used_ports(wanted, {}, {}, taken)
    assert nobodys.fix.startswith("stop nginx" if holder.startswith("nginx") else "systemctl restart docker")


@pytest.mark.parametrize(
    ("first", "second", "refused"),
    [
        ({"published": "80"}, {"published": "80", "host_ip": "192.0.2.1"}, True),
        ({"published": "80", "host_ip": "192.0.2.1"}, {"published": "80", "host_ip": "192.0.2.1"}, True),
        ({"published": "80", "host_ip": "192.0.2.1"}, {"published": "80", "host_ip": "192.0.2.2"}, False),
        ({"published": "80", "host_ip": "0.0.0.0"}, {"published": "80", "host_ip": "192.0.2.1"}, True),
        ({"published": "80", "host_ip": "0.0.0.0"}, {"published": "80", "host_ip": "::"}, False),
        ({"published": "443"}, {"published": "443", "protocol": "udp"}, False),
        ({"published": "80"}, {"published": "81"}, False),
        ({}, {}, False),
    ],
)
def test_a_port_is_published_once(first: dict[str, str], second: dict[str, str], refused: bool) -> None:
    one = service(ports=[{"target": 80, **first}])
    both = {**one, "api": Desired("s", "api", {"ports": [{"target": 80, **second}]}, one["web"].model)}
    assert bool(preflight.same_ports(both)) is refused


def test_a_port_on_another_address_is_free() -> None:
    wanted = service(ports=[{"target": 80, "published": "80", "host_ip": "10.0.0.1"}])
    assert preflight.used_ports(wanted, {}, {}, {("tcp", "10.0.0.2", 80): "x"}) == []
    assert preflight.used_ports(wanted, {}, {("tcp", "10.0.0.1", 80): "container y"}, {})[0].fix.startswith(
        "stop container y"
    )


@pytest.mark.parametrize(
    ("address", "refused"), [("203.0.113.9", True), ("10.0.0.1", False), ("127.0.0.1", False), ("::", False)]
)
def test_an_address_that_the_host_does_not_own(address: str, refused: bool) -> None:
    wanted = service(ports=[{"target": 80, "published": "80", "host_ip": address}])
    assert bool(preflight.owned_addresses(wanted, ["10.0.0.1"])) == refused


def test_a_moved_volume_is_refused_and_a_new_one_is_not() -> None:
    model = {"volumes": {"data": {"name": "s_data", "driver_opts": {"device": "/srv/new"}}}}
    live = {"s_data": {"Name": "s_data", "Options": {"device": "/srv/old"}, "Mountpoint": "/m"}}
    assert "/srv/old" in preflight.moved_volumes(model, live)[0].what
    assert preflight.moved_volumes(model, {}) == []
    live["s_data"]["Options"] = {"device": "/srv/new"}
    assert preflight.moved_volumes(model, live) == []


def test_a_missing_file_of_the_user_is_refused_unless_it_is_coming(tmp_path: Path) -> None:
    bind = {"type": "bind", "source": str(tmp_path / "etc" / "a"), "target": "/a"}
    assert "does not exist" in preflight.missing_binds(tmp_path, service(volumes=[bind]))[0].what
    assert preflight.missing_binds(tmp_path, service(volumes=[bind]), [tmp_path / "etc" / "a" / "b"]) == []


def test_a_volume_that_is_not_mounted(tmp_path: Path) -> None:
    assert preflight.mount_points([str(tmp_path)])[0].where == str(tmp_path)
    assert preflight.mount_points(["/proc"]) == []


def test_a_full_disk(tmp_path: Path) -> None:
    assert preflight.disk_space([(tmp_path / "not" / "yet", 1)]) == []
    assert "MiB are needed" in preflight.disk_space([(tmp_path, 2**62)])[0].what


def test_what_listens_is_read_from_proc(tmp_path: Path) -> None:
    net = tmp_path / "proc" / "net"
    net.mkdir(parents=True)
    (net / "tcp").write_text(
        "head\n 0: 0100007F:1F90 00000000:0000 0A 0 0 0 0 0 77 1\n 1: 0100007F:1F91 00000000:0000 01 0 0 0 0 0 78 1\n"
    )
    (net / "tcp6").write_text("head\n 0: 00000000000000000000000001000000:0050 0:0 0A 0 0 0 0 0 79 1\n")
    fd = tmp_path / "proc" / "42" / "fd"
    fd.mkdir(parents=True)
    (fd / "3").symlink_to("socket:[77]")
    (fd.parent / "comm").write_text("nginx\n")
    assert preflight.listening(str(tmp_path)) == {
        ("tcp", "127.0.0.1", 8080): "nginx (pid 42)",
        ("tcp", "::1", 80): "another process",
    }


def test_several_problems_are_one_error() -> None:
    problems = [preflight.Problem("a is wrong", "x", "do a"), preflight.Problem("b is wrong", "y", "do b")]
    with pytest.raises(BattenError, match=r"(?s)2 things.*do a.*do b"):
        preflight.refuse(problems)
    preflight.refuse([])


def test_owners_are_refused_with_the_exact_command_or_set(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "file").write_text("rows")
    mine = os.getuid()
    volumes = {"d": {"name": "s_d", "device": str(data), "uid": mine + 1, "gid": 5, "mode": "0700"}}
    found = adoption.places(volumes, [])
    assert f"chown -R {mine + 1}:5 {data}" in adoption.foreign_owners(found)[0].fix
    assert adoption.prepare(found, adopt_chown=False, check=False) == []
    assert adoption.prepare(found, adopt_chown=True, check=True) != []
    volumes["d"]["uid"] = mine
    assert adoption.foreign_owners(adoption.places(volumes, [])) == []


def test_a_mounted_data_directory_is_made_or_refused_with_the_exact_command(tmp_path: Path) -> None:
    mine, base = os.getuid(), tmp_path / "base"
    plan = {"db": {"user": f"{mine + 1}:5", "service_class": "database", "data_binds": ["./data"]}, "app": {}}
    places = adoption.binds(plan, base)
    assert adoption.foreign_owners(places) == []
    assert adoption.prepare(places, adopt_chown=False, check=True) == [f"{base}/data: made"]
    (base / "data").mkdir(parents=True)
    assert adoption.prepare(places, adopt_chown=False, check=True) == [f"{base}/data: owner {mine} becomes {mine + 1}"]
    (base / "data/rows").write_text("1")
    (problem,) = adoption.foreign_owners(places)
    assert (problem.where, problem.fix) == ("service db", f"stop the stack, then: chown -R {mine + 1}:5 {base}/data")
    assert adoption.prepare(places, adopt_chown=True, check=True) == []  # who knows what else is in there
    (base / "data").chmod(0o777)
    assert adoption.foreign_owners(places) != []
    assert adoption.foreign_owners(adoption.binds({"db": {**plan["db"], "service_class": "application"}}, base)) == []
