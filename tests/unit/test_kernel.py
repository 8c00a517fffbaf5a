"""What the kernel says beside what was planned, in both versions of control groups.

The files of version 1 and of /proc are as recorded of PostgreSQL in a container of the rig's engine (26.1.5, Linux with
cgroup v1); those of version 2 are written after the kernel's admin-guide/cgroup-v2.rst, and as seen on a virtual
machine (Linux 6.12, systemd 257, runc 1.1.15).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import cgroups, facets_isolation, kernel
from ansible_collections.batten.core.plugins.module_utils.desired import Desired, Engine
from ansible_collections.batten.core.plugins.module_utils.observed import Observed

PID = 733
MIB = 2**20
SERVICE = {
    "mem_limit": str(512 * MIB),
    "memswap_limit": str(512 * MIB),
    "cpus": 1.5,
    "cpu_shares": 4096,
    "pids_limit": 512,
    "oom_score_adj": 250,
    "init": True,
    "cap_drop": ["ALL"],
    "cap_add": ["NET_BIND_SERVICE"],
    "security_opt": ["no-new-privileges:true"],
}
HOST = {
    "Memory": 512 * MIB,
    "MemorySwap": 512 * MIB,
    "NanoCpus": 1_500_000_000,
    "CpuShares": 4096,
    "PidsLimit": 512,
    "OomScoreAdj": 250,
    "Init": True,
    "CapDrop": ["ALL"],
    "CapAdd": ["NET_BIND_SERVICE"],
    "SecurityOpt": ["no-new-privileges:true"],
}
V1 = {
    "memory/docker/x/memory.limit_in_bytes": f"{512 * MIB}\n",
    "memory/docker/x/memory.memsw.limit_in_bytes": f"{512 * MIB}\n",
    "memory/docker/x/memory.max_usage_in_bytes": f"{400 * MIB}\n",
    "memory/docker/x/memory.usage_in_bytes": f"{300 * MIB}\n",
    "memory/docker/x/memory.stat": f"cache 9\ntotal_inactive_file {150 * MIB}\ntotal_active_file {50 * MIB}\n",
    "cpu/docker/x/cpu.cfs_quota_us": "150000\n",
    "cpu/docker/x/cpu.cfs_period_us": "100000\n",
    "cpu/docker/x/cpu.shares": "4096\n",
    "pids/docker/x/pids.max": "512\n",
}
V2 = {
    "x/memory.max": f"{512 * MIB}\n",
    "x/memory.swap.max": "0\n",
    "x/memory.peak": f"{400 * MIB}\n",
    "x/memory.current": f"{300 * MIB}\n",
    "x/memory.stat": f"anon 5\ninactive_file {150 * MIB}\nactive_file {50 * MIB}\n",
    "x/cpu.max": "150000 100000\n",
    "x/cpu.weight": "157\n",
    "x/pids.max": "512\n",
}
STATUS = "Name:\tdocker-init\nUid:\t999\t999\t999\t999\nCapBnd:\t0000000000000400\nNoNewPrivs:\t1\nSeccomp:\t2\n"


def host(root: Path, version: int) -> str:
    groups = "8:pids:/docker/x\n4:memory:/docker/x\n1:cpu:/docker/x\n0::/docker/x\n" if version == 1 else "0::/x\n"
    files = {f"sys/fs/cgroup/{name}": text for name, text in (V1 if version == 1 else V2).items()}
    for name, text in {
        **files,
        f"proc/{PID}/cgroup": groups,
        f"proc/{PID}/status": STATUS,
        f"proc/{PID}/oom_score_adj": "250\n",
        f"proc/{PID}/attr/apparmor/current": "docker-default (enforce)\n",
        f"proc/{PID}/task/{PID}/children": "734 900 \n",
        "proc/734/oom_score_adj": "250\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return str(root)


def look(root: str, service: dict[str, Any] | None = None, said: dict[str, Any] | None = None) -> list[Any]:
    engine = Engine(apparmor=True, seccomp=True)
    desired = Desired("shop", "db", {**SERVICE, **(service or {})}, {}, {}, engine)
    inspect = {"State": {"Pid": PID}, "HostConfig": {**HOST, **(said or {})}}
    return kernel.compare_service("shop", desired, Observed(inspect), root)


@pytest.mark.parametrize("version", [1, 2])
def test_a_host_that_nobody_touched_has_no_difference(tmp_path: Path, version: int) -> None:
    assert look(host(tmp_path, version)) == []


V1_CHANGES = [
    ("memory/docker/x/memory.limit_in_bytes", str(600 * MIB), "cgroup_memory", 600 * MIB),
    ("memory/docker/x/memory.limit_in_bytes", str(2**63 - 4096), "cgroup_memory", 0),
    ("memory/docker/x/memory.memsw.limit_in_bytes", str(700 * MIB), "cgroup_memory_swap", 700 * MIB),
    ("cpu/docker/x/cpu.cfs_quota_us", "-1", "cgroup_cpus", 0),
    ("cpu/docker/x/cpu.cfs_quota_us", "200000", "cgroup_cpus", 2),
    ("cpu/docker/x/cpu.shares", "77", "cgroup_cpu_shares", 77),
    ("pids/docker/x/pids.max", "max", "cgroup_pids", 0),
]
V2_CHANGES = [
    ("x/memory.max", "max", "cgroup_memory", 0),
    ("x/memory.swap.max", str(100 * MIB), "cgroup_memory_swap", 612 * MIB),
    ("x/memory.swap.max", "max", "cgroup_memory_swap", 0),
    ("x/cpu.max", "max 100000", "cgroup_cpus", 0),
    ("x/cpu.weight", "100", "cgroup_cpu_shares", 100),
    ("x/pids.max", "9999", "cgroup_pids", 9999),
]


@pytest.mark.parametrize(
    ("version", "path", "text", "facet", "actual"),
    [(1, *change) for change in V1_CHANGES] + [(2, *change) for change in V2_CHANGES],
)
def test_each_figure_that_was_changed_under_docker_is_put_back_live(
    tmp_path: Path, version: int, path: str, text: str, facet: str, actual: Any
) -> None:
    root = host(tmp_path, version)
    (tmp_path / "sys/fs/cgroup" / path).write_text(text + "\n")
    found = {one.facet: (one.actual, one.action) for one in look(root)}
    assert found.pop(facet) == (actual, "update")
    # Version 2 counts swap apart, so no limit of memory is none of both.
    assert set(found) <= {"cgroup_memory_swap"}


def test_what_docker_itself_says_is_not_told_twice(tmp_path: Path) -> None:
    root = host(tmp_path, 1)
    (tmp_path / "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes").write_text(f"{600 * MIB}\n")
    assert look(root, said={"Memory": 600 * MIB}) == []


def test_a_limit_where_none_is_planned_goes_with_a_restart(tmp_path: Path) -> None:
    root = host(tmp_path, 1)
    none = {"mem_limit": None, "memswap_limit": None}
    found = look(root, none, {"Memory": 0, "MemorySwap": 0})
    assert [(one.facet, one.action) for one in found] == [
        ("cgroup_memory", "restart"),
        ("cgroup_memory_swap", "restart"),
    ]


@pytest.mark.parametrize(
    ("path", "text", "facet", "action"),
    [
        (f"{PID}/oom_score_adj", "900", "oom_score_adj_live", "update"),
        ("734/oom_score_adj", "900", "oom_score_adj_live", "update"),
        (f"{PID}/status", STATUS.replace("0400", "0401"), "capabilities_live", "recreate"),
        (f"{PID}/status", STATUS.replace("Seccomp:\t2", "Seccomp:\t0"), "seccomp_live", "recreate"),
        (f"{PID}/status", STATUS.replace("NoNewPrivs:\t1", "NoNewPrivs:\t0"), "no_new_privileges_live", "recreate"),
        (f"{PID}/attr/apparmor/current", "unconfined", "apparmor_live", "recreate"),
        (f"{PID}/attr/apparmor/current", "docker-default (complain)", "apparmor_live", "none"),
    ],
)
def test_each_privilege_beyond_the_plan(tmp_path: Path, path: str, text: str, facet: str, action: str) -> None:
    root = host(tmp_path, 1)
    (tmp_path / "proc" / path).write_text(text + "\n")
    assert [(one.facet, one.action) for one in look(root)] == [(facet, action)]


def test_what_a_program_gave_up_by_itself_is_no_difference(tmp_path: Path) -> None:
    root = host(tmp_path, 1)
    (tmp_path / f"proc/{PID}/status").write_text(STATUS.replace("0400", "0000"))
    assert look(root, {"security_opt": []}) == []


def test_capabilities_by_name(tmp_path: Path) -> None:
    root = host(tmp_path, 1)
    (tmp_path / f"proc/{PID}/status").write_text(STATUS.replace("0000000000000400", "00000000a80425fb"))
    assert look(root, {"cap_drop": [], "cap_add": []}) == []  # moby's fourteen
    found = look(root, {"cap_drop": ["CAP_NET_RAW"], "cap_add": []}, {"CapDrop": ["NET_RAW"], "CapAdd": None})
    assert "NET_RAW" in found[0].actual
    assert "NET_RAW" not in found[0].desired
    assert look(root, {"privileged": True}) == []
    assert look(root, {"cap_add": ["ALL"]}) == []


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (("0400", "1400"), {"CapAdd": ["CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE"]}),
        (("0000000000000400", "00000000a80425fb"), {"CapDrop": None}),
        (("0000000000000400", "000001ffffffffff"), {"Privileged": True}),
        (("Seccomp:\t2", "Seccomp:\t0"), {"SecurityOpt": ["no-new-privileges", "seccomp=unconfined"]}),
        (("NoNewPrivs:\t1", "NoNewPrivs:\t0"), {"SecurityOpt": None}),
    ],
)
def test_what_the_engine_itself_says_is_a_facet_of_the_container(
    tmp_path: Path, status: tuple[str, str], said: dict[str, Any]
) -> None:
    root = host(tmp_path, 1)
    changed = STATUS.replace(*status)
    assert changed != STATUS
    (tmp_path / f"proc/{PID}/status").write_text(changed)
    assert look(root, said=said) == []
    assert look(root) != []


def test_a_container_made_without_apparmor_is_one_facet(tmp_path: Path) -> None:
    """Seen on a virtual machine: apparmor=unconfined by hand was told as three."""
    root = host(tmp_path, 2)
    (tmp_path / f"proc/{PID}/attr/apparmor/current").write_text("unconfined\n")
    desired = Desired("shop", "db", SERVICE, {}, {}, Engine(apparmor=True, seccomp=True))
    options = ["no-new-privileges:true", "apparmor=unconfined"]
    said = {"State": {"Pid": PID}, "HostConfig": {**HOST, "SecurityOpt": options}, "AppArmorProfile": "unconfined"}
    assert kernel.compare_service("shop", desired, Observed(said), root) == []
    pairs = (facets_isolation.security, facets_isolation.apparmor)
    assert [wanted == actual for wanted, actual in (pair(desired, Observed(said)) for pair in pairs)] == [True, False]
    lost = {**said, "HostConfig": HOST, "AppArmorProfile": "docker-default"}  # the profile was unloaded
    assert [one.facet for one in kernel.compare_service("shop", desired, Observed(lost), root)] == ["apparmor_live"]


def test_a_container_that_does_not_run_has_no_kernel_facets(tmp_path: Path) -> None:
    desired = Desired("shop", "db", SERVICE, {}, {}, Engine())
    observed = Observed({"State": {"Pid": 0}, "HostConfig": HOST})
    assert kernel.compare_service("shop", desired, observed, str(tmp_path)) == []


@pytest.mark.parametrize("version", [1, 2])
def test_what_the_kernel_cannot_take_away_is_less_than_what_was_ever_used(tmp_path: Path, version: int) -> None:
    groups = cgroups.Groups(PID, host(tmp_path, version))
    assert (groups.peak(), groups.unreclaimable()) == (400 * MIB, 100 * MIB)


@pytest.mark.parametrize(("shares", "weights"), [(1024, {39, 100}), (2, {1}), (262144, {10000}), (4096, {157, 303})])
def test_weights_of_both_formulas_of_runc(shares: int, weights: set[int]) -> None:
    assert cgroups.weights(shares) == weights


@pytest.mark.parametrize(("memory", "total"), [(100_003_000, 200_006_000), (100_002_500, 300_000_100)])
def test_pages_that_are_rounded_are_no_difference(tmp_path: Path, memory: int, total: int) -> None:
    """The kernel cuts each figure to whole pages by itself, so that their sum may be a page less."""
    root = host(tmp_path, 2)
    page = kernel._PAGE
    (tmp_path / "sys/fs/cgroup/x/memory.max").write_text(f"{memory // page * page}\n")
    (tmp_path / "sys/fs/cgroup/x/memory.swap.max").write_text(f"{(total - memory) // page * page}\n")
    limits = {"mem_limit": str(memory), "memswap_limit": str(total)}
    assert look(root, limits, {"Memory": memory, "MemorySwap": total}) == []
    (tmp_path / "sys/fs/cgroup/x/memory.swap.max").write_text(f"{(total - memory) // page * page + 4 * page}\n")
    assert [one.facet for one in look(root, limits, {"Memory": memory, "MemorySwap": total})] == ["cgroup_memory_swap"]


def test_a_hierarchy_of_somebody_s_own_beside_version_2_hides_no_figure(tmp_path: Path) -> None:
    root = host(tmp_path, 2)
    (tmp_path / f"proc/{PID}/cgroup").write_text("1:name=openrc:/docker\n0::/x\n")
    (tmp_path / "sys/fs/cgroup/x/pids.max").write_text("9999\n")
    assert [one.facet for one in look(root)] == ["cgroup_pids"]


@pytest.mark.parametrize(("runtime", "told"), [("runc", 1), ("nvidia", 1), ("kata", 0), ("runsc", 0)])
def test_a_runtime_that_starts_a_machine_has_its_own_rights(tmp_path: Path, runtime: str, told: int) -> None:
    root = host(tmp_path, 1)
    (tmp_path / f"proc/{PID}/status").write_text(STATUS.replace("0400", "0401"))
    assert len(look(root, {"runtime": runtime})) == told
