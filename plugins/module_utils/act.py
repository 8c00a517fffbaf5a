"""Bring a stack to its plan: the least for each service, in start order, with our own waits between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from . import adoption, atomic, gate, survey
from .actions import Action, recovering
from .compose import Compose
from .desired import Desired, layers
from .docker_api import Docker, DockerError
from .facet import never
from .facets import FACETS
from .observed import by_service
from .paths import StackPaths
from .quantities import size

MANAGED = ""  # the key of ``once_healthy`` for a database that is no service of the stack
_MADE = ("create", "recreate")
_UPDATABLE = {facet.name for facet in FACETS if facet.live is not never}


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
        for names in layers(self.survey.model):
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

    def _clear(self) -> None:
        """Remove what is no longer wanted, and spare containers that a killed run left; then divergent networks."""
        for name, containers in self.survey.observed.items():
            gone = containers if name not in self.survey.desired else containers[1:]
            for one in gone:
                with self._timed(
                    name, "remove", "not in the plan" if name not in self.survey.desired else "one too many"
                ):
                    self._stop_and_remove(one.id)
        networks = {one.name for one in self.survey.differences if one.scope == "network"}
        for network in self.survey.networks:
            if network["Name"] in networks:
                for containers in self.survey.observed.values():
                    if network["Name"] in containers[0].networks:
                        self._stop_and_remove(containers[0].id)
                with self._timed(network["Name"], "remove", "network differs"):
                    self.docker.remove_network(network["Id"])

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
        begun = time.monotonic()
        try:
            if action.action == "update" or any(why in _UPDATABLE for why in action.why.split(", ")):
                self.docker.update(container.id, resources(self.survey.desired[action.service]))
            if action.action == "start" and container.state == "paused":
                self.docker.unpause(container.id)
            elif action.action == "start":
                self.docker.start(container.id)
            elif action.action == "restart":
                self.docker.restart(container.id)
            elif action.action == "reload":
                self._reload(action.service, container.id)
        except DockerError as error:
            if error.status == 0 or action.action == "reload":
                raise
            return False
        self._note(action.service, action.action, action.why, begun)
        return True

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
            found = by_service(self.docker.inspect_all(one["Id"] for one in self.docker.list(self.payload["project"])))
            for name in sorted(fresh):
                self.docker.start(found[name][0].id)
        if ready:
            self.compose.up(ready)

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
        """Record which secrets every service has loaded now."""
        found = by_service(self.docker.inspect_all(one["Id"] for one in self.docker.list(self.payload["project"])))
        atomic.write_json(self.paths.loaded, {name: digest for name, digest in self.digests.items() if name in found})

    @contextmanager
    def _timed(self, service: str, action: str, why: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self._note(service, action, why, begun)

    def _note(self, service: str, action: str, why: str, begun: float) -> None:
        seconds = round(time.monotonic() - begun, 1)
        self.done.append({"service": service, "action": action, "why": why, "seconds": seconds})


def resources(desired: Desired) -> dict[str, Any]:
    """Return the body of ``/containers/ID/update``. Unset limits are left out: the engine reads zero as "keep"."""
    name, _, count = desired.restart.partition(":")
    memory, swap = size(desired.limit("memory", "mem_limit")), size(desired.service.get("memswap_limit"))
    body = {
        "Memory": memory,
        "MemorySwap": swap or 2 * memory,
        "MemoryReservation": size(desired.reservation),
        "NanoCpus": round(float(desired.limit("cpus", "cpus") or 0) * 1e9),
        "CpuShares": int(desired.service.get("cpu_shares") or 0),
        "PidsLimit": int(desired.limit("pids", "pids_limit") or 0),
    }
    policy = {"Name": name, "MaximumRetryCount": int(count or 0)}
    return {**{key: value for key, value in body.items() if value}, "RestartPolicy": policy}
