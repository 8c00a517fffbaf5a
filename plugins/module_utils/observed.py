"""What is: one container as ``docker inspect`` reports it."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .compose_labels import ONE_OFF, PROJECT, SERVICE
from .quantities import address

_ANONYMOUS = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Observed:
    """One container of a Compose project."""

    inspect: Mapping[str, Any]

    @property
    def id(self) -> str:
        return str(self.inspect["Id"])

    @property
    def container(self) -> str:
        return str(self.inspect["Name"]).lstrip("/")

    @property
    def host(self) -> Mapping[str, Any]:
        return dict(self.inspect["HostConfig"])

    @property
    def config(self) -> Mapping[str, Any]:
        return dict(self.inspect["Config"])

    @property
    def labels(self) -> Mapping[str, str]:
        return self.config.get("Labels") or {}

    @property
    def service(self) -> str:
        return self.labels.get(SERVICE, "")

    @property
    def project(self) -> str:
        return self.labels.get(PROJECT, "")

    @property
    def is_named_by_compose(self) -> bool:
        """Whether it has the name of a service's first container; a copy of it would be ``...-2``."""
        return self.container == f"{self.project}-{self.service}-1"

    @property
    def state(self) -> str:
        """``running``, ``exited``, ``created``, ``paused``, ``restarting`` or ``dead``."""
        return str(self.inspect["State"]["Status"])

    @property
    def pid(self) -> int:
        """The process number of its first process on this host, 0 when it does not run."""
        return int(self.inspect["State"].get("Pid") or 0)

    @property
    def started_at(self) -> float:
        """The time of its last start in seconds since the epoch."""
        return timestamp(self.inspect["State"]["StartedAt"])

    @property
    def health(self) -> str:
        """``healthy``, ``unhealthy``, ``starting``, or empty without a health check.

        The engine calls a container unhealthy whose probes it has stopped, as by a pause, until the next one
        (moby container/health.go, CloseMonitorChannel). It counts no failure then, so the answer is still to come.
        """
        found = self.inspect["State"].get("Health") or {}
        status = str(found.get("Status", ""))
        if status == "unhealthy" and not found.get("FailingStreak"):
            return "starting"
        return "" if status == "none" else status

    @property
    def exit_code(self) -> int:
        return int(self.inspect["State"].get("ExitCode") or 0)

    @property
    def restart(self) -> str:
        policy = self.host.get("RestartPolicy") or {}
        name = policy.get("Name") or "no"
        count = policy.get("MaximumRetryCount")
        return f"{name}:{count}" if name == "on-failure" and count else name

    @property
    def published(self) -> set[tuple[str, int]]:
        """The ports of the host that it asks for, running or not: ``(protocol, port)``."""
        return {
            (target.partition("/")[2], int(binding["HostPort"]))
            for target, bindings in (self.host.get("PortBindings") or {}).items()
            for binding in bindings or []
            if str(binding.get("HostPort") or "").isdigit()
        }

    @property
    def environment(self) -> dict[str, str]:
        pairs = (pair.partition("=") for pair in self.config.get("Env") or [])
        return {name: value for name, _, value in pairs}

    @property
    def healthcheck(self) -> tuple[Any, ...]:
        check = self.config.get("Healthcheck") or {}
        test = tuple(check.get("Test") or ())
        if not test or test == ("NONE",):
            return (test,) if test else ()
        times = (check.get(key) or 0 for key in ("Interval", "Timeout", "StartPeriod", "StartInterval"))
        return (test, *times, int(check.get("Retries") or 0))

    @property
    def mounts(self) -> set[tuple[str, str, str, str]]:
        found = set()
        for mount in self.inspect.get("Mounts") or []:
            kind = mount["Type"]
            source = {"volume": mount.get("Name", ""), "tmpfs": ""}.get(kind, mount.get("Source", ""))
            if kind == "volume" and _ANONYMOUS.fullmatch(source):
                source = ""
            found.add((kind, source, mount["Destination"], "rw" if mount.get("RW") else "ro"))
        return found

    @property
    def networks(self) -> dict[str, dict[str, Any]]:
        found = {}
        for name, options in (self.inspect["NetworkSettings"].get("Networks") or {}).items():
            fixed = [address((options.get("IPAMConfig") or {}).get(key)) for key in ("IPv4Address", "IPv6Address")]
            found[name] = {"aliases": set(options.get("Aliases") or []), "address": " ".join(filter(None, fixed))}
        return found


def timestamp(text: str) -> float:
    """Return seconds since the epoch for the engine's ``2026-11-23T02:32:50.152734262Z``."""
    whole, _, rest = text.rstrip("Z").partition(".")
    return calendar.timegm(time.strptime(whole[:19], "%Y-%m-%dT%H:%M:%S")) + float("0." + (rest[:9] or "0"))


def by_service(containers: Iterable[Mapping[str, Any]]) -> dict[str, list[Observed]]:
    """Group a project's containers by service; ``docker compose run`` leftovers are left out.

    First comes the one that is named as Compose names it, so that no forged label makes another take its place; of
    several, or of none, the newest.
    """
    found: dict[str, list[Observed]] = {}
    for inspect in sorted(containers, key=lambda item: str(item["Created"]), reverse=True):
        one = Observed(inspect)
        if one.service and one.labels.get(ONE_OFF, "False") != "True":
            found.setdefault(one.service, []).append(one)
    return {service: sorted(ones, key=lambda one: not one.is_named_by_compose) for service, ones in found.items()}
