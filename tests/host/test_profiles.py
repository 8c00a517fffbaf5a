"""Real software under its profile: healthy at the first start, and again after one restart.

The software is Debian's, in images laid out as the official ones are (tests/profiles/Dockerfile), on the engine of the
rig. One project has all of them, as batten plans and renders it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from batten import resources
from batten.plan.model import Capacity, ServicePlan, StackPlan
from batten.plan.profile import load_profiles
from batten.plan.settings import StackSettings
from batten.plan.stack import load_inputs, plan_stack
from batten.render import release, write
from tests.contract.conftest import COMPOSE
from tests.rig import base, registry
from tests.rig.docker import LABEL, docker

SOURCES = Path(__file__).parents[1] / "profiles"
PROFILES = load_profiles(resources.compose() / "profiles")
# service: its official name, and the tag whose variant of the profile is tried.
TRIED = {
    "mariadb": "mariadb:11.8",
    "valkey": "valkey/valkey:8.1",
    "memcached": "memcached:1.6",
    "rabbitmq": "rabbitmq:4.0",
    "nginx": "nginx:1.26",
    "httpd": "httpd:2.4",
    "haproxy": "haproxy:3.0",
    "php": "php:8.4-fpm",
    "mosquitto": "eclipse-mosquitto:2.0",
}
# What every deployment of them gives: a first password, and a name that outlives the container.
NEEDED: dict[str, dict[str, Any]] = {
    "rabbitmq": {"hostname": "rabbitmq"},
}
WAIT_SECONDS = 80


@dataclass(frozen=True)
class Stack:
    """The project as it runs: its plan, its layers, and how to ask Compose and the engine of it."""

    plan: StackPlan
    project: str
    files: tuple[str, ...]

    def compose(self, *words: str) -> None:
        done = subprocess.run(
            [COMPOSE, "-p", self.project, *self.files, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:] + self.complaints()

    def live(self, service: str) -> dict[str, Any]:
        """Return what `docker inspect` says of a service's container."""
        words = ["ps", "-aq", "--filter", f"label=com.docker.compose.project={self.project}"]
        name = docker(*words, "--filter", f"label=com.docker.compose.service={service}").stdout.strip()
        found: dict[str, Any] = json.loads(docker("inspect", name).stdout)[0]
        return found

    def complaints(self) -> str:
        """Return the last probe and the last lines of what is not healthy."""
        said = []
        for service in self.plan.services:
            state = self.live(service)["State"]
            if state.get("Health", {}).get("Status") != "healthy":
                logs = docker("logs", "--tail", "8", self.live(service)["Id"], check=False)
                said.append(f"\n{service}: {json.dumps(state)[-500:]}\n{logs.stdout}{logs.stderr}")
        return "".join(said)


def image(service: str) -> str:
    """Build (or find in the engine's cache) what stands for a service's image, under its name in the rig's registry."""
    name = registry.name_in_registry(TRIED[service])
    words = ["build", "--quiet", "--label", LABEL, "--build-arg", f"PARENT={base.debian()}", "--target", service]
    docker(*words, "--tag", name, str(SOURCES))
    return name


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("profiles")
    label = dict([LABEL.split("=")])
    written: dict[str, Any] = {"services": {}, "volumes": {}, "networks": {"default": {"labels": label}}}
    for service in TRIED:
        name = image(service)
        found = PROFILES.match(name)
        assert found
        assert found.profile.name == service
        volumes = {
            f"{service}-{place}": item.path for place, item in enumerate(found.profile.writable) if not item.tmpfs_bytes
        }
        mounts = [f"{volume}:{path}" for volume, path in volumes.items()]
        written["services"][service] = {"image": name, "volumes": mounts, "labels": label, **NEEDED.get(service, {})}
        written["volumes"] |= {volume: {"labels": label} for volume in volumes}
    (directory / "compose.yaml").write_text(yaml.safe_dump(written))
    project = f"batten-profiles-{os.getpid()}"
    settings = StackSettings.from_variables(
        {"stack_name": project, "stack_base": str(directory / "compose.yaml"), "stack_reserve": "64M"}
    )
    # Of this engine: no negative scores, and no more open files than the rig may have (tests/rig/README.md).
    capacity = Capacity(memory_bytes=6 * 1024**3, cpus=2, nofile_hard=20000, oom_score_adj_min=0)
    plan, _ = plan_stack(settings, capacity)
    plan = replace(plan, services={name: _here(one) for name, one in plan.services.items()})
    payload = release(plan, settings, load_inputs(settings).definition)
    write(payload, directory / "out")
    files = [word for layer in payload["layers"] for word in ("-f", str(directory / "out" / layer["name"]))]
    made = Stack(plan, project, tuple(files))
    try:
        made.compose("up", "--detach", "--wait", "--wait-timeout", str(WAIT_SECONDS))
        yield made
    finally:
        made.compose("down", "--volumes", "--timeout", "5")


def _here(planned: ServicePlan) -> ServicePlan:
    """A service on an engine without a journal."""
    return replace(planned, log_driver="local")


def test_each_is_healthy_under_its_profile_and_again_after_a_restart(stack: Stack) -> None:
    before = {service: stack.live(service)["State"]["StartedAt"] for service in TRIED}
    stack.compose("restart", "--timeout", "20")
    stack.compose("up", "--detach", "--no-recreate", "--wait", "--wait-timeout", str(WAIT_SECONDS))
    for service in TRIED:
        live = stack.live(service)
        assert live["State"]["Health"]["Status"] == "healthy", service
        assert live["State"]["StartedAt"] > before[service]
        assert (live["RestartCount"], live["State"]["OOMKilled"]) == (0, False), service


@pytest.mark.parametrize("service", TRIED)
def test_it_runs_with_what_the_profile_says_and_is_marked_tried(stack: Stack, service: str) -> None:
    known, live = PROFILES.match(TRIED[service]), stack.live(service)
    assert known
    host = live["HostConfig"]
    assert known.confidence == "tried"
    assert host["CapDrop"] == ["ALL"]
    assert sorted(name.removeprefix("CAP_") for name in host["CapAdd"] or ()) == sorted(known.profile.cap_add)
    assert host["ReadonlyRootfs"] == known.profile.read_only
    assert live["Config"]["User"] == (known.profile.user or live["Config"]["User"])
    assert host["Memory"] == host["MemorySwap"] == stack.plan.services[service].memory_bytes
    assert "no-new-privileges:true" in host["SecurityOpt"]


def test_limits_reached_the_software(stack: Stack) -> None:
    def ask(service: str, *words: str) -> str:
        return docker("exec", stack.live(service)["Id"], *words).stdout

    limits = {service: planned.memory_bytes for service, planned in stack.plan.services.items()}
    said = ask("mariadb", "mariadb", "-u", "root", "-N", "-h", "127.0.0.1", "-e", "SELECT @@innodb_buffer_pool_size")
    assert int(said) == pytest.approx(limits["mariadb"] / 2, rel=0.02)
    assert int(ask("valkey", "valkey-cli", "config", "get", "maxmemory").split()[1]) < limits["valkey"]
    status = json.loads(ask("rabbitmq", "rabbitmq-diagnostics", "-q", "status", "--formatter", "json"))
    assert status["vm_memory_high_watermark_limit"] == pytest.approx(0.6 * limits["rabbitmq"], rel=0.02)
