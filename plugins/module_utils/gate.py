"""Health: wait for it on the engine's event stream, and tell why it did not come.

Compose's ``--wait`` calls a one-shot that ended well a failure (docker/compose#10596) and shows no log, so the wait is
our own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .compose_labels import SERVICE
from .docker_api import Docker
from .errors import BattenError
from .observed import Observed, by_service

SETTLE_SECONDS = 5.0  # how long a service without a health check must stay up
SLACK_SECONDS = 15.0  # what a busy host may add to a health check's own worst case
LOOP_RESTARTS = 3
LOG_LINES = 20


@dataclass(frozen=True)
class Verdict:
    """``status`` is ``passed``, ``failed`` or ``waiting``; a waiting one may be known after ``again`` seconds."""

    status: str
    reason: str = ""
    again: float = 3600.0


class GateFailure(BattenError):  # noqa: N818 - what happened, as a person says it
    """A service did not become healthy. ``health`` holds the last probes' outputs, ``lines`` the end of its log."""

    def __init__(
        self, service: str, reason: str, health: list[str], lines: list[str], passed: Mapping[str, Any]
    ) -> None:
        self.service = service
        self.reason = reason
        self.health = health
        self.lines = lines
        self.passed = dict(passed)
        parts = [f"{reason}"]
        if health:
            parts += ["its health check said:", *(f"  {line}" for line in health)]
        parts += [f"its last {LOG_LINES} log lines:", *(f"  {line}" for line in lines or ["(none)"])]
        super().__init__("\n".join(parts), f"service {service}")


def judge(
    observed: Observed | None,
    one_shot: bool,
    restarts_before: int,
    now: float,
    recovering: bool = False,
    stayed: float = 0.0,
) -> Verdict:
    """Judge one container at time ``now`` (seconds since the epoch), seen up since its last start for ``stayed``
    seconds: a clock that is set back says nothing of that. Pure."""
    if observed is None:
        return Verdict("failed", "its container is gone")
    state = observed.inspect["State"]
    status = observed.state
    if one_shot and status == "exited":
        code = observed.exit_code
        return Verdict("passed") if code == 0 else Verdict("failed", f"it ended with exit code {code}")
    restarts = int(observed.inspect.get("RestartCount") or 0) - restarts_before
    if restarts >= LOOP_RESTARTS:
        return Verdict("failed", f"it keeps restarting ({restarts} times, exit code {observed.exit_code})")
    if status in ("exited", "dead", "created", "paused"):
        error = state.get("Error") or ""
        killed = ", killed for want of memory" if state.get("OOMKilled") else ""
        reason = f"it is {status} (exit code {observed.exit_code}{killed}){': ' + error if error else ''}"
        return Verdict("failed", reason)
    if status == "restarting" or one_shot:
        return Verdict("waiting", "it is still running, and is planned to end" if one_shot else "it is restarting")
    if observed.health == "healthy":
        return Verdict("passed")
    if observed.health == "unhealthy":
        return Verdict("waiting" if recovering else "failed", "it is unhealthy")
    if observed.health == "starting":
        return Verdict("waiting", "its health check has not passed yet")
    missing = SETTLE_SECONDS - max(now - observed.started_at, stayed)
    return Verdict("passed") if missing <= 0 else Verdict("waiting", "it has just started", missing)


def deadline_seconds(observed: Observed, one_shot: bool, timeout: float) -> float:
    """Return how long to wait: the health check's own worst case with slack, never more than ``timeout``."""
    check = observed.healthcheck
    if one_shot:
        return timeout
    if len(check) < 2:
        return min(timeout, SETTLE_SECONDS + 2 * SLACK_SECONDS)
    # The engine's defaults for unset parts: 30 s, 30 s, 3 (docker run --help, --health-*).
    interval, limit, start, _, retries = (float(part) for part in check[1:])
    worst = start + ((interval or 30e9) + (limit or 30e9)) * (retries or 3)
    return min(timeout, worst / 1e9 + SLACK_SECONDS)


def wait(
    docker: Docker,
    project: str,
    services: Iterable[str],
    one_shots: Iterable[str],
    timeout: float,
    clock: Callable[[], float] = time.monotonic,
    recovering: Iterable[str] = (),
) -> dict[str, dict[str, Any]]:
    """Wait until every one of ``services`` is well. Returns ``{service: {"status", "seconds"}}``.

    Those that are ``recovering`` are unhealthy because of another that is coming back: they get their time.
    Raises :class:`GateFailure` for the first that is certain to fail or that ran out of time.
    """
    begun, names, ends, patient = clock(), set(services), set(one_shots), set(recovering)
    passed: dict[str, dict[str, Any]] = {}
    seen: dict[tuple[str, str], float] = {}  # when each start of each service was noticed, by ``clock``
    if not names:
        return passed
    with docker.events(project) as events:  # opened before the first look, so that nothing falls in between
        found = _look(docker, project)
        before = {name: int(one.inspect.get("RestartCount") or 0) for name, one in found.items()}
        limits = {
            name: deadline_seconds(found[name], name in ends, timeout) if name in found else 0.0 for name in names
        }
        while True:
            waiting: dict[str, Verdict] = {}
            for name in sorted(names - set(passed)):
                one, now = found.get(name), clock()
                stayed = now - seen.setdefault((name, one.inspect["State"]["StartedAt"]), now) if one else 0.0
                verdict = judge(one, name in ends, before.get(name, 0), time.time(), name in patient, stayed)
                elapsed = now - begun
                if verdict.status == "passed":
                    passed[name] = {"status": "completed" if name in ends else "healthy", "seconds": round(elapsed, 1)}
                elif verdict.status == "failed":
                    raise _failure(docker, name, one, verdict.reason, passed)
                elif elapsed >= limits[name]:
                    reason = f"{verdict.reason}, after {round(elapsed)} s"
                    raise _failure(docker, name, one, reason, passed)
                else:
                    waiting[name] = verdict
            if not waiting:
                return passed
            left = min(min(one.again, limits[name] - (clock() - begun)) for name, one in waiting.items())
            events.next(max(left, 0.05))
            while events.next(0) is not None:
                pass
            found.update(_look(docker, project, waiting))


def prove(docker: Docker, project: str, services: Iterable[str], pause: float = 0.5) -> None:
    """Run the health checks of ``services`` now: the engine still shows what they were before their secrets changed.

    Each gets as many tries as its health check has retries. Raises :class:`GateFailure` for the first that fails.
    """
    for name, one in sorted(_look(docker, project, services).items()):
        words = probe(one.healthcheck)
        tries = int(one.healthcheck[5] or 3) if words else 0
        said = ""
        for number in range(tries):
            done = docker.exec(one.id, words)
            if done.exit_code == 0:
                break
            said = " ".join((done.stdout + done.stderr).decode(errors="replace").split())[:200]
            if number == tries - 1:
                raise _failure(docker, name, one, f"it fails its health check with its new secrets: {said}", {})
            time.sleep(pause)


def probe(healthcheck: tuple[Any, ...]) -> list[str]:
    """Return the command of a health check, empty where there is none (Docker API, ``HealthConfig.Test``)."""
    test = list(healthcheck[0]) if healthcheck else []
    if test[:1] == ["CMD"]:
        return test[1:]
    return ["/bin/sh", "-c", test[1]] if test[:1] == ["CMD-SHELL"] else []


def health_log(observed: Observed) -> list[str]:
    """Return the last probes as lines: time, exit code, first line of the output."""
    probes = (observed.inspect["State"].get("Health") or {}).get("Log") or []
    return [
        f"{probe['Start'][:19]}Z exit {probe['ExitCode']}: {' '.join(probe['Output'].split())[:200]}"
        for probe in probes[-5:]
    ]


def _look(docker: Docker, project: str, only: Iterable[str] | None = None) -> dict[str, Observed]:
    wanted = None if only is None else set(only)
    found = [one["Id"] for one in docker.list(project) if wanted is None or one["Labels"].get(SERVICE) in wanted]
    return {name: containers[0] for name, containers in by_service(docker.inspect_all(found)).items()}


def _failure(
    docker: Docker, service: str, observed: Observed | None, reason: str, passed: Mapping[str, Any]
) -> GateFailure:
    lines: list[str] = []
    health: list[str] = []
    if observed is not None:
        health = health_log(observed)
        try:
            lines = docker.logs(observed.id, LOG_LINES)
        except BattenError as error:  # a log driver that cannot be read back must not hide the real failure
            lines = [f"(the log cannot be read: {error.what})"]
    return GateFailure(service, reason, health, lines, passed)
