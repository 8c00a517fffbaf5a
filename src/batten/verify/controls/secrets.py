"""Secrets: sealed at rest, in memory only, readable by their one consumer. Their contents are never read."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from batten.verify.catalogue import control
from batten.verify.controls.lifecycle import timer
from batten.verify.model import LiveContainer, LiveHost, Verdict, fails, holds, not_applicable

if TYPE_CHECKING:
    from batten.plan.model import ServicePlan, StackPlan

MOUNT = "/run/secrets"
_ABOVE = re.compile(r"/|/opt(/batten(/[^/]+)?)?")  # what has the secrets of a stack below itself
_DAY = 86400
# The kinds of key that a systemd credential begins with (systemd, src/shared/creds-util.h, CRED_AES256_GCM_BY_*).
_HOST_KEYS = ("5a1c6a86df9d4096b1d5a65e0862f19a", "55b9ed1d38594d43a8319d2ebb332ac6")
_TPM2_KEYS = (
    *("0c7cc07b117645919c4b0bea08bc20fe", "faf7eb9341e3412ca1a436f95a29dead"),
    *("93a894094874449090caf2fc93cab553", "ef4ac13679a9480ea7db68897f9f165d"),
    *("af4950a849134eb1a73846304ff30c05", "adbc4ca3efb64201ba881b6f2e4095ea"),
)


@control("secrets.at-rest", "What lies on the disk is sealed by a key of this host", scope="stack")
def at_rest(expected: StackPlan, live: LiveHost) -> Verdict:
    if not any(service.secrets for service in expected.services.values()):
        return not_applicable("no service takes a secret")
    kind = live.sealed.get(expected.name, "")
    if kind in _TPM2_KEYS:
        return holds("tpm2 (protects copied files and a copied disk)")
    if kind in _HOST_KEYS:
        return holds("host-key (protects copied files, not a copied disk)")
    return fails("none" if kind else "none: the sealed values are not there")


@control("secrets.refreshed", "The values in use are those of Infisical", scope="stack")
def refreshed(expected: StackPlan, live: LiveHost) -> Verdict:
    looked = live.refreshed.get(expected.name) or {}
    if not looked:
        return not_applicable("this host keeps the values of the stack alone")
    if refused := sorted(looked.get("refused") or {}):
        return fails(f"did not work as they are in Infisical, and the old ones are in use: {', '.join(refused)}")
    if looked.get("problem"):
        return fails(f"Infisical did not answer at the last look: {looked['problem']}")
    return holds(f"looked at {looked.get('at')}")


@control("secrets.sync-timer", "The host looks for changed secrets by itself", scope="stack")
def sync_timer(expected: StackPlan, live: LiveHost) -> Verdict:
    if not expected.sync_seconds:
        return not_applicable("no look is planned")
    return timer(live, f"batten-sync@{expected.name}.timer")


@control("secrets.looked", "The last look for changed secrets is recent", scope="stack")
def looked(expected: StackPlan, live: LiveHost) -> Verdict:
    at = (live.refreshed.get(expected.name) or {}).get("at")
    if not expected.sync_seconds or not at:
        return not_applicable("no look is planned" if not expected.sync_seconds else "this host keeps the values alone")
    age = int(live.facts["now"]) - _seconds(at)
    allowed = 3 * expected.sync_seconds + 600  # two may fail, and one may take its time
    return holds(f"looked at {at}") if age <= allowed else fails(f"looked at {at}, {age / 60:.0f} minutes ago")


@control("secrets.age", "No value is older than its secret's `expires`", scope="stack")
def age(expected: StackPlan, live: LiveHost) -> Verdict:
    if not expected.expires:
        return not_applicable("no secret of this stack expires")
    made, problems = live.made.get(expected.name, {}), []
    for name, days in sorted(expected.expires.items()):
        if name not in made:
            problems.append(f"{name}: since when it has its value is not known")
            continue
        old = (int(live.facts["now"]) - _seconds(made[name])) / _DAY
        if old > days:
            problems.append(f"{name} is {old:.0f} days old, at most {days}")
    return fails("; ".join(problems)) if problems else holds(f"{len(expected.expires)} that expire are young enough")


def _seconds(moment: str) -> float:
    return datetime.strptime(moment, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()


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
    mounts = [(one, str(one.get("Source", ""))) for one in live.inspect.get("Mounts") or ()]
    found = [one for one, source in mounts if "/secrets" in source or _ABOVE.fullmatch(source)]
    planned = f"/opt/batten/{live.stack}/secrets/{live.service}"
    unplanned = [str(one["Source"]) for one in found if one["Source"] != planned]
    if unplanned:
        return fails(f"mounts {', '.join(unplanned)}")
    if not expected.secrets:
        return fails("mounts secrets, none planned") if found else not_applicable("takes no secret")
    own = next((one for one in found if one["Destination"] == MOUNT), None)
    if own is None:
        return fails(f"nothing is mounted at {MOUNT}")
    return fails(f"{MOUNT} is writable") if own.get("RW") else holds(str(own["Source"]))
