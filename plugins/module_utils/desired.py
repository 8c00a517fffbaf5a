"""What should be: one service of the merged Compose model, read the way the engine will see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .quantities import address, nanoseconds, size


@dataclass(frozen=True)
class Engine:
    """What the comparison must know of the engine: its defaults, and what it cannot do.

    ``log_options`` and ``ulimits`` are the names of those that it gives every container by itself.
    """

    log_driver: str = "json-file"
    swap_limit: bool = True
    swappiness: bool = True
    oom_kill_disable: bool = True
    cpus: int = 0
    root: str = "/var/lib/docker"
    runtime: str = "runc"
    apparmor: bool = False
    seccomp: bool = False
    no_new_privileges: bool = False
    cgroup_namespaces: tuple[str, ...] = ("host", "private")
    shm_bytes: int = 2**26
    log_options: frozenset[str] = frozenset()
    ulimits: frozenset[str] = frozenset()

    @classmethod
    def of(cls, info: Mapping[str, Any], daemon: Mapping[str, Any]) -> Engine:
        """Read the engine's own answer (``/info``) and, for what that leaves out, its ``daemon.json``.

        Without a word there, a container of control groups v2 has a namespace of its own and one of v1 the host's (moby
        daemon/config/config_linux.go, New). Control groups v2 have no swappiness (moby pkg/sysinfo/cgroup2_linux.go).
        """
        security = [str(option) for option in info.get("SecurityOptions") or []]
        named = daemon.get("default-cgroupns-mode")
        unified = str(info.get("CgroupVersion") or "1") == "2"
        own = ("private",) if unified else ("host", "private")
        return cls(
            log_driver=info.get("LoggingDriver") or "json-file",
            swap_limit=bool(info.get("SwapLimit", True)),
            swappiness=not unified,
            oom_kill_disable=bool(info.get("OomKillDisable", True)),
            cpus=int(info.get("NCPU") or 0),
            root=str(info.get("DockerRootDir") or "/var/lib/docker"),
            runtime=str(info.get("DefaultRuntime") or "runc"),
            apparmor=any(option.startswith("name=apparmor") for option in security),
            seccomp=any(option.startswith("name=seccomp") and "unconfined" not in option for option in security),
            no_new_privileges=bool(daemon.get("no-new-privileges")),
            cgroup_namespaces=("host", "private") if named else own,
            shm_bytes=size(daemon.get("default-shm-size")) or 2**26,
            log_options=frozenset(daemon.get("log-opts") or ()),
            ulimits=frozenset(daemon.get("default-ulimits") or ()),
        )


@dataclass(frozen=True)
class Desired:
    """One service. ``model`` is the whole of ``docker compose config --format json``, with ``$$`` already undone.

    ``image`` is what the engine says of the local image that the reference resolves to, empty when it is not here.
    """

    project: str
    name: str
    service: Mapping[str, Any]
    model: Mapping[str, Any]
    image: Mapping[str, Any] = field(default_factory=dict)
    engine: Engine = field(default_factory=Engine)

    @property
    def image_config(self) -> Mapping[str, Any]:
        return self.image.get("Config") or {}

    def limit(self, key: str, short: str) -> Any:
        """Return a limit from either spelling that Compose has: ``short`` of the service, or ``deploy``'s ``key``."""
        value = self.service.get(short)
        if value is not None:
            return value
        return ((self.service.get("deploy") or {}).get("resources") or {}).get("limits", {}).get(key)

    @property
    def reservation(self) -> Any:
        value = self.service.get("mem_reservation")
        if value is not None:
            return value
        resources = (self.service.get("deploy") or {}).get("resources") or {}
        return (resources.get("reservations") or {}).get("memory")

    @property
    def restart(self) -> str:
        """The restart policy as ``NAME`` or ``NAME:COUNT``; ``deploy.restart_policy`` wins, as in Compose."""
        policy = (self.service.get("deploy") or {}).get("restart_policy")
        if policy:
            name = {"none": "no", "any": "always", "": "always"}.get(
                policy.get("condition", ""), policy.get("condition", "")
            )
            count = policy.get("max_attempts")
            return f"{name}:{count}" if name == "on-failure" and count else name
        return str(self.service.get("restart") or "no")

    @property
    def environment(self) -> dict[str, str]:
        return {
            name: str(value) for name, value in (self.service.get("environment") or {}).items() if value is not None
        }

    @property
    def command(self) -> list[str]:
        """The command that the engine will run: the image's only where neither command nor entrypoint is set."""
        command, entrypoint = self.service.get("command"), self.service.get("entrypoint")
        if command is None and not entrypoint:
            return list(self.image_config.get("Cmd") or [])
        return list(command or [])

    @property
    def entrypoint(self) -> list[str]:
        entrypoint = self.service.get("entrypoint")
        return list((self.image_config.get("Entrypoint") if entrypoint is None else entrypoint) or [])

    @property
    def healthcheck(self) -> tuple[Any, ...]:
        """``(test, interval, timeout, start period, start interval, retries)``, times in nanoseconds, 0 for unset.

        The engine takes each unset part from the image (moby daemon/commit.go, ``merge``).
        """
        image = self.image_config.get("Healthcheck") or {}
        check = self.service.get("healthcheck") or {}
        if check.get("disable"):
            return (("NONE",),)
        test = tuple(check.get("test") or image.get("Test") or ())
        if not test:
            return ()
        if test == ("NONE",):
            return (test,)
        times = (
            ("interval", "Interval"),
            ("timeout", "Timeout"),
            ("start_period", "StartPeriod"),
            ("start_interval", "StartInterval"),
        )
        return (
            test,
            *(nanoseconds(check.get(ours)) or image.get(theirs) or 0 for ours, theirs in times),
            int(check.get("retries") or image.get("Retries") or 0),
        )

    @property
    def mounts(self) -> set[tuple[str, str, str, str]]:
        """``(type, source, target, ro|rw)`` of all volumes, binds, configs and secrets; volumes by their real names."""
        volumes = self.model.get("volumes") or {}
        found = set()
        for mount in self.service.get("volumes") or []:
            kind, source = mount["type"], mount.get("source") or ""
            if kind == "volume" and source:
                source = (volumes.get(source) or {}).get("name") or f"{self.project}_{source}"
            found.add((kind, source, _path(mount["target"]), "ro" if mount.get("read_only") else "rw"))
        for section, prefix in (("secrets", "/run/secrets/"), ("configs", "/")):
            defined = self.model.get(section) or {}
            for used in self.service.get(section) or []:
                file = (defined.get(used["source"]) or {}).get("file")
                target = used.get("target") or used["source"]
                if file:
                    found.add(("bind", file, target if target.startswith("/") else prefix + target, "ro"))
        return found

    @property
    def networks(self) -> dict[str, dict[str, Any]]:
        """``{real network name: {"aliases": set, "address": text}}``; the address is all that are fixed, v4 first."""
        if self.service.get("network_mode"):
            return {}
        defined = self.model.get("networks") or {}
        found = {}
        for key, options in (self.service.get("networks") or {"default": None}).items():
            name = (defined.get(key) or {}).get("name") or f"{self.project}_{key}"
            aliases = {self.name, *((options or {}).get("aliases") or [])}
            fixed = [address((options or {}).get(key)) for key in ("ipv4_address", "ipv6_address")]
            found[name] = {"aliases": aliases, "address": " ".join(filter(None, fixed))}
        return found

    @property
    def dependencies(self) -> dict[str, dict[str, Any]]:
        return dict(self.service.get("depends_on") or {})


def services(
    project: str, model: Mapping[str, Any], images: Mapping[str, Mapping[str, Any]], engine: Engine
) -> dict[str, Desired]:
    """Return every service of the merged ``model``. ``images`` maps references to what the engine knows of them."""
    plain = _undollar(model)
    return {
        name: Desired(project, name, service, plain, images.get(service.get("image", ""), {}), engine)
        for name, service in sorted((plain.get("services") or {}).items())
    }


def _undollar(value: Any) -> Any:
    """Undo the ``$$`` that ``docker compose config`` writes for every literal ``$``."""
    if isinstance(value, str):
        return value.replace("$$", "$")
    if isinstance(value, Mapping):
        return {key: _undollar(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_undollar(item) for item in value]
    return value


def _path(target: str) -> str:
    return target.rstrip("/") or "/"
