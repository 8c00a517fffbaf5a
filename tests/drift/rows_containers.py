"""What a hand does to a container: by ``docker update``, by stopping it, by making it again otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.drift.row import Row, container, remake, row, services

API, DB, PROXY, WORKER = map(container, ("api", "db", "proxy", "worker"))
LABELS = "--label com.docker.compose.project=yard --label com.docker.compose.service"
HOSTS = "/etc:/host:ro"


def again(
    name: str,
    service: str,
    changes: Mapping[str, Any],
    facets: Iterable[str],
    controls: Iterable[str] = (),
    **more: Any,
) -> Row:
    """A row of a container that was made again otherwise; the repair makes that one anew."""
    found = services(service, *facets)
    return row(name, remake(service, changes, **more), found, [service], controls=tuple(controls))


LIMITS = (
    row(
        "memory raised",
        f"docker update --memory 300m --memory-swap 300m {API}",
        services("api", "memory", "memory_swap"),
        controls=("limits.memory", "limits.memory-cgroup"),
    ),
    row(
        "swap allowed",
        f"docker update --memory-swap 512m {API}",
        services("api", "memory_swap"),
        controls=("limits.swap", "limits.swap-cgroup"),
    ),
    row(
        "reservation lowered",
        f"docker update --memory-reservation 16m {WORKER}",
        services("worker", "memory_reservation"),
        controls=("limits.memory-reservation",),
    ),
    row(
        "processor limit raised",
        f"docker update --cpus 1.9 {API}",
        services("api", "cpus"),
        controls=("limits.cpus", "limits.cpus-cgroup"),
    ),
    row(
        "processor shares raised",
        f"docker update --cpu-shares 4000 {WORKER}",
        services("worker", "cpu_shares"),
        controls=("limits.cpus",),
    ),
    row(
        "process limit lifted",
        f"docker update --pids-limit -1 {PROXY}",
        services("proxy", "pids"),
        controls=("limits.pids", "limits.pids-cgroup"),
    ),
    row(
        "restart policy taken away",
        f"docker update --restart no {DB}",
        services("db", "restart"),
        controls=("lifecycle.restart-policy",),
    ),
    row(
        "kept to one processor",
        f"docker update --cpuset-cpus 0 {WORKER}",
        services("worker", "cpuset"),
    ),
    row(
        "the same limits in other units",
        f"docker update --memory 134217728 --memory-swap 131072k {API}; docker update --cpus 1.0 {WORKER}",
        [],
    ),
    row(
        "two services at once",
        f"docker update --pids-limit 4000 {DB}; docker update --memory 96m --memory-swap 96m {WORKER}",
        [*services("db", "pids"), *services("worker", "memory", "memory_swap")],
        controls=("limits.pids", "limits.memory"),
    ),
    row(
        "a limit and a stopped neighbour at once",
        f"docker update --cpus 1.9 {API}; docker stop {WORKER}",
        [*services("api", "cpus"), *services("worker", "state")],
        ["worker"],
    ),
)

STATES = (
    row("stopped", f"docker stop {API}", services("api", "state"), ["api"], controls=("lifecycle.running",)),
    row("killed", f"docker kill {PROXY}", services("proxy", "state"), ["proxy"], controls=("lifecycle.running",)),
    row("paused", f"docker pause {WORKER}", services("worker", "state")),
    row("removed", f"docker rm -f {PROXY}", services("proxy", "presence"), ["proxy"], controls=("lifecycle.present",)),
    row("renamed", f"docker rename {WORKER} mine", services("worker", "name"), ["worker"]),
    row(
        "unhealthy",
        f"docker exec {WORKER} rm /tmp/up; "
        f"until [ $(docker inspect -f '{{{{.State.Health.Status}}}}' {WORKER}) = unhealthy ]; do sleep 0.1; done",
        services("worker", "health"),
        ["worker"],
        controls=("health.healthy",),
    ),
    row(
        "a second container with the service's forged labels",
        f"hand copy {WORKER} yard-worker-2",
        services("worker", "presence"),
    ),
    row(
        "a container with the labels of a service that is none",
        f"docker run -d --init --name yard-old-1 {LABELS}=old python:3.13-slim sleep 600",
        services("old", "presence"),
        controls=("lifecycle.present",),
    ),
    row(
        "left over from docker compose run",
        f"docker run -d --name yard-api-run-1 {LABELS}=api --label com.docker.compose.oneoff=True "
        "python:3.13-slim sleep 600",
        [("host", "yard-api-run-1", "orphan")],
        refused="docker rm -f yard-api-run-1",
        undo="docker rm -f yard-api-run-1",
    ),
)

MADE_AGAIN = (
    again("another image", "api", {"Image": "batten/sample-api:1.0.1"}, ["image"], ["lifecycle.image"]),
    again("another command", "api", {"Cmd": ["nice", "python", "-m", "api"]}, ["command"]),
    again("an entrypoint before the command", "worker", {"Entrypoint": ["nice", "-n", "5"]}, ["entrypoint"]),
    again("run as root", "api", {"User": "0:0"}, ["user"], ["privileges.user", "privileges.process-user"]),
    again("another working directory", "worker", {"WorkingDir": "/var"}, ["working_dir"]),
    again("a variable added", "api", {"Env+": ["DEBUG=1"]}, ["environment"]),
    again(
        "a password in a variable", "api", {"Env+": ["DB_PASSWORD=abc"]}, ["environment"], ["privileges.environment"]
    ),
    again("a variable changed", "api", {"Env+": ["DATABASE_HOST=elsewhere"]}, ["environment"]),
    again(
        "what is seldom looked at",
        "worker",
        {
            "Hostname": "db",
            "Domainname": "example.test",
            "Tty": True,
            "OpenStdin": True,
            "HostConfig/MaskedPaths": [],
            "HostConfig/DeviceCgroupRules": ["c 1:3 rwm"],
            "HostConfig/Annotations": {"run": "by hand"},
        },
        ["hostname", "domainname", "terminal", "stdin", "masked_paths", "device_rules", "annotations"],
        ["privileges.system-paths"],
    ),
    again("a label added", "worker", {"Labels/traefik.enable": "true"}, ["labels"]),
    again(
        "more open files",
        "worker",
        {"HostConfig/Ulimits": [{"Name": "nofile", "Soft": 9000, "Hard": 9000}]},
        ["ulimits"],
        ["limits.nofile"],
    ),
    again("spared by the OOM killer", "worker", {"HostConfig/OomScoreAdj": 0}, ["oom_score_adj"], ["limits.oom-score"]),
    again("more shared memory", "db", {"HostConfig/ShmSize": 512 << 20}, ["shm_size"], ["limits.shm"]),
    again("no health check", "api", {"Healthcheck": {"Test": ["NONE"]}}, ["healthcheck"], ["health.check"]),
    again(
        "a health check that says yes",
        "api",
        {"Healthcheck/Test": ["CMD", "true"]},
        ["healthcheck"],
        ["health.check-planned"],
    ),
    again("a slower health check", "worker", {"Healthcheck/Interval": 60 * 10**9}, ["healthcheck"]),
    again("no init", "api", {"HostConfig/Init": False}, ["init"], ["lifecycle.init"]),
    again("another stop signal", "api", {"StopSignal": "SIGINT"}, ["stop_signal"]),
    again("killed after a second", "api", {"StopTimeout": 1}, ["stop_grace"], ["lifecycle.stop-grace"]),
    again("a writable root", "api", {"HostConfig/ReadonlyRootfs": False}, ["read_only"], ["privileges.read-only"]),
    again("programs may run from /tmp", "api", {"HostConfig/Tmpfs": {"/tmp": "rw"}}, ["tmpfs"], ["mounts.tmpfs"]),
    again(
        "the engine's socket mounted",
        "api",
        {"HostConfig/Mounts+": [{"Type": "bind", "Source": "/run/docker.sock", "Target": "/run/docker.sock"}]},
        ["mounts"],
        ["mounts.docker-socket"],
    ),
    again("the host's /etc mounted", "worker", {"HostConfig/Binds": [HOSTS]}, ["mounts"], ["mounts.sensitive"]),
    again("a capability added", "api", {"HostConfig/CapAdd": ["NET_ADMIN"]}, ["cap_add"], ["privileges.capabilities"]),
    again("no capability dropped", "api", {"HostConfig/CapDrop": None}, ["cap_drop"], ["privileges.capabilities"]),
    again(
        "system calls not filtered",
        "api",
        {"HostConfig/SecurityOpt": ["no-new-privileges:true", "seccomp=unconfined"]},
        ["security_opt"],
        ["privileges.seccomp"],
    ),
    again("a group added", "api", {"HostConfig/GroupAdd": ["0"]}, ["group_add"], ["privileges.groups"]),
    again(
        "a device",
        "api",
        {"HostConfig/Devices": [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "rwm"}]},
        ["devices"],
        ["privileges.devices"],
    ),
    again("privileged", "api", {"HostConfig/Privileged": True}, ["privileged"], ["privileges.not-privileged"]),
    again("the host's processes", "api", {"HostConfig/PidMode": "host"}, ["namespaces"], ["privileges.pid-namespace"]),
    again("the host's name", "worker", {"HostConfig/UTSMode": "host"}, ["namespaces"], ["privileges.uts-namespace"]),
    again(
        "the host's network",
        "worker",
        {"HostConfig/NetworkMode": "host"},
        ["namespaces", "networks"],
        ["privileges.network-namespace"],
    ),
    again(
        "a kernel parameter",
        "api",
        {"HostConfig/Sysctls": {"net.core.somaxconn": "9"}},
        ["sysctls"],
        ["privileges.sysctls"],
    ),
    again("logs to a file", "api", {"HostConfig/LogConfig": {"Type": "json-file"}}, ["log"], ["logging.driver"]),
    again("a name in /etc/hosts", "api", {"HostConfig/ExtraHosts": ["db:203.0.113.9"]}, ["extra_hosts"]),
    again("another name server", "api", {"HostConfig/Dns": ["203.0.113.9"]}, ["dns"]),
    again(
        "a port opened in a hurry",
        "proxy",
        {"HostConfig/PortBindings/2019~tcp": [{"HostIp": "", "HostPort": "2019"}]},
        ["ports"],
        ["ports.published"],
    ),
    again(
        "the port on every address",
        "proxy",
        {"HostConfig/PortBindings/80~tcp": [{"HostIp": "0.0.0.0", "HostPort": "80"}]},
        ["ports"],
        ["ports.interfaces"],
    ),
)

# stack_drift (yard.py) says of the restart policy of both that it may be another.
POLICY = (
    row(
        "left by the policy",
        f"docker update --restart always {PROXY}",
        [],
        ignored=frozenset(services("proxy", "restart")),
        controls=("lifecycle.restart-policy",),
        undo=f"docker update --restart unless-stopped {PROXY}",
    ),
    row(
        "told by the policy, with its reason",
        f"docker update --restart always {WORKER}",
        services("worker", "restart"),
        refused="a trial of another policy",
        undo=f"[ $(docker inspect -f '{{{{.HostConfig.RestartPolicy.Name}}}}' {WORKER}) = always ]; "
        f"docker update --restart unless-stopped {WORKER}",
    ),
)

# What a run looked at before its own work, and what changes in the middle of it.
DURING_A_RUN = (
    row(
        "while a run is going on",
        f"docker rm -f {API}; python3 /usr/local/lib/batten/batten-host.pyz repair yard >/dev/null & run=$!; "
        f"until [ \"$(docker inspect -f '{{{{.State.Running}}}}' {API})\" = true ]; do sleep 0.1; done; "
        f"docker update --pids-limit 4000 {PROXY}; wait $run",
        services("proxy", "pids"),
        controls=("limits.pids",),
    ),
)

# Compose compares the label with a hash, and the label is the old one.
FORGED = (
    again("forged labels: as root", "api", {"User": "0:0"}, ["user"], ["privileges.user"], kept_labels=True),
    again(
        "forged labels: privileged",
        "worker",
        {"HostConfig/Privileged": True},
        ["privileged"],
        ["privileges.not-privileged"],
        kept_labels=True,
    ),
    again(
        "forged labels: another image",
        "api",
        {"Image": "batten/sample-api:1.0.1"},
        ["image"],
        ["lifecycle.image"],
        kept_labels=True,
    ),
    row(
        "forged labels: no limit",
        remake("worker", {f"HostConfig/Memory{one}": 0 for one in ("", "Swap", "Reservation")}, kept_labels=True),
        services("worker", "memory", "memory_swap", "memory_reservation"),
        controls=("limits.memory",),
    ),
)

ROWS: tuple[Row, ...] = (*LIMITS, *STATES, *MADE_AGAIN, *FORGED, *POLICY, *DURING_A_RUN)
