"""What the engine does not know: control groups, processes, and what was written into an image's layer."""

from __future__ import annotations

from tests.drift.row import Row, cgroup, container, row, services

API, WORKER = container("api"), container("worker")
PID = f"pid=$(docker inspect -f '{{{{.State.Pid}}}}' {WORKER})"
LAYER = f"$(docker inspect -f '{{{{.GraphDriver.Data.MergedDir}}}}' {API})"

ROWS: tuple[Row, ...] = (
    row(
        "memory raised behind the engine",
        cgroup("worker", "memory", "memory.memsw.limit_in_bytes", "268435456", "memory.max", "268435456")
        + cgroup("worker", "memory", "memory.limit_in_bytes", "268435456", "memory.swap.max", "0"),
        services("worker", "cgroup_memory", "cgroup_memory_swap"),
        controls=("limits.memory-cgroup",),
    ),
    row(
        "processor limit lifted behind the engine",
        cgroup("worker", "cpu", "cpu.cfs_quota_us", "-1", "cpu.max", "max"),
        services("worker", "cgroup_cpus"),
        controls=("limits.cpus-cgroup",),
    ),
    row(
        "processor shares raised behind the engine",
        cgroup("worker", "cpu", "cpu.shares", "9000", "cpu.weight", "9000"),
        services("worker", "cgroup_cpu_shares"),
    ),
    row(
        "process limit lifted behind the engine",
        cgroup("worker", "pids", "pids.max", "max", "pids.max", "max"),
        services("worker", "cgroup_pids"),
        controls=("limits.pids-cgroup",),
    ),
    row(
        "spared by the OOM killer while it runs",
        f"{PID}; echo 0 >/proc/$pid/oom_score_adj",
        services("worker", "oom_score_adj_live"),
        controls=("limits.oom-score",),
    ),
    row(
        "an exec'd process left running",
        f"docker exec -d {API} sleep 1000",
        services("api", "processes"),
    ),
    row(
        "an exec'd process left running as root",
        f"docker exec -d -u 0 {API} sleep 1000",
        services("api", "processes"),
        controls=("privileges.process-user",),
    ),
    row(
        "somebody at work by docker exec",
        f"docker exec {API} sleep 999 </dev/null >/dev/null 2>&1 &",
        services("api", "processes"),
        refused="somebody may be at work; if it does not end by itself: kill",
        undo="pkill -x -f 'sleep 999'",
    ),
    row(
        "a program added to the image's files",
        f"docker exec -u 0 {WORKER} sh -c 'echo x >/usr/bin/kit'",
        services("worker", "image_files"),
        ["worker"],
    ),
    row(
        "a program of the image replaced",
        f"docker exec -u 0 {WORKER} cp /usr/bin/true /usr/bin/env",
        services("worker", "image_files"),
        ["worker"],
    ),
    row(
        "a file of the image deleted",
        f"docker exec -u 0 {WORKER} rm /etc/issue",
        services("worker", "image_files"),
        ["worker"],
    ),
    row(
        "written under a read-only root, from the host",
        f"echo x >{LAYER}/usr/bin/kit",
        services("api", "image_files"),
        ["api"],
    ),
    row(
        "written where a service may write",
        f"docker exec {WORKER} sh -c 'echo x >/tmp/x'; docker exec {API} sh -c 'echo x >/tmp/x'",
        [],
    ),
)
