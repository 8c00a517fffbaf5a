"""One service: base, definition and profile put together, then its limits."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from batten.plan import limits, profile, secrets
from batten.plan.interpolate import interpolate
from batten.plan.model import COMES_BACK, FilesMount, Finding, MemoryRequest, ServicePlan, Tls, Tmpfs, Tuning
from batten.plan.schema import At
from batten.plan.tunables import follow_disk, said_already, settle_disk, still_fit, tune

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batten.plan.base import BaseService
    from batten.plan.definition import ServiceDefinition
    from batten.plan.model import Capacity, Port
    from batten.plan.profile import Profile

# For software that batten does not know: it keeps its own user and a writable root, within moderate limits.
_UNKNOWN_FLOOR = 128 * limits.MIB
_ACCEPTED = 4
# Prometheus, "Storage": sizes are powers of two, and 80 to 85 % of the disk is the most for it alone; here it shares.
_KEPT = re.compile(r"--storage\.tsdb\.retention\.size=(\d+)([KMGTPE]?)B")
_DISK_SHARE = 0.4
_FEW_HOURS = 7 * 24
_LOKI_DISK = 20 * limits.GIB  # an estimate: a month of logs of the reference stack, compressed, is a few GiB
# PostgreSQL's backends set this for themselves (manual, 18.4.4): where no score can be lowered, 0 would put them before
# the postmaster, and the kernel would kill that.
_OOM_SCORES = ("PG_OOM_ADJUST_VALUE",)
_CREDENTIAL_NAME = re.compile(
    r"(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|PRIVATE_KEY|CREDENTIALS?)(?!.*_(FILE|PATH|URL)$)"
)
_CREDENTIAL_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@")


@dataclass(frozen=True)
class Draft:
    """A service before its limits: all that does not depend on how much memory it gets.

    ``guessed`` says why this profile, where the image's name does not.
    """

    plan: ServicePlan
    profile: Profile
    request: limits.Request
    base_command: tuple[str, ...] | None
    command_add: tuple[str, ...]
    own_environment: Mapping[str, str | None]
    known: bool
    known_floor: int = 0
    guessed: str = ""


def ids(user: str | None) -> tuple[int | None, int | None]:
    """Return uid and gid of a numeric ``uid`` or ``uid:gid``; without a gid it is the uid's number. Else None twice."""
    if user is None or not re.fullmatch(r"\d+(:\d+)?", user):
        return None, None
    uid, _, gid = user.partition(":")
    return int(uid), int(gid or uid)


def draft(
    base: BaseService,
    own: ServiceDefinition,
    known: Profile | None,
    image: str,
    ports: tuple[Port, ...],
    variables: Mapping[str, str],
    at: At,
) -> Draft:
    """Decide everything about a service but its limits. ``image`` is the reference to run; ``known`` its profile."""
    facts = known or _unknown(base.user)
    facts = replace(facts, **_overrides(own.given))
    user = facts.user if facts.user is not None else base.user
    uid, gid = ids(user)
    drop = known is not None or (uid is not None and uid > 0)
    environment = {
        name: value if value is None else interpolate(value, variables, at.key("environment").key(name))
        for name, value in own.environment.items()
    }
    memory = own.memory or facts.memory
    networks = own.networks if own.networks is not None else base.networks or ("default",)
    plan = ServicePlan(
        name=base.name,
        profile=known.name if known else None,
        service_class=facts.service_class,
        image=image,
        build=base.build,
        deploy_limits=base.deploy_limits,
        memory_bytes=0,
        cpus=0,
        pids=own.pids or facts.pids,
        shm_bytes=facts.shm_bytes,
        user=user,
        read_only=facts.read_only and not _mounted(facts.read_only_unless, base),
        tmpfs=tuple(_tmpfs(item, uid, gid) for item in facts.writable if item.tmpfs_bytes),
        cap_add=facts.cap_add,
        cap_drop=("ALL",) if drop else (),
        healthcheck=own.healthcheck or facts.health.get(own.health or "shallow") or facts.healthcheck,
        init=facts.init,
        restart="no" if facts.service_class == "batch" else "unless-stopped",
        stop_grace_seconds=facts.stop_grace_seconds,
        stop_signal=facts.stop_signal,
        entrypoint=_entrypoint(base, own, facts, image, at),
        networks=tuple(dict.fromkeys((*networks, "egress") if own.egress else networks)),
        ports=ports,
        files=FilesMount(own.files_mount) if own.files_mount else None,
        secrets=tuple(sorted(own.secrets)),
        rotations=own.rotations,
        tls=_tls(facts, own),
        volumes={**base.volumes, **own.volumes},
        extra_volumes=_mounts(base, own),
        data_binds=_data_binds(_mounts(base, own), facts) if uid else (),
        # What came in by the environment comes in anew with a new container alone.
        reload=None if own.secret_variables else facts.reload,
        migrates=own.migrates,
        log_format=facts.log_format,
        log_parser=facts.log_parser,
        stateful=facts.stateful,
        data_version=facts.data_version,
        dump=facts.dump,
    )
    command = own.command if own.command is not None else base.command
    if own.command is not None:
        command = tuple(interpolate(word, variables, at.key("command")) for word in own.command)
    return Draft(
        plan=plan,
        profile=facts,
        request=limits.Request(memory.floor, memory.weight, memory.cap, stateful=facts.stateful),
        base_command=command,
        command_add=(*facts.command_add, *(interpolate(word, variables, at) for word in own.command_add)),
        own_environment=environment,
        known=known is not None,
        known_floor=facts.memory.floor,
    )


def ending(plan: ServicePlan, awaited: bool) -> ServicePlan:
    """Decide whether a service runs once and ends: others wait for its end, its class is ``batch``, or its files tell.

    ``plan.one_shot`` is what its files tell (``harden/evidence.py``). What others wait for is not started again, unless
    that is its files' own word (``plan.kept``). Of the rest, what the engine always starts again does not end.
    """
    comes_back = plan.restart in COMES_BACK
    if awaited:
        restart = "no" if comes_back and "restart" not in plan.kept else plan.restart
        return replace(plan, one_shot=True, restart=restart)
    return replace(plan, one_shot=not comes_back and (plan.one_shot or plan.service_class == "batch"))


def _entrypoint(
    base: BaseService, own: ServiceDefinition, facts: Profile, image: str, at: At
) -> tuple[str, ...] | None:
    """The entrypoint to say, or None for the base's and the image's own; before it, what reads secret variables.

    Raises BattenError where only the image knows it: an entrypoint of ours would take its place.
    """
    said = own.entrypoint if own.entrypoint is not None else facts.entrypoint
    if not own.secret_variables:
        return said
    inner = said if said is not None else base.entrypoint
    if inner is None:
        raise at.key("entrypoint").error(
            f"{', '.join(sorted(own.secret_variables))} come from a file that is read before the service's own"
            " entrypoint, and only its image knows that one",
            f"write entrypoint: [...] and command: [...] under {at.path}; they are printed by: "
            f"docker image inspect {image} --format '{{{{json .Config.Entrypoint}}}} {{{{json .Config.Cmd}}}}'",
        )
    return (*secrets.WRAPPER, *inner)


def _tls(facts: Profile, own: ServiceDefinition) -> Tls | None:
    for file, name in own.certificates.items():
        if facts.tls:
            return Tls(certificate=file, name=name, **facts.tls)
    return None


def finish(
    made: Draft,
    own: ServiceDefinition,
    memory: int,
    capacity: Capacity,
    host_cpus: float,
    previous: ServicePlan | None = None,
    *,
    apply_tunables: bool = False,
) -> ServicePlan:
    """Give a draft its limits and what follows from them.

    Tunables fit the limit that they were made for in ``previous`` while they still fit the new one. Where they do not,
    a running container may keep its own until it is made anew for another reason, unless ``apply_tunables``.
    """
    facts = made.profile
    before = (previous.tuned_bytes or previous.memory_bytes) if previous else 0
    fits = before and still_fit(facts.tunables, before, memory)
    tuned_disk = previous.tuned_disk_bytes if previous else 0
    disk = settle_disk(capacity.disk_bytes, tuned_disk) if follow_disk(facts.tunables) else 0
    tuned = _tuning(made, own, before if fits else memory, disk)
    nofile = own.nofile or facts.nofile
    noisy = facts.service_class in limits.NOISY
    cpus = own.cpus or limits.cpus(host_cpus, facts.cpus_weight, facts.cpus_cap, noisy=noisy)
    environment = {**facts.environment, **tuned.environment, **made.own_environment}
    environment |= {
        name: str(limits.oom_score_adj(int(value), capacity.oom_score_adj_min))
        for name in _OOM_SCORES
        if (value := environment.get(name)) and re.fullmatch(r"-?\d+", value)
    }
    return replace(
        made.plan,
        memory_bytes=memory,
        memory_reservation_bytes=limits.memory_reservation(memory),
        cpus=min(cpus, host_cpus),
        cpu_shares=limits.CPU_SHARES[facts.service_class],
        group_add=tuple(str(capacity.groups.get(group, group)) for group in facts.group_add),
        pids=min(made.plan.pids, capacity.pids_max),
        nofile=min(nofile, capacity.nofile_hard) if nofile else None,
        oom_score_adj=limits.oom_score_adj(facts.oom_score_adj, capacity.oom_score_adj_min),
        environment=dict(sorted(environment.items())),
        command=tuned.command,
        tunables=tuned.tunables,
        memory_request=MemoryRequest(made.request.floor, made.request.weight, made.request.cap),
        tuned_bytes=tuned.memory_bytes,
        tuned_disk_bytes=tuned.disk_bytes,
        accepted=() if apply_tunables else _accepted(made, own, tuned, before, memory, previous),
        accepted_limits=() if apply_tunables else _accepted_limits(facts, memory, previous),
    )


def _tuning(made: Draft, own: ServiceDefinition, memory: int, disk: int) -> Tuning:
    """Return a service's tunables for a limit and a disk of so many bytes, and where they stand."""
    facts = made.profile
    command = made.base_command if made.base_command is not None else facts.command
    chosen = said_already(facts.tunables, (*(command or ()), *made.command_add))
    formulas = {name: how for name, how in facts.tunables.items() if name not in chosen}
    tuned = tune(formulas, memory, At(f"profile {facts.name}"), disk)
    added = (*made.command_add, *tuned.arguments)
    # What nothing is said of stays the base's own. An entrypoint of ours clears the image's own command.
    said = added or own.command is not None or made.plan.entrypoint is not None
    own_names = {name for name in tuned.environment if name not in made.own_environment}
    return Tuning(
        memory,
        tuned.values,
        {name: value for name, value in tuned.environment.items() if name in own_names},
        (*(command or ()), *added) if said and (command or added) else None,
        disk,
    )


def _accepted_limits(facts: Profile, memory: int, previous: ServicePlan | None) -> tuple[int, ...]:
    """Return the larger limits that a database may keep until it is made anew."""
    if previous is None or facts.service_class != "database":
        return ()
    sizes = dict.fromkeys((*previous.accepted_limits, previous.memory_bytes))
    return tuple(size for size in sizes if size > memory)[-_ACCEPTED:]


def _accepted(
    made: Draft, own: ServiceDefinition, tuned: Tuning, before: int, memory: int, previous: ServicePlan | None
) -> tuple[Tuning, ...]:
    """Return what a container that was made before may go on running with.

    What was kept on a larger disk would fill a smaller one. Values for a larger limit would fill the new one, so they
    are accepted of databases alone, whose lower limit waits with them (``module_utils/waiting.py``).
    """
    if previous is None or not made.profile.tunables:
        return ()
    known = [(one.memory_bytes, one.disk_bytes) for one in previous.accepted]
    kept = [
        (size, disk)
        for size, disk in dict.fromkeys([*known, (before, previous.tuned_disk_bytes)])
        if (size, disk) != (tuned.memory_bytes, tuned.disk_bytes)
        and disk <= tuned.disk_bytes
        and (size <= memory or made.plan.service_class == "database")
    ]
    found = (_tuning(made, own, size, disk) for size, disk in kept[-_ACCEPTED:])
    return tuple(one for one in found if one.tunables != tuned.tunables)


def unsafe(made: Draft, own: ServiceDefinition, capacity: Capacity, host_cpus: float, where: str) -> list[Finding]:
    """Return the overrides that make a plan unsafe, with the reason, and those that the host cannot grant."""
    facts, floor = made.profile, made.known_floor
    guarded = facts.service_class in ("database", "proxy")
    name = f"services.{made.plan.name}"
    found = []
    if made.known and made.request.floor < floor:
        size = f"{made.request.floor // limits.MIB} MiB"
        what = f"limits.memory lets it have {size}, and its profile needs {floor // limits.MIB} MiB: it may be killed"
        found.append(Finding("warning", where, what, f"raise {name}.limits.memory, or take it out"))
    if guarded and facts.oom_score_adj >= 0:
        what = f"oom_score_adj {facts.oom_score_adj} lets the kernel kill a {facts.service_class} before applications"
        found.append(Finding("warning", where, what, f"take {name}.oom_score_adj out, or write one below 0"))
    if own.cpus and facts.service_class == "database" and own.cpus < min(1, host_cpus):
        what = f"limits.cpus {own.cpus:g} throttles a database even while the host is idle"
        found.append(Finding("warning", where, what, f"take {name}.limits.cpus out: its cpu shares keep it from harm"))
    if own.cpus and own.cpus > host_cpus:
        what = f"limits.cpus is {own.cpus:g}, and the host has {host_cpus:g}"
        found.append(Finding("note", where, what, f"lower {name}.limits.cpus"))
    if own.nofile and own.nofile > capacity.nofile_hard:
        what = f"limits.nofile is {own.nofile}, and this host can grant {capacity.nofile_hard}"
        found.append(Finding("warning", where, what, f"lower {name}.limits.nofile, or raise the engine's LimitNOFILE"))
    if own.pids and own.pids > capacity.pids_max:
        what = f"limits.pids is {own.pids}, and this host can grant {capacity.pids_max}"
        found.append(Finding("note", where, what, f"lower {name}.limits.pids, or raise kernel.pid_max"))
    if own.health == "deep" and "deep" not in facts.health and own.healthcheck is None:
        what = "no deep health check is known for it: the shallow one stays"
        found.append(Finding("note", where, what, f"write {name}.healthcheck, or {name}.health: shallow"))
    return found


def retention(plan: ServicePlan, disk_bytes: int | None, where: str) -> list[Finding]:
    """Return what Prometheus and Loki may come to hold, where nothing of the plan bounds it to the stack's disk."""
    if not disk_bytes:
        return []
    disk = f"{disk_bytes / limits.GIB:.0f} GiB disk of the stack's data"
    for word in plan.command or ():
        kept = _KEPT.fullmatch(word)
        size = int(kept[1]) * 1024 ** (" KMGTPE".index(kept[2]) if kept[2] else 0) if kept else 0
        if size > _DISK_SHARE * disk_bytes:
            what = f"it keeps up to {size / limits.GIB:.0f} GiB, on the {disk}"
            return [Finding("warning", where, what, f"take {word.partition('=')[0]} out, or a larger disk")]
    period = plan.tunables.get("store.retention")
    if period and int(period.removesuffix("h")) < _FEW_HOURS:
        what = f"logs are kept for {int(period.removesuffix('h')) // 24} days only, on the {disk}"
        return [Finding("note", where, what, "take a larger disk")]
    if plan.profile == "loki" and not period and disk_bytes < _LOKI_DISK:
        what = f"Loki bounds what it keeps by time alone, on the {disk}"
        return [Finding("note", where, what, "lower its -store.retention, or take a larger disk")]
    return []


def findings(made: Draft, base: BaseService, where: str) -> list[Finding]:
    """Return what a person should know of one service."""
    plan, found = made.plan, []
    key = f"services.{plan.name}"
    if not made.known:
        left = f" but {', '.join(plan.cap_add)}" if plan.cap_add else ""
        dropped = f"all capabilities dropped{left}" if plan.cap_drop else "the engine's default capabilities"
        what = f"no profile knows {plan.image}: it keeps its user and a writable root, with {dropped}"
        fix = f"add {plan.image} to a profile's images, or name one: {key}.profile in batten.yaml"
        found.append(Finding("warning", where, what, fix))
    if made.guessed:
        what = f"{plan.image} is taken for {plan.profile}, because {made.guessed}"
        found.append(Finding("note", where, what, f"name its profile: {key}.profile in batten.yaml"))
    found += [
        Finding("warning", where, what, fix) for what, fix in (*_unsaid(made, base, key), *_exposed(made, base, key))
    ]
    return found


def _unsaid(made: Draft, base: BaseService, key: str) -> Iterator[tuple[str, str]]:
    """What nothing says of a service and should be said: what is wrong with that, and what to type."""
    plan = made.plan
    if plan.secrets and ids(plan.user)[0] is None:
        yield (
            "nothing says by number which user it runs as, so its secrets belong to root and it may not read them",
            f'set {key}.user: "UID:GID" in batten.yaml',
        )
    if made.profile.migrates and plan.migrates is None:
        yield (
            "it changes its database's schema when it starts, and nothing says which database to dump before that",
            f"set {key}.migrates: DATABASE in batten.yaml",
        )
    if plan.healthcheck is None and not base.has_healthcheck and not plan.one_shot:
        yield (
            "no health check: nothing can wait for this service or tell that it hangs",
            f"add {key}.healthcheck to batten.yaml",
        )
    if not plan.build and profile.split_image(plan.image)[1] in (None, "latest") and "@" not in plan.image:
        yield (
            f"{plan.image} names no fixed version: every pull may bring another",
            f"set stack_images.{plan.name} to a tag or a digest",
        )


def _exposed(made: Draft, base: BaseService, key: str) -> Iterator[tuple[str, str]]:
    """Credentials that the base shows, and paths whose data no volume keeps: what is wrong, and what to type."""
    replaced = {**made.profile.environment, **made.own_environment}
    for name, value in base.environment.items():
        if value and name not in replaced and (_CREDENTIAL_NAME.search(name) or _CREDENTIAL_URL.search(value)):
            yield (
                f"the base gives {name} in the environment, where docker inspect shows it",
                f"deliver it under {key}.secrets and set environment.{name} to null in batten.yaml",
            )
    for item in made.profile.writable:
        if not item.tmpfs_bytes and made.plan.read_only and not _covered(item.path, made.plan):
            yield (
                f"{made.plan.image} writes to {item.path}, where no volume is mounted",
                f"add {key}.volumes: {{NAME: {item.path}}} to batten.yaml",
            )


def _unknown(user: str | None) -> Profile:
    return profile.Profile(
        name="unknown",
        images=(),
        service_class="application",
        memory=profile.Memory(_UNKNOWN_FLOOR),
        user=user,
        read_only=False,
        init=False,
    )


def _overrides(given: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the definition's keys into the profile's fields."""
    values = {key: value for key, value in given.items() if key not in ("writable", "stop_grace")}
    if "writable" in given:
        values["writable"] = profile.writable(given["writable"])
    if "stop_grace" in given:
        values["stop_grace_seconds"] = profile.whole_seconds(given["stop_grace"])
    return values


def _mounted(paths: tuple[str, ...], base: BaseService) -> bool:
    """Whether the base mounts something at one of the paths, or below it."""
    targets = [*base.volumes.values(), *(bind.split(":")[1] for bind in base.binds)]
    return any(f"{target}/".startswith(f"{path}/") for path in paths for target in targets)


def _tmpfs(item: profile.Writable, uid: int | None, gid: int | None) -> Tmpfs:
    """A path that not everyone may write belongs to whom the profile says, else to the service's user."""
    mode = item.mode or "1777"
    owner = ids(item.owner) if item.owner else (None, None) if mode == "1777" else (uid, gid)
    return Tmpfs(item.path, item.tmpfs_bytes or 0, mode, *owner)


def _mounts(base: BaseService, own: ServiceDefinition) -> tuple[str, ...]:
    """The definition's mounts, or the base's binds but for those whose place something else takes."""
    if own.mounts is not None:
        return own.mounts
    taken = {own.files_mount, *own.volumes.values()}
    return tuple(bind for bind in base.binds if bind.split(":")[1] not in taken)


def _data_binds(mounts: tuple[str, ...], facts: Profile) -> tuple[str, ...]:
    """The mounted directories of the host that hold what the software keeps: there or above it, and not read-only."""
    kept = [item.path for item in facts.writable if not item.tmpfs_bytes]
    found = []
    for mount in mounts:
        source, target, *options = mount.split(":")
        above = target.rstrip("/")
        if "ro" in ",".join(options).split(",") or not above or source.startswith("~"):
            continue
        if any(f"{path}/".startswith(f"{above}/") for path in kept):
            found.append(source)
    return tuple(found)


def _covered(path: str, plan: ServicePlan) -> bool:
    targets = [*plan.volumes.values(), *(mount.split(":")[1] for mount in plan.extra_volumes)]
    return any(f"{path}/".startswith(f"{target.rstrip('/')}/") for target in targets)
