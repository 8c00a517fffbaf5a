"""For every control, a change of the live host that it must notice.

Two batches of reads are recorded, of hosts that hold every control (tests/verify/record.py): a container with version 1
of control groups, and a virtual machine with version 2, AppArmor, and all else that a container does not own. A case
changes one thing in each and names the control that must fail; nothing is patched but the data.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from batten.plan.model import Port, StackPlan
from batten.verify.catalogue import Case, cases, catalogue, judge
from batten.verify.model import FileStat, Listener, LiveHost, Verdict
from tests.verify.record import MACHINE, SNAPSHOT, recorded
from tests.verify.stack import CHECK, PLAN, VARIABLES

Mutation = Callable[[LiveHost], LiveHost]
MACHINE_TEXT = MACHINE.read_text()
NOW = int(recorded().facts["now"])
DAY = 86400


def machine(_: LiveHost | None = None) -> LiveHost:
    """The recorded virtual machine, also as what takes the container's place."""
    return recorded(MACHINE_TEXT)


def later(seconds: int) -> Mutation:
    """As if the host had been read so much later."""
    return lambda live: field("facts", now=str(int(live.facts["now"]) + seconds))(live)


def mapping(live: LiveHost, service: str) -> dict[str, Any]:
    """The inspect document of a service, to be changed in place."""
    return next(one.inspect for one in live.containers if one.service == service)  # type: ignore[return-value]


def inspect(*path: str, to: Any, service: str = "web") -> Mutation:
    """Set one value of ``docker inspect``."""

    def change(live: LiveHost) -> LiveHost:
        target = mapping(live, service)
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = to
        return live

    return change


def host_config(key: str, to: Any, service: str = "web") -> Mutation:
    return inspect("HostConfig", key, to=to, service=service)


def process(service: str = "web", **changes: Any) -> Mutation:
    """Change what the kernel says of a service's first process, or of its control group (``cgroup``)."""

    def change(live: LiveHost) -> LiveHost:
        identity = mapping(live, service)["Id"]
        found = live.processes[identity]
        own = {key: value for key, value in changes.items() if hasattr(found, key)}
        if "cgroup" in own:
            own["cgroup"] = found.cgroup | own["cgroup"]
        status = {key: value for key, value in changes.items() if key not in own}
        first, *rest = found.processes
        own["processes"] = (dataclasses.replace(first, **status), *rest)
        return dataclasses.replace(live, processes=live.processes | {identity: dataclasses.replace(found, **own)})

    return change


def mount(service: str = "web", **changes: Any) -> Mutation:
    """Add a bind mount."""

    def change(live: LiveHost) -> LiveHost:
        added = {"Type": "bind", "Source": "/srv/x", "Destination": "/x", "RW": False, "Propagation": "rprivate"}
        mapping(live, service)["Mounts"].append(added | changes)
        return live

    return change


def mount_of(destination: str, service: str = "web", **changes: Any) -> Mutation:
    def change(live: LiveHost) -> LiveHost:
        next(one for one in mapping(live, service)["Mounts"] if one["Destination"] == destination).update(changes)
        return live

    return change


def field(name: str, **changes: Any) -> Mutation:
    """Set keys of one of the host's mappings; None takes a key away."""

    def change(live: LiveHost) -> LiveHost:
        merged = dict(getattr(live, name)) | {key.replace("__", "."): value for key, value in changes.items()}
        return dataclasses.replace(live, **{name: {key: value for key, value in merged.items() if value is not None}})

    return change


def unit(name: str, **changes: str) -> Mutation:
    return lambda live: dataclasses.replace(live, units={**live.units, name: {**live.units[name], **changes}})


def file(path: str, **changes: Any) -> Mutation:
    def change(live: LiveHost) -> LiveHost:
        found = live.files.get(path, FileStat(path, "file", 0o600, 0, 0, "root", "root"))
        return dataclasses.replace(live, files={**live.files, path: dataclasses.replace(found, **changes)})

    return change


def tree(part: str, ending: str, **changes: Any) -> Mutation:
    """Change the one file of batten's tree whose path ends so; ``gone`` takes it away."""

    def change(live: LiveHost) -> LiveHost:
        stats = live.trees["small", part]
        assert any(stat.path.endswith(ending) for stat in stats)
        changed = [
            dataclasses.replace(stat, **changes) if stat.path.endswith(ending) and changes else stat
            for stat in stats
            if changes or not stat.path.endswith(ending)
        ]
        return dataclasses.replace(live, trees={**live.trees, ("small", part): tuple(changed)})

    return change


def network(name: str, **changes: Any) -> Mutation:
    def change(live: LiveHost) -> LiveHost:
        next(one for one in live.networks if one["Name"] == name).update(changes)  # type: ignore[attr-defined]
        return live

    return change


def extra_container(**labels: str) -> Mutation:
    def change(live: LiveHost) -> LiveHost:
        added = copy.deepcopy(mapping(live, "web"))
        added["Id"], added["Name"] = "f" * 64, "/another"
        added["Config"]["Labels"].update({key.replace("__", "."): value for key, value in labels.items()})
        return dataclasses.replace(live, inspects=(*live.inspects, added))

    return change


def without_container(service: str) -> Mutation:
    def change(live: LiveHost) -> LiveHost:
        keep = tuple(one.inspect for one in live.containers if one.service != service)
        return dataclasses.replace(live, inspects=keep)

    return change


def listening(*added: Listener) -> Mutation:
    return lambda live: dataclasses.replace(live, listeners=live.listeners + added)


def environment(entry: str) -> Mutation:
    return inspect("Config", "Env", to=[entry])


def enforced(label: str) -> Mutation:
    """A host with AppArmor, and the label of the service's process."""
    return then(machine, process(apparmor=label))


def backup(**changes: Any) -> Mutation:
    def change(live: LiveHost) -> LiveHost:
        (found,) = live.backups["/var/backups/batten"]
        told = dataclasses.replace(found, described={**found.described, **changes})
        return dataclasses.replace(live, backups={"/var/backups/batten": (told,)})

    return change


def usage(service: str = "web", **files: str) -> Mutation:
    """Set files of the service's control group."""
    return process(service, cgroup=files)


def tried(service: str, part: str, **changes: Any) -> Mutation:
    """Change what the probe found of a service: its ``log`` or its ``network``."""

    def change(live: LiveHost) -> LiveHost:
        identity = mapping(live, service)["Id"]
        found = dict(live.tried[identity])
        merged = {**found[part], **changes}
        found[part] = {key: value for key, value in merged.items() if value is not None}
        return dataclasses.replace(live, tried={**live.tried, identity: found})

    return change


def reaching(source: str, target: str, port: int = 8443) -> Mutation:
    """As if a connection had opened from one service to another."""

    def change(live: LiveHost) -> LiveHost:
        pair = [mapping(live, target)["Id"], port]
        return tried(source, "network", tried=[pair], reached=[pair])(live)

    return change


def executed(**changes: Any) -> Mutation:
    """A process of ``docker exec`` in the service `web`: its parent is none of the container's."""

    def change(live: LiveHost) -> LiveHost:
        identity = mapping(live, "web")["Id"]
        found = live.processes[identity]
        added = dataclasses.replace(found.processes[0], name="sh", pid=90001, parent=90000, **changes)
        more = dataclasses.replace(found, processes=(*found.processes, added))
        return dataclasses.replace(live, processes={**live.processes, identity: more})

    return change


def image(**changes: Any) -> Mutation:
    """Change what is known of the one image."""

    def change(live: LiveHost) -> LiveHost:
        (found,) = live.images
        return dataclasses.replace(live, images=({**found, **changes},))

    return change


def named(path: str, key: str, **changes: Any) -> Mutation:
    """A file that daemon.json names."""
    return then(file(path, **{"mode": 0o400, **changes}), lambda live: dataclasses.replace(live, daemon={key: path}))


def volume(**changes: Any) -> Mutation:
    def change(live: LiveHost) -> LiveHost:
        (found,) = live.volumes
        return dataclasses.replace(live, volumes=({**found, **changes},))

    return change


def rebooted(live: LiveHost) -> LiveHost:
    return field("facts", booted=live.facts["now"])(live)


def selinux(label: str) -> Mutation:
    """A host with SELinux, and the label of the service's process."""
    options = ["name=seccomp,profile=builtin", "name=no-new-privileges", "name=selinux"]
    return then(
        field("info", SecurityOptions=options),
        *(inspect("ProcessLabel", to="system_u:system_r:container_t:s0", service=name) for name in PLAN.services),
        inspect("ProcessLabel", to=label),
    )


def nft(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Mutation:
    """Change what nft lists of batten's table."""
    return lambda live: dataclasses.replace(live, table=tuple(change([dict(one) for one in live.table])))


def without_rule(chain: str, word: str = "") -> Mutation:
    """Take away the rules of a chain that say a word."""
    return nft(
        lambda table: [
            one for one in table if one.get("rule", {}).get("chain") != chain or word not in repr(one["rule"]["expr"])
        ]
    )


def with_element(name: str, *parts: Any) -> Mutation:
    """Add an element to a set."""

    def change(table: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {"set": {**one["set"], "elem": [*one["set"].get("elem", []), {"concat": list(parts)}]}}
            if one.get("set", {}).get("name") == name
            else one
            for one in table
        ]

    return nft(change)


def outside(**words: str) -> Mutation:
    """What answers from outside, by port."""
    ports = {int(port.removeprefix("p")): word for port, word in words.items()}
    return lambda live: dataclasses.replace(live, outside={"198.51.100.7": ports})


def unaudited(path: str) -> Mutation:
    def change(live: LiveHost) -> LiveHost:
        live = machine()
        kept = tuple(rule for rule in live.audit if f"={path} " not in rule)
        assert len(kept) == len(live.audit) - 1
        return dataclasses.replace(live, audit=kept)

    return change


def then(*mutations: Mutation) -> Mutation:
    def change(live: LiveHost) -> LiveHost:
        for one in mutations:
            live = one(live)
        return live

    return change


def certificate(path: str, **changes: Any) -> Mutation:
    """Change what is known of a certificate; without changes it cannot be read."""

    def change(live: LiveHost) -> LiveHost:
        found = live.certificates["small", path]
        assert found is not None
        changed = dataclasses.replace(found, **changes) if changes else None
        return dataclasses.replace(live, certificates={**live.certificates, ("small", path): changed})

    return change


def tls(**changes: Any) -> Mutation:
    """Change what the service `store` shows on its TLS port."""

    def change(live: LiveHost) -> LiveHost:
        changed = dataclasses.replace(live.tls["small", "store"], **changes)
        return dataclasses.replace(live, tls={**live.tls, ("small", "store"): changed})

    return change


RUNNING = ("web", "store", "ui")
DIGEST = f"sha256:{'d' * 64}"
PINNED = f"shell:1@{DIGEST}"
OTHER = dataclasses.replace(PLAN, name="other", project="other")
# What is planned where the small stack alone does not show a control.
PUBLIC = dataclasses.replace(PLAN.services["web"], ports=(Port(443, 443, "198.51.100.7"),))
PLANNED: dict[str, dict[str, StackPlan]] = {
    **{
        name: {"small": dataclasses.replace(PLAN, services={"web": PUBLIC})}
        for name in ("ports.outside", "ports.served")
    },
    "networks.stacks-apart": {"small": PLAN, "other": OTHER},
    "images.digest": {
        "small": dataclasses.replace(PLAN, services={"web": dataclasses.replace(PLAN.services["web"], image=PINNED)})
    },
}
# Variables of role host, where the small stack's own do not show a control.
TOLD: dict[str, dict[str, Any]] = {
    "host.swap": {"host_swap": "none"},
    "firewall.input": {"host_firewall_input": True},
}
CERTIFICATE_OF_A_REGISTRY = "/etc/docker/certs.d/registry.test/ca.crt"
TCP = [{"HostIp": "0.0.0.0", "HostPort": "80"}]
PROJECT = "com.docker.compose.project"
SECRETS, STACK = "batten-secrets@small.service", "batten-stack@small.service"

# Files of control groups of version 1, which the virtual machine has not.
VERSION_1: list[tuple[str, Mutation]] = [
    ("limits.memory-cgroup", process(cgroup={"memory.limit_in_bytes": "67108864"})),
    ("limits.swap-cgroup", process(cgroup={"memory.memsw.limit_in_bytes": "67108864"})),
    ("limits.cpus-cgroup", process(cgroup={"cpu.cfs_quota_us": "-1"})),
]
MUTATIONS: list[tuple[str, Mutation]] = [
    ("limits.memory", host_config("Memory", 64 << 20)),
    ("limits.memory", host_config("Memory", 0)),
    ("limits.memory-cgroup", process(cgroup={"memory.max": "max"})),
    ("limits.swap", host_config("MemorySwap", 64 << 20)),
    ("limits.swap", host_config("MemorySwap", -1)),
    ("limits.swap-cgroup", process(cgroup={"memory.swap.max": "max"})),
    ("limits.memory-reservation", host_config("MemoryReservation", 0)),
    ("limits.cpus", host_config("NanoCpus", 10**9)),
    ("limits.cpus", host_config("CpuShares", 2)),
    ("limits.cpus-cgroup", process(cgroup={"cpu.max": "100000 100000"})),
    ("limits.cpus-cgroup", process(cgroup={"cpu.max": "max 100000"})),
    ("limits.pids", host_config("PidsLimit", None)),
    ("limits.pids-cgroup", process(cgroup={"pids.max": "max"})),
    ("limits.nofile", host_config("Ulimits", None)),
    ("limits.nofile", process(nofile=("1024", "20000"))),
    ("limits.oom-score", host_config("OomScoreAdj", 0)),
    ("limits.oom-score", process(oom_score_adj=0)),
    ("limits.shm", host_config("ShmSize", 64 << 20)),
    ("limits.oom-killer", host_config("OomKillDisable", True)),
    ("limits.cgroup-parent", host_config("CgroupParent", "/other.slice")),
    ("health.check", inspect("Config", "Healthcheck", to=None)),
    ("health.check", inspect("Config", "Healthcheck", to={"Test": ["NONE"]})),
    ("health.check-planned", inspect("Config", "Healthcheck", "Test", to=["CMD", "true"])),
    ("health.check-planned", inspect("Config", "Healthcheck", "Retries", to=99)),
    ("health.healthy", inspect("State", "Health", "Status", to="unhealthy")),
    ("health.healthy", inspect("State", "Health", to=None)),
    ("privileges.user", inspect("Config", "User", to="")),
    ("privileges.user", inspect("Config", "User", to="1001")),
    ("privileges.process-user", process(uid=0)),
    ("privileges.process-user", process(uid=1001)),
    ("privileges.read-only", host_config("ReadonlyRootfs", False)),
    ("privileges.capabilities", host_config("CapDrop", None)),
    ("privileges.capabilities", host_config("CapAdd", ["CAP_NET_BIND_SERVICE", "CAP_SYS_ADMIN"])),
    ("privileges.process-capabilities", process(cap_bounding=0xA80425FB)),
    ("privileges.process-capabilities", process(cap_effective=1 << 21)),
    ("privileges.no-new-privileges", host_config("SecurityOpt", None)),
    ("privileges.process-no-new-privileges", process(no_new_privileges=False)),
    ("privileges.seccomp", host_config("SecurityOpt", ["no-new-privileges:true", "seccomp=unconfined"])),
    ("privileges.seccomp", process(seccomp=0)),
    ("privileges.apparmor", enforced("unconfined")),
    ("privileges.apparmor", enforced("docker-default (complain)")),
    ("privileges.not-privileged", host_config("Privileged", True)),
    ("privileges.network-namespace", host_config("NetworkMode", "host")),
    ("privileges.pid-namespace", host_config("PidMode", "host")),
    ("privileges.ipc-namespace", host_config("IpcMode", "host")),
    ("privileges.uts-namespace", host_config("UTSMode", "host")),
    ("privileges.user-namespace", host_config("UsernsMode", "host")),
    ("privileges.cgroup-namespace", then(machine, host_config("CgroupnsMode", "host"))),
    ("privileges.devices", host_config("Devices", [{"PathOnHost": "/dev/kvm"}])),
    ("privileges.devices", host_config("DeviceRequests", [{"Driver": "nvidia"}])),
    ("privileges.sysctls", host_config("Sysctls", {"net.core.somaxconn": "1"})),
    ("privileges.groups", host_config("GroupAdd", ["4", "0"])),
    ("privileges.environment", environment("DATABASE_PASSWORD=value")),
    ("privileges.environment", environment("DATABASE_URL=url-with-password")),
    ("mounts.writable", mount(RW=True)),
    ("mounts.writable", host_config("Tmpfs", {})),
    ("mounts.volumes", mount_of("/data", service="store", Name="0" * 64)),
    ("mounts.tmpfs", host_config("Tmpfs", {"/tmp": "mode=1777"})),
    ("mounts.tmpfs", host_config("Tmpfs", {"/tmp": "size=8388608,mode=0777"})),
    ("mounts.tmpfs", host_config("Tmpfs", {"/tmp": "size=8388608,mode=1777,exec"})),
    ("mounts.docker-socket", mount(Source="/var/run/docker.sock", Destination="/var/run/docker.sock")),
    ("mounts.docker-socket", mount(Source="/run", Destination="/host/run")),
    ("mounts.sensitive", mount(Source="/etc", Destination="/host/etc", RW=True)),
    ("mounts.sensitive", mount(Source="/", Destination="/host", RW=True)),
    ("mounts.sensitive", mount(Source="/etc", Destination="/host/etc")),
    ("mounts.sensitive", mount(Source="/var/lib/batten", Destination="/state")),
    *(
        ("mounts.sensitive", mount(Source=source))
        for source in (
            *("/var", "/var/lib", "/opt", "/opt/batten", "/opt/batten/small", "/opt/batten/small/secrets/store"),
            *("/opt/batten/small/releases", "/opt/batten/other/base"),
        )
    ),
    ("mounts.sensitive", mount(Source="/var/lib", RW=True)),
    ("mounts.propagation", mount(Propagation="rshared")),
    ("mounts.files", mount_of("/etc/web", RW=True)),
    ("mounts.files", mount_of("/etc/web", Source="/opt/batten/small/files/web/other")),
    ("ports.published", host_config("PortBindings", {})),
    ("ports.published", host_config("PortBindings", {"80/tcp": TCP})),
    ("ports.published", host_config("PortBindings", {"5432/tcp": TCP}, service="store")),
    ("ports.interfaces", inspect("NetworkSettings", "Ports", to={"80/tcp": TCP})),
    ("ports.privileged", inspect("NetworkSettings", "Ports", to={"80/tcp": TCP}, service="store")),
    ("ports.listeners", listening(Listener("tcp", "0.0.0.0", 5432, ("docker-proxy",)))),
    ("ports.listeners", listening(Listener("tcp", "*", 80, ("dockerd",)))),
    ("networks.attached", inspect("NetworkSettings", "Networks", to={"small_inner": {}})),
    (
        "networks.attached",
        inspect("NetworkSettings", "Networks", to={name: {} for name in ("small_inner", "small_edge", "x")}),
    ),
    ("networks.default-bridge", inspect("NetworkSettings", "Networks", to={"bridge": {}})),
    ("networks.internal", network("small_inner", Internal=False)),
    ("networks.internal", network("small_inner", Labels={})),
    ("networks.members", network("small_inner", Containers={"f" * 64: {"Name": "intruder"}})),
    ("logging.driver", host_config("LogConfig", {"Type": "json-file", "Config": {}})),
    ("logging.readable", lambda live: dataclasses.replace(live, logged=frozenset())),
    ("logging.journal-persistent", field("journal", Storage="volatile")),
    ("logging.journal-persistent", field("journal", directory=None)),
    ("logging.journal-bounded", field("journal", SystemMaxUse=None)),
    ("logging.journal-complete", unit("docker.service", LogRateLimitIntervalUSec="0")),
    ("logging.journal-complete", unit("docker.service", LogRateLimitBurst="10000", LogRateLimitIntervalUSec="30s")),
    ("lifecycle.present", without_container("store")),
    ("lifecycle.present", extra_container(com__docker__compose__service="old")),
    ("lifecycle.present", extra_container()),
    ("lifecycle.running", inspect("State", "Status", to="exited")),
    ("lifecycle.running", inspect("State", "OOMKilled", to=True)),
    ("lifecycle.running", inspect("State", "ExitCode", to=1, service="migrate")),
    ("lifecycle.restart-policy", inspect("HostConfig", "RestartPolicy", "Name", to="no")),
    ("lifecycle.stable", inspect("RestartCount", to=3)),
    ("lifecycle.stable", inspect("State", "Restarting", to=True)),
    ("lifecycle.image", inspect("Config", "Image", to="shell:2")),
    ("lifecycle.image-tag", inspect("Config", "Image", to="localhost:5000/shell")),
    ("lifecycle.image-tag", inspect("Config", "Image", to="shell:latest")),
    ("lifecycle.init", host_config("Init", None)),
    ("lifecycle.stop-grace", inspect("Config", "StopTimeout", to=None)),
    ("lifecycle.boot", unit(STACK, UnitFileState="disabled")),
    ("lifecycle.boot", unit(SECRETS, Before="multi-user.target")),
    ("lifecycle.boot", unit(SECRETS, ActiveState="failed")),
    ("lifecycle.boot", lambda live: dataclasses.replace(live, asserted=frozenset())),
    ("lifecycle.boot", lambda live: dataclasses.replace(live, asserted=frozenset({"/opt/batten/other/secrets"}))),
    ("lifecycle.data-mounted", unit(STACK, RequiresMountsFor="")),
    ("secrets.memory-only", field("secret_mounts", small="")),
    ("secrets.memory-only", field("secret_mounts", small="tmpfs rw,size=1024k")),
    ("secrets.files", tree("secrets", "web/password", mode=0o444)),
    ("secrets.files", tree("secrets", "web/password", uid=0)),
    ("secrets.files", tree("secrets", "web/password")),
    ("secrets.files", tree("secrets", "web/password", path="/opt/batten/small/secrets/web/other")),
    ("secrets.at-rest", field("sealed", small="")),
    ("secrets.at-rest", field("sealed", small="058469daf6f54324800549da0f8ea2fb")),  # CRED_AES256_GCM_BY_NULL
    ("secrets.refreshed", field("refreshed", small={"at": "2026-11-01T00:00:00Z", "refused": {"password": 4}})),
    ("secrets.refreshed", field("refreshed", small={"at": "2026-11-01T00:00:00Z", "problem": "no answer"})),
    ("secrets.age", field("facts", now=str(NOW + 91 * DAY))),
    ("secrets.age", field("made", small={})),
    ("certificates.expiry", field("facts", now=str(NOW + 77 * DAY))),
    ("certificates.expiry", field("facts", now=str(NOW - DAY))),
    ("certificates.expiry", certificate("store/server.crt", start=NOW - 77 * DAY, end=NOW + 13 * DAY)),
    ("certificates.expiry", certificate("store/server.crt", start=NOW - 26 * DAY, end=NOW + 4 * DAY)),
    ("certificates.expiry", certificate("web/ca.crt")),
    ("certificates.served", certificate("store/server.crt", fingerprint="00")),
    ("certificates.served", tls(verify="62 (hostname mismatch)")),
    ("certificates.served", tls(verify="")),
    ("certificates.served", tls(certificate=None)),
    ("secrets.mount", mount_of("/run/secrets", RW=True)),
    ("secrets.mount", mount_of("/run/secrets", Source="/opt/batten/small/secrets/store")),
    ("secrets.mount", mount_of("/run/secrets", Source="/srv/secrets/web")),
    ("secrets.mount", mount_of("/run/secrets", Source="/opt/batten/other/secrets/web")),
    *(("secrets.mount", mount(Source=source)) for source in ("/", "/opt", "/opt/batten", "/opt/batten/small")),
    ("secrets.mount", mount(service="migrate", Source="/opt/batten/small/secrets", Destination="/run/secrets")),
    ("daemon.live-restore", field("info", LiveRestoreEnabled=False)),
    ("daemon.userland-proxy", lambda live: dataclasses.replace(live, daemon={})),
    ("daemon.userland-proxy", listening(Listener("tcp", "127.0.0.1", 80, ("docker-proxy",)))),
    ("daemon.icc", network("bridge", Options={"com.docker.network.bridge.enable_icc": "true"})),
    ("daemon.no-new-privileges", field("info", SecurityOptions=["name=seccomp,profile=builtin"])),
    ("daemon.seccomp", field("info", SecurityOptions=["name=seccomp,profile=unconfined"])),
    ("daemon.log-driver", field("info", LoggingDriver="json-file")),
    ("daemon.log-level", lambda live: dataclasses.replace(live, daemon={"log-level": "debug"})),
    ("daemon.iptables", lambda live: dataclasses.replace(live, daemon={"iptables": False})),
    ("daemon.socket-only", lambda live: dataclasses.replace(live, daemon={"hosts": ["tcp://0.0.0.0:2375"]})),
    ("daemon.socket-only", field("facts", dockerd="/usr/sbin/dockerd -H fd:// -H tcp://0.0.0.0:2375")),
    ("daemon.socket-only", listening(Listener("tcp", "*", 2375, ("dockerd",)))),
    ("daemon.insecure-registries", field("info", RegistryConfig={"InsecureRegistryCIDRs": ["10.0.0.0/8"]})),
    ("daemon.insecure-registries", lambda live: dataclasses.replace(live, daemon={"insecure-registries": ["r:5000"]})),
    ("daemon.storage", field("info", Driver="vfs")),
    ("daemon.cgroups", field("info", MemoryLimit=False)),
    ("daemon.cgroups", lambda live: dataclasses.replace(live, daemon={"cgroup-parent": "/x"})),
    ("daemon.no-swarm", field("info", Swarm={"LocalNodeState": "active"})),
    ("daemon.version", field("info", ServerVersion="24.0.9")),
    ("daemon.docker-group", field("facts", docker_group="docker:x:999:ann,bob")),
    ("daemon.docker-group", field("facts", docker_users="ann")),
    ("ports.outside", outside(p22="open", p5432="open")),
    ("ports.served", outside(p443="refused", p22="open")),
    ("firewall.table", lambda live: dataclasses.replace(live, table=())),
    ("firewall.default-deny", without_rule("forward", "drop")),
    ("firewall.default-deny", without_rule("published", "drop")),
    ("firewall.published", with_element("anywhere", "tcp", 5432)),
    ("firewall.published", nft(lambda table: [one for one in table if one.get("set", {}).get("name") != "anywhere"])),
    ("firewall.sources", with_element("from4", {"prefix": {"addr": "0.0.0.0", "len": 0}}, "tcp", 9100)),
    ("firewall.loopback", without_rule("prerouting", "127.0.0.0")),
    ("firewall.metadata", without_rule("forward", "169.254.169.254")),
    ("firewall.metadata-tried", tried("web", "network", metadata="open")),
    ("firewall.boot", unit("batten-firewall.service", UnitFileState="disabled")),
    ("firewall.boot", unit("batten-firewall.service", Before="network.target")),
    ("firewall.input", lambda live: live),
    ("firewall.engine-rules", lambda live: dataclasses.replace(live, chains=frozenset())),
    ("audit.dockerd", unaudited("/usr/sbin/dockerd")),
    ("audit.run-containerd", unaudited("/run/containerd")),
    ("audit.data", unaudited("/var/lib/docker")),
    ("audit.etc-docker", unaudited("/etc/docker")),
    ("audit.docker-service", unaudited("/usr/lib/systemd/system/docker.service")),
    ("audit.containerd-socket", unaudited("/run/containerd/containerd.sock")),
    ("audit.docker-socket-unit", unaudited("/usr/lib/systemd/system/docker.socket")),
    ("audit.defaults", unaudited("/etc/default/docker")),
    ("audit.daemon-json", unaudited("/etc/docker/daemon.json")),
    ("audit.containerd-config", unaudited("/etc/containerd/config.toml")),
    ("audit.sysconfig", unaudited("/etc/sysconfig/docker")),
    ("audit.containerd", unaudited("/usr/bin/containerd")),
    ("audit.shim", unaudited("/usr/bin/containerd-shim")),
    ("audit.shim-runc-v1", unaudited("/usr/bin/containerd-shim-runc-v1")),
    ("audit.shim-runc-v2", unaudited("/usr/bin/containerd-shim-runc-v2")),
    ("audit.runc", unaudited("/usr/sbin/runc")),
    ("audit.batten", unaudited("/opt/batten")),
    ("audit.running", then(machine, lambda live: dataclasses.replace(live, audit=("enabled 0", *live.audit[1:])))),
    ("audit.running", then(machine, unit("auditd.service", ActiveState="failed"))),
    ("host.sysctl-network", field("sysctls", net__ipv4__conf__all__accept_redirects="1")),
    ("host.sysctl-kernel", then(machine, field("sysctls", kernel__dmesg_restrict="0"))),
    ("host.sysctl-files", then(machine, field("sysctls", fs__protected_hardlinks="0"))),
    ("host.clock", then(machine, field("machine", keeper=""))),
    ("host.clock", then(machine, field("machine", clock="no"))),
    ("host.upgrades", field("apt", **{"APT::Periodic::Unattended-Upgrade": "0"})),
    ("host.upgrades", field("apt", **{"APT::Periodic::Enable": "0"})),
    ("host.upgrades", field("machine", upgrader="")),
    ("host.upgrades", field("machine", upgrader="config-files")),
    ("host.upgrades", unit("apt-daily-upgrade.timer", ActiveState="inactive")),
    ("host.upgrades", unit("apt-daily.timer", ActiveState="inactive")),
    ("host.upgrades", unit("apt-daily.timer", UnitFileState="masked")),
    ("host.upgrades", lambda live: dataclasses.replace(live, apt={})),  # and no timer of batten's, as on Red Hat's
    ("host.engine-held", lambda live: dataclasses.replace(live, held_back=("^docker.io$",))),
    ("host.swap", then(machine, field("machine", swap="/dev/vda2"))),
    ("host.core-dumps", field("machine", core_pattern="|/usr/lib/systemd/systemd-coredump %P", coredump="")),
    ("host.core-dumps", field("machine", core_limits="")),
    ("host.root-users", field("machine", root_users="root toor")),
    ("host.passwords", field("machine", no_password="ann")),
    ("host.disk-space", field("machine", root_disk="/dev/vda 1000 950 50 95% /var/lib/docker")),
    ("host.disk-inodes", field("machine", root_inodes="/dev/vda 1000 950 50 95% /var/lib/docker")),
    ("host.log-space", field("machine", journal_disk="/dev/vda 1000 950 50 95% /")),
    ("host.data-disk", field("machine", root_disk="/dev/vda 1000 10 990 1% /")),
    ("host.reboot", field("machine", reboot="*** System restart required ***")),
    ("daemon.experimental", field("info", ExperimentalBuild=True)),
    ("daemon.debug", field("info", Debug=True)),
    ("daemon.default-ulimits", lambda live: dataclasses.replace(live, daemon={})),
    ("daemon.base-size", lambda live: dataclasses.replace(live, daemon={"storage-opts": ["dm.basesize=20G"]})),
    ("daemon.runtime", field("info", DefaultRuntime="crun")),
    ("daemon.in-effect", lambda live: dataclasses.replace(live, daemon={"live-restore": False})),
    ("daemon.in-effect", lambda live: dataclasses.replace(live, daemon=None)),
    ("limits.core", process(core=("unlimited", "unlimited"))),
    ("limits.oom-kills", usage(oom_kill="1")),
    ("limits.headroom", usage(anon=str(32 << 20))),
    ("health.fresh", later(3600)),
    ("privileges.arguments", inspect("Config", "Cmd", to=["redis-server", "--requirepass", "hunter2"])),
    ("privileges.arguments", inspect("Config", "Entrypoint", to=["psql", "postgres://u:p@h/d"])),
    ("privileges.arguments", inspect("Config", "Labels", "api.token", to="hunter2")),
    ("privileges.system-paths", host_config("MaskedPaths", [])),
    ("privileges.system-paths", host_config("ReadonlyPaths", None)),
    ("privileges.selinux", selinux("")),
    ("privileges.selinux", then(selinux("x"), host_config("SecurityOpt", ["label=disable"]))),
    ("privileges.exec-capabilities", executed(cap_effective=1 << 21)),
    ("privileges.exec-user", executed(uid=0)),
    ("privileges.no-sshd", process(name="sshd")),
    ("privileges.no-sshd", tried("web", "network", listens=[22])),
    ("logging.json", tried("web", "log", lines=5, json=4, broken=1)),
    ("logging.json", tried("web", "log", lines=5, json=0, broken=0)),
    ("networks.entered", tried("web", "network", outside=None)),
    ("networks.isolated", reaching("ui", "store")),
    ("networks.dependencies", tried("web", "network", reached=[])),
    ("networks.no-way-out", tried("store", "network", outside=True)),
    ("networks.stacks-apart", then(inspect("Config", "Labels", PROJECT, to="other"), reaching("ui", "web"))),
    ("lifecycle.engine-boot", unit("docker.service", UnitFileState="disabled")),
    ("lifecycle.engine-boot", unit("containerd.service", UnitFileState="masked")),
    ("lifecycle.units-loaded", unit("docker.service", NeedDaemonReload="yes")),
    ("lifecycle.after-boot", then(rebooted, inspect("State", "Status", to="exited"))),
    ("lifecycle.after-boot", then(rebooted, unit(STACK, Result="timeout"))),
    ("lifecycle.command", inspect("Config", "Cmd", to=["sleep", "1"])),
    ("lifecycle.variables", environment("LEGACY=value")),
    ("lifecycle.stop-signal", inspect("Config", "StopSignal", to="SIGKILL")),
    ("images.digest", image(RepoTags=[], RepoDigests=["shell@sha256:0"])),
    ("images.current", inspect("Image", to="sha256:0")),
    ("images.current", image(RepoTags=["shell:2"])),
    ("images.environment", image(Config={"Env": ["API_TOKEN=value"]})),
    ("mounts.volume-places", volume(Driver="nfs")),
    ("mounts.volume-places", volume(Name="other")),
    ("mounts.volume-places", volume(Options={"type": "none", "o": "bind", "device": "/"})),
    ("mounts.volume-places", volume(Options={"type": "none", "o": "ro,bind", "device": "/opt/batten/small/secrets"})),
    ("backups.timer", unit("batten-backup@small.timer", ActiveState="inactive")),
    ("secrets.sync-timer", unit("batten-sync@small.timer", UnitFileState="disabled")),
    ("secrets.looked", later(3600)),
    ("certificates.strength", certificate("store/server.crt", key="rsaEncryption", bits=1024)),
    ("certificates.strength", certificate("store/server.crt", signature="ecdsa-with-SHA1")),
    ("certificates.protocol", tls(protocol="TLSv1.1")),
    ("certificates.old-protocols", tls(old="accepted")),
    ("files.units-owner", file("/usr/lib/systemd/system/docker.service", uid=1000)),
    ("files.units", file("/usr/lib/systemd/system/docker.service", mode=0o664)),
    ("files.units", file("/etc/systemd/system/docker.service.d/batten.conf", mode=0o666)),
    ("files.socket-unit-owner", file("/usr/lib/systemd/system/docker.socket", group="users")),
    ("files.socket-unit", file("/usr/lib/systemd/system/docker.socket", mode=0o755)),
    ("files.docker-directory-owner", file("/etc/docker", uid=1000)),
    ("files.registry-certificates-owner", file(CERTIFICATE_OF_A_REGISTRY, uid=1000)),
    ("files.registry-certificates", file(CERTIFICATE_OF_A_REGISTRY, mode=0o644)),
    ("files.tls-authority-owner", named("/etc/docker/ca.pem", "tlscacert", uid=1000)),
    ("files.tls-authority", named("/etc/docker/ca.pem", "tlscacert", mode=0o644)),
    ("files.tls-certificate-owner", named("/etc/docker/cert.pem", "tlscert", uid=1000)),
    ("files.tls-certificate", named("/etc/docker/cert.pem", "tlscert", mode=0o644)),
    ("files.tls-key-owner", named("/etc/docker/key.pem", "tlskey", group="docker")),
    ("files.tls-key", named("/etc/docker/key.pem", "tlskey", mode=0o440)),
    ("files.daemon-json-owner", file("/etc/docker/daemon.json", uid=1000)),
    ("files.defaults-owner", file("/etc/default/docker", uid=1000)),
    ("files.sysconfig-owner", file("/etc/sysconfig/docker", group="users")),
    ("files.sysconfig", file("/etc/sysconfig/docker", mode=0o664)),
    ("files.docker-socket-owner", file("/run/docker.sock", group="users")),
    ("files.containerd-socket-owner", file("/run/containerd/containerd.sock", uid=1000)),
    ("files.containerd-config", file("/usr/lib/systemd/system/containerd.service", mode=0o666)),
    ("files.batten-program", file("/opt/batten", mode=0o777)),
    ("files.batten-units", file("/etc/systemd/system/batten-stack@.service", mode=0o666)),
    ("files.volumes", file("/var/lib/docker/volumes/small_data/_data", uid=0)),
    ("files.docker-directory", file("/etc/docker", mode=0o777)),
    ("files.daemon-json", file("/etc/docker/daemon.json", mode=0o666)),
    ("files.defaults", file("/etc/default/docker", mode=0o646)),
    ("files.docker-socket", file("/run/docker.sock", mode=0o666)),
    ("files.containerd-socket", file("/run/containerd/containerd.sock", mode=0o666)),
    ("files.docker-data", file("/var/lib/docker", mode=0o755)),
    ("files.batten-state", file("/var/lib/batten", mode=0o755)),
    ("files.batten-audit", file("/var/log/batten/audit.jsonl", mode=0o644)),
    ("backups.age", field("backups", **{"/var/backups/batten": ()})),
    ("backups.age", field("facts", now="1999999999")),
    ("backups.age", backup(bytes=9)),
    ("backups.age", backup(stack="other")),
    ("backups.age", backup(recipient="age1other")),
    ("backups.age", backup(verified=None)),
    ("files.release", tree("releases", "1/compose.yaml", mode=0o666)),
    ("files.release", tree("files", "web.conf", uid=1000)),
    ("files.release", tree("top", "small/base", uid=1000)),
    ("files.release", tree("top", "batten/small", mode=0o777)),
    ("files.release", tree("top", "small/base")),
    ("files.release", lambda live: dataclasses.replace(live, trees={})),
]


def verdicts(
    live: LiveHost, stacks: dict[str, StackPlan] | None = None, only: str = "", **variables: Any
) -> Iterator[tuple[Case, Verdict]]:
    planned = stacks or {"small": PLAN}
    told = VARIABLES | variables
    chosen = (case for case in cases("recorded", planned) if only in ("", case.entry.id))
    return ((case, judge(case, planned, live, told)) for case in chosen)


def failing(
    live: LiveHost, stacks: dict[str, StackPlan] | None = None, only: str = "", **variables: Any
) -> dict[str, str]:
    found = verdicts(live, stacks, only, **variables)
    return {case.entry.id: verdict.evidence for case, verdict in found if verdict.status == "fail"}


@pytest.mark.parametrize("host", [recorded, machine], ids=["container", "machine"])
def test_the_recorded_hosts_hold_every_control(host: Callable[[], LiveHost]) -> None:
    assert failing(host()) == {}


CASES = [(name, recorded, mutation) for name, mutation in [*VERSION_1, *MUTATIONS]]
CASES += [(name, machine, mutation) for name, mutation in MUTATIONS]


@pytest.mark.parametrize(
    ("control", "host", "mutation"), CASES, ids=[f"{n}-{c}-{r.__name__}" for n, (c, r, _) in enumerate(CASES)]
)
def test_a_control_notices(control: str, host: Callable[[], LiveHost], mutation: Mutation) -> None:
    assert control in failing(mutation(host()), PLANNED.get(control), control, **TOLD.get(control, {}))


def test_every_control_has_a_mutation() -> None:
    assert set(catalogue()) - {control for control, _ in MUTATIONS} == set()


def test_only_what_the_plan_cannot_judge_here_is_not_applicable() -> None:
    """A control that says "not applicable" of everything would look like one that holds."""
    silent = {case.entry.id for case, verdict in verdicts(recorded()) if verdict.status == "not_applicable"}
    spoken = {case.entry.id for case, verdict in verdicts(recorded()) if verdict.status == "pass"}
    assert silent - spoken == {control for control, _ in ELSEWHERE}


# What this recorded host cannot show, and a host where it holds.
ELSEWHERE: list[tuple[str, Mutation]] = [
    ("privileges.apparmor", machine),
    ("privileges.cgroup-namespace", machine),
    ("privileges.selinux", selinux("system_u:system_r:container_t:s0:c1,c2")),
    ("networks.stacks-apart", lambda live: live),
    ("lifecycle.after-boot", rebooted),
    ("images.digest", image(RepoTags=[], RepoDigests=[f"shell@{DIGEST}"])),
    ("ports.outside", outside(p443="open", p22="open")),
    ("ports.served", outside(p443="open", p22="open")),
    ("firewall.input", nft(lambda table: [*table, {"chain": {"name": "input", "hook": "input", "policy": "drop"}}])),
    *((name, machine) for name in catalogue() if name.startswith("audit.")),
    *((name, machine) for name in ("host.sysctl-kernel", "host.sysctl-files", "host.clock", "host.swap")),
    ("files.tls-authority-owner", named("/etc/docker/ca.pem", "tlscacert")),
    ("files.tls-authority", named("/etc/docker/ca.pem", "tlscacert")),
    ("files.tls-certificate-owner", named("/etc/docker/cert.pem", "tlscert")),
    ("files.tls-certificate", named("/etc/docker/cert.pem", "tlscert")),
    ("files.tls-key-owner", named("/etc/docker/key.pem", "tlskey")),
    ("files.tls-key", named("/etc/docker/key.pem", "tlskey")),
]


@pytest.mark.parametrize(("control", "mutation"), ELSEWHERE, ids=[control for control, _ in ELSEWHERE])
def test_a_control_holds_where_it_applies(control: str, mutation: Mutation) -> None:
    found = verdicts(mutation(recorded()), PLANNED.get(control), control, **TOLD.get(control, {}))
    said = {verdict.status for _, verdict in found}
    assert "pass" in said
    assert "fail" not in said


def test_what_the_plan_leaves_to_the_files_is_not_judged_by_it() -> None:
    """Somebody's own ``stop_grace_period``, ``ulimits``, ``tmpfs``: the layers do not write the plan's beside them."""
    kept: dict[str, list[Mutation]] = {
        "stop_grace": [inspect("Config", "StopTimeout", to=None)],
        "init": [host_config("Init", False)],
        "reservation": [host_config("MemoryReservation", 1 << 20)],
        "swap": [host_config("MemorySwap", -1), process(cgroup={"memory.swap.max": "max"})],
        "cpus": [host_config("NanoCpus", 0), process(cgroup={"cpu.max": "150000 100000"})],
        "nofile": [host_config("Ulimits", [{"Name": "nofile", "Soft": 1024, "Hard": 2048}])],
        "oom_score_adj": [host_config("OomScoreAdj", 7)],
        "shm": [host_config("ShmSize", 64 << 20)],
        "tmpfs": [host_config("Tmpfs", {"/tmp": "size=8388608,mode=1777", "/cache": ""})],
        "volumes": [host_config("Mounts", [{"Type": "tmpfs", "Target": "/cache"}])],
    }
    for key, changes in kept.items():
        web = dataclasses.replace(PLAN.services["web"], kept=(key,))
        own = {"small": dataclasses.replace(PLAN, services={**PLAN.services, "web": web})}
        for change in changes:
            live = change(machine())
            assert failing(live), key
            assert failing(live, own) == {}, key
    without = host_config("Tmpfs", {"/cache": ""})(machine())
    web = dataclasses.replace(PLAN.services["web"], kept=("tmpfs",))
    own = {"small": dataclasses.replace(PLAN, services={**PLAN.services, "web": web})}
    assert set(failing(without, own)) == {
        "mounts.writable",
        "mounts.tmpfs",
    }  # what is planned must be there all the same


def test_a_network_that_only_publishes_ports_has_no_way_out() -> None:
    closed = {"small": dataclasses.replace(PLAN, closed=("edge",))}
    off = {"com.docker.network.bridge.enable_ip_masquerade": "false"}
    for options, wanted in ((None, "fail"), ({}, "fail"), (off, "pass")):
        live = network("small_edge", Options=options)(recorded())
        (verdict,) = [found for case, found in verdicts(live, closed) if case.entry.id == "networks.internal"]
        assert verdict.status == wanted, options


def test_the_stacks_own_files_may_be_mounted_and_a_volume_may_lie_on_a_disk() -> None:
    """Also writable ones, where the plan has them: data beside the base."""
    data = mount(Source="/opt/batten/small/base/data", Destination="/x", RW=True)
    web = dataclasses.replace(PLAN.services["web"], extra_volumes=("./data:/x",))
    stacks = {"small": dataclasses.replace(PLAN, services={**PLAN.services, "web": web})}
    disk = volume(Options={"type": "none", "o": "bind", "device": "/mnt/disk/data"})
    assert failing(then(data, disk)(recorded()), stacks) == {}
    assert set(failing(data(recorded()))) == {"mounts.writable"}


def test_no_evidence_has_a_word_of_a_command_or_of_a_health_check() -> None:
    """People write passwords there. Neither where they are as planned, nor where they are not."""
    secret = "hunter2"
    command, other = ("redis-server", "--requirepass", secret), ("redis-server", "--requirepass", f"{secret}0")
    check = dataclasses.replace(CHECK, test=("CMD", "redis-cli", "-a", secret))
    web = dataclasses.replace(PLAN.services["web"], command=command, healthcheck=check)
    stacks = {"small": dataclasses.replace(PLAN, services={**PLAN.services, "web": web})}
    for words in (command, other, command[:1], (*command, "--requirepass", secret)):
        for test in (list(check.test), [*check.test, secret], ["CMD-SHELL", f"redis-cli -a {secret}"]):
            live = then(inspect("Config", "Cmd", to=list(words)), inspect("Config", "Healthcheck", "Test", to=test))
            found = [(case.entry.id, one) for case, one in verdicts(live(recorded()), stacks) if case.service == "web"]
            assert [name for name, one in found if secret in one.evidence] == []
            said = {name: one.status for name, one in found}
            assert said["lifecycle.command"] == ("pass" if words == command else "fail")
            assert said["health.check-planned"] == ("pass" if test == list(check.test) else "fail")


def test_a_port_of_a_foreign_container_is_none_of_ours() -> None:
    live = listening(Listener("tcp", "10.0.0.1", 8080, ("dockerd",)))(recorded())
    foreign = {"80/tcp": [{"HostIp": "10.0.0.1", "HostPort": "8080"}]}
    assert "ports.listeners" not in failing(dataclasses.replace(live, published=(*live.published, foreign)))
    assert "ports.listeners" in failing(live)


def test_what_the_inventory_turns_off_does_not_apply() -> None:
    """Every part of role host can be turned off, and its controls with it."""
    off = dict.fromkeys(VARIABLES, "")
    said = {case.entry.id: verdict.status for case, verdict in verdicts(machine(), **off)}
    parts = ("firewall.", "audit.", "host.sysctl", "host.clock", "host.upgrades", "host.swap", "daemon.docker-group")
    gone = {name for name in said if name.startswith(parts)} - {"firewall.engine-rules"}
    assert {name for name in gone if said[name] != "not_applicable"} == set()
    assert len(gone) > 30


def test_a_neighbours_container_is_none_of_ours_unless_the_firewall_should_close_it() -> None:
    """Without a firewall of batten's, what others publish is theirs."""
    foreign = {"5432/tcp": [{"HostIp": "198.51.100.7", "HostPort": "5432"}]}
    live = outside(p22="open", p5432="open")(recorded())
    live = dataclasses.replace(live, published=(*live.published, foreign))
    assert "ports.outside" in failing(live)
    assert "ports.outside" not in failing(live, host_firewall=False)


def test_the_runtime_on_its_way_into_a_container_is_not_judged() -> None:
    """A health check's first moment: runc is in the control group already, its privileges are not dropped yet."""
    unconfined = "process Name=runc:[2:INIT];Uid=0 0 0 0;CapEff=3fffffffff;CapBnd=3fffffffff;NoNewPrivs=0;Seccomp=0;\n"
    text = SNAPSHOT.read_text()
    place = text.index("\nprocess Name=") + 1

    def with_process(line: str) -> LiveHost:
        return recorded(text[:place] + line + text[place:])

    assert failing(with_process(unconfined)) == {}
    assert "privileges.seccomp" in failing(with_process(unconfined.replace("runc:[2:INIT]", "sh")))
