"""What people change on purpose: an inventory's rules on which drift is repaired, only told, or left out."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from batten.plan import schema
from batten.plan.model import DriftRule

if TYPE_CHECKING:
    from batten.plan.schema import At, Check

ANY = "*"
STACK_FACETS = (
    *("annotations", "apparmor", "apparmor_live", "auto_remove", "block_io", "cap_add", "cap_drop"),
    *("capabilities_live", "cgroup_cpu_shares", "cgroup_cpus", "cgroup_memory", "cgroup_memory_swap"),
    *("cgroup_parent", "cgroup_pids", "command", "cpu_quota", "cpu_realtime", "cpu_shares", "cpus", "cpuset"),
    *("device_rules", "devices", "dns", "domainname", "driver", "entrypoint", "environment", "extra_hosts", "files"),
    *("group_add", "health", "healthcheck", "hostname", "image", "image_files", "init", "internal", "ipv6", "labels"),
    *(
        "links",
        "loaded",
        "log",
        "mac_address",
        "masked_paths",
        "members",
        "memory",
        "memory_reservation",
        "memory_swap",
        "mount_options",
        "mounts",
    ),
    *("name", "namespaces", "networks", "no_new_privileges_live", "oom_kill_disable", "oom_score_adj"),
    *(
        "oom_score_adj_live",
        "options",
        "orphan",
        "pids",
        "ports",
        "presence",
        "privileged",
        "processes",
        "read_only",
        "restart",
    ),
    *("runtime", "seccomp_live", "security_opt", "shm_size", "state", "stdin", "stop_grace", "stop_signal"),
    *(
        "storage",
        "subnets",
        "swappiness",
        "sysctls",
        "terminal",
        "tmpfs",
        "ulimits",
        "user",
        "volumes_from",
        "working_dir",
    ),
)
"""What the comparison on the host calls them (``module_utils/facets.py`` and its like); a test holds both together."""
HOST_FACETS = (
    *("audit", "core_dumps", "firewall", "group", "mode", "mount", "owner", "swap", "sysctl", "time", "upgrades"),
)
"""What role host looks after. What role docker does has an ``ignore`` of its own in ``docker_daemon``."""
_ID = schema.pattern(r"\*|[A-Za-z0-9][A-Za-z0-9_.-]*", "a service's name, or *")


def stack_rules(value: Any, at: At) -> tuple[DriftRule, ...]:
    """Check ``stack_drift``: a list of ``{facet, service, policy, reason, until}``.

    Facet and service are ``*`` where they are left out; whatever is not repaired needs a reason and a last day.
    """
    keys = {"facet": schema.choice(ANY, *STACK_FACETS), "service": _ID}
    return tuple(
        _rule(one, at.item(index), keys) for index, one in enumerate(schema.list_of(schema.any_value)(value, at))
    )


def host_rules(value: Any, at: At) -> tuple[DriftRule, ...]:
    """Check ``host_drift``: as :func:`stack_rules`; a service is here the name that ``batten drift`` shows, such as a
    kernel setting or a path."""
    keys = {"facet": schema.choice(ANY, *HOST_FACETS), "name": schema.text}
    return tuple(
        _rule(one, at.item(index), keys) for index, one in enumerate(schema.list_of(schema.any_value)(value, at))
    )


def day(value: Any, at: At) -> str:
    """Accept a day as YAML reads it, or as text; return it as ``YYYY-MM-DD``."""
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value.isoformat()
    try:
        return dt.date.fromisoformat(schema.text(value, at)).isoformat()
    except ValueError as error:
        raise at.error(f"{value!r} is no day", "write it as 2027-01-31") from error


def _rule(value: Any, at: At, keys: dict[str, Check]) -> DriftRule:
    policy = schema.choice("ignore", "report", "repair")
    rule = schema.Record({**keys, "policy": policy, "reason": schema.text, "until": day}, ("policy",))(value, at)
    for key in ("reason", "until"):
        if rule["policy"] != "repair" and not rule.get(key):
            example = "a sentence for whoever reads the report" if key == "reason" else "the last day, as 2027-01-31"
            raise at.error(f"drift that is not repaired needs {key!r}", f"add {key}: {example}")
    if "name" in rule:
        rule["service"] = rule.pop("name")
    return DriftRule(**{"facet": ANY, "service": ANY, "reason": None, "until": None, **rule})
