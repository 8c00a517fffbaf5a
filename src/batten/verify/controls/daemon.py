"""The engine: its settings as it reports them, or as its file and its command line give them where it does not."""

from __future__ import annotations

from typing import Any

from batten.verify.catalogue import control
from batten.verify.model import HostPlan, LiveHost, Verdict, equal, fails, holds, not_applicable

# Keys of daemon.json that docker info reports as they are.
REPORTED = {
    "live-restore": "LiveRestoreEnabled",
    "log-driver": "LoggingDriver",
    "data-root": "DockerRootDir",
    "default-runtime": "DefaultRuntime",
    "debug": "Debug",
}


@control("daemon.live-restore", "Containers survive a restart of the engine", scope="host", cis="2.15")
def live_restore(expected: HostPlan, live: LiveHost) -> Verdict:
    return equal("LiveRestoreEnabled", True, live.info.get("LiveRestoreEnabled"))


@control("daemon.userland-proxy", "Published ports need no proxy process", scope="host", cis="2.16")
def userland_proxy(expected: HostPlan, live: LiveHost) -> Verdict:
    proxies = [str(one) for one in live.listeners if "docker-proxy" in one.programs]
    if proxies:
        return fails(f"docker-proxy runs: {'; '.join(proxies)}")
    return equal("userland-proxy", False, _setting(live, "userland-proxy", True))


@control("daemon.icc", "Containers on the default bridge cannot reach each other", scope="host", cis="2.2")
def icc(expected: HostPlan, live: LiveHost) -> Verdict:
    bridge = next((network for network in live.networks if network["Name"] == "bridge"), None)
    if bridge is None:
        return not_applicable("the engine has no default bridge")
    return equal(
        "bridge enable_icc", "false", (bridge.get("Options") or {}).get("com.docker.network.bridge.enable_icc")
    )


@control("daemon.no-new-privileges", "Containers cannot gain privileges by default", scope="host", cis="2.14")
def no_new_privileges(expected: HostPlan, live: LiveHost) -> Verdict:
    options = live.info.get("SecurityOptions") or []
    if "name=no-new-privileges" in options:
        return holds("docker info: no-new-privileges")
    return fails(f"SecurityOptions {', '.join(options) or 'empty'}")


@control("daemon.seccomp", "The engine filters system calls by its own profile", scope="host", cis="2.17")
def seccomp(expected: HostPlan, live: LiveHost) -> Verdict:
    options = live.info.get("SecurityOptions") or []
    if "name=seccomp,profile=builtin" in options or "name=seccomp,profile=default" in options:
        return holds("the built-in profile")
    return fails(f"SecurityOptions {', '.join(options) or 'empty'}")


@control("daemon.log-driver", "Logs go to the journal by default", scope="host", cis="2.13")
def log_driver(expected: HostPlan, live: LiveHost) -> Verdict:
    return equal("LoggingDriver", "journald", live.info.get("LoggingDriver"))


@control("daemon.log-level", "The engine logs at level info", scope="host", cis="2.3")
def log_level(expected: HostPlan, live: LiveHost) -> Verdict:
    return equal("log-level", "info", _setting(live, "log-level", "info"))


@control("daemon.iptables", "The engine keeps its own firewall rules", scope="host", cis="2.4")
def iptables(expected: HostPlan, live: LiveHost) -> Verdict:
    return equal("iptables", True, _setting(live, "iptables", True))


@control("daemon.socket-only", "The engine listens on no network address", scope="host", cis="2.7")
def socket_only(expected: HostPlan, live: LiveHost) -> Verdict:
    hosts = list((live.daemon or {}).get("hosts") or [])
    words = live.facts.get("dockerd", "").split()
    for position, word in enumerate(words):
        if word in ("-H", "--host"):
            hosts += words[position + 1 : position + 2]
        elif word.startswith(("-H=", "--host=")):
            hosts.append(word.partition("=")[2])
    listening = [str(one) for one in live.listeners if one.port in (2375, 2376) and "dockerd" in one.programs]
    exposed = [host for host in hosts if host.startswith("tcp:")] + listening
    return fails(f"listens on {', '.join(exposed)}") if exposed else holds(", ".join(hosts) or "its socket")


@control("daemon.insecure-registries", "Every registry is reached over TLS", scope="host", cis="2.5")
def insecure_registries(expected: HostPlan, live: LiveHost) -> Verdict:
    config = live.info.get("RegistryConfig") or {}
    loopback = {"127.0.0.0/8", "::1/128"}  # the engine's own exception
    found = set(config.get("InsecureRegistryCIDRs") or []) - loopback
    found |= {name for name, index in (config.get("IndexConfigs") or {}).items() if not index.get("Secure", True)}
    found |= set((live.daemon or {}).get("insecure-registries") or [])
    return fails(f"without TLS: {', '.join(sorted(found))}") if found else holds("none without TLS")


@control("daemon.storage", "The storage driver is a supported one", scope="host", cis="2.6")
def storage(expected: HostPlan, live: LiveHost) -> Verdict:
    driver = live.info.get("Driver")
    # overlay2, its containerd name, and two copy-on-write filesystems; vfs copies every layer, aufs is unmaintained.
    supported = driver in ("overlay2", "overlayfs", "btrfs", "zfs")
    return holds(f"{driver}") if supported else fails(f"{driver}: every container gets a full copy, or no support")


@control("daemon.cgroups", "The engine can limit memory, swap, processors and processes", scope="host", cis="2.10")
def cgroups(expected: HostPlan, live: LiveHost) -> Verdict:
    missing = [key for key in ("MemoryLimit", "CpuCfsQuota", "PidsLimit") if not live.info.get(key)]
    if parent := _setting(live, "cgroup-parent", ""):
        return fails(f"cgroup-parent is {parent}")
    driver = f"cgroup v{live.info.get('CgroupVersion')}, driver {live.info.get('CgroupDriver')}"
    return fails(f"{driver}: no {', '.join(missing)}") if missing else holds(driver)


@control("daemon.experimental", "The engine runs without experimental features", scope="host", cis="2.18")
def experimental(expected: HostPlan, live: LiveHost) -> Verdict:
    return equal("ExperimentalBuild", False, bool(live.info.get("ExperimentalBuild")))


@control("daemon.debug", "The engine does not log at level debug", scope="host", cis="2.3")
def debug(expected: HostPlan, live: LiveHost) -> Verdict:
    return equal("Debug", False, bool(live.info.get("Debug")))


@control("daemon.default-ulimits", "Containers get no core files by default", scope="host", cis="2.8")
def default_ulimits(expected: HostPlan, live: LiveHost) -> Verdict:
    core = ((live.daemon or {}).get("default-ulimits") or {}).get("core") or {}
    return equal("default-ulimits core", (0, 0), (core.get("Soft"), core.get("Hard")))


@control("daemon.base-size", "The size of containers' root filesystems is the engine's own", scope="host", cis="2.11")
def base_size(expected: HostPlan, live: LiveHost) -> Verdict:
    found = [one for one in _setting(live, "storage-opts", []) if "basesize" in str(one)]
    return fails(f"storage-opts {', '.join(found)}") if found else holds("not set")


@control("daemon.runtime", "Containers start under runc unless they ask for something else", scope="host")
def runtime(expected: HostPlan, live: LiveHost) -> Verdict:
    return equal("DefaultRuntime", _setting(live, "default-runtime", "runc"), live.info.get("DefaultRuntime"))


@control("daemon.in-effect", "The engine runs with what daemon.json says", scope="host")
def in_effect(expected: HostPlan, live: LiveHost) -> Verdict:
    """A file that was changed and never loaded: the next restart of the engine would bring a surprise."""
    if live.daemon is None:
        return fails("daemon.json is no JSON: the engine would not start again")
    asked = {key: live.daemon[key] for key in REPORTED if key in live.daemon}
    wrong = [
        f"{key} is {live.info.get(REPORTED[key])}, the file says {value}"
        for key, value in asked.items()
        if live.info.get(REPORTED[key]) != value
    ]
    return fails("; ".join(wrong)) if wrong else holds(", ".join(sorted(asked)) or "none that it reports is set")


@control("daemon.no-swarm", "The engine is in no swarm", scope="host", cis="5.1")
def no_swarm(expected: HostPlan, live: LiveHost) -> Verdict:
    return equal("Swarm", "inactive", (live.info.get("Swarm") or {}).get("LocalNodeState") or "inactive")


@control("daemon.version", "The engine is one that batten knows", scope="host", cis="1.2.2")
def version(expected: HostPlan, live: LiveHost) -> Verdict:
    text = str(live.info.get("ServerVersion"))
    major = text.partition(".")[0]
    return holds(text) if major.isdigit() and int(major) >= 25 else fails(f"{text}: 25.0 or newer is needed")


@control(
    "daemon.docker-group", "Nobody but who is accepted is in group docker, which equals root", scope="host", cis="1.1.2"
)
def docker_group(expected: HostPlan, live: LiveHost) -> Verdict:
    if expected.variables and not expected.wants("host_docker_group"):
        return not_applicable("host_docker_group is off")
    accepted = set(expected.variables.get("host_docker_group_members") or ())
    members = set(filter(None, live.facts.get("docker_group", "").rpartition(":")[2].split(",")))
    own = set(live.facts.get("docker_users", "").split())
    problems = [f"members: {', '.join(others)}"] if (others := sorted(members - accepted)) else []
    problems += [f"{name}'s own group is docker (usermod -g)" for name in sorted(own - accepted)]
    if problems:
        return fails("; ".join(problems))
    return holds(f"accepted: {', '.join(sorted(members | own))}" if members | own else "empty")


def _setting(live: LiveHost, name: str, default: Any) -> Any:
    """A setting that ``docker info`` does not show: from the command line, else the file, else the engine's default."""
    for word in live.facts.get("dockerd", "").split():
        if word.startswith(f"--{name}="):
            value = word.partition("=")[2]
            return {"true": True, "false": False}.get(value, value)
        if word == f"--{name}":
            return True
    return (live.daemon or {}).get(name, default)
