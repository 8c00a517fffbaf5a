"""One service of somebody's Compose file: what of it is changed, why, how sure that is, and what is left alone.

What a profile says is taken only as far as the service is what the profile knows: a command, a mount or a user of its
own changes what its image would do. Of an image that nobody knows only that is changed which needs no knowledge of it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from batten.harden.evidence import Evidence, ports
from batten.plan import schema
from batten.plan.definition import ServiceDefinition
from batten.plan.limits import MIB
from batten.plan.profile import Memory, Profile, shared
from batten.plan.schema import At
from batten.plan.tunables import is_environment

if TYPE_CHECKING:
    from batten.plan.profile import Confidence, Match, Profiles

# What images need that start as root and go on as another user: owners and modes of their data (CHOWN, FOWNER,
# DAC_OVERRIDE), the change itself (SETUID, SETGID: gosu, su-exec, setpriv, nginx's and Apache's workers), signals to
# processes of that user (KILL: nginx's master, supervisord), and a binary with a file capability (NET_BIND_SERVICE:
# caddy). All are among the engine's own defaults: moby, profiles and capabilities, oci/caps/defaults.go.
ROOT_START = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "NET_BIND_SERVICE", "SETGID", "SETUID")
# Who adds capabilities works on networks or devices, with setcap, raw sockets, chroot: the engine's defaults stay, but
# for MKNOD and AUDIT_WRITE.
DEFAULTS = (*ROOT_START, "FSETID", "NET_RAW", "SETFCAP", "SETPCAP", "SYS_CHROOT")

_UNKNOWN_FLOOR = 128 * MIB
_PIDS = 256
# Databases, brokers and consoles that are for the host itself and for tunnels, by the port that they listen on; ports
# that much else uses too are not here, and the image decides there (admin_ports of its profile).
ADMIN_PORTS: Mapping[int, str] = {
    1433: "SQL Server", 1521: "Oracle", 2181: "ZooKeeper", 2375: "Docker's API", 2376: "Docker's API", 2379: "etcd",
    2380: "etcd", 3306: "MySQL", 4369: "Erlang", 5432: "PostgreSQL", 5601: "Kibana", 5672: "AMQP", 5984: "CouchDB",
    6379: "Redis", 6432: "PgBouncer", 7474: "Neo4j", 7687: "Neo4j", 8086: "InfluxDB", 8500: "Consul", 9042: "Cassandra",
    9090: "Prometheus", 9092: "Kafka", 9093: "Alertmanager", 9100: "node_exporter", 9200: "Elasticsearch",
    9229: "Node's debugger", 9300: "Elasticsearch", 9600: "Logstash", 11211: "Memcached", 15672: "RabbitMQ's console",
    16686: "Jaeger", 26257: "CockroachDB", 27017: "MongoDB", 27018: "MongoDB", 27019: "MongoDB", 33060: "MySQL",
    5005: "Java's debugger",
}  # fmt: skip
# Consoles on a port that says nothing, by a word of their image's name.
ADMIN_IMAGES = (
    *(
        "adminer",
        "phpmyadmin",
        "pgadmin4",
        "mongo-express",
        "portainer",
        "portainer-ce",
        "redis-commander",
        "redisinsight",
    ),
    *("kafka-ui", "flower", "mailhog", "mailpit", "cadvisor", "alertmanager", "kafdrop", "dozzle"),
)
LOOPBACK = "127.0.0.1"
_EVERYWHERE = (None, "", "0.0.0.0", "::", "*")  # noqa: S104 - compared with, not bound to


@dataclass(frozen=True)
class Note:
    """One line of the report: what of the service, what is said of it, and how sure that is."""

    facet: str
    text: str
    confidence: Confidence = "assumed"


@dataclass(frozen=True)
class Decision:
    """What is to be planned for one service.

    ``profile`` and ``definition`` go into the planner. ``plan`` are fields of its plan that follow from the file alone;
    ``kept`` names what of the file stays as it is there (``ServicePlan.kept``).
    """

    evidence: Evidence
    match: Match | None
    profile: Profile
    definition: ServiceDefinition
    kept: tuple[str, ...]
    plan: Mapping[str, Any]
    changed: tuple[Note, ...]
    left_open: tuple[Note, ...]

    @property
    def confidence(self) -> Confidence:
        return self.match.confidence if self.match else "assumed"


def decide(evidence: Evidence, profiles: Profiles, source: str) -> Decision:
    """Decide one service of ``source``, the file's name for errors."""
    found = profiles.match(evidence.image, evidence.command, evidence.exposed) if evidence.image else None
    if found and evidence.built:
        # Built on a known image: what is true of the software holds, what is true of that image may not.
        software = replace(shared(found.profile), cap_add=found.profile.cap_add)
        found = replace(found, profile=software, confidence="assumed", why=f"it is built on {evidence.image}")
    book = _Book(evidence, found)
    facts = found.profile if found else _unknown(evidence)
    facts = _identity(facts, book)
    facts = _root_file_system(facts, book)
    facts = _start(facts, book)
    facts = _health(facts, book)
    given = _limits(evidence, facts, At(source, f"services.{evidence.name}"), book)
    fields = {**_privileges(facts, book), **_life(facts, book), **_ports(facts, book), **_logs(book)}
    for reach in evidence.reaches:
        book.open("host", reach)
    for place in evidence.elsewhere:
        book.open("credentials", f"{place} looks like a credential, and no overlay can move it: do it by hand")
    kept = {*_ALWAYS_KEPT, *book.kept, *(() if facts.read_only else ("read_only",))}
    facts = replace(facts, group_add=())
    return Decision(
        evidence, found, facts, given, tuple(sorted(kept)), fields, tuple(book.changed), tuple(book.left_open)
    )


# What an overlay has no reason to say again: the file's own stays, whatever form it has.
_ALWAYS_KEPT = ("image", "build", "networks", "volumes", "depends_on", "tmpfs", "cap_add", "cap_drop", "security_opt")


class _Book:
    """What is being decided of one service, as notes."""

    def __init__(self, evidence: Evidence, found: Match | None) -> None:
        self.evidence = evidence
        self.confidence: Confidence = found.confidence if found else "assumed"
        self.kept: set[str] = set()
        self.changed: list[Note] = []
        self.left_open: list[Note] = []

    def change(self, facet: str, text: str, confidence: Confidence | None = None) -> None:
        self.changed.append(Note(facet, text, confidence or self.confidence))

    def open(self, facet: str, text: str) -> None:
        self.left_open.append(Note(facet, text, self.confidence))


def _unknown(evidence: Evidence) -> Profile:
    return Profile(
        name="unknown",
        images=(),
        service_class="application",
        memory=Memory(_UNKNOWN_FLOOR),
        pids=_PIDS,
        read_only=False,
        # Harmless where the program does not insist on being PID 1: known of what is built here alone.
        init=evidence.built and evidence.dockerfile is not None and not evidence.own_init,
        cap_add=() if evidence.root is False else ROOT_START,
    )


def _identity(facts: Profile, book: _Book) -> Profile:
    """The user, and with it which capabilities a start needs."""
    evidence = book.evidence
    bound = [
        each
        for each in evidence.mounts
        if each.kind == "bind"
        and not each.read_only
        and any(
            f"{item.path}/".startswith(f"{each.target.rstrip('/')}/") for item in facts.writable if not item.tmpfs_bytes
        )
    ]
    data = [item.path for item in facts.writable if not item.tmpfs_bytes]
    if evidence.raw.get("user") is not None:
        return replace(facts, user=None, cap_add=_to_start(facts, evidence))
    if facts.user is None:
        if facts.name == "unknown":
            book.open("user", "nobody knows the uid that its files need, so it starts as the image says")
        return replace(facts, cap_add=_to_start(facts, evidence))
    why = ""
    if bound:
        chown = "; ".join(f"chown -R {facts.user} {shlex.quote(each.source)}" for each in bound)
        where = ", ".join(each.target for each in bound)
        why = f"{where} is a directory of the host, which may not be {facts.user}'s: {chown}"
    elif evidence.unreadable:
        why = f"{', '.join(evidence.unreadable)} is for its owner alone, and {facts.user} could not read it"
    elif data and facts.service_class != "database":
        why = f"a volume at {data[0]} may hold files of another user: chown it to {facts.user} first"
    if why:
        book.open("user", f'{why}; then set user: "{facts.user}"')
        return replace(facts, user=None, cap_add=_to_start(facts, evidence))
    book.change("user", f"runs as {facts.user} from the start, and needs no capabilities to become that")
    return facts


def _to_start(facts: Profile, evidence: Evidence) -> tuple[str, ...]:
    """The capabilities of a service that starts as its image or its file says.

    A user that is not root has none of them but what a binary brings itself (capabilities(7), "File capabilities").
    """
    if evidence.root is False:
        return tuple(name for name in facts.cap_add if name not in ROOT_START or name == "NET_BIND_SERVICE")
    return tuple(sorted({*facts.cap_add, *ROOT_START}))


def _root_file_system(facts: Profile, book: _Book) -> Profile:
    evidence = book.evidence
    mine = tuple(item for item in facts.writable if item.tmpfs_bytes and not evidence.covered(item.path))
    if evidence.raw.get("read_only"):
        return replace(facts, read_only=True, writable=mine)
    if not facts.read_only:
        book.open("read_only", "nobody has seen which paths it writes: `batten learn` watches it")
        return replace(facts, writable=())
    bare = [item.path for item in facts.writable if not item.tmpfs_bytes and not evidence.covered(item.path)]
    why = (
        f"nothing that lasts is mounted at {', '.join(bare)}"
        if bare
        else "it does not start as the user that its profile knows"
        if facts.user is None
        else "it has an entrypoint or a command of its own"
        if evidence.raw.get("entrypoint")
        else ""
    )
    if why:
        book.open("read_only", f"its root file system stays writable: {why}")
        return replace(facts, read_only=False, writable=())
    places = ", ".join(item.path for item in mine) or "its volumes"
    book.change("read_only", f"the root file system is read-only; it writes {places}")
    return replace(facts, writable=mine)


def _start(facts: Profile, book: _Book) -> Profile:
    """Command, variables and init: a profile's are for an image that is started as it is."""
    raw = book.evidence.raw
    given = raw.get("environment") or {}
    facts = replace(
        facts,
        entrypoint=None,
        environment={},
        tunables={name: how for name, how in facts.tunables.items() if name not in given},
    )
    if raw.get("command") is not None or raw.get("entrypoint") is not None:
        said = [name for name, how in facts.tunables.items() if not is_environment(how)]
        if said or facts.command_add:
            book.open(
                "command", f"it has a command of its own: {', '.join(said) or 'the flags of its profile'} not set"
            )
        facts = replace(
            facts,
            command=None,
            command_add=(),
            tunables={name: how for name, how in facts.tunables.items() if is_environment(how)},
        )
    elif facts.command_add or any(not is_environment(how) for how in facts.tunables.values()):
        book.change("command", "settings that follow the memory limit, at the end of its command line")
    if raw.get("init") is not None:
        book.kept.add("init")
    elif book.evidence.own_init or not facts.init:
        book.kept.add("init")
        book.open("init", "its first process may have to be PID 1, so no init is put before it")
    else:
        book.change("init", "a small init as PID 1 passes signals on and reaps")
    return facts


def _health(facts: Profile, book: _Book) -> Profile:
    raw = book.evidence.raw
    own = raw.get("healthcheck") or {}
    if own.get("test") or own.get("disable"):
        book.kept.add("healthcheck")
        return replace(facts, healthcheck=None, health={})
    command = " ".join(map(str, (*(raw.get("command") or ()), *(raw.get("entrypoint") or ()))))
    if facts.healthcheck is not None and "port" not in command:
        book.change("healthcheck", f"asks {' '.join(facts.healthcheck.test[1:])[:70]}")
        return facts
    book.kept.add("healthcheck")
    book.open("healthcheck", "nothing is known to ask it: a check that the image has stays, else there is none")
    return replace(facts, healthcheck=None, health={})


def _limits(evidence: Evidence, facts: Profile, at: At, book: _Book) -> ServiceDefinition:
    """The file's own limits are decisions: they stay, and count in the budget."""
    raw, said = evidence.raw, evidence.limits
    given: dict[str, Any] = {}
    memory = said.get("memory") or raw.get("mem_limit")
    count = evidence.replicas
    if memory:
        book.kept.add("memory")
        size = schema.size(int(memory), at.key("mem_limit")) * count
        given["memory"] = Memory(size, 1.0, size)
    elif count > 1:
        cap = facts.memory.cap * count if facts.memory.cap else None
        given["memory"] = Memory(facts.memory.floor * count, facts.memory.weight * count, cap)
    if cpus := said.get("cpus") or raw.get("cpus") or raw.get("cpu_quota"):
        book.kept.add("cpus")
        if not raw.get("cpu_quota"):
            given["cpus"] = schema.number(0.001, 100_000)(cpus, at.key("cpus"))
    if pids := said.get("pids") or raw.get("pids_limit"):
        book.kept.add("pids")
        if int(pids) > 0:
            given["pids"] = int(pids)
    for key, mark in (("shm_size", "shm"), ("ulimits", "nofile"), ("oom_score_adj", "oom_score_adj")):
        if raw.get(key) is not None:
            book.kept.add(mark)
    reserved = ((raw.get("deploy") or {}).get("resources") or {}).get("reservations") or {}
    if raw.get("mem_reservation") or reserved.get("memory"):
        book.kept.add("reservation")
    if raw.get("memswap_limit"):
        book.kept.add("swap")
    return ServiceDefinition(**given)


def _privileges(facts: Profile, book: _Book) -> dict[str, Any]:
    raw = book.evidence.raw
    dropped = [str(item).upper() for item in raw.get("cap_drop") or ()]
    options = [str(item).replace("=", ":") for item in raw.get("security_opt") or ()]
    fields: dict[str, Any] = {"no_new_privileges": True}
    if raw.get("privileged"):
        book.open("cap_drop", "privileged gives it every capability whatever is dropped; take privileged out first")
        book.open("security_opt", "privileged is root on the host already; take privileged out first")
        return {"no_new_privileges": False, "cap_drop": (), "cap_add": ()}
    if "ALL" in dropped:
        fields |= {"cap_drop": (), "cap_add": ()}
    else:
        added = [str(item).upper().removeprefix("CAP_") for item in raw.get("cap_add") or ()]
        wanted = sorted({*facts.cap_add, *(DEFAULTS if added and facts.name == "unknown" else ())})
        if "ALL" in added:
            wanted = []
        fields |= {"cap_drop": ("ALL",), "cap_add": tuple(item for item in wanted if item not in added)}
        book.change(
            "cap_drop",
            f"all capabilities but {', '.join(wanted) or 'none'}"
            + (f" and its own {', '.join(added)}" if added else ""),
        )
    if any(item.startswith("no-new-privileges") for item in options):
        fields["no_new_privileges"] = False
    elif book.evidence.setuid or facts.setuid:
        fields["no_new_privileges"] = False
        programs = ", ".join(facts.setuid) or "sudo or another setuid program"
        book.open("security_opt", f"it uses {programs}, which no-new-privileges would take the effect from")
    else:
        book.change("security_opt", "no-new-privileges: no program in it gains rights by its setuid bit")
    return fields


def _life(facts: Profile, book: _Book) -> dict[str, Any]:
    raw = book.evidence.raw
    fields: dict[str, Any] = {"one_shot": True} if book.evidence.one_shot else {}
    if book.evidence.restart is not None:
        book.kept.add("restart")
    elif book.evidence.one_shot or facts.service_class == "batch":
        book.kept.add("restart")
        book.open("restart", "it seems to run once and end, so nothing starts it again")
        fields["restart"] = "no"
    else:
        book.change("restart", "unless-stopped: it comes back after a crash and a reboot")
    if raw.get("stop_grace_period") is not None or facts.name == "unknown":
        book.kept.add("stop_grace")
    else:
        book.change("stop_grace_period", f"{facts.stop_grace_seconds} s to end in")
    return fields


def _ports(facts: Profile, book: _Book) -> dict[str, Any]:
    raw = book.evidence.raw
    found = ports(raw)
    book.kept.add("ports")
    if found is None:
        book.open("ports", "a range or a mode of Compose's long form: published as the file says")
        return {"ports": ()}
    last = book.evidence.image.split("@")[0].rsplit("/", 1)[-1].split(":")[0]
    console = not book.evidence.built and last in ADMIN_IMAGES
    changed = [
        replace(port, address=LOOPBACK)
        if port.address in _EVERYWHERE and (console or port.target in ADMIN_PORTS or port.target in facts.admin_ports)
        else port
        for port in found
    ]
    moved = tuple(dict.fromkeys(changed))  # what was on both families' every address is now one port
    for before, after in zip(found, changed, strict=True):
        if before != after:
            what = ADMIN_PORTS.get(after.target) or (last if console else facts.name)
            number = after.published or "a port"
            book.change("ports", f"{number} ({what}) on 127.0.0.1 only; others reach it by a tunnel", "documented")
    if moved != found:
        book.kept.discard("ports")
    public = [str(port.published or "any") for port in moved if port.address in _EVERYWHERE]
    if public:
        book.open("ports", f"{', '.join(public)} on every address of the host, as the file says")
    return {"ports": moved}


def _logs(book: _Book) -> dict[str, Any]:
    logging = book.evidence.raw.get("logging") or {}
    driver = logging.get("driver")
    if driver == "none" or not logging:
        book.change("logging", "kept by the engine, five files of 20 MB at most")
        return {"log_driver": "local"}
    book.kept.add("logging")
    return {}
