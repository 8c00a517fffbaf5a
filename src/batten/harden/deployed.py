"""The decisions of `batten harden` for files that batten deploys but did not write: ``stack_compose_files``.

A release's layers say what a service's base says, too, where `batten harden` adds to it. So what the files decided for
themselves goes into the plan here: it stays unless the definition says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from batten import compose
from batten.harden.decide import decide
from batten.harden.evidence import gather
from batten.plan.definition import ServiceDefinition
from batten.plan.model import Finding

if TYPE_CHECKING:
    from pathlib import Path

    from batten.harden.decide import Decision
    from batten.plan.base import Base
    from batten.plan.definition import Definition
    from batten.plan.profile import Profile, Profiles

# What a layer need not say again; the other decisions that `batten harden` keeps are said by the plan.
_KEPT = frozenset({"shm", "nofile", "oom_score_adj", "reservation", "restart", "stop_grace", "init"})
_TOLD = frozenset({"user", "read_only", "security_opt", "cap_drop", "host"})
_NOTHING = ServiceDefinition()


@dataclass(frozen=True)
class Deployed:
    """What planning takes of somebody's files: profiles as far as they hold, fields of plans, what to tell."""

    definition: Definition
    known: Mapping[str, Profile] = field(default_factory=dict)
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def deployed(
    stack: str,
    files: Sequence[Path],
    variables: Mapping[str, str],
    base: Base,
    definition: Definition,
    profiles: Profiles,
) -> Deployed:
    """Decide every service of ``base``, which Compose made of ``files``, but for those that ``definition`` decides.

    ``variables`` are the inventory's. Raises BattenError for what Compose refuses.
    """
    services = compose.read(files, ("*",), variables=variables).services
    source = ", ".join(map(str, files))
    own = {name: definition.services.get(name, _NOTHING) for name in base.services if name in services}
    decisions = {name: decide(gather(name, services), profiles, source) for name in sorted(own)}
    known = {name: one.profile for name, one in decisions.items() if own[name].profile is None and one.match}
    limits = {name: _limits(own[name], one.definition) for name, one in decisions.items()}
    return Deployed(
        definition=replace(definition, services={**definition.services, **limits}),
        known=known,
        fields={name: _fields(one, own[name], definition) for name, one in decisions.items()},
        findings=tuple(
            Finding("note", f"{stack}/{name}", note.text, f"services.{name} in batten.yaml decides it otherwise")
            for name, one in decisions.items()
            for note in one.left_open
            if note.facet in _TOLD and name in known and note.facet not in own[name].given
        ),
    )


def _limits(own: ServiceDefinition, said: ServiceDefinition) -> ServiceDefinition:
    """The definition's limits, else those that the files have."""
    return replace(own, memory=own.memory or said.memory, cpus=own.cpus or said.cpus, pids=own.pids or said.pids)


def _fields(decision: Decision, own: ServiceDefinition, definition: Definition) -> dict[str, Any]:
    raw = decision.evidence.raw
    found: dict[str, Any] = {"no_new_privileges": decision.plan["no_new_privileges"], **_capabilities(decision, own)}
    if restart := decision.plan.get("restart") or decision.evidence.restart:
        found["restart"] = restart
    if decision.evidence.one_shot:
        found["one_shot"] = True
    kept = {*_KEPT.intersection(decision.kept), *(key for key in ("tmpfs", "security_opt") if raw.get(key))}
    if raw.get("memswap_limit") and own.memory is None:
        kept.add("swap")
    if raw.get("cpu_quota") and own.cpus is None:
        kept.add("cpus")
    if own.nofile:
        kept.discard("nofile")
    if own.networks is None and not own.egress and not definition.networks:
        kept.add("networks")
    if own.depends_on is None:
        kept.add("depends_on")
    if own.mounts is None:
        kept.add("volumes")
    given = {"stop_grace": "stop_grace", "init": "init", "oom_score_adj": "oom_score_adj"}
    return {**found, "kept": tuple(sorted(kept - {mark for key, mark in given.items() if key in own.given}))}


def _capabilities(decision: Decision, own: ServiceDefinition) -> dict[str, Any]:
    """The layers replace both lists, so what the service itself adds must be in them."""
    raw = decision.evidence.raw
    added = {str(name).upper().removeprefix("CAP_") for name in raw.get("cap_add") or ()}
    dropped = tuple(str(name).upper().removeprefix("CAP_") for name in raw.get("cap_drop") or ())
    if raw.get("privileged"):
        return {"cap_drop": dropped, "cap_add": tuple(sorted(added))}
    if "cap_add" in own.given:
        return {}
    wanted = {"ALL"} if "ALL" in added else {*decision.plan["cap_add"], *added}
    return {"cap_drop": ("ALL",), "cap_add": tuple(sorted(wanted))}
