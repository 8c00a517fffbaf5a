"""One look at a stack: the merged model, what runs, what differs, what follows. Reads only, and only in one batch."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from . import (
    atomic,
    capacity,
    cgroups,
    compare,
    compare_networks,
    compare_volumes,
    desired,
    image_files,
    kernel,
    lock,
    observed,
    planned,
    policy,
    processes,
    release,
    waiting,
)
from .actions import Action, decide, interrupted
from .compose import Compose
from .desired import Desired, Engine
from .engine_view import View
from .errors import BattenError
from .observed import Observed
from .paths import StackPaths
from .waiting import Wait

Payload = Mapping[str, Any]
_MARK = "batten-digest-of-"


@dataclass(frozen=True)
class Survey:
    """What :func:`look` found. ``ends`` are the one-shot services, ``waits`` what need not happen now.

    ``differences`` are repaired, but for those of action none; by the plan's policy ``reported`` are only told and
    ``ignored`` left out, and ``expired`` are rules of it that hold no more. ``networks`` are this stack's,
    ``strangers`` the containers on each, by its name, that are not.
    """

    model: Mapping[str, Any]
    desired: Mapping[str, Desired]
    observed: Mapping[str, Sequence[Observed]]
    networks: Sequence[Mapping[str, Any]]
    differences: Sequence[compare.Difference]
    actions: Mapping[str, Action]
    ends: frozenset[str]
    waits: Sequence[Wait] = ()
    reported: Sequence[compare.Difference] = ()
    ignored: Sequence[compare.Difference] = ()
    expired: Sequence[str] = ()
    strangers: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def missing_images(self) -> list[str]:
        """Services that will be made anew and whose image is not on this host."""
        made = [name for name, one in self.actions.items() if one.action in ("create", "recreate")]
        return sorted(name for name in made if name in self.desired and not self.desired[name].image)

    @property
    def images(self) -> dict[str, str]:
        return {name: str(one.image.get("Id", "")) for name, one in self.desired.items()}


def digest_variable(service: str) -> str:
    """Return the variable that a layer names for the digest of a service's secrets."""
    return "BATTEN_DIGEST_" + service.upper().replace("-", "_").replace(".", "_")


def merged_model(paths: StackPaths, payload: Payload) -> dict[str, Any]:
    """Return Compose's own merge of the layers, from a scratch copy: nothing on the host is touched before it agrees.

    The digests of secrets are not known yet, so marks stand for them; :func:`with_digests` fills them in.
    """
    with tempfile.TemporaryDirectory(prefix="batten-") as scratch:
        where = Path(scratch).resolve()
        release.stage(where, payload)
        variables = {digest_variable(name): _MARK + name for name in payload["plan"]["services"]}
        try:
            model = compose(paths, payload, variables, where / "release", where / "base").config()
        except BattenError as error:
            raise _refused(error, where, payload) from None
        return dict(json.loads(json.dumps(model).replace(str(where / "base"), str(paths.base))))


def _refused(error: BattenError, scratch: Path, payload: Payload) -> BattenError:
    """Name the file that Compose refuses as its author knows it: the scratch copy is gone when a person looks."""
    what = error.what.replace(f"{scratch}/release/", "").replace(f"{scratch}/base/", "")
    base = payload["layers"][0]["name"]
    fix = f"correct your {base}; there, docker compose -f {base} config -q says the same" if base in what else error.fix
    return BattenError(what, f"stack {payload['stack']}", fix)


def with_digests(model: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, Any]:
    """Put the digests of secrets where the layers name them."""
    text = json.dumps(model)
    for name in sorted(model.get("services") or {}, key=len, reverse=True):
        text = text.replace(json.dumps(_MARK + name), json.dumps(digests.get(name, "")))
    return dict(json.loads(text))


def compose(
    paths: StackPaths,
    payload: Payload,
    variables: Mapping[str, str],
    where: Path | None = None,
    base: Path | None = None,
) -> Compose:
    """Return Compose for a release: where it lies on the host, or below ``where`` and ``base``."""
    there = where or release.directory(paths, payload)
    layers = release.layers(there, payload)
    profiles = tuple(payload.get("compose_profiles") or ())
    return Compose(payload["project"], base or paths.base, layers, there / "stack.env", profiles, variables)


def stateful(payload: Payload) -> list[str]:
    """Return the services with data."""
    return [name for name, one in payload["plan"]["services"].items() if one.get("stateful")]


def still_put_off(paths: StackPaths, payload: Payload) -> list[str]:
    """Return the services with data that the last run was told not to make anew."""
    return [name for name in atomic.read_json(paths.put_off, []) if name in stateful(payload)]


def look(
    view: View,
    paths: StackPaths,
    payload: Payload,
    model: Mapping[str, Any],
    digests: Mapping[str, str],
    put_off: Collection[str] = (),
    beneath: bool = True,
) -> Survey:
    """Compare what ``view`` shows with ``model``, which comes from :func:`with_digests`.

    Services of ``put_off`` are not made anew now. Without ``beneath`` only what the engine tells is compared.
    """
    stack, project = payload["stack"], payload["project"]
    engine = Engine.of(view.info, view.settings)
    references = {str(service.get("image", "")) for service in model["services"].values()}
    images = {reference: image for reference in references if (image := view.image(reference))}
    wanted = desired.services(project, model, images, engine)
    there = observed.by_service(view.containers_of(project))
    networks = compare_networks.ours(model, project, view.networks)
    neighbours = {str(plan.get("project", name)) for name, plan in capacity.recorded_plans(paths.root).items()}
    ends = planned.one_shots(payload["plan"])
    services, seconds = payload["plan"]["services"], atomic.read_json(paths.costs, {})
    before = atomic.read_json(paths.plan, {}).get("services") or {}
    peaks = {
        name: _needed(there[name][0], _same_memory(services.get(name), before.get(name)))
        for name, one in wanted.items()
        if name in there and waiting.falls(one, there[name][0])
    }
    wanted, waits = waiting.hold(wanted, there, services, peaks, seconds)
    found = [
        *compare_networks.compare_networks(stack, project, model, view.networks, view.containers, neighbours),
        *compare_networks.compare_guests(stack, project, view.containers),
        *compare_volumes.compare_volumes(stack, project, model, view.volumes, there),
        *compare.compare(stack, wanted, there, ends),
        *(_beneath(stack, view, paths, wanted, there) if beneath else ()),
        *_unloaded(stack, paths, payload, there, digests),
        *_stale_files(stack, paths, wanted, there),
    ]
    rules = payload["plan"].get("drift") or ()
    today = policy.today()
    divided = policy.divide(found, rules, today)
    found, late = waiting.put_off(divided.repair, wanted, there, peaks, put_off, seconds)
    actions = decide(found, wanted, there)
    made = {name for name, action in actions.items() if action.action in ("create", "recreate")}
    waits = [one for one in [*waits, *late] if one.service not in made]  # a new container has it all

    def costed(differences: Iterable[compare.Difference]) -> list[compare.Difference]:
        return [_costed(one, wanted, there, seconds) for one in differences]

    return Survey(
        model=model,
        desired=wanted,
        observed=there,
        networks=networks,
        differences=costed(found),
        actions=actions,
        ends=ends,
        waits=waits,
        reported=costed(divided.report),
        ignored=divided.ignored,
        expired=policy.expired(rules, today),
        strangers={
            network["Name"]: [str(one["Id"]) for one in compare_networks.foreign(network, project, view.containers)]
            for network in networks
        },
    )


def _beneath(
    stack: str,
    view: View,
    paths: StackPaths,
    wanted: Mapping[str, Desired],
    there: Mapping[str, Sequence[Observed]],
) -> list[compare.Difference]:
    """What Docker does not tell of the containers that run: what the kernel holds, who is in them, written files.

    Who is in them is not judged while another is at work there: it may be that.
    """
    found: list[compare.Difference] = []
    running = {name: there[name][0] for name in wanted if name in there and there[name][0].pid}
    own = image_files.known(paths)
    everyone = {} if at_work(paths) else processes.by_namespace()
    for name, live in running.items():
        found += kernel.compare_service(stack, wanted[name], live)
        found += processes.compare_service(stack, wanted[name], live, everyone, view.pids, view.docker.execs)
        if live.id in own:
            found += image_files.compare_service(
                stack, name, live, image_files.changes(view.docker, live), own[live.id]
            )
    return found


def at_work(paths: StackPaths) -> bool:
    """Return whether another run, or a backup, is at work on a stack: what it starts in containers is no stranger."""
    return any(lock.is_held_by_another(one) for one in (paths.lock, paths.backup_lock))


def _needed(live: Observed, is_drift: bool) -> int | None:
    """Return the bytes that a lower limit must leave room for: the most that was ever used; where the limit only goes
    back to what was planned all along, what the kernel cannot take away now."""
    groups = cgroups.Groups(live.pid)
    figures = [one for one in (groups.peak(), groups.unreclaimable() if is_drift else None) if one is not None]
    return min(figures, default=None)


def _same_memory(planned: Mapping[str, Any] | None, before: Mapping[str, Any] | None) -> bool:
    return bool(planned and before and planned.get("memory_bytes") == before.get("memory_bytes"))


def _costed(
    difference: compare.Difference,
    wanted: Mapping[str, Desired],
    there: Mapping[str, Sequence[Observed]],
    seconds: Mapping[str, float],
) -> compare.Difference:
    restarts = interrupted(difference, wanted, there)
    took = [seconds[name] for name in restarts if name in seconds]
    return replace(difference, restarts=restarts, seconds=max(took, default=None))


def from_plan(payload: Payload) -> list[compare.Difference]:
    """Return what would be created, on a host that has no engine yet."""
    return [
        compare.Difference(payload["stack"], "service", name, compare.PRESENCE, "present", "absent", "recreate")
        for name in sorted(payload["plan"]["services"])
    ]


def _unloaded(
    stack: str,
    paths: StackPaths,
    payload: Payload,
    there: Mapping[str, Sequence[Observed]],
    digests: Mapping[str, str],
) -> list[compare.Difference]:
    """Services that take changed secrets by a reload and have not loaded the current ones."""
    loaded = atomic.read_json(paths.loaded, {})
    services = payload["plan"]["services"]
    return [
        compare.Difference(stack, "secret", name, compare.LOADED, digest[:12], str(loaded.get(name, ""))[:12], "reload")
        for name, digest in sorted(digests.items())
        if name in there and (services.get(name) or {}).get("reload") and loaded.get(name) != digest
    ]


def _stale_files(
    stack: str, paths: StackPaths, wanted: Mapping[str, Desired], there: Mapping[str, Sequence[Observed]]
) -> list[compare.Difference]:
    """Running containers that do not see, or may not have read, what lies now where they mount our files from.

    A bind holds on to what was there when the container started: a file that was replaced, or a directory that was
    made anew, stays unseen until the next start. What did change in sight was read by nobody if it is newer than that.
    """
    found = []
    for name, one in wanted.items():
        containers = there.get(name)
        if not containers or not containers[0].pid:
            continue  # at its start it will see what is there
        live = containers[0]
        for kind, text, target, rights in sorted(one.mounts & live.mounts):
            source = Path(text)
            if kind != "bind" or not source.is_relative_to(paths.top):
                continue
            ours = source.is_relative_to(paths.base) or source.is_relative_to(paths.files)
            if not _sees(live.pid, source, target):
                seen = "what was there before"
            elif ours and rights == "ro" and _changed_at(source) > live.started_at:
                seen = "as it was before it changed"
            else:
                continue
            found.append(compare.Difference(stack, "service", name, "files", text, seen, "restart"))
    return found


def _sees(pid: int, source: Path, target: str) -> bool:
    """Whether process ``pid`` has at ``target`` what is at ``source`` now. True where that cannot be told."""
    if not source.exists():
        return False
    try:
        return os.path.samestat(os.stat(f"/proc/{pid}/root{target}"), source.stat())
    except OSError:
        return True  # it ended meanwhile, or we may not look (ptrace(2), access mode checks)


def _changed_at(source: Path) -> float:
    """Return when anything in ``source`` changed last, in seconds since the epoch, by ctime: no tool sets that back.

    A time to come is left out: the clock was ahead then, and a start of today would be before it for as long.
    """
    now, times = time.time(), [0.0]
    below = (os.path.join(top, name) for top, names, files in os.walk(source) for name in (*names, *files))
    for path in (str(source), *below):
        with suppress(FileNotFoundError):  # an editor's, say
            times.append(os.lstat(path).st_ctime)
    return max(one for one in times if one <= now)
