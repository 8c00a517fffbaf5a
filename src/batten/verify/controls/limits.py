"""Limits: what the engine was told and what the kernel's control group really holds."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from batten.plan.limits import memory_reservation
from batten.verify.catalogue import control
from batten.verify.model import (
    LiveContainer,
    LiveProcess,
    Verdict,
    all_of,
    equal,
    fails,
    holds,
    memory_limit,
    not_applicable,
)

if TYPE_CHECKING:
    from batten.plan.model import ServicePlan


EDGE = 0.95  # of a limit: beyond it the next request may be the one that is killed


@control("limits.memory", "The memory limit is the planned one", cis="5.11")
def memory(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return equal("HostConfig.Memory", memory_limit(expected, live), live.host_config["Memory"])


@control("limits.memory-cgroup", "The kernel enforces the planned memory limit", cis="5.11", needs_process=True)
def memory_cgroup(expected: ServicePlan, live: LiveContainer) -> Verdict:
    page = int(live.host.facts.get("page", "4096"))
    planned = memory_limit(expected, live) // page * page  # the kernel keeps whole pages
    return cgroup_file(live, planned, "memory.max", "memory.limit_in_bytes")


@control("limits.swap", "The service gets no swap", cis="5.11", kept="swap")
def swap(expected: ServicePlan, live: LiveContainer) -> Verdict:
    if not live.host.info.get("SwapLimit", False):
        return not_applicable("this kernel does not account swap (docker info: SwapLimit false)")
    # MemorySwap is memory and swap together: equal means no swap (docs.docker.com, resource constraints).
    return equal("HostConfig.MemorySwap", memory_limit(expected, live), live.host_config["MemorySwap"])


@control("limits.swap-cgroup", "The kernel gives the service no swap", cis="5.11", needs_process=True, kept="swap")
def swap_cgroup(expected: ServicePlan, live: LiveContainer) -> Verdict:
    files = process(live).cgroup
    if "memory.swap.max" in files:
        return equal("memory.swap.max", "0", files["memory.swap.max"])
    if "memory.memsw.limit_in_bytes" in files:
        limit = files.get("memory.limit_in_bytes")
        return equal("memory.memsw.limit_in_bytes", limit, files["memory.memsw.limit_in_bytes"])
    return not_applicable("this kernel does not account swap (no memory.swap.max, no memory.memsw.limit_in_bytes)")


@control("limits.memory-reservation", "The memory reservation is the planned one", kept="reservation")
def reservation(expected: ServicePlan, live: LiveContainer) -> Verdict:
    planned = expected.memory_reservation_bytes
    if memory_limit(expected, live) != expected.memory_bytes:  # it goes with the limit that still holds
        planned = memory_reservation(memory_limit(expected, live))
    return equal("HostConfig.MemoryReservation", planned, live.host_config["MemoryReservation"])


@control("limits.cpus", "The processor limit and its shares are the planned ones", cis="5.12", kept="cpus")
def cpus(expected: ServicePlan, live: LiveContainer) -> Verdict:
    quota = equal("HostConfig.NanoCpus", round(expected.cpus * 1e9), live.host_config["NanoCpus"])
    if expected.cpu_shares is None:
        return quota
    return all_of(quota, equal("HostConfig.CpuShares", expected.cpu_shares, live.host_config["CpuShares"]))


@control(
    "limits.cpus-cgroup", "The kernel enforces the planned processor limit", cis="5.12", needs_process=True, kept="cpus"
)
def cpus_cgroup(expected: ServicePlan, live: LiveContainer) -> Verdict:
    files = process(live).cgroup
    words = files.get("cpu.max", f"{files.get('cpu.cfs_quota_us')} {files.get('cpu.cfs_period_us')}").split()
    if words[0] in ("max", "-1") or not all(word.isdigit() for word in words):
        return fails(f"the control group has no processor quota (cpu.max {' '.join(words)}), planned {expected.cpus}")
    quota, period = map(int, words)
    evidence = f"quota {quota} of {period} µs"
    # The engine writes whole microseconds, cpus * period rounded down; where systemd keeps the group, its next
    # daemon-reload rounds up to whole percents of a processor (runc, libcontainer/cgroups/systemd, addCpuQuota).
    written, kept = int(expected.cpus * period), math.ceil(round(expected.cpus * 100, 6)) * period // 100
    found = abs(quota - written) <= 1 or quota == kept
    return holds(evidence) if found else fails(f"{evidence}, planned {expected.cpus}")


@control("limits.pids", "The process limit is the planned one", cis="5.29")
def pids(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return equal("HostConfig.PidsLimit", expected.pids, live.host_config["PidsLimit"])


@control("limits.pids-cgroup", "The kernel enforces the planned process limit", cis="5.29", needs_process=True)
def pids_cgroup(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return cgroup_file(live, expected.pids, "pids.max")


@control("limits.nofile", "The limit on open files is the planned one", cis="5.19", kept="nofile")
def nofile(expected: ServicePlan, live: LiveContainer) -> Verdict:
    if expected.nofile is None:
        return not_applicable("the plan leaves it to the engine's default")
    ulimits = {one["Name"]: (one["Soft"], one["Hard"]) for one in live.host_config.get("Ulimits") or ()}
    told = equal("Ulimits nofile", (expected.nofile, expected.nofile), ulimits.get("nofile"))
    if live.process is None:
        return told
    return all_of(told, equal("/proc nofile", (str(expected.nofile),) * 2, live.process.nofile))


@control("limits.oom-score", "The out-of-memory score is the planned one", kept="oom_score_adj")
def oom_score(expected: ServicePlan, live: LiveContainer) -> Verdict:
    told = equal("HostConfig.OomScoreAdj", expected.oom_score_adj, live.host_config["OomScoreAdj"])
    if live.process is None:
        return told
    return all_of(told, equal("/proc oom_score_adj", expected.oom_score_adj, live.process.oom_score_adj))


@control("limits.shm", "The shared memory size is the planned one", kept="shm")
def shm(expected: ServicePlan, live: LiveContainer) -> Verdict:
    if expected.shm_bytes is None:
        return not_applicable("the plan leaves it to the engine's default")
    return equal("HostConfig.ShmSize", expected.shm_bytes, live.host_config["ShmSize"])


@control("limits.oom-killer", "The out-of-memory killer is not turned off for the service")
def oom_killer(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return equal("HostConfig.OomKillDisable", False, bool(live.host_config.get("OomKillDisable")))


@control("limits.cgroup-parent", "The control group is the engine's own", cis="5.25")
def cgroup_parent(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return equal("HostConfig.CgroupParent", "", live.host_config.get("CgroupParent", ""))


@control("limits.core", "A crash writes no core file", needs_process=True)
def core(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return equal("/proc core file size", ("0", "0"), process(live).core)


@control(
    "limits.oom-kills", "The kernel has killed no process of the service for memory", cis="5.11", needs_process=True
)
def oom_kills(expected: ServicePlan, live: LiveContainer) -> Verdict:
    files = process(live).cgroup
    if "oom_kill" not in files:
        return not_applicable("this kernel does not count them (no oom_kill in memory.events or memory.oom_control)")
    return equal("processes killed since its start", "0", files["oom_kill"])


@control("limits.headroom", "The service does not live at the edge of its memory limit", needs_process=True)
def headroom(expected: ServicePlan, live: LiveContainer) -> Verdict:
    """Judged without the page cache, which the kernel gives back."""
    held = int(process(live).cgroup.get("anon", "0"))
    share = held / memory_limit(expected, live)
    said = f"holds {held >> 20} MiB, {share:.0%} of its limit"
    return holds(said) if share < EDGE else fails(f"{said}, less than {EDGE:.0%} is wanted")


def process(live: LiveContainer) -> LiveProcess:
    assert live.process is not None
    return live.process


def cgroup_file(live: LiveContainer, planned: int, *names: str) -> Verdict:
    """Compare the first of these control group files that exists; version 2 names it differently from version 1."""
    files = process(live).cgroup
    for name in names:
        if name in files:
            return equal(name, str(planned), files[name])
    return fails(f"the control group has no {' or '.join(names)}: nothing is enforced")
