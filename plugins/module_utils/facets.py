"""Every comparable property of a container that the engine tells of, once; ``kernel.py`` has what it does not tell.

A live-updatable facet is one that the engine's ``/containers/ID/update`` takes
(https://docs.docker.com/reference/api/engine/version/v1.44/#tag/Container/operation/ContainerUpdate), or a network that
is left; a change of any other needs a new container. Where the model sets nothing, the desired value is what the engine
makes of nothing.
"""

from __future__ import annotations

from . import facets_isolation as isolation
from . import facets_limits as limits
from . import facets_mounts as mounts
from . import facets_network as network
from . import facets_process as process
from .facet import Facet, always, flag, from_image, if_set, listed, mapping, number, setting, text

FACETS: tuple[Facet, ...] = (
    Facet("name", process.name),
    Facet("image", process.image),
    Facet("command", process.command),
    Facet("entrypoint", process.entrypoint),
    Facet("user", from_image("user", "User")),
    Facet("working_dir", from_image("working_dir", "WorkingDir")),
    Facet("hostname", process.hostname),
    Facet("domainname", setting("domainname", "Domainname")),
    Facet("environment", process.environment),
    Facet("labels", process.labels),
    Facet("annotations", mapping("annotations", "Annotations")),
    Facet("terminal", setting("tty", "Tty")),
    Facet("stdin", setting("stdin_open", "OpenStdin")),
    Facet("memory", limits.memory, if_set),
    Facet("memory_swap", limits.memory_swap, if_set),
    Facet("memory_reservation", limits.reservation, if_set),
    Facet("swappiness", limits.swappiness),
    Facet("cpus", limits.cpus, if_set),
    Facet("cpu_quota", limits.cpu_quota, always),
    Facet("cpu_shares", number("cpu_shares", "CpuShares"), if_set),
    Facet("cpuset", limits.cpuset, always),
    Facet("cpu_realtime", limits.cpu_realtime),
    Facet("pids", limits.pids, always),
    Facet("block_io", limits.block_io),
    Facet("restart", limits.restart, always),
    Facet("auto_remove", flag("", "AutoRemove")),
    Facet("ulimits", limits.ulimits),
    Facet("oom_score_adj", number("oom_score_adj", "OomScoreAdj")),
    Facet("oom_kill_disable", limits.oom_kill_disable),
    Facet("shm_size", limits.shm_size),
    Facet("storage", mapping("storage_opt", "StorageOpt")),
    Facet("healthcheck", process.healthcheck),
    Facet("init", flag("init", "Init")),
    Facet("stop_signal", from_image("stop_signal", "StopSignal")),
    Facet("stop_grace", process.stop_grace),
    Facet("read_only", flag("read_only", "ReadonlyRootfs")),
    Facet("tmpfs", mounts.tmpfs),
    Facet("mounts", mounts.mounts),
    Facet("mount_options", mounts.mount_options),
    Facet("volumes_from", mounts.volumes_from),
    Facet("cap_add", isolation.capabilities("cap_add", "CapAdd")),
    Facet("cap_drop", isolation.capabilities("cap_drop", "CapDrop")),
    Facet("security_opt", isolation.security),
    Facet("apparmor", isolation.apparmor),
    Facet("masked_paths", isolation.masked_paths),
    Facet("group_add", listed("group_add", "GroupAdd")),
    Facet("devices", isolation.devices),
    Facet("device_rules", isolation.device_rules),
    Facet("privileged", flag("privileged", "Privileged")),
    Facet("namespaces", isolation.namespaces),
    Facet("runtime", isolation.runtime),
    Facet("cgroup_parent", text("cgroup_parent", "CgroupParent")),
    Facet("sysctls", isolation.sysctls),
    Facet("networks", network.networks, network.surplus_networks),
    Facet("mac_address", network.mac_address),
    Facet("links", network.links),
    Facet("ports", network.ports),
    Facet("log", network.log),
    Facet("extra_hosts", network.hosts),
    Facet("dns", network.dns),
)
