"""What a host has, read from a made-up /proc and /sys."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.batten.core.plugins.module_utils import capacity
from ansible_collections.batten.core.plugins.module_utils.docker_api import Docker


@pytest.fixture
def host(tmp_path: Path) -> Path:
    put(tmp_path, "proc/meminfo", "MemTotal:       4010000 kB\nMemFree: 1 kB\n")
    put(tmp_path, "proc/self/status", "Name:\tx\nCapEff:\t000001fffeffffff\n")
    put(tmp_path, "proc/self/limits", "Max open files            1024                 20000                files\n")
    put(tmp_path, "proc/sys/fs/nr_open", "1048576\n")
    return tmp_path


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("sys/fs/cgroup/memory.max", "1073741824\n", 2**30),
        ("sys/fs/cgroup/memory.max", "max\n", 4010000 * 1024),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "536870912\n", 2**29),
        ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n", 4010000 * 1024),
    ],
)
def test_memory_is_the_smaller_of_the_machine_and_its_own_limit(
    host: Path, file: str, text: str, expected: int
) -> None:
    put(host, file, text)
    assert capacity.memory_bytes(str(host)) == expected


def test_a_quota_of_half_a_processor(host: Path) -> None:
    put(host, "sys/fs/cgroup/cpu.max", "50000 100000\n")
    assert capacity.cpus(str(host)) == 0.5


def process(root: Path, number: int, name: str, hard: str, capabilities: str) -> None:
    put(root, f"proc/{number}/comm", f"{name}\n")
    put(root, f"proc/{number}/status", f"Name:\t{name}\nCapEff:\t{capabilities}\nCapBnd:\t000001ffffffffff\n")
    put(root, f"proc/{number}/limits", f"Max open files            1024                 {hard}                files\n")
    put(root, f"proc/{number}/oom_score_adj", "7\n")


def test_without_an_engine_what_this_process_may_is_taken(host: Path) -> None:
    assert capacity.nofile_hard(str(host)) == 20000
    assert capacity.oom_score_adj_min(str(host)) == 0


def test_who_starts_containers_counts_and_nobody_else(host: Path) -> None:
    """Neither the limits of dockerd nor those of a login; of several containerds one is in a container."""
    process(host, 8, "dockerd", "512", "000001fffeffffff")
    assert (capacity.nofile_hard(str(host)), capacity.oom_score_adj_min(str(host))) == (512, 7)
    process(host, 9, "containerd", "30000", "000001fffeffffff")
    assert (capacity.nofile_hard(str(host)), capacity.oom_score_adj_min(str(host))) == (30000, 7)
    process(host, 10, "containerd", "1024", "000001ffffffffff")
    assert (capacity.nofile_hard(str(host)), capacity.oom_score_adj_min(str(host))) == (30000, 7)


@pytest.mark.parametrize(
    ("hard", "capabilities", "limit"),
    [
        ("20000", "000001fffeffffff", 20000),  # without CAP_SYS_RESOURCE
        ("20000", "000001ffffffffff", 1048576),  # with it
        ("unlimited", "0", 1048576),
        ("1073741816", "0", 1048576),
    ],
)
def test_open_files(host: Path, hard: str, capabilities: str, limit: int) -> None:
    process(host, 9, "containerd", hard, capabilities)
    assert capacity.nofile_hard(str(host)) == limit


def test_with_the_capability_only_the_kernel_limits(host: Path) -> None:
    put(host, "proc/self/status", "CapEff:\t000001ffffffffff\n")
    assert capacity.nofile_hard(str(host)) == 1048576
    assert capacity.oom_score_adj_min(str(host)) == -1000


def test_addresses_of_both_families_without_loopback_and_link_local(host: Path) -> None:
    table = ("127.0.0.1", "32 host LOCAL"), ("10.0.0.5", "32 host LOCAL"), ("10.0.0.255", "32 link BROADCAST")
    trie = "".join(f"     |-- {address}\n        /{what}\n" for address, what in table)
    put(host, "proc/net/fib_trie", trie)
    lines = "20010db8000000000000000000000005 02 40 00 80 eth0\nfe800000000000000000000000000001 02 40 20 80 eth0\n"
    put(host, "proc/net/if_inet6", lines)
    assert capacity.addresses(str(host)) == ["10.0.0.5", "2001:db8::5"]


def test_before_docker_there_is_capacity_too(host: Path) -> None:
    put(
        host,
        "var/lib/batten/shop/plan.json",
        '{"project": "shop", "services": {"a": {"memory_bytes": 5}, "b": {"memory_bytes": 7}}}',
    )
    found = capacity.observe_host(Docker(str(host / "no.sock")), str(host))
    assert found["capacity"]["engine_version"] is None
    assert found["capacity"]["allocated"] == {"shop": 12}
    assert found["plans"]["shop"]["project"] == "shop"


def test_processes_are_bounded_by_the_kernel_and_by_the_hosts_own_limit(host: Path) -> None:
    put(host, "proc/sys/kernel/pid_max", "4194304\n")
    put(host, "sys/fs/cgroup/pids.max", "max\n")
    assert capacity.pids_max(str(host)) == 4194304
    put(host, "sys/fs/cgroup/pids/pids.max", "512\n")
    assert capacity.pids_max(str(host)) == 512


def test_the_disk_is_that_of_the_data_or_of_the_engine(host: Path) -> None:
    found = capacity.disk(str(host))
    assert found["disk_bytes"] == capacity.disk(str(host), ["/srv/app/data"])["disk_bytes"]
    assert found["disk_bytes"] >= found["disk_free_bytes"] > 0
