"""The comparison, on what a real engine and a real Compose said of the same stack (tests/unit/data)."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import actions, compare, desired, observed
from tests.unit import recorded
from tests.unit.recorded import CONTAINERS, STACK


def look(
    containers: list[Any] | None = None, model: dict[str, Any] | None = None, image: dict[str, Any] | None = None
) -> tuple[dict[str, desired.Desired], dict[str, list[observed.Observed]], list[compare.Difference]]:
    model = STACK["model"] if model is None else model
    image = STACK["image"] if image is None else image
    wanted = desired.services("stk", model, {"stk-busybox:1": image}, desired.Engine())
    there = observed.by_service(CONTAINERS if containers is None else containers)
    return wanted, there, compare.compare("stk", wanted, there, {"once"})


def changed(service: str, path: str, value: Any) -> list[Any]:
    return recorded.changed(service, {path: value})


def test_what_compose_made_from_the_model_does_not_differ_from_it() -> None:
    assert look()[2] == []


DRIFTS = [
    ("HostConfig/Memory", 1, "memory", "update"),
    ("HostConfig/MemorySwap", -1, "memory_swap", "update"),
    ("HostConfig/MemoryReservation", 0, "memory_reservation", "update"),
    ("HostConfig/NanoCpus", 10**9, "cpus", "update"),
    ("HostConfig/CpuShares", 512, "cpu_shares", "recreate"),
    ("HostConfig/CpuQuota", 50000, "cpu_quota", "update"),
    ("HostConfig/CpusetCpus", "0", "cpuset", "update"),
    ("HostConfig/CpuRealtimeRuntime", 950, "cpu_realtime", "recreate"),
    ("HostConfig/MemorySwappiness", 60, "swappiness", "recreate"),
    ("HostConfig/BlkioWeight", 500, "block_io", "recreate"),
    ("HostConfig/BlkioDeviceWriteBps", [{"Path": "/dev/sda", "Rate": 1048576}], "block_io", "recreate"),
    ("HostConfig/AutoRemove", True, "auto_remove", "recreate"),
    ("HostConfig/OomKillDisable", True, "oom_kill_disable", "recreate"),
    ("HostConfig/StorageOpt", {"size": "1G"}, "storage", "recreate"),
    ("HostConfig/Annotations", {"a": "b"}, "annotations", "recreate"),
    ("HostConfig/MaskedPaths", [], "masked_paths", "recreate"),
    ("HostConfig/ReadonlyPaths", None, "masked_paths", "recreate"),
    ("HostConfig/DeviceCgroupRules", ["c 1:* rwm"], "device_rules", "recreate"),
    ("HostConfig/DeviceRequests", [{"Count": -1}], "device_rules", "recreate"),
    ("HostConfig/Runtime", "kata", "runtime", "recreate"),
    ("HostConfig/CgroupParent", "/free", "cgroup_parent", "recreate"),
    ("HostConfig/UTSMode", "host", "namespaces", "recreate"),
    ("HostConfig/IpcMode", "host", "namespaces", "recreate"),
    ("HostConfig/UsernsMode", "host", "namespaces", "recreate"),
    ("HostConfig/DnsSearch", ["example.org"], "dns", "recreate"),
    ("HostConfig/DnsOptions", ["ndots:1"], "dns", "recreate"),
    ("HostConfig/LogConfig/Config", {"max-size": "1m", "mode": "non-blocking"}, "log", "recreate"),
    ("HostConfig/LogConfig/Config", {"max-size": "9m"}, "log", "recreate"),
    ("HostConfig/Ulimits", [], "ulimits", "recreate"),
    ("HostConfig/PublishAllPorts", True, "ports", "recreate"),
    ("Config/Domainname", "example.org", "domainname", "recreate"),
    ("Config/Tty", True, "terminal", "recreate"),
    ("Config/OpenStdin", True, "stdin", "recreate"),
    ("Config/Labels/extra", "x", "labels", "recreate"),
    ("HostConfig/Links", ["/x:/y"], "links", "recreate"),
    ("HostConfig/VolumesFrom", ["x"], "volumes_from", "recreate"),
    ("Mounts/0/Propagation", "rshared", "mount_options", "recreate"),
    ("HostConfig/PidsLimit", 51, "pids", "update"),
    ("HostConfig/RestartPolicy", {"Name": "no", "MaximumRetryCount": 0}, "restart", "update"),
    ("HostConfig/OomScoreAdj", 0, "oom_score_adj", "recreate"),
    ("HostConfig/ShmSize", 1, "shm_size", "recreate"),
    ("HostConfig/Init", None, "init", "recreate"),
    ("HostConfig/ReadonlyRootfs", False, "read_only", "recreate"),
    ("HostConfig/Tmpfs", {}, "tmpfs", "recreate"),
    ("HostConfig/CapAdd", ["CAP_SYS_ADMIN"], "cap_add", "recreate"),
    ("HostConfig/CapDrop", None, "cap_drop", "recreate"),
    ("HostConfig/SecurityOpt", None, "security_opt", "recreate"),
    ("HostConfig/GroupAdd", ["0"], "group_add", "recreate"),
    ("HostConfig/Privileged", True, "privileged", "recreate"),
    ("HostConfig/PidMode", "host", "namespaces", "recreate"),
    ("HostConfig/NetworkMode", "host", "namespaces", "recreate"),
    ("HostConfig/Sysctls", {}, "sysctls", "recreate"),
    ("HostConfig/Dns", [], "dns", "recreate"),
    ("HostConfig/ExtraHosts", ["peer:10.9.9.9"], "extra_hosts", "recreate"),
    (
        "HostConfig/Devices",
        [{"PathOnHost": "/dev/kmsg", "PathInContainer": "/dev/kmsg", "CgroupPermissions": "rwm"}],
        "devices",
        "recreate",
    ),
    ("HostConfig/PortBindings", {"5432/tcp": [{"HostIp": "", "HostPort": "5432"}]}, "ports", "recreate"),
    ("HostConfig/LogConfig", {"Type": "json-file", "Config": {}}, "log", "recreate"),
    ("NetworkSettings/Networks", {}, "networks", "recreate"),
    ("Config/Image", "other:2", "image", "recreate"),
    ("Image", "sha256:0123456789abcdef", "image", "recreate"),
    ("Config/Cmd", ["sh"], "command", "recreate"),
    ("Config/Entrypoint", ["sh"], "entrypoint", "recreate"),
    ("Config/User", "", "user", "recreate"),
    ("Config/WorkingDir", "/x", "working_dir", "recreate"),
    ("Config/Env", ["A=2", "B=x$y"], "environment", "recreate"),
    ("Config/Healthcheck", None, "healthcheck", "recreate"),
    ("Config/StopSignal", "SIGTERM", "stop_signal", "recreate"),
    ("Config/StopTimeout", 10, "stop_grace", "recreate"),
    ("Mounts", [], "mounts", "recreate"),
    ("Name", "/0123456789ab_demo-db-1", "name", "recreate"),
    ("State/Status", "paused", "state", "restart"),
    ("State/Health", {"Status": "unhealthy", "FailingStreak": 3}, "health", "restart"),
]


@pytest.mark.parametrize(("path", "value", "facet", "action"), DRIFTS, ids=[f"{one[2]}-{one[0]}" for one in DRIFTS])
def test_each_drift_of_a_container_is_exactly_one_difference(path: str, value: Any, facet: str, action: str) -> None:
    assert [(one.name, one.facet, one.action) for one in look(changed("db", path, value))[2]] == [("db", facet, action)]


def test_a_container_whose_probes_were_stopped_is_not_taken_for_a_sick_one() -> None:
    assert look(changed("db", "State/Health", {"Status": "unhealthy", "FailingStreak": 0}))[2] == []


def test_values_of_the_environment_are_never_shown() -> None:
    found = look(changed("db", "Config/Env", ["A=hunter2", "LEFT=over"]))[2]
    assert "hunter2" not in repr(found)
    assert "LEFT" in found[0].actual
    assert "over" not in repr(found).replace("LEFT", "")


def test_what_the_image_brings_is_no_difference() -> None:
    image = {
        **STACK["image"],
        "Config": {**STACK["image"]["Config"], "Env": ["PATH=/bin", "GOPATH=/go"], "Labels": {"by": "it"}},
    }
    containers = changed("db", "Config/Env", ["A=1", "B=x$y", 'X=a$b"c', "PATH=/bin", "GOPATH=/go"])
    for one in containers:
        one["Config"]["Labels"]["by"] = "it"
        one["Config"]["Labels"].setdefault("batten.rig", "true")
    assert [one.facet for one in look(containers, image=image)[2] if one.facet == "environment"] == []


def test_a_one_shot_that_ended_well_is_done_and_one_that_failed_is_not() -> None:
    assert [one.facet for one in look(changed("once", "State/ExitCode", 1))[2]] == ["state"]


def test_a_missing_a_surplus_and_a_foreign_container() -> None:
    containers = copy.deepcopy(CONTAINERS)
    del containers[0]
    stray = copy.deepcopy(containers[0])
    stray["Config"]["Labels"]["com.docker.compose.service"] = "stray"
    wanted, there, found = look([*containers, stray])
    acts = {name: one.action for name, one in actions.decide(found, wanted, there).items()}
    assert acts == {"db": "create", "stray": "remove", "api": "restart"}


def test_the_spare_container_of_a_killed_recreate_is_told_and_the_service_left_alone() -> None:
    spare = copy.deepcopy(CONTAINERS[0])
    spare["Created"] = "2020-01-01T00:00:00Z"
    wanted, there, found = look([*CONTAINERS, spare])
    assert [(one.facet, one.actual) for one in found] == [("presence", "2 containers")]
    assert there["db"][0].inspect is CONTAINERS[0]
    assert actions.decide(found, wanted, there) == {}


@pytest.mark.parametrize(("key", "value"), [("Privileged", True), ("PidMode", "host"), ("IpcMode", "host")])
def test_what_the_engine_adds_to_a_container_that_a_hand_opened_is_no_second_difference(key: str, value: Any) -> None:
    containers = changed("db", f"HostConfig/{key}", value)
    host = recorded.container("db", containers)["HostConfig"]
    host["SecurityOpt"] = [*(host["SecurityOpt"] or []), "label=disable"]
    assert len(look(containers)[2]) == 1


@pytest.mark.parametrize("number", ["evil", "2"])
def test_a_container_with_forged_labels_does_not_take_the_place_of_the_real_one(number: str) -> None:
    forged = copy.deepcopy(CONTAINERS[0])
    forged.update(Name=forged["Name"][:-1] + number, Created="2030-01-01T00:00:00Z", Id="evil")
    wanted, there, found = look([*CONTAINERS, forged])
    assert [(one.facet, one.actual, one.action) for one in found] == [("presence", "2 containers", "remove")]
    assert [one.container for one in there["db"]] == ["stk-db-1", f"stk-db-{number}"]
    assert actions.decide(found, wanted, there) == {}


def test_a_live_change_and_a_stop_are_one_action_each() -> None:
    containers = changed("db", "HostConfig/Memory", 5)
    wanted, there, found = look(containers)
    assert actions.decide(found, wanted, there)["db"] == actions.Action("db", "update", "memory")
    recorded.container("db", containers)["State"]["Status"] = "exited"
    wanted, there, found = look(containers)
    assert actions.decide(found, wanted, there)["db"] == actions.Action("db", "start", "memory, state")


def test_a_service_is_not_restarted_for_what_it_needs() -> None:
    containers = changed("db", "State/Health", {"Status": "unhealthy", "FailingStreak": 3})
    recorded.container("api", containers)["State"]["Health"] = {"Status": "unhealthy", "FailingStreak": 3}
    wanted, there, found = look(containers)
    assert {one.name for one in found} == {"api", "db"}
    assert actions.recovering(found, wanted) == {"api"}
    assert {name: one.action for name, one in actions.decide(found, wanted, there).items()} == {"db": "restart"}
    alone = [one for one in found if one.name == "api"]
    assert {name: one.action for name, one in actions.decide(alone, wanted, there).items()} == {"api": "restart"}


def test_who_depends_with_restart_follows_a_recreation_and_nobody_else() -> None:
    wanted, there, found = look(changed("db", "Config/User", "0"))
    acts = {name: one.action for name, one in actions.decide(found, wanted, there).items()}
    assert acts == {"db": "recreate", "api": "restart"}
