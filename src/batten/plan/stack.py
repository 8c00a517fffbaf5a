"""From settings and a host's capacity to plans: one stack, one host, all hosts."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from batten.errors import BattenError
from batten.plan import limits, schema, service
from batten.plan.base import Base, BaseService, check_services, load_base
from batten.plan.definition import Definition, ServiceDefinition, load_definition
from batten.plan.lock import Lock, load_lock
from batten.plan.lock import findings as lock_findings
from batten.plan.model import Capacity, Finding, HostPlan, Plan, Port, ServicePlan, StackPlan, VolumePlan
from batten.plan.profile import Profiles, load_profiles
from batten.plan.schema import At
from batten.plan.secrets import needed
from batten.plan.tunables import pool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from batten.plan.definition import PublicPort
    from batten.plan.profile import Match, Profile
    from batten.plan.settings import StackSettings

# Every container, network and volume that batten makes carries labels that start so.
LABEL_PREFIX = "io.batten."
LOOPBACK = "127.0.0.1"
_NOTHING = ServiceDefinition()
_MUCH_LESS = 0.8
# What a PgBouncer leaves of its server's connections: 3 reserved ones, 10 for the exporter, backups and people, and 10
# for what goes past it. Not more than 40, the connection limit of the reference stack's own role.
_POOL_RESERVED, _POOL_LIMIT = 23, 40
_SUPERUSER = 3  # superuser_reserved_connections, its default
# DigitalOcean grants 25 a GiB and keeps 3 of them; its smallest plan has 22 (compose/targets). Of a few, half is left.
_MANAGED_CONNECTIONS, _MANAGED_RESERVED = 22, 20


@dataclass(frozen=True)
class Inputs:
    """The files that one stack's plan is made of.

    ``known`` are profiles that are chosen for services already, ``fields`` what their plans have from their files
    alone, ``findings`` what was found on the way.
    """

    base: Base
    definition: Definition
    profiles: Profiles
    variables: Mapping[str, str]
    lock: Lock = field(default_factory=Lock)
    known: Mapping[str, Profile] = field(default_factory=dict)
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def load_inputs(settings: StackSettings) -> Inputs:
    """Read base, definition and profiles: all that planning reads from disk."""
    definition = load_definition(
        settings.definition, sections=settings.sections, services=settings.services, secrets=settings.secrets
    )
    for registry, login in settings.registries.items():
        if login["secret"] not in definition.secrets:
            at = At(settings.source, "stack_registries").key(registry).key("secret")
            raise schema.unknown_key(login["secret"], definition.secrets, at)
    host, port = settings.postgres_host, settings.postgres_port
    if not settings.managed_postgres:
        host, port = (definition.postgres or {}).get("service", "postgres"), 5432
    variables = {"POSTGRES_HOST": str(host), "POSTGRES_PORT": str(port), **settings.variables}
    base = load_base(settings.base, variables, settings.profiles, settings.compose_files)
    known = load_profiles(settings.profiles_directory)
    inputs = Inputs(base, definition, known, variables, lock=load_lock(settings.lock))
    if not settings.compose_files:
        return inputs
    from batten.harden.deployed import deployed  # here, because it plans with what is in this package

    found = deployed(settings.name, settings.compose_files, variables, base, definition, known)
    return replace(inputs, definition=found.definition, known=found.known, fields=found.fields, findings=found.findings)


def references(settings: StackSettings, inputs: Inputs) -> dict[str, str]:
    """Return the image references of one stack as people wrote them, by service; not those that the host builds.

    A PostgreSQL that a managed one takes the place of is among them: its client programs are used.
    """
    client = (inputs.definition.postgres or {}).get("service") if settings.managed_postgres else None
    found = {}
    for name, based in inputs.base.services.items():
        written = settings.images.get(name) or (None if based.build else based.image)
        if written and (name not in inputs.definition.removed or name == client):
            found[name] = written
    return found


def plan_stack(
    settings: StackSettings, capacity: Capacity, previous: StackPlan | None = None, inputs: Inputs | None = None
) -> tuple[StackPlan, tuple[Finding, ...]]:
    """Plan one stack on one host. ``previous`` is the plan that the host runs: it keeps small changes of capacity out.

    Raises BattenError for what cannot be deployed.
    """
    host, findings = plan_host(
        [settings],
        capacity,
        {settings.name: previous} if previous else None,
        {settings.name: inputs} if inputs else None,
    )
    return host.stacks[settings.name], findings


def plan_host(
    stacks: Sequence[StackSettings],
    capacity: Capacity,
    previous: Mapping[str, StackPlan] | None = None,
    inputs: Mapping[str, Inputs] | None = None,
) -> tuple[HostPlan, tuple[Finding, ...]]:
    """Plan stacks on one host, which share its memory; ``previous`` holds the plans of all stacks that it runs."""
    names = [settings.name for settings in stacks]
    memory = _memory(capacity, stacks, previous or {})
    host_cpus = min([capacity.cpus, *(settings.capacity_cpus for settings in stacks if settings.capacity_cpus)])
    reserved = max((settings.reserve_bytes or 0 for settings in stacks), default=0)
    reserved = reserved or limits.reserve(limits.rounded(memory))
    read = {settings.name: (inputs or {}).get(settings.name) or load_inputs(settings) for settings in stacks}
    projects = {item.name: _project(item, capacity, read[item.name], previous or {}) for item in stacks}
    foreign = _foreign(capacity, set(projects.values()), [plan.foreign_bytes for plan in (previous or {}).values()])
    available = limits.budget(memory, reserved, foreign, limits.others(capacity.allocated, names))

    drafts = {settings.name: _drafts(settings, capacity, read[settings.name]) for settings in stacks}
    requests = {
        _key(settings.name, name): _request(settings, draft)
        for settings in stacks
        for name, draft in drafts[settings.name].items()
    }
    where = f"{', '.join(names)} on {stacks[0].source}" if stacks else ""
    before = {} if any(item.rebalance for item in stacks) else _limits(requests, names, previous or {})
    grown = any((previous or {})[name].capacity_bytes < memory for name in names if name in (previous or {}))
    granted = limits.reallocate(requests, available, before, grown=grown, where=where)

    fair = limits.allocate(requests, available, where) if before else granted
    planned, findings = {}, _kept_below(requests, granted, fair, stacks)
    for settings in stacks:
        own = read[settings.name]
        known = (previous or {}).get(settings.name)
        services = {
            name: service.finish(
                draft,
                own.definition.services.get(name, _NOTHING),
                granted[_key(settings.name, name)],
                capacity,
                host_cpus,
                known.services.get(name) if known else None,
                apply_tunables=settings.apply_tunables,
            )
            for name, draft in drafts[settings.name].items()
        }
        services = _with_pools(services, settings, own.definition)
        findings += _connections(services, settings, own.definition)
        planned[settings.name] = replace(
            _stack(settings, capacity, own, services, projects[settings.name]),
            capacity_bytes=memory,
            foreign_bytes=foreign,
        )
        for name, draft in sorted(drafts[settings.name].items()):
            named = own.definition.services.get(name, _NOTHING)
            findings += service.unsafe(draft, named, capacity, host_cpus, f"{settings.name}/{name}")
            findings += service.retention(services[name], capacity.disk_bytes, f"{settings.name}/{name}")
        findings += _findings(settings, own, drafts[settings.name])
        if settings.name not in (previous or {}) and planned[settings.name].project in set(capacity.projects) - {
            settings.name
        }:
            findings.append(_takes_over(settings, planned[settings.name].project))
    overcommit = {name: factor for item in stacks for name, factor in sorted(item.overcommit.items()) if factor > 1}
    findings += _overcommitted(overcommit, requests, granted, stacks)
    host = HostPlan(
        memory_bytes=memory,
        cpus=host_cpus,
        reserved_bytes=reserved,
        foreign_bytes=foreign + limits.others(capacity.allocated, names),
        allocated_bytes=sum(granted.values()),
        stacks=planned,
        capacity_source=capacity.source,
        overcommitted_bytes=sum(granted.values()) - _spent(requests, granted),
        overcommit=overcommit,
    )
    return host, tuple(findings)


def plan(
    hosts: Mapping[str, tuple[Sequence[StackSettings], Capacity]],
    previous: Mapping[str, Mapping[str, StackPlan]] | None = None,
) -> Plan:
    """Plan every host; ``previous`` maps hosts to the plans of the stacks that they run."""
    planned, findings = {}, []
    for name, (stacks, capacity) in sorted(hosts.items()):
        planned[name], found = plan_host(stacks, capacity, (previous or {}).get(name))
        findings += [replace(finding, where=f"{name}/{finding.where}") for finding in found]
    return Plan(planned, tuple(findings))


def _memory(capacity: Capacity, stacks: Sequence[StackSettings], previous: Mapping[str, StackPlan]) -> int:
    """Return the memory to compute from: that of the recorded plan which is nearest, while it is near enough."""
    now = _declared(capacity, stacks)
    known = [plan.capacity_bytes for plan in previous.values() if plan.capacity_bytes]
    return limits.settle(now, min(known, key=lambda size: (abs(size - now), size), default=None))


def _request(settings: StackSettings, draft: service.Draft) -> limits.Request:
    return replace(draft.request, overcommit=settings.overcommit.get(draft.plan.service_class, 1.0))


def _limits(
    requests: Mapping[str, limits.Request], names: Sequence[str], previous: Mapping[str, StackPlan]
) -> dict[str, int]:
    """Return the limits that stay if they can. Whoever's own wish changed since is planned as if it were new."""
    found = {}
    for stack in names:
        for name, planned in previous[stack].services.items() if stack in previous else ():
            request, wish = requests.get(_key(stack, name)), planned.memory_request
            if request is None or planned.memory_bytes <= 0:
                continue
            held = wish is not None and wish.cap_bytes is not None and planned.memory_bytes >= wish.cap_bytes
            released = held and wish is not None and wish.cap_bytes != request.cap
            if wish is None or (wish.weight == request.weight and not released):
                found[_key(stack, name)] = planned.memory_bytes
    return found


def _spent(requests: Mapping[str, limits.Request], granted: Mapping[str, int]) -> int:
    return sum(limits.cost(requests[name], size) for name, size in granted.items())


def _kept_below(
    requests: Mapping[str, limits.Request],
    granted: Mapping[str, int],
    fair: Mapping[str, int],
    stacks: Sequence[StackSettings],
) -> list[Finding]:
    """Tell who has much less than a plan from scratch would give: limits stay as they are until somebody asks."""
    less = sorted(name for name in requests if granted[name] < _MUCH_LESS * fair[name])
    if not less:
        return []
    what = ", ".join(f"{name} has {granted[name] // limits.MIB} of {fair[name] // limits.MIB} MiB" for name in less)
    return [
        Finding(
            "note",
            stacks[0].name,
            f"limits were kept as they are; sharing out anew would give more: {what}",
            "batten up --rebalance -i INVENTORY, or stack_rebalance: true for one run",
        )
    ]


def _overcommitted(
    factors: Mapping[str, float],
    requests: Mapping[str, limits.Request],
    granted: Mapping[str, int],
    stacks: Sequence[StackSettings],
) -> list[Finding]:
    promised = (sum(granted.values()) - _spent(requests, granted)) // limits.MIB
    listed = ", ".join(f"{name} {factor:g} times" for name, factor in factors.items())
    if not factors:
        return []
    fix = "take them out of stack_overcommit, or see that they never peak together"
    danger = "database" in factors
    what = f"stack_overcommit promises memory of {listed}: {promised} MiB more than there is"
    what += "; a database that meets its limit late is killed by the kernel instead" if danger else ""
    return [Finding("warning" if danger else "note", stacks[0].name, what, fix)]


def _with_pools(
    services: dict[str, ServicePlan], settings: StackSettings, definition: Definition
) -> dict[str, ServicePlan]:
    """Size the pool of each PgBouncer to what its PostgreSQL grants, also while that still runs with its old tunables.

    A managed server grants what its plan says (``settings.postgres_connections``).
    """
    server = services.get(str((definition.postgres or {}).get("service")))
    if server and "max_connections" in server.tunables:
        sizes = [server.tunables, *(one.tunables for one in server.accepted)]
        size = pool(min(int(one["max_connections"]) for one in sizes), _POOL_RESERVED, _POOL_LIMIT)
    elif settings.managed_postgres:
        granted = settings.postgres_connections or _MANAGED_CONNECTIONS
        size = pool(granted, min(_MANAGED_RESERVED, (granted + 2) // 2), _POOL_LIMIT)
    else:
        return services
    return {
        name: replace(one, tunables={**one.tunables, "default_pool_size": str(size)})
        if one.profile == "pgbouncer"
        else one
        for name, one in services.items()
    }


def _connections(services: Mapping[str, ServicePlan], settings: StackSettings, definition: Definition) -> list[Finding]:
    """Tell when the roles may open more connections together than their server grants them."""
    wanted = definition.postgres or {}
    server = services.get(str(wanted.get("service")))
    granted = settings.postgres_connections if settings.managed_postgres else None
    if server and "max_connections" in server.tunables:
        granted = int(server.tunables["max_connections"]) - _SUPERUSER
    limits_of = {name: role.get("connection_limit", -1) for name, role in wanted.get("roles", {}).items()}
    total = sum(limit for limit in limits_of.values() if limit > 0)
    if granted is None or total <= granted:
        return []
    listed = ", ".join(f"{name} {limit}" for name, limit in sorted(limits_of.items()) if limit > 0)
    what = f"its roles may open {total} connections together ({listed}), and PostgreSQL grants {granted}"
    fix = "give it more memory or a larger plan, or lower postgres.roles.NAME.connection_limit in batten.yaml"
    return [Finding("note", settings.name, what, fix)]


def _foreign(capacity: Capacity, projects: set[str], known: Sequence[int]) -> int:
    """Return what to keep free for containers outside batten's stacks, without those of ``projects``, which are ours.

    Their use changes by the minute, and limits must not: the ``known`` figure of the last plan stays while it covers
    the use and is at most 1 GiB above it; a new one is rounded up to 256 MiB.
    """
    used = max(0, capacity.foreign_bytes - sum(capacity.project_bytes.get(name, 0) for name in projects))
    kept = max(known, default=0)
    if used <= kept <= used + limits.GIB:
        return kept
    step = 256 * limits.MIB
    return -(-used // step) * step


def _key(stack: str, name: str) -> str:
    return f"{stack}/{name}"


def _declared(capacity: Capacity, stacks: Sequence[StackSettings]) -> int:
    """The host's memory, or less where the inventory's ``stack_capacity`` says so."""
    return min([capacity.memory_bytes, *(item.capacity_memory_bytes for item in stacks if item.capacity_memory_bytes)])


def _drafts(settings: StackSettings, capacity: Capacity, inputs: Inputs) -> dict[str, service.Draft]:
    base, definition = inputs.base, inputs.definition
    check_services(settings.services, base, At(settings.source, "stack_services"))
    for secret, consumers in definition.consumers.items():
        check_services(dict.fromkeys(consumers), base, At(definition.source, f"secrets.{secret}.consumers"))
    check_services(definition.services, base, At(definition.source, "services"))
    check_services(dict.fromkeys(definition.removed), base, At(definition.source, "targets"))
    check_services(settings.images, base, At(settings.source, "stack_images"))
    awaited = _awaited(inputs)
    drafts = {}
    for name, based in sorted(base.services.items()):
        if name in definition.removed:
            continue
        own = definition.services.get(name, _NOTHING)
        at = At(definition.source, f"services.{name}")
        image = inputs.lock.pinned(_image(settings, base, name))
        known = inputs.known.get(name)
        found = None if known or own.profile else _match(based, image, inputs.profiles)
        if own.profile:
            known = inputs.profiles.named(own.profile, image, at.key("profile"))
        made = service.draft(
            based,
            own,
            found.profile if found else known,
            image,
            tuple(port for wanted in own.ports for port in _published(wanted, settings, capacity)),
            inputs.variables,
            at,
        )
        made = replace(made, guessed=found.why if found and found.confidence == "assumed" else "")
        build = based.build and name not in settings.images
        planned = replace(made.plan, build=build, **inputs.fields.get(name, {}))
        drafts[name] = replace(made, plan=service.ending(planned, name in awaited))
    return drafts


def _match(based: BaseService, image: str, profiles: Profiles) -> Match | None:
    """The profile that an image is of, as `batten harden` finds it: by its name, else by what it runs and listens on.

    An image that stack_images puts in place (a mirror, one's own build) is of the family that the base names.
    """
    runs = (*(based.entrypoint or ()), *(based.command or ())) or None
    return profiles.match(image, runs, {port.target for port in based.ports}, based.image or "")


def _image(settings: StackSettings, base: Base, name: str) -> str:
    """The image to run; one that is built needs a reference to pull, or leave to build on the host."""
    based = base.services[name]
    if name in settings.images:
        return settings.images[name]
    if based.build and settings.build != "host":
        raise BattenError(
            f"{name} is built from source, and nothing says where its image comes from",
            f"{base.source}: services.{name}.build",
            f"set stack_images.{name} to an image that the host can pull, or stack_build: host to build it there",
        )
    return based.image or f"{settings.name}-{name}"


def _published(wanted: PublicPort, settings: StackSettings, capacity: Capacity) -> list[Port]:
    if wanted.publish_on == "loopback":
        return [Port(wanted.target, wanted.published, LOOPBACK, wanted.protocol)]
    addresses = _addresses(wanted, settings, capacity)
    for address in addresses:
        if capacity.addresses and address not in capacity.addresses:
            raise _foreign_address(wanted, settings, capacity, address)
    if not addresses and wanted.publish_on == "private":
        return []
    return [Port(wanted.target, wanted.published, address, wanted.protocol) for address in addresses or (None,)]


def _foreign_address(wanted: PublicPort, settings: StackSettings, capacity: Capacity, address: str) -> BattenError:
    private, alone = wanted.publish_on == "private", settings.prefix == "infisical"
    own = capacity.addresses if private or alone else capacity.default_addresses or capacity.addresses
    name = "digitalocean_vpc_address" if private else "infisical_address" if alone else "stack_public_addresses"
    value = f"one of {', '.join(own)}" if private or alone else f"[{', '.join(map(json.dumps, own))}]"
    what = f"the host does not own the address {address}"
    return At(settings.source, name).error(what, f"write {name}: {value}")


def _addresses(wanted: PublicPort, settings: StackSettings, capacity: Capacity) -> tuple[str, ...]:
    if wanted.publish_on == "private":
        return (settings.vpc_address,) if settings.target == "digitalocean" and settings.vpc_address else ()
    if settings.public_addresses:
        return settings.public_addresses
    if settings.target == "digitalocean":
        public = tuple(address for address in capacity.addresses if ipaddress.ip_address(address).is_global)
        return public or tuple(address for address in capacity.default_addresses if address != settings.vpc_address)
    return capacity.default_addresses


def _stack(
    settings: StackSettings,
    capacity: Capacity,
    inputs: Inputs,
    services: Mapping[str, ServicePlan],
    project: str,
) -> StackPlan:
    services = {
        name: replace(planned, depends_on=_depends_on(name, services, inputs)) for name, planned in services.items()
    }
    used = {network for planned in services.values() for network in planned.networks}
    return StackPlan(
        name=settings.name,
        project=project,
        target=settings.target,
        compose_profiles=tuple(sorted(settings.profiles)),
        services=services,
        networks={name: inputs.definition.networks.get(name, False) for name in sorted(used)},
        closed=tuple(name for name in inputs.definition.closed if name in used),
        volumes=_volumes(settings, capacity, inputs.base, services, project),
        data_directory=settings.data,
        requires_mounts_for=(settings.volume_mount,) if settings.volume_mount else (),
        start_order=start_order(
            {name: (*planned.depends_on, *inputs.base.services[name].joins) for name, planned in services.items()}
        ),
        removed=inputs.definition.removed,
        expires={name: rule["expires"] for name, rule in needed_rules(services, inputs).items() if "expires" in rule},
        backup=settings.backup,
        sync_seconds=settings.sync_interval_seconds or None,
        drift=settings.drift,
        drift_seconds=settings.drift_timer_seconds or None,
    )


def needed_rules(services: Mapping[str, ServicePlan], inputs: Inputs) -> dict[str, dict[str, Any]]:
    """Return the rules of the secrets that this plan needs."""
    used = {secret for planned in services.values() for secret in planned.rotations}
    return needed(inputs.definition.secrets, used, inputs.definition.postgres)


def _depends_on(name: str, services: Mapping[str, ServicePlan], inputs: Inputs) -> dict[str, str]:
    """Wait for health wherever there is any: the base often says only that a service comes first."""
    own = inputs.definition.services.get(name, _NOTHING)
    based = inputs.base.services
    conditions = {}
    for other, condition in sorted(_needs(name, inputs).items()):
        if other not in inputs.base.all_services:
            check_services({other: None}, inputs.base, At(inputs.definition.source, f"services.{name}.depends_on"))
        if other in services:
            healthy = services[other].healthcheck is not None or based[other].has_healthcheck
            upgrade = healthy and condition == "service_started" and own.depends_on is None
            conditions[other] = "service_healthy" if upgrade else condition
    return conditions


def _needs(name: str, inputs: Inputs) -> Mapping[str, str]:
    """Return what a service waits for, as the definition or else the base says it."""
    own = inputs.definition.services.get(name, _NOTHING)
    return own.depends_on if own.depends_on is not None else inputs.base.services[name].depends_on


def _awaited(inputs: Inputs) -> set[str]:
    """Return the services whose end others wait for."""
    running = (name for name in inputs.base.services if name not in inputs.definition.removed)
    return {
        other
        for name in running
        for other, condition in _needs(name, inputs).items()
        if condition == "service_completed_successfully"
    }


def start_order(depends_on: Mapping[str, Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Return services in layers: each needs only services of earlier layers. Names a cycle if there is one."""
    layers: list[tuple[str, ...]] = []
    waits = {name: len({need for need in needs if need in depends_on}) for name, needs in depends_on.items()}
    users: dict[str, set[str]] = {}
    for name, needs in depends_on.items():
        for need in needs:
            users.setdefault(need, set()).add(name)
    ready = sorted(name for name, count in waits.items() if not count)
    while ready:
        layers.append(tuple(ready))
        following = []
        for user in (user for name in ready for user in users.get(name, ())):
            waits[user] -= 1
            if not waits[user]:
                following.append(user)
        ready = sorted(following)
    if left := {name: depends_on[name] for name, count in waits.items() if count}:
        cycle = " -> ".join(_cycle(left))
        raise BattenError(f"services wait for each other: {cycle}", "depends_on", "take one of these out")
    return tuple(layers)


def _cycle(left: Mapping[str, Sequence[str]]) -> list[str]:
    """Follow needs from any service that is left: every one has a need that is left, so a name must come again."""
    path = [min(left)]
    while True:
        following = min(need for need in left[path[-1]] if need in left)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)


def _project(settings: StackSettings, capacity: Capacity, inputs: Inputs, previous: Mapping[str, StackPlan]) -> str:
    """The Compose project: as named, as before, else one of this base that already runs here, else the stack's name.

    A running project is of this base if it has every service that no Compose profile turns off, and none besides.
    """
    if settings.project:
        return settings.project
    if settings.name in previous:
        return previous[settings.name].project
    if settings.name in capacity.projects:
        return settings.name
    least = set(inputs.base.always) - set(inputs.definition.removed)
    taken = {*capacity.allocated, *(plan.project for plan in previous.values())}
    fitting = sorted(
        name
        for name, own in capacity.projects.items()
        if own and least <= set(own) <= set(inputs.base.all_services) and name not in taken
    )
    if len(fitting) > 1:
        raise BattenError(
            f"several running projects look like this stack: {', '.join(fitting)}",
            f"{settings.source}: stack_project",
            f"set stack_project to the one to take over, or to {settings.name} for a new one",
        )
    return fitting[0] if fitting else settings.name


def _volumes(
    settings: StackSettings, capacity: Capacity, base: Base, services: Mapping[str, ServicePlan], project: str
) -> dict[str, VolumePlan]:
    """Named volumes in use, with the owner that their first consumer needs.

    A volume that exists without our label is adopted as it is; one that the base gives a driver or calls external is
    the base's business; one whose owner nobody knows is left to the engine, which copies the image's owner.
    """
    planned: dict[str, VolumePlan] = {}
    for consumer in sorted(services.values(), key=lambda item: (not item.stateful, item.name)):
        for name in consumer.volumes:
            about = base.volumes.get(name, {})
            if name in planned or about.get("external"):
                continue
            engine_name = str(about.get("name") or f"{project}_{name}")
            labels = capacity.volumes.get(engine_name)
            ours = labels is None or any(label.startswith(LABEL_PREFIX) for label in labels)
            uid, gid = service.ids(consumer.user)
            plain = not about.get("driver_opts") and about.get("driver", "local") == "local"
            device = f"{settings.data}/{name}" if settings.data and ours and plain and uid is not None else None
            planned[name] = VolumePlan(engine_name, device, uid, gid)
    return dict(sorted(planned.items()))


def _takes_over(settings: StackSettings, project: str) -> Finding:
    return Finding(
        "note",
        settings.name,
        f"takes over the running Compose project {project}, with its volumes",
        f"set stack_project: {settings.name} to start a new one beside it",
    )


def _findings(settings: StackSettings, inputs: Inputs, drafts: Mapping[str, service.Draft]) -> list[Finding]:
    found: list[Finding] = []
    for name, draft in sorted(drafts.items()):
        where = f"{settings.name}/{name}"
        found += service.findings(draft, inputs.base.services[name], where)
        own = inputs.definition.services.get(name)
        if inputs.definition.networks and (own is None or own.networks is None):
            found.append(
                Finding(
                    "warning",
                    where,
                    "the definition gives this service no networks: it reaches none of the others",
                    f"add services.{name}.networks to {inputs.definition.source}",
                )
            )
        if inputs.base.services[name].ports and own is None:
            ports = ", ".join(str(port.published) for port in inputs.base.services[name].ports)
            found.append(
                Finding(
                    "note",
                    where,
                    f"the base publishes {ports}; production does not",
                    f"add services.{name}.ports to batten.yaml if people must reach it, else use a tunnel",
                )
            )
    found += inputs.findings
    planned = [draft.plan.image for draft in drafts.values() if not draft.plan.build]
    found += lock_findings(inputs.lock, planned, settings.name)
    loose = sorted(name for name, draft in drafts.items() if "@" not in draft.plan.image and not draft.plan.build)
    if loose:
        found.append(
            Finding(
                "note",
                settings.name,
                f"not pinned by digest: {', '.join(loose)}",
                f"batten pin -i INVENTORY, or set {settings.prefix}_images to references with @sha256:...",
            )
        )
    return found
