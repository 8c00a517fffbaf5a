"""Everything that the engine says, read once: what any number of comparisons of one moment need. Reads only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import atomic
from .compose_labels import PROJECT
from .docker_api import Docker

DAEMON = "etc/docker/daemon.json"


@dataclass(frozen=True)
class View:
    """One batch of reads: a request for the engine itself, one for each list, and one for each container.

    ``containers`` are inspected, also the stopped ones and those of others; ``networks`` and ``volumes`` are the
    engine's lists, ``settings`` is its ``daemon.json``. Images are read when they are asked for, each once.
    """

    docker: Docker
    info: Mapping[str, Any]
    containers: Sequence[Mapping[str, Any]]
    networks: Sequence[Mapping[str, Any]]
    volumes: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    _images: dict[str, Mapping[str, Any] | None] = field(default_factory=dict)

    @classmethod
    def read(cls, docker: Docker, root: str = "/") -> View:
        """Read it all now. Raises :class:`DockerError`. ``root`` is ``/`` but in tests."""
        return cls(
            docker,
            docker.info(),
            docker.inspect_all(one["Id"] for one in docker.list()),
            docker.networks(),
            docker.volumes(),
            atomic.read_json(Path(root) / DAEMON, {}),
        )

    def containers_of(self, project: str) -> list[Mapping[str, Any]]:
        """Return the containers that are labelled as a Compose project's."""
        return [one for one in self.containers if (one["Config"].get("Labels") or {}).get(PROJECT) == project]

    @property
    def pids(self) -> list[int]:
        """The first processes of all containers that run, as numbered on the host."""
        return [pid for one in self.containers if (pid := int(one["State"].get("Pid") or 0))]

    def image(self, reference: str) -> Mapping[str, Any] | None:
        """Return the local image that ``reference`` (a name, or an ID) resolves to, or None."""
        if reference not in self._images:
            self._images[reference] = self.docker.image(reference)
        return self._images[reference]
