"""A host runs out of memory: monitoring dies before applications, the database lives, its postmaster above all."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.shop import Shop, wait_until
from tests.rig import hosts, images, registry

BASE = Path(__file__).parent / "stacks" / "oom" / "compose.yaml"
MIB = 2**20
ROOM = 96 * MIB
# What a person's runaway program does: a little more every moment, so slowly that the engine tells of one death before
# the next. It ends by itself.
HOG = """
import time
held = []
for _ in range(60):
    held.append(b"x" * (4 * 2**20))
    time.sleep(0.5)
"""
# What cannot be given back: all that is used but for pages of files (kernel, admin-guide/cgroup-v1/memory.rst).
USED = """
import pathlib
root = pathlib.Path("/sys/fs/cgroup")
root = root / "memory" if (root / "memory").is_dir() else root
stat = dict(line.split() for line in (root / "memory.stat").read_text().splitlines())
name = "memory.usage_in_bytes" if (root / "memory.usage_in_bytes").exists() else "memory.current"
prefix = "total_" if "total_inactive_file" in stat else ""
print(int((root / name).read_text()) - int(stat[prefix + "inactive_file"]) - int(stat[prefix + "active_file"]))
"""


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Shop]:
    registry.ensure_registry()
    images.ensure_images()
    host = hosts.start(f"batten-oom-{os.getpid()}", "engine", memory="2g")
    try:
        daemon = {"live-restore": True, "log-driver": "journald", "registry-mirrors": [registry.mirror_url()]}
        host.put("/etc/docker/daemon.json", json.dumps(daemon))
        host.run("systemctl restart docker")
        capacity = {"memory": "2G", "cpus": 2}
        own = {"stack_name": "oom", "stack_project": "oom", "stack_base": str(BASE), "infisical_mode": "none"}
        yield Shop(host, tmp_path, **own, stack_capacity=capacity)
    finally:
        host.remove()


def test_monitoring_dies_before_applications_and_the_database_lives(stack: Shop) -> None:
    stack.up()
    before, began = stack.containers(), int(time.time())
    postmaster = stack.host.run("docker inspect -f '{{.State.Pid}}' oom-db-1").stdout.strip()
    assert score(stack, postmaster) < min(score(stack, pid) for pid in backends(stack, postmaster))

    limit = int(stack.host.run(["python3", "-c", USED]).stdout) + ROOM
    words = ["docker", "update", "--memory", str(limit), "--memory-swap", str(limit), stack.host.name]
    subprocess.run(words, check=True, capture_output=True)
    stack.host.run(["systemd-run", "--quiet", "--unit=hog", "python3", "-c", HOG])
    try:
        wait_until(lambda: "oom-api-1" in died(stack, began), "the end of the application", 90)
    finally:
        stack.host.run("systemctl stop hog", check=False)

    order = died(stack, began)
    assert order.index("oom-monitor-1") < order.index("oom-api-1"), order
    assert "oom-db-1" not in order
    assert stack.containers()["db"] == before["db"]
    assert stack.host.run("docker exec oom-db-1 psql -U postgres -Atqc 'select 1'").stdout == "1\n"


def died(stack: Shop, since: int) -> list[str]:
    """The containers that ended since then, in order."""
    name = "{{.Actor.Attributes.name}}"
    words = f"docker events --since {since} --until {int(time.time()) + 1} --filter event=die --format '{name}'"
    return stack.host.run(words).stdout.split()


def score(stack: Shop, pid: str) -> int:
    return int(stack.host.run(["cat", f"/proc/{pid}/oom_score_adj"]).stdout)


def backends(stack: Shop, init: str) -> list[str]:
    """The server's own processes: the first of the container is its init, whose child the postmaster is."""
    postmaster = stack.host.run(f"cat /proc/{init}/task/{init}/children").stdout.split()[0]
    return stack.host.run(f"cat /proc/{postmaster}/task/{postmaster}/children").stdout.split()
