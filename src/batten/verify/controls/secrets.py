"""Secrets: in memory only, readable by their one consumer. Their contents are never read."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batten.verify.catalogue import control
from batten.verify.model import LiveContainer, LiveHost, Verdict, fails, holds, not_applicable

if TYPE_CHECKING:
    from batten.plan.model import ServicePlan, StackPlan

MOUNT = "/run/secrets"


@control("secrets.memory-only", "Secrets lie in memory that is never swapped", scope="stack")
def memory_only(expected: StackPlan, live: LiveHost) -> Verdict:
    if not any(service.secrets for service in expected.services.values()):
        return not_applicable("no service takes a secret")
    kind, _, options = live.secret_mounts.get(expected.name, "").partition(" ")
    if kind == "ramfs":
        return holds("ramfs")
    if kind == "tmpfs" and "noswap" in options.strip().split(","):
        return holds("tmpfs with noswap")
    where = f"/opt/batten/{expected.name}/secrets"
    return fails(f"{where} is {f'{kind} {options.strip()}' if kind else 'not a mount'}, not tmpfs with noswap or ramfs")


@control("secrets.files", "Each service has exactly its planned secrets, mode 0400, owned by its user", scope="stack")
def files(expected: StackPlan, live: LiveHost) -> Verdict:
    root = f"/opt/batten/{expected.name}/secrets/"
    found = {
        stat.path.removeprefix(root): stat
        for stat in live.trees.get((expected.name, "secrets"), ())
        if stat.kind == "f"
    }
    planned = {f"{name}/{secret}": service for name, service in expected.services.items() for secret in service.secrets}
    if not planned and not found:
        return not_applicable("no service takes a secret")
    problems = [f"{name} is missing" for name in planned if name not in found]
    problems += [f"{name} is not planned" for name in found if name not in planned]
    for name in sorted(planned.keys() & found.keys()):
        stat, uid = found[name], (planned[name].user or "").partition(":")[0]
        if stat.mode != 0o400:
            problems.append(f"{name} has mode {stat.mode:04o}")
        if uid.isdigit() and stat.uid != int(uid):
            problems.append(f"{name} belongs to uid {stat.uid}, planned {uid}")
    return fails("; ".join(problems)) if problems else holds(f"{len(planned)} files, each 0400 of its service's user")


@control("secrets.mount", "The service sees only its own secrets, read-only")
def mount(expected: ServicePlan, live: LiveContainer) -> Verdict:
    found = [one for one in live.inspect.get("Mounts") or () if "/secrets" in str(one.get("Source", ""))]
    planned = re.compile(rf"/opt/batten/[^/]+/secrets/{re.escape(live.service or '')}")
    unplanned = [str(one["Source"]) for one in found if not planned.fullmatch(str(one["Source"]))]
    if unplanned:
        return fails(f"mounts {', '.join(unplanned)}")
    if not expected.secrets:
        return fails("mounts secrets, none planned") if found else not_applicable("takes no secret")
    own = next((one for one in found if one["Destination"] == MOUNT), None)
    if own is None:
        return fails(f"nothing is mounted at {MOUNT}")
    return fails(f"{MOUNT} is writable") if own.get("RW") else holds(str(own["Source"]))
