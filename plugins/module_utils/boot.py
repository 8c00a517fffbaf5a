"""Starting a stack in health order at boot, and stopping it in reverse order at shutdown.

After a clean shutdown the engine starts nothing by itself: a stopped container of policy ``unless-stopped`` stays
stopped (docs.docker.com, "Start containers automatically"). After a power cut it starts all at once. It never retries a
container that it could not start, such as one whose address was not up: that one stays ``created`` or ``exited``.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from . import atomic, held_ports, lock, planned, scopes
from .docker_api import Docker, DockerError, await_answer
from .errors import BattenError
from .observed import Observed
from .paths import StackPaths

RETRY_SECONDS = 300
GROUP_PATIENCE_SECONDS = 120  # then the next services get their chance, and these are still retried
_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class Live:
    """What a boot asks of one container: ``health`` is empty where nothing asks it, also where it does not run.

    ``one_shot``: its service runs once and ends.
    """

    id: str
    service: str
    status: str
    health: str
    restart: str
    one_shot: bool = False

    @property
    def down(self) -> bool:
        """Whether it should run and the engine will not start it by itself. A one-shot that has run is not down."""
        ended = self.status in ("exited", "dead")
        return self.status == "created" or (ended and not self.one_shot and self.restart in planned.COMES_BACK)

    @property
    def ready(self) -> bool:
        return not self.down and self.status != "restarting" and self.health in ("", "healthy")


def live(container: Mapping[str, Any], one_shots: Collection[str] = ()) -> Live:
    """Read one inspect document (Docker API, ``ContainerInspect``)."""
    one = Observed(container)
    health = one.health if one.state == "running" else ""
    return Live(one.id, one.service, one.state, health, one.restart, one.service in one_shots)


def in_order(plan: Mapping[str, Any], containers: Sequence[Live]) -> list[list[Live]]:
    """Return containers in groups of the plan's start order; those of services that it does not name come last."""
    return planned.in_order(plan, containers, lambda each: each.service)


def boot(
    paths: StackPaths, say: Callable[[str], None], docker: Docker | None = None, seconds: float = RETRY_SECONDS
) -> bool:
    """Start what is down, group by group; return whether all is well within ``seconds``, and ``say`` why not.

    Raises BattenError when there is no plan, or the engine does not answer within ``seconds``.
    """
    plan = _plan(paths)
    deadline = time.monotonic() + seconds
    docker = docker or Docker()
    await_answer(docker, deadline)
    well = _boot(paths, say, docker, plan, deadline)
    scopes.keep_swap_off(docker, _containers(docker, plan, deadline), paths.root)
    return well


def _boot(
    paths: StackPaths, say: Callable[[str], None], docker: Docker, plan: Mapping[str, Any], deadline: float
) -> bool:
    complaints: dict[str, str] = {}
    groups = in_order(plan, _observe(docker, plan, deadline))
    for place, group in enumerate(groups):
        patience = min(deadline, time.monotonic() + GROUP_PATIENCE_SECONDS)
        if _bring_up(paths, say, docker, plan, slice(place, place + 1), patience, complaints):
            say(f"{', '.join(container.service for container in group)}: ready")
    if _bring_up(paths, say, docker, plan, slice(0, len(groups)), deadline, complaints):
        return True
    for container in _observe(docker, plan, deadline):
        if not container.ready:
            reason = complaints.get(container.service)
            say(
                f"service {container.service} of stack {paths.stack} is {container.health or container.status}"
                f"{': ' + reason if reason else ''}. See: docker logs {container.id[:12]}; "
                f"try again: systemctl restart batten-stack@{paths.stack}"
            )
    return False


def shutdown(paths: StackPaths, say: Callable[[str], None], docker: Docker | None = None, boot_pid: int = 0) -> None:
    """Stop the stack in reverse order, each container with its own signal and grace, a group at once.

    ``boot_pid`` is a boot that still runs; it is ended first.
    """
    _end(boot_pid)
    docker = docker or Docker()
    plan = _plan(paths)
    problems = []
    for group in reversed(in_order(plan, _observe(docker, plan, time.monotonic()))):
        running = [each for each in group if each.status in ("running", "restarting", "paused")]
        with ThreadPoolExecutor(max_workers=len(running) or 1) as pool:
            for container, problem in zip(running, pool.map(lambda each: _try(partial(docker.stop, each.id)), running)):
                say(f"{container.service}: {problem or 'stopped'}")
                problems += [f"{container.service}: {problem}"] if problem else []
    if problems:
        raise BattenError("; ".join(problems), f"stack {paths.stack}", "see: journalctl -u docker")


def _bring_up(
    paths: StackPaths,
    say: Callable[[str], None],
    docker: Docker,
    plan: Mapping[str, Any],
    which: slice,
    deadline: float,
    complaints: dict[str, str],
) -> bool:
    """Start what is down in groups ``which``, at least once, until they are ready or ``deadline`` has passed."""
    while True:
        there = _observe(docker, plan, deadline)
        wanted = [each for group in in_order(plan, there)[which] for each in group]
        if all(container.ready for container in wanted):
            return True
        try:
            with lock.held(paths.lock, brief=True):
                for container in wanted:
                    if container.down:
                        problem = _try(partial(_start, docker, plan["project"], container, paths.root, say))
                        if not (problem and complaints.get(container.service)):  # a retry is no news
                            say(f"{container.service}: {problem or 'started'}")
                        complaints[container.service] = problem
        except lock.Busy:
            pass  # a run of batten works on this stack; this looks again when it has ended
        if time.monotonic() >= deadline:
            return False
        time.sleep(_PAUSE_SECONDS)


def _observe(docker: Docker, plan: Mapping[str, Any], deadline: float) -> list[Live]:
    ends = planned.one_shots(plan)
    return [live(container, ends) for container in _containers(docker, plan, deadline)]


def _containers(docker: Docker, plan: Mapping[str, Any], deadline: float) -> list[dict[str, Any]]:
    """Return what ``docker inspect`` says of the stack; another stack's boot may restart the engine meanwhile."""
    while True:
        try:
            return docker.inspect_all(each["Id"] for each in docker.list(plan["project"]))
        except DockerError as error:
            if error.status or time.monotonic() >= deadline:
                raise
        time.sleep(_PAUSE_SECONDS)


def _plan(paths: StackPaths) -> Mapping[str, Any]:
    plan = atomic.read_json(paths.plan, None)
    if plan is None:
        raise BattenError(f"stack {paths.stack} has no plan here", str(paths.plan), "run site.yml for this host")
    return dict(plan)


def _start(docker: Docker, project: str, container: Live, root: str, say: Callable[[str], None]) -> None:
    if done := held_ports.start(docker, partial(docker.start, container.id), project, [container.service], root):
        say(done)


def _try(action: Callable[[], None]) -> str:
    """Do ``action``; return what was wrong, or nothing."""
    try:
        action()
    except BattenError as error:
        return error.what
    return ""


def _end(pid: int) -> None:
    """End our own boot, so that it does not start what is being stopped."""
    with suppress(ProcessLookupError):
        if pid:
            os.kill(pid, signal.SIGTERM)
            for _ in range(10):
                time.sleep(0.2)
                os.kill(pid, 0)
            os.kill(pid, signal.SIGKILL)
