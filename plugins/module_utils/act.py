"""Bring a stack to its plan: the least for each service, in start order, with our own waits between."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from . import adoption, atomic, gate, held_ports, kernel, planned, processes, scopes, survey
from .actions import Action, recovering
from .compare import LOADED
from .compare_networks import MEMBERS
from .compose import Compose
from .desired import Desired
from .docker_api import Docker, DockerError
from .facet import never
from .facets import FACETS
from .observed import Observed, by_service
from .paths import StackPaths
from .quantities import size

MANAGED = ""  # the key of ``once_healthy`` for a database that is no service of the stack
_MADE = ("create", "recreate")
_UPDATABLE = {facet.name for facet in FACETS if facet.live is not never} - {"networks"} | set(kernel.LIMITS)


@dataclass
class Actor:
    """All that acting needs. ``done`` collects ``{"service", "action", "why", "seconds"}`` as it happens."""

    docker: Docker
    paths: StackPaths
    payload: Mapping[str, Any]
    survey: survey.Survey
    compose: Compose
    digests: Mapping[str, str]
    gate_timeout: float
    before_image_change: Callable[[str], None]
    once_healthy: Mapping[str, Callable[[], None]] = field(default_factory=dict)
    done: list[dict[str, Any]] = field(default_factory=list)

    def run(self) -> None:
        """Act on every service that needs it. Raises :class:`BattenError`; a re-run goes on where this one stopped."""
        self._clear()
        if MANAGED in self.once_healthy:
            self.once_healthy[MANAGED]()
        for names in planned.in_order(self.payload["plan"], self.survey.desired, str):
            acted = [self.survey.actions[name] for name in names if name in self.survey.actions]
            self._wait_for_dependencies(acted)
            self._settle(acted)
            for name in names:
                if name in self.once_healthy:
                    self.wait([name])
                    self.once_healthy[name]()
        self._record()

    def wait(self, names: Iterable[str]) -> dict[str, dict[str, Any]]:
        survey = self.survey
        patient = recovering(survey.differences, survey.desired)
        return gate.wait(
            self.docker, self.payload["project"], names, survey.ends, self.gate_timeout, recovering=patient
        )

    def now(self) -> dict[str, list[Observed]]:
        """Return the project's containers as they are now, by service."""
        return by_service(self.docker.inspect_all(one["Id"] for one in self.docker.list(self.payload["project"])))

    def _clear(self) -> None:
        """Remove what is no longer wanted, and spare containers that a killed run left; then divergent networks."""
        for name, containers in self.survey.observed.items():
            gone = containers if name not in self.survey.desired else containers[1:]
            for one in gone:
                with self._timed(
                    name, "remove", "not in the plan" if name not in self.survey.desired else "one too many"
                ):
                    self._stop_and_remove(one.id)
        differing = [one for one in self.survey.differences if one.scope == "network" and one.action != "none"]
        remade = {one.name for one in differing if one.facet != MEMBERS}
        left = {one.name: one.actual for one in differing if one.facet == MEMBERS}
        for network in self.survey.networks:
            name, identifier = str(network["Name"]), str(network["Id"])
            # A network that is made anew lets go of everyone, another stack's too: that one's next run joins it again.
            for stranger in self.survey.strangers.get(name, ()) if name in remade else left.get(name, ()):
                with self._timed(name, "update", "another container was taken off it"):
                    self.docker.disconnect(identifier, stranger)
            if name in remade:
                for containers in self.survey.observed.values():
                    if name in containers[0].networks:
                        self._stop_and_remove(containers[0].id)
                with self._timed(name, "remove", "network differs"):
                    self.docker.remove_network(identifier)

    def _wait_for_dependencies(self, acted: Iterable[Action]) -> None:
        """Wait as ``depends_on`` says for services that will be started; Compose is called without dependencies."""
        needed = set()
        for action in acted:
            if action.action in (*_MADE, "start", "restart"):
                for name, condition in self.survey.desired[action.service].dependencies.items():
                    if name in self.survey.desired and condition.get("condition") != "service_started":
                        needed.add(name)
        self.wait(needed)

    def _settle(self, acted: list[Action]) -> None:
        made = [action for action in acted if action.action in _MADE]
        refused = [action for action in acted if action.action not in _MADE and not self._light(action)]
        made += [Action(one.service, "recreate", f"{one.why} (live {one.action} refused)") for one in refused]
        for action in made:
            if action.service in self.survey.observed and "image" in action.why.split(", "):
                self.before_image_change(action.service)
        if made:
            begun = time.monotonic()
            self._make([action.service for action in made])
            for action in made:
                self._note(action.service, action.action, action.why, begun)

    def _light(self, action: Action) -> bool:
        """Do what needs no new container. Returns False where the engine refuses and a new one must do."""
        if action.action not in ("update", "start", "restart", "reload"):
            return True
        container = self.survey.observed[action.service][0]
        reasons = set(action.why.split(", "))
        begun = time.monotonic()
        try:
            self._live(self.survey.desired[action.service], container, reasons)
            if action.action == "start" and container.state == "paused":
                self.docker.unpause(container.id)
            elif action.action == "start":
                self._start([action.service], partial(self.docker.start, container.id))
            elif action.action == "restart":
                self.docker.restart(container.id)
            elif LOADED in reasons:
                self._reload(action.service, container.id)
        except DockerError as error:
            if error.status == 0 or action.action == "reload":
                raise
            return False
        except PermissionError:  # a lower oom_score_adj needs CAP_SYS_RESOURCE (proc_pid_oom_score_adj(5))
            return False
        self._note(action.service, action.action, action.why, begun)
        return True

    def _live(self, desired: Desired, container: Observed, reasons: set[str]) -> None:
        """Change what a running container takes without a restart."""
        if reasons & _UPDATABLE:
            self.docker.update(container.id, resources(desired, reasons))
        if "networks" in reasons:
            for name in set(container.networks) - set(desired.networks):
                self.docker.disconnect(name, container.id)
        if not reasons & {"processes", "oom_score_adj_live"}:
            return
        # Processes are known by numbers, so by those of this moment: the look may be minutes old.
        everyone = [Observed(one) for one in self.docker.inspect_all(one["Id"] for one in self.docker.list())]
        now = next((one for one in everyone if one.id == container.id and one.pid), None)
        if now is None:
            return  # it does not run any more: nobody is in it
        if "processes" in reasons and not survey.at_work(self.paths):
            processes.end(now, [one.pid for one in everyone if one.pid], self.docker.execs)
        if "oom_score_adj_live" in reasons:
            score = str(desired.service.get("oom_score_adj") or 0)
            for pid in kernel.main_processes(now):
                with suppress(FileNotFoundError, ProcessLookupError):
                    Path(f"/proc/{pid}/oom_score_adj").write_text(score)

    def _reload(self, service: str, identifier: str) -> None:
        words = self.payload["plan"]["services"][service]["reload"]
        if words[0] == "SIGNAL":
            self.docker.kill(identifier, words[1])
            return
        result = self.docker.exec(identifier, words)
        if result.exit_code:
            said = (result.stderr or result.stdout).decode(errors="replace").strip()[-500:]
            raise DockerError(0, f"reloading its secrets failed: {said}", f"service {service}", "see its log")

    def _make(self, names: list[str]) -> None:
        """Create and start. Where data begin empty, their owner is set between the two.

        The engine gives an empty volume the owner of the image's directory when it creates the container (moby
        container/container_unix.go, CopyImagePathContent), whatever owner the directory had.
        """
        fresh = {name: volumes for name in names if (volumes := self._empty_volumes(name))}
        ready = [name for name in names if name not in fresh]
        if fresh:
            filling = set().union(*fresh.values())
            atomic.write_json(self.paths.filling, sorted(filling))
            self.compose.up(sorted(fresh), start=False)
            planned = {name: one for name, one in self._volumes().items() if one["name"] in filling}
            adoption.prepare(adoption.places(planned, self.docker.volumes()), adopt_chown=True, check=False)
            self.paths.filling.unlink()
            found = self.now()
            for name in sorted(fresh):
                self._start([name], partial(self.docker.start, found[name][0].id))
        if ready:
            self._start(ready, partial(self.compose.up, ready))

    def _start(self, services: Collection[str], begin: Callable[[], None]) -> None:
        begun = time.monotonic()
        if done := held_ports.start(self.docker, begin, self.payload["project"], services, self.paths.root):
            self._note("docker.service", "restart", done, begun)

    def _volumes(self) -> Mapping[str, Mapping[str, Any]]:
        return self.payload["plan"].get("volumes") or {}

    def _empty_volumes(self, service: str) -> set[str]:
        """Return the planned volumes of a service that hold nothing yet, or do not exist."""
        mounted = {mount[1] for mount in self.survey.desired[service].mounts if mount[0] == "volume"}
        planned = {key: one for key, one in self._volumes().items() if one["name"] in mounted}
        filled = {
            place.volume
            for place in adoption.places(planned, self.docker.volumes())
            if place.exists and not place.empty
        }
        return {one["name"] for one in planned.values()} - filled

    def _stop_and_remove(self, identifier: str) -> None:
        try:
            self.docker.stop(identifier)
        except DockerError as error:
            if error.status not in (304, 404):
                raise
        self.docker.remove(identifier)

    def _record(self) -> None:
        """Record which secrets every service has loaded now, and have systemd keep what was set of new scopes."""
        found = self.now()
        scopes.keep_swap_off(self.docker, (one.inspect for each in found.values() for one in each), self.paths.root)
        atomic.write_json(self.paths.loaded, {name: digest for name, digest in self.digests.items() if name in found})

    @contextmanager
    def _timed(self, service: str, action: str, why: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self._note(service, action, why, begun)

    def _note(self, service: str, action: str, why: str, begun: float) -> None:
        seconds = round(time.monotonic() - begun, 1)
        self.done.append({"service": service, "action": action, "why": why, "seconds": seconds})


def resources(desired: Desired, reasons: Collection[str] = ()) -> dict[str, Any]:
    """Return the body of ``/containers/ID/update``. Unset limits are left out: the engine reads zero as "keep".

    Three of the facets in ``reasons`` can be taken back all the same: no limit of processes is -1, no quota -1, and no
    set of processors is all that there are.
    """
    name, _, count = desired.restart.partition(":")
    memory, swap = size(desired.limit("memory", "mem_limit")), size(desired.service.get("memswap_limit"))
    pids, quota = int(desired.limit("pids", "pids_limit") or 0), int(desired.service.get("cpu_quota") or 0)
    body = {
        "Memory": memory,
        "MemorySwap": swap or 2 * memory,
        "MemoryReservation": size(desired.reservation),
        "NanoCpus": round(float(desired.limit("cpus", "cpus") or 0) * 1e9),
        "CpuQuota": quota or (-1 if "cpu_quota" in reasons else 0),
        "CpuPeriod": int(desired.service.get("cpu_period") or 0),
        "CpusetCpus": desired.service.get("cpuset") or (f"0-{desired.engine.cpus - 1}" if "cpuset" in reasons else ""),
        "CpuShares": int(desired.service.get("cpu_shares") or 0),
        "PidsLimit": pids or (-1 if "pids" in reasons else 0),
    }
    policy = {"Name": name, "MaximumRetryCount": int(count or 0)}
    return {**{key: value for key, value in body.items() if value}, "RestartPolicy": policy}
