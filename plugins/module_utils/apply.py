"""From a release payload to a healthy stack, or back to the last good one. The whole story, in order.

Every step may be cut off by ``kill -9``: files appear by rename, ``current`` moves before containers do, a release is
marked good last, and the next run compares what lives with the plan, whatever the last run got done.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import (
    adoption,
    age,
    atomic,
    audit,
    credentials,
    gate,
    host_ours,
    host_ports,
    image_files,
    images,
    lock,
    postgres,
    preflight,
    probes,
    program,
    release,
    restore,
    survey,
    units,
)
from .act import MANAGED, Actor
from .actions import Action
from .compare import Difference
from .compose import version as compose_version
from .docker_api import Docker
from .engine_view import View
from .errors import BattenError
from .observed import Observed, by_service
from .paths import PROGRAM, StackPaths
from .postgres_roles import waits

Payload = Mapping[str, Any]
Containers = Mapping[str, Sequence[Observed]]


@dataclass(frozen=True)
class Options:
    """``gate_timeout`` is the most seconds that one service may take to become healthy.

    ``given`` names the secrets that come with this run; check mode has not got them yet. ``defer_stateful`` leaves the
    recreation of services with data for later; None goes on as the last run that was told. ``ask`` ends a run that
    would make a service with data anew before anything is written: its ``pending`` says what that costs.
    """

    check: bool = False
    gate_timeout: float = 300
    adopt_chown: bool = False
    manage_units: bool = True
    given: tuple[str, ...] = ()
    defer_stateful: bool | None = None
    ask: bool = False


@dataclass
class Result:
    """What a run did, as the module returns it. See the module's RETURN."""

    release: str
    previous: str | None
    changed: bool = False
    differences: list[dict[str, Any]] = field(default_factory=list)
    actions: list[dict[str, Any]] = field(default_factory=list)
    gate: dict[str, Any] = field(default_factory=dict)
    pending: list[dict[str, Any]] = field(default_factory=list)
    deferred: list[dict[str, Any]] = field(default_factory=list)
    reported: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    returned_to: str | None = None

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class _Run:
    """What every step of one run is about. ``result`` is filled in as they go."""

    payload: Payload
    options: Options
    docker: Docker
    paths: StackPaths
    result: Result
    put_off: Collection[str] = ()

    @property
    def project(self) -> str:
        return str(self.payload["project"])

    def look(
        self, model: Mapping[str, Any], known: Mapping[str, str], digests: Mapping[str, str], beneath: bool = True
    ) -> survey.Survey:
        """Return what lives beside ``model``; ``known`` are the digests in its labels, by service."""
        model = survey.with_digests(model, known)
        return survey.look(View.read(self.docker), self.paths, self.payload, model, digests, self.put_off, beneath)

    def did(self, service: str, action: str, why: str, seconds: float = 0.0) -> None:
        """Note an action."""
        self.result.actions.append({"service": service, "action": action, "why": why, "seconds": seconds})


class ApplyFailed(BattenError):  # noqa: N818 - what happened, as a person says it
    """The release did not hold; ``result`` says what was done until then."""

    def __init__(self, failure: BattenError, more: str, result: Result) -> None:
        self.result = result
        super().__init__(f"{failure.what}\n{more}", failure.where, failure.fix)


def prepare(paths: StackPaths) -> bool:
    """Make what ``batten-host put`` needs: given secrets come before the release. Returns whether it changed."""
    changed = atomic.make_directory(paths.var, 0o700)
    changed = atomic.make_directory(paths.state, 0o700) or changed
    return program.install(check=False) or changed


def apply(payload: Payload, options: Options, docker: Docker, paths: StackPaths) -> Result:
    """Make the host run ``payload``. Raises :class:`BattenError`, :class:`ApplyFailed` once something was changed."""
    if options.check:
        return predict(payload, options, docker, paths)
    with lock.held(paths.lock):
        return converge(payload, options, docker, paths)


def predict(payload: Payload, options: Options, docker: Docker, paths: StackPaths) -> Result:
    """Return what :func:`apply` would do; works before Docker exists, and changes nothing."""
    run = _run(payload, options, docker, paths)
    result = run.result
    program_differs = [str(PROGRAM)] if program.install(check=True) else []
    files = host_ours.other_contents(paths.stack, [*release.differences(paths, payload), *program_differs])
    secrets = credentials.deliver(paths, payload["secrets"], check=True, coming=options.given)
    made = [_secret(payload, change) for change in secrets.changes]
    if docker.answers() and compose_version():
        seen = run.look(survey.merged_model(paths, payload), secrets.digests, secrets.digests)
        _preflight(run, seen)
        found = list(seen.differences)
        result.pending = [_costed(one, run) for one in seen.actions.values()]
        _tell(result, seen)
    else:
        found = survey.from_plan(payload)
        result.pending = [{"service": one.name, "action": "create", "why": one.facet} for one in found]
    opened = host_ports.follow(paths.root, {payload["stack"]: payload["plan"]}, check=True)
    result.differences = [one.to_json() for one in (*files, *made, *found, *opened)]
    kept = _keep_up(run, check=True)
    result.changed = bool(_repaired(result) or kept)
    return result


def converge(payload: Payload, options: Options, docker: Docker, paths: StackPaths) -> Result:
    """Do what :func:`apply` says, for a caller that holds the stack's lock already."""
    _need_engine(docker)
    run = _run(payload, options, docker, paths)
    result = run.result
    good = release.last_good(paths)
    model = survey.merged_model(paths, payload)
    known = _known_digests(paths, payload)
    seen = run.look(model, known, {}, beneath=False)
    _preflight(run, seen)
    if _get_images(run, seen):  # what an image says of itself is known only now
        seen = run.look(model, known, {}, beneath=False)
        _preflight(run, seen)
    if options.ask and (costly := [one for one in seen.actions.values() if _interrupts_data(one, run)]):
        result.pending = [_costed(one, run) for one in costly]
        return result

    written = release.write(paths, payload)
    written += [str(PROGRAM)] if program.install(check=False) else []
    # Before the look: a file whose owner changes after a service's start would have that restarted by the next run.
    owned = host_ours.own(paths, payload, check=False) if options.manage_units else []
    secrets = credentials.deliver(paths, payload["secrets"], check=False)
    seen = run.look(model, secrets.digests, secrets.digests)
    _tell(result, seen)
    files = host_ours.other_contents(paths.stack, written)
    made = [_secret(payload, change) for change in secrets.changes]
    result.differences = [one.to_json() for one in (*files, *made, *seen.differences)]

    prepared = adoption.prepare(_places(run), options.adopt_chown, check=False)
    paths.filling.unlink(missing_ok=True)
    actor = _actor(run, seen, secrets.digests)
    moved = release.activate(paths, payload)
    result.differences += [one.to_json() for one in host_ports.follow(paths.root)]
    try:
        actor.run()
        result.gate = actor.wait(seen.desired)
        gate.prove(docker, run.project, _kept_with_new_secrets(known, secrets.digests, actor))
    except BattenError as failure:
        result.changed = True
        _audit(run, "failed")
        raise _after_failure(run, failure, good, seen.observed) from failure
    kept = [*owned, *_keep_up(run, check=False)]
    marked = release.mark_good(paths, payload, actor.survey.images)
    postgres.keep_newest_dumps(paths)
    _remember(run)
    there = docker.inspect_all(one["Id"] for one in docker.list(run.project))
    image_files.remember(docker, paths, [ones[0] for ones in by_service(there).values()])
    release.prune(paths, {result.release, *([good] if good else [])}, there)
    did = [one for one in result.actions if one["action"] != "wait"]
    result.changed = bool(_repaired(result) or did or prepared or moved or kept or marked)
    _audit(run, "done")
    return result


def _tell(result: Result, seen: survey.Survey) -> None:
    """Note what waits, what the policy only reports, and what nobody but a person may put right."""
    result.deferred = [one.to_json() for one in seen.waits]
    result.reported = [one.to_json() for one in seen.reported]
    by_hand = [one for one in seen.differences if one.action == "none"]
    result.warnings = [
        *seen.expired,
        *(f"{one.scope} {one.name}: {one.facet} differs: {one.reason}" for one in by_hand),
    ]


def _repaired(result: Result) -> list[dict[str, Any]]:
    return [one for one in result.differences if one["action"] != "none"]


def _run(payload: Payload, options: Options, docker: Docker, paths: StackPaths) -> _Run:
    result = Result(release.identity(payload), release.running(paths))
    return _Run(payload, options, docker, paths, result, _put_off(payload, options, paths))


def _after_failure(run: _Run, failure: BattenError, good: str | None, before: Containers) -> ApplyFailed:
    """Keep, stop or return, as house rule 5 says; the message tells which. ``good`` is the last good release, and
    ``before`` what ran when this run began."""
    result = run.result
    failed = result.release
    dumped = [one for one in result.actions if one["action"] == "dump"]
    if good is None:
        for container in run.docker.list(run.project):
            if container["State"] in ("running", "restarting", "paused"):
                run.docker.stop(container["Id"])
        return ApplyFailed(failure, "This was the first release: its containers are stopped, not removed.", result)
    if good == failed:
        return ApplyFailed(failure, f"Release {failed} was good before, so there is nothing to return to.", result)
    if dumped:
        more = "\n".join(one["why"] for one in dumped)
        return ApplyFailed(
            failure, f"It may have migrated its database, so the old release was not put back.\n{more}", result
        )
    try:
        _return_to(run, good, before)
    except BattenError as second:
        more = f"The last good release {good} could not be put back either: {second}"
        return ApplyFailed(failure, more, result)
    return ApplyFailed(failure, f"The last good release {good} is running again.", result)


def _return_to(failed: _Run, good: str, before: Containers) -> None:
    paths, payload = failed.paths, release.read(failed.paths, good)
    put_off = _left_alone(failed, before)
    run = replace(failed, payload=payload, result=Result(good, failed.result.release), put_off=put_off)
    release.write(paths, payload)
    secrets = credentials.deliver(paths, payload["secrets"], check=False)
    model = survey.merged_model(paths, payload)
    seen = run.look(model, secrets.digests, secrets.digests)
    if _get_images(run, seen):
        seen = run.look(model, secrets.digests, secrets.digests)
    release.activate(paths, payload)
    host_ports.follow(paths.root)
    actor = _actor(run, seen, secrets.digests)
    actor.run()
    actor.wait(seen.desired)
    failed.result.returned_to = good
    _audit(run, "returned")


def _left_alone(failed: _Run, before: Containers) -> list[str]:
    """Return the services that a failed run put off and whose containers are still those from ``before``: there is
    nothing to take back but what changes live. One that was made anew all the same, as it was gone, goes back."""
    there = {one["Id"] for one in failed.docker.list(failed.project)}
    return [name for name in failed.put_off if any(one.id in there for one in before.get(name, ())[:1])]


def _actor(run: _Run, seen: survey.Survey, digests: Mapping[str, str]) -> Actor:
    docker, paths, payload = run.docker, run.paths, run.payload
    variables = {survey.digest_variable(name): digest for name, digest in digests.items()}
    compose = survey.compose(paths, payload, variables)
    spec = payload.get("postgres")
    where = (spec or {}).get("service") or "managed PostgreSQL"

    def ensure_roles() -> None:
        for change in postgres.ensure(docker, run.project, spec or {}, paths):
            run.did(where, "wait" if waits(change) else "ensure", change)

    def dump(service: str) -> None:
        database = (payload["plan"]["services"].get(service) or {}).get("migrates")
        if database and spec:
            path, command = postgres.dump(docker, run.project, spec, paths, database)
            run.did(service, "dump", f"database {database} was dumped to {path}; to restore it: {command}")

    def load(service: str, before: Callable[[], None]) -> Callable[[], None]:
        def load_after() -> None:
            before()
            for change in restore.load(paths, docker, payload, service):
                run.did(service, "restore", change)

        return load_after

    once = {spec["service"] or MANAGED: ensure_roles} if spec else {}
    once = {**once, **{service: load(service, once.get(service, _nothing)) for service in restore.pending(paths)}}
    actor = Actor(docker, paths, payload, seen, compose, digests, run.options.gate_timeout, dump, once)
    actor.done = run.result.actions
    return actor


def _put_off(payload: Payload, options: Options, paths: StackPaths) -> list[str]:
    """Return the services that are not made anew in this run."""
    if options.defer_stateful is None:
        return survey.still_put_off(paths, payload)
    return survey.stateful(payload) if options.defer_stateful else []


def _remember(run: _Run) -> None:
    """Keep what was put off, for runs that nobody tells, and what each service took to be made and healthy."""
    paths, put_off = run.paths, list(run.put_off)
    if run.options.defer_stateful is not None and atomic.read_json(paths.put_off, []) != put_off:
        atomic.write_json(paths.put_off, put_off)
    took = {
        one["service"]: round(one["seconds"] + run.result.gate.get(one["service"], {}).get("seconds", 0.0), 1)
        for one in run.result.actions
        if one["action"] in ("create", "recreate")
    }
    if took:
        atomic.write_json(paths.costs, {**atomic.read_json(paths.costs, {}), **took})


def _costed(action: Action, run: _Run) -> dict[str, Any]:
    """Return an action with the seconds that it took last time, where it would interrupt a service with data."""
    seconds = atomic.read_json(run.paths.costs, {}).get(action.service)
    return {**action.__dict__, **({"seconds": seconds} if seconds and _interrupts_data(action, run) else {})}


def _interrupts_data(action: Action, run: _Run) -> bool:
    planned = run.payload["plan"]["services"].get(action.service) or {}
    return action.action == "recreate" and bool(planned.get("stateful"))


def _nothing() -> None:
    """What comes before a dump is loaded into a server whose roles nobody declared."""


def _keep_up(run: _Run, check: bool) -> list[str]:
    """Install what goes on after the run: the units, and the program that backups need; put owners and modes right."""
    plan = run.payload["plan"]
    if not run.options.manage_units:
        return []
    return [
        *(age.ensure(check) if plan.get("backup") else []),
        *units.ensure(run.paths, plan, check),
        *host_ours.own(run.paths, run.payload, check),
    ]


def _preflight(run: _Run, seen: survey.Survey) -> None:
    coming = [run.paths.base / name for name in release.base_files(run.payload)]
    coming += [place.path for place in _places(run) if place.mounted]
    pulls = bool(seen.missing_images)
    problems = preflight.check(run.docker, run.paths, run.payload["plan"], seen.desired, seen.observed, pulls, coming)
    problems += adoption.foreign_owners(place for place in _places(run) if place.mounted or not run.options.adopt_chown)
    made = [name for name, one in seen.actions.items() if one.action in ("create", "recreate") and name in seen.desired]
    problems += probes.missing(run.docker, run.paths, seen.desired, made, look=not run.options.check)
    preflight.refuse(problems)


def _get_images(run: _Run, seen: survey.Survey) -> bool:
    """Build what the release brings a context for, pull the rest, before anything is written or stopped."""
    builds = run.payload.get("builds") or {}
    for name, seconds in images.build_missing(run.docker, builds, seen.missing_images):
        run.did(name, "build", "image", seconds)
    images.pull(str(seen.desired[name].service["image"]) for name in seen.missing_images if name not in builds)
    return bool(seen.missing_images)


def _places(run: _Run) -> list[adoption.Place]:
    plan = run.payload["plan"]
    filling = atomic.read_json(run.paths.filling, [])
    volumes = adoption.places(plan.get("volumes") or {}, run.docker.volumes(), filling)
    return [*volumes, *adoption.binds(plan["services"], run.paths.base)]


def _need_engine(docker: Docker) -> None:
    if not docker.answers():
        fix = "systemctl start docker; on a new host run playbooks/docker.yml first"
        raise BattenError("no Docker engine answers", docker.path, fix)
    if compose_version() is None:
        raise BattenError("Compose is not installed", "docker compose", "run playbooks/docker.yml")


def _known_digests(paths: StackPaths, payload: Payload) -> dict[str, str]:
    known: dict[str, str] = atomic.read_json(paths.loaded, {})
    return {name: str(digest) for name, digest in known.items() if name in payload["plan"]["services"]}


def _kept_with_new_secrets(known: Mapping[str, str], digests: Mapping[str, str], actor: Actor) -> list[str]:
    """Return the services whose secrets changed under them: they have no new container that would show its health."""
    made = {one["service"] for one in actor.done if one["action"] in ("create", "recreate", "start", "restart")}
    return [name for name, digest in digests.items() if known.get(name, digest) != digest and name not in made]


def _secret(payload: Payload, change: str) -> Difference:
    name, _, what = str(change).partition(": ")
    return Difference(payload["stack"], "secret", name, "delivery", "delivered", what or "changed", "rewrite")


def _audit(run: _Run, outcome: str) -> None:
    """Write down each difference with what it was, what it is now, what was done for it, and with which result."""
    result = run.result
    common = {"stack": run.payload["stack"], "release": result.release}
    did = {one["service"]: one["action"] for one in result.actions if one["action"] not in ("wait", "ensure", "dump")}
    changes = []
    for one in result.differences:
        action = one["action"] if one["scope"] != "service" else did.get(one["name"], one["action"])
        changes.append({**audit.of(one, outcome), **common, "action": action})
    actions = [{**common, "result": outcome, **one} for one in result.actions]
    audit.append(run.paths.audit, [*changes, *actions])
