"""A host that nobody touched shows no drift, whichever engine made its containers.

Real recordings: ``engine-26.1.5/stack.json`` (Compose 5.6.1), ``engine-26.1.5/shop.json`` (batten's test stack, as
Compose 2.26.1 of Debian 13 made it) and ``engine-28.5.2/infisical.json`` (Infisical's stack with stand-ins, Compose
2.40.3 of Debian's next release). No other engine could be run where these tests were written: what is called 25, 27, 28
and 29 is the first recording, changed in what that version is known to answer otherwise. That is little, as batten asks
all of them in version 1.44 of the API, which keeps what was renamed or left out later.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import compare, desired, observed
from ansible_collections.batten.core.plugins.module_utils.compare_networks import compare_networks
from tests.unit.recorded import STACK, read

SHOP, NEWER = read("engine-26.1.5/shop"), read("engine-28.5.2/infisical")
INFO = {"LoggingDriver": "json-file", "NCPU": 2, "CgroupVersion": "1", "DefaultRuntime": "runc"}


def look(recorded: dict[str, Any], info: dict[str, Any], daemon: dict[str, Any]) -> list[compare.Difference]:
    engine = desired.Engine.of(info, daemon)
    name = recorded["model"]["name"]
    images = {
        service["image"]: recorded["images"][service["image"]] for service in recorded["model"]["services"].values()
    }
    wanted = desired.services(name, recorded["model"], images, engine)
    there = observed.by_service(recorded["containers"])
    networks = compare_networks(name, name, recorded["model"], recorded["networks"], recorded["containers"])
    return [*compare.compare(name, wanted, there, {"once"}), *networks]


def fresh() -> dict[str, Any]:
    recorded = copy.deepcopy(STACK)
    return {**recorded, "images": {"stk-busybox:1": recorded["image"]}}


def hosts(recorded: dict[str, Any], **values: Any) -> None:
    for one in recorded["containers"]:
        one["HostConfig"].update(values)


def engine_25(recorded: dict[str, Any]) -> None:
    """No ``DNSNames``; fewer paths are masked (/sys/devices/virtual/powercap came by GHSA-jq35-85cj-fj4p)."""
    paths = ["/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]
    hosts(recorded, MaskedPaths=paths)
    for one in recorded["containers"]:
        for end in one["NetworkSettings"]["Networks"].values():
            end["Aliases"] = [*(end["Aliases"] or []), one["Id"][:12]]
            end.pop("DNSNames", None)


def engine_27(recorded: dict[str, Any]) -> None:
    """Sysctls of ``eth0`` move into the options of the network (moby api/docs/CHANGELOG.md, v1.46 and v1.48)."""
    recorded["model"]["services"]["db"]["sysctls"]["net.ipv4.conf.eth0.log_martians"] = "1"


def engine_28(recorded: dict[str, Any]) -> None:
    """More is masked (moby daemon/pkg/oci/defaults.go, GHSA-6fw5-f8r9-fgfm); networks say ``EnableIPv4`` and fill in
    options of their own (moby api/docs/CHANGELOG.md, v1.48)."""
    for one in recorded["containers"]:
        there = one["HostConfig"].get("MaskedPaths")
        if there:
            one["HostConfig"]["MaskedPaths"] = [
                *there,
                "/proc/interrupts",
                "/sys/devices/system/cpu/cpu0/thermal_throttle",
            ]
    for network in recorded["networks"]:
        network["EnableIPv4"] = True
        network["Options"] = {
            **(network["Options"] or {}),
            "com.docker.network.enable_ipv4": "true",
            "com.docker.network.enable_ipv6": "false",
        }


def engine_29(recorded: dict[str, Any]) -> None:
    """As 28. Images are kept by containerd and known by the digest of their index (``Id``, and ``Image`` of a
    container); with control groups v2 unset figures are null and namespaces private; empty settings of an image are
    left out (moby api/docs/CHANGELOG.md, v1.52)."""
    engine_28(recorded)
    index = "sha256:" + "ab" * 32
    image = recorded["images"]["stk-busybox:1"]
    image["Id"] = index
    image["Config"] = {name: value for name, value in image["Config"].items() if value}
    for one in recorded["containers"]:
        one["Image"] = index
        host = one["HostConfig"]
        host.update(CgroupnsMode="private", OomKillDisable=None, MemorySwappiness=None)
        host["PidsLimit"] = host["PidsLimit"] or None
        one["Config"].pop("OnBuild", None)


VERSIONS: list[tuple[str, Callable[[dict[str, Any]], None], dict[str, Any]]] = [
    ("25.0", engine_25, {}),
    ("26.1 (real)", lambda _: None, {}),
    ("27.5", engine_27, {}),
    ("28.5", engine_28, {}),
    ("29.3", engine_29, {"CgroupVersion": "2", "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"]}),
]


@pytest.mark.parametrize(("version", "change", "info"), VERSIONS, ids=[one[0] for one in VERSIONS])
def test_an_untouched_host_shows_no_drift(
    version: str, change: Callable[[dict[str, Any]], None], info: dict[str, Any]
) -> None:
    recorded = fresh()
    change(recorded)
    assert look(recorded, {**INFO, **info}, {}) == []


@pytest.mark.parametrize("recorded", [SHOP, NEWER], ids=["Compose 2.26.1", "Engine 28.5.2, Compose 2.40.3"])
def test_nor_does_what_another_compose_or_engine_made(recorded: dict[str, Any]) -> None:
    assert len(recorded["containers"]) == 3
    assert look(recorded, recorded["info"], recorded["daemon"]) == []


@pytest.mark.parametrize(
    ("values", "daemon"),
    [
        ({"Ulimits": [{"Name": "nofile", "Soft": 65536, "Hard": 65536}]}, {"default-ulimits": {"nofile": {}}}),
        ({"ShmSize": 2**27}, {"default-shm-size": "128M"}),
        ({"LogConfig": {"Type": "json-file", "Config": {"max-file": "3"}}}, {"log-opts": {"max-file": "3"}}),
        ({"IpcMode": "shareable"}, {}),
        ({"CgroupnsMode": "private"}, {}),
        ({"Runtime": "io.containerd.runc.v2"}, {}),
        ({"CpusetCpus": "0-1"}, {}),
        ({"MemorySwappiness": -1}, {}),
    ],
)
def test_what_the_daemon_gives_by_itself_is_no_difference_and_else_it_is(
    values: dict[str, Any], daemon: dict[str, Any]
) -> None:
    recorded = fresh()
    api = next(one for one in recorded["containers"] if one["Name"] == "/stk-api-1")
    api["HostConfig"].update(values)
    assert look(recorded, INFO, daemon) == []
    if daemon:
        assert [one.name for one in look(recorded, INFO, {})] == ["api"]
