"""A small real stack on a host of the rig, run by batten's units: PostgreSQL, what needs it, and a late address."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.rig import docker, hosts, images, registry

SOURCES = Path(__file__).parents[2] / "plugins" / "module_utils"
LATE_SECONDS = 20
ADDRESS = "10.77.77.77"

COMPOSE = f"""
name: demo
x-common: &common
  restart: unless-stopped
services:
  db:
    <<: *common
    image: postgres:17.6-trixie
    user: "999:999"
    environment: {{POSTGRES_PASSWORD_FILE: /run/secrets/password}}
    volumes: ["data:/var/lib/postgresql/data", "/opt/batten/demo/secrets/db:/run/secrets:ro"]
    stop_grace_period: 60s
    healthcheck:
      test: [CMD, pg_isready, -h, 127.0.0.1, -U, postgres]
      interval: 2s
      start_interval: 1s
      start_period: 60s
  web:
    <<: *common
    image: python:3.13-slim
    user: "1000:1000"
    init: true
    command: [sh, -ec, "test -s /run/secrets/env; cd /tmp; exec python3 -m http.server --bind 127.0.0.1 8080"]
    volumes: ["/opt/batten/demo/secrets/web:/run/secrets:ro"]
    healthcheck:
      test: [CMD, python3, -c, "import urllib.request as u; u.urlopen('http://127.0.0.1:8080')"]
      interval: 2s
      start_interval: 1s
      start_period: 60s
  late:
    <<: *common
    image: python:3.13-slim
    init: true
    command: [python3, -m, http.server, "8080"]
    ports: ["{ADDRESS}:8081:8080"]
  once:
    image: python:3.13-slim
    command: ["true"]
    restart: "no"
volumes: {{data: {{}}}}
"""
# However slow the machine: the address comes up after it was tried in vain.
LATE_UNIT = f"""
[Service]
ExecStart=/bin/sh -c "until journalctl -b -q -u batten-stack@demo | grep -q 'late: '; do sleep 1; done; \\
  sleep {LATE_SECONDS}; ip address add {ADDRESS}/32 dev lo"
[Install]
WantedBy=multi-user.target
"""
PLAN = {
    "name": "demo",
    "project": "demo",
    "requires_mounts_for": [],
    "start_order": [
        ["once"],
        ["late"],
        ["db"],
        ["web"],
    ],  # late comes first, so that it is tried before its address is up
    "services": {name: {"stop_grace_seconds": 30} for name in ("once", "db", "web", "late")},
    "volumes": {},
    "data_directory": None,
}
SECRETS = {
    "generate": {"password": {"generator": "alnum"}, "key": {"generator": "hex"}, "app": {"generator": "alnum"}},
    "deliveries": {
        "db": {"uid": 999, "gid": 999, "files": {"password": {"secret": "password"}}},
        "web": {"uid": 1000, "gid": 1000, "files": {"env": {"template": "KEY=${key:sh}\n"}}},
    },
}
INSTALL = """
paths = StackPaths("demo")
program.install(check=False)
delivery = credentials.deliver(paths, secrets, check=False)
atomic.write_json(paths.plan, plan)
print(json.dumps({"delivered": delivery.changes, "units": units.ensure(paths, plan, check=False)}))
"""


def python(host: hosts.Host, body: str, *, check: bool = True) -> str:
    """Run ``body`` on the host with batten's host modules, PLAN as ``plan`` and SECRETS as ``secrets``."""
    head = (
        "import sys, json; sys.path.insert(0, '/root/batten')\n"
        "from module_utils import atomic, credentials, delivery, mounts, postgres, program, uninstall, units\n"
        "from module_utils.docker_api import Docker\n"
        "from module_utils.paths import StackPaths\n"
        f"plan = json.loads({json.dumps(PLAN)!r}); secrets = json.loads({json.dumps(SECRETS)!r})\n"
    )
    return host.run(["python3", "-"], stdin=head + body, check=check).stdout


def start(name: str) -> hosts.Host:
    """Boot a host, put the stack on it, and wait until all is healthy."""
    registry.ensure_registry()
    images.ensure_images()
    host = hosts.start(name, "engine")
    host.put("/etc/docker/daemon.json", json.dumps({"live-restore": True, "registry-mirrors": [registry.mirror_url()]}))
    host.run("systemctl restart docker")
    send_sources(host)
    host.put("/root/compose.yaml", COMPOSE)
    host.put("/etc/systemd/system/late-address.service", LATE_UNIT)
    host.run("systemctl enable --now late-address.service")
    python(host, INSTALL)
    host.run("docker compose -f /root/compose.yaml create --quiet-pull")
    host.run("systemctl restart batten-stack@demo")
    wait(host)
    return host


def send_sources(host: hosts.Host) -> None:
    """Copy module_utils to the host, where :func:`python` finds it."""
    host.run("mkdir -p /root/batten")
    docker.docker("cp", str(SOURCES), f"{host.name}:/root/batten/module_utils")


def wait(host: hosts.Host, seconds: float = 120) -> float:
    """Wait until every service is as it should be; return how long that took. AssertionError after ``seconds``."""
    began = time.monotonic()
    states: dict[str, str] = {}
    while time.monotonic() - began < seconds:
        states = containers(host)
        if (
            "(healthy)" in states.get("db", "")
            and "(healthy)" in states.get("web", "")
            and states.get("late", "").startswith("Up")
            and states.get("once", "").startswith("Exited (0)")
        ):
            return time.monotonic() - began
        time.sleep(0.5)
    raise AssertionError(f"not all well after {seconds} s: {states}\n{journal(host)}")


def containers(host: hosts.Host) -> dict[str, str]:
    """Return what ``docker ps`` says of each service, or nothing while the engine is away."""
    done = host.run(
        "timeout 10 docker ps -a --format '{{.Label \"com.docker.compose.service\"}}\t{{.Status}}'", check=False
    )
    return dict(line.split("\t") for line in done.stdout.splitlines())


def journal(host: hosts.Host) -> str:
    """Return what batten's units have said since boot."""
    return host.run("journalctl -b --no-pager -o cat -u 'batten-*@demo.service' -n 200").stdout
