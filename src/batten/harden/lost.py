"""What an overlay must never take away: ports, mounts, dependencies, variables, networks, capabilities of a service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_Services = Mapping[str, Mapping[str, Any]]


def between(before: _Services, after: _Services) -> tuple[str, ...]:
    """Return in words what services have in Compose's merged model ``before`` and not in the one ``after``.

    A port counts as there if it is published under the same numbers, on whatever address; a dependency if it is waited
    for in any way.
    """
    found = [f"{name}: the service itself" for name in before if name not in after]
    for name in sorted(set(before) & set(after)):
        missing = set(_facts(before[name])) - set(_facts(after[name]))
        found += [f"{name}: {what} {which}" for what, which in sorted(missing)]
    return tuple(found)


def _facts(service: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for port in service.get("ports") or ():
        yield "port", f"{port.get('published', '')}:{port['target']}/{port.get('protocol', 'tcp')}"
    for mount in service.get("volumes") or ():
        mode = ":ro" if mount.get("read_only") else ""
        yield "mount", f"{mount.get('type')} {mount.get('source', '')}:{mount['target']}{mode}"
    for path in service.get("tmpfs") or ():
        yield "tmpfs", str(path).split(":")[0]
    for other in service.get("depends_on") or {}:
        yield "dependency", other
    for name in service.get("environment") or {}:
        yield "variable", name
    for name, rule in (service.get("networks") or {}).items():
        yield "network", name
        for alias in (rule or {}).get("aliases") or ():
            yield "alias", f"{alias} on {name}"
    for key in ("secrets", "configs"):
        for item in service.get(key) or ():
            yield key, str(item.get("source", item)) if isinstance(item, Mapping) else str(item)
    for key in ("devices", "cap_add", "security_opt", "extra_hosts", "dns", "group_add", "expose"):
        for item in service.get(key) or ():
            yield key, str(sorted(item.items()) if isinstance(item, Mapping) else item)
    for key in ("command", "entrypoint"):
        if service.get(key):
            yield key, ""
    for key in ("image", "build", "network_mode", "pid", "ipc", "privileged", "user", "hostname", "working_dir"):
        if service.get(key):
            yield key, ""
    for name in service.get("labels") or {}:
        yield "label", name
    for name in service.get("profiles") or ():
        yield "profile", name
