"""Somebody's Compose files in; a plan, overlays and a report out. Reads files and asks Compose; changes nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batten import compose, resources
from batten.errors import BattenError
from batten.harden import credentials, lost
from batten.harden import declared as declared_in
from batten.harden.decide import Decision, decide
from batten.harden.evidence import gather
from batten.plan.base import Base, parse_base
from batten.plan.definition import Definition, ServiceDefinition, parse_definition
from batten.plan.model import Capacity, Finding, HostPlan, ServicePlan, StackPlan
from batten.plan.profile import Profiles, load_profiles
from batten.plan.settings import StackSettings
from batten.plan.stack import Inputs, plan_host
from batten.render import Layer, layers, secrets_layer

if TYPE_CHECKING:
    from batten.harden.credentials import Credential
    from batten.plan.model import Target

# Services of a name that becomes a directory on the host (src/batten/plan/base.py says the same of a base).
HOST = "host"


@dataclass(frozen=True)
class Hardened:
    """What was made of a project: its plan, the overlays in ``-f`` order, and why.

    ``extra`` are further files by name: the definition, where there is something to say, and the overlay that takes
    credentials out.
    """

    project: compose.Project
    host: HostPlan
    stack: StackPlan
    decisions: Mapping[str, Decision]
    layers: tuple[Layer, ...]
    findings: tuple[Finding, ...]
    credentials: tuple[Credential, ...] = ()
    extra: Mapping[str, str] = field(default_factory=dict)


def harden(
    files: Sequence[Path],
    capacity: Capacity,
    target: Target = "selfhosted",
    profiles: Sequence[str] = ("*",),
    known: Profiles | None = None,
) -> Hardened:
    """Plan overlays for a project. ``profiles`` are the Compose profiles whose services are planned.

    ``known`` are what images are matched to, by default batten's own profiles.

    Raises BattenError for what Compose refuses, and for a project that does not fit the host.
    """
    source = _names(files)
    known = known or load_profiles(resources.compose() / "profiles")
    project, decisions = _decide(files, profiles, known)
    settings = StackSettings(
        name=project.name, base=Path(files[0]), definition=None, target=target, build="host", source=source
    )
    inputs = Inputs(
        base=_base(project, source),
        definition=Definition(services={name: each.definition for name, each in decisions.items()}, source=source),
        profiles=known,
        variables={},
        known={name: each.profile for name, each in decisions.items()},
    )
    host, found = plan_host([settings], capacity, None, {settings.name: inputs})
    stack = _overlay(host.stacks[settings.name], project, decisions)
    secrets = credentials.find(project.services, decisions)
    return Hardened(
        project=project,
        host=replace(host, stacks={settings.name: stack}),
        stack=stack,
        decisions=decisions,
        layers=layers(stack, _NO_BASE)[1:],
        findings=(
            *_unset(project),
            *declared_in.undeclared(project.name, decisions),
            *(finding for finding in found if not _ours(finding)),
        ),
        credentials=secrets,
        extra=_extra(secrets, settings, capacity, inputs, project, decisions),
    )


def credentials_of(files: Sequence[Path]) -> tuple[Credential, ...]:
    """Return the credentials that are written in Compose files, with their values; raises BattenError as harden."""
    project, decisions = _decide(files, ("*",), load_profiles(resources.compose() / "profiles"))
    return credentials.find(project.services, decisions)


def _decide(
    files: Sequence[Path], profiles: Sequence[str], known: Profiles
) -> tuple[compose.Project, dict[str, Decision]]:
    project = compose.read(files, profiles)
    if not project.services:
        raise BattenError("there are no services", _names(files), "name a file with services, or another --profile")
    names = sorted(project.services)
    return project, {name: decide(gather(name, project.services), known, _names(files)) for name in names}


def _overlay(planned: StackPlan, project: compose.Project, decisions: Mapping[str, Decision]) -> StackPlan:
    services = {name: _own(each, decisions[name], project.services[name]) for name, each in planned.services.items()}
    return replace(planned, services=services, overlay=True)


def _extra(
    found: tuple[credentials.Credential, ...],
    settings: StackSettings,
    capacity: Capacity,
    inputs: Inputs,
    project: compose.Project,
    decisions: Mapping[str, Decision],
) -> dict[str, str]:
    """The definition, and the overlay that hands over the secrets that were found, from the same planner."""
    declared = declared_in.definition(found, decisions)
    if not declared:
        return {}
    named = {"batten.yaml": declared_in.text(declared)}
    if not found:
        return named
    parsed = parse_definition(declared, "batten.yaml")
    services = {name: _with(each.definition, parsed.services.get(name)) for name, each in decisions.items()}
    wanted = replace(inputs, definition=replace(parsed, services=services))
    host, _ = plan_host([settings], capacity, None, {settings.name: wanted})
    stack = _overlay(host.stacks[settings.name], project, decisions)
    return {**named, "compose.secrets.yaml": secrets_layer(stack).text}


def _with(own: ServiceDefinition, declared: ServiceDefinition | None) -> ServiceDefinition:
    if declared is None:
        return own
    return replace(
        own,
        environment=declared.environment,
        secrets=declared.secrets,
        entrypoint=declared.entrypoint,
        command=declared.command,
        rotations=declared.rotations,
    )


_NO_BASE = "services: {}\n"


def check(made: Hardened, written: Sequence[Path]) -> tuple[str, ...]:
    """Have Compose merge the user's files with the overlays that were written; return what got lost, in words.

    Raises BattenError if Compose refuses the merged files.
    """
    merged = compose.read(made.project.files, ("*",), written)
    before = made.project if not made.project.required else compose.read(made.project.files, ("*",))
    return lost.between(before.services, merged.services)


def _names(files: Sequence[Path]) -> str:
    return ", ".join(map(str, files))


def _base(project: compose.Project, source: str) -> Base:
    """The merged model as planning knows a base. Compose has checked it; what planning cannot hold, it need not."""
    services = {name: _plain(service) for name, service in project.services.items()}
    return parse_base({**project.model, "services": services}, source, {}, ("*",))


def _plain(service: Mapping[str, Any]) -> dict[str, Any]:
    """A merged service without what a layer leaves alone anyway, as planning reads only some forms of it."""
    kept = {key: value for key, value in service.items() if key not in ("ports", "volumes")}
    mounts = [
        item
        for item in service.get("volumes") or ()
        if item.get("type") in ("bind", "volume") and item.get("source") and item["target"].startswith("/")
    ]
    return {**kept, "volumes": mounts}


def _own(planned: ServicePlan, decision: Decision, raw: Mapping[str, Any]) -> ServicePlan:
    """The plan of a service with what follows from the file alone."""
    count = decision.evidence.replicas
    fields = dict(decision.plan)
    depends = {
        name: condition
        for name, condition in planned.depends_on.items()
        if condition != (raw.get("depends_on") or {}).get(name, {}).get("condition")
    }
    return replace(
        planned,
        profile=None if decision.profile.name == "unknown" else decision.profile.name,
        image=str(raw.get("image") or ""),
        build=decision.evidence.built,
        memory_bytes=planned.memory_bytes // count,
        memory_reservation_bytes=planned.memory_reservation_bytes // count,
        user=decision.profile.user,
        depends_on=depends,
        kept=decision.kept,
        **fields,
    )


def _unset(project: compose.Project) -> tuple[Finding, ...]:
    found = []
    if project.required:
        names = ", ".join(project.required)
        found.append(
            Finding("warning", project.name, f"without a value Compose does not start: {names}", "set them in .env")
        )
    blank = [name for name in project.unset if name not in project.required]
    if blank:
        found.append(Finding("note", project.name, f"not set, so empty: {', '.join(blank)}", "set them in .env"))
    return tuple(found)


def _ours(finding: Finding) -> bool:
    """Whether the report says it in its own words, by service."""
    return bool(
        re.search(r"no profile knows|no health check:|in the environment, where|the base publishes", finding.what)
    )
