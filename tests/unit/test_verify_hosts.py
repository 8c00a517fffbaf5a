"""What a report tells of a host besides its controls, out of one recorded batch of reads."""

from __future__ import annotations

import dataclasses
import json

from batten.verify.hosts import HostReport, Usage, describe
from batten.verify.model import LiveHost
from tests.verify.record import recorded
from tests.verify.stack import MIB, PLAN

DIGEST = "sha256:" + "ab" * 32
HISTORY = {"at": "2026-11-22T10:00:00Z", "drift": 1, "rows": [{"scope": "service", "name": "web", "facet": "memory"}]}
REPORT = {"at": "2026-11-23T10:00:00Z", "drift": [HISTORY["rows"]], "errors": []}


def with_memory(**files: str) -> LiveHost:
    live = recorded()
    names = {name.replace("_", ".", 1): value for name, value in files.items()}
    processes = {
        identity: dataclasses.replace(process, cgroup=dict(process.cgroup) | names)
        for identity, process in live.processes.items()
    }
    return dataclasses.replace(live, processes=processes)


def usage(live: LiveHost, service: str) -> Usage:
    return next(one for one in describe("recorded", {"small": PLAN}, live).usage if one.service == service)


def test_memory_in_use_leaves_out_what_the_kernel_would_drop() -> None:
    first = with_memory(memory_usage_in_bytes="1000", memory_max_usage_in_bytes="3000", memory_inactive_file="400")
    assert usage(first, "web") == Usage("small", "web", 32 * MIB, 600, 3000)
    second = with_memory(memory_current="1000", memory_peak="3000", memory_inactive_file="1400")
    assert usage(second, "web") == Usage("small", "web", 32 * MIB, 0, 3000)


def test_the_limit_is_the_larger_one_that_a_database_still_has() -> None:
    live = with_memory(memory_current="1000")
    store = next(one for one in live.containers if one.service == "store")
    store.host_config["Memory"] = 48 * MIB  # type: ignore[index]

    def limit(*accepted: int) -> int:
        service = dataclasses.replace(PLAN.services["store"], accepted_limits=accepted)
        plan = dataclasses.replace(PLAN, services={**PLAN.services, "store": service})
        return next(one.limit_bytes for one in describe("h", {"small": plan}, live).usage if one.service == "store")

    assert limit(48 * MIB) == 48 * MIB
    assert limit() == 32 * MIB  # limits.memory tells of it


def test_a_service_that_does_not_run_uses_nothing_known() -> None:
    assert usage(with_memory(memory_current="1000"), "migrate") == Usage("small", "migrate", 32 * MIB)


def test_versions_images_and_ends() -> None:
    identity = str(recorded().inspects[0]["Image"])
    images = json.dumps([{"Id": identity, "RepoDigests": [f"shell@{DIGEST}"]}])
    found = describe("recorded", {"small": PLAN}, recorded(images=images))
    assert found.versions["engine"] == "26.1.5+dfsg1"
    assert [(one.reference, one.digest, one.services) for one in found.images] == [
        ("shell:1", DIGEST, ("small/migrate", "small/store", "small/ui", "small/web"))
    ]
    kinds = {(one.kind, one.name): one.until for one in found.expiries}
    assert kinds[("certificate", "store/server.crt")]
    assert (kinds[("secret", "password")] or "") > "2026"
    assert found.memory_bytes > 0


def test_drift_is_the_last_report_and_the_history() -> None:
    assert describe("recorded", {"small": PLAN}, recorded()).drift is None
    lines = "\n".join([json.dumps(REPORT), json.dumps(HISTORY), "[1, 2]"])
    drift = describe("recorded", {"small": PLAN}, recorded(drift=lines)).drift
    assert drift == {"at": REPORT["at"], "count": 1, "history": [HISTORY, {}]}
    # A look that was never finished: there is a history all the same.
    drift = describe("recorded", {"small": PLAN}, recorded(drift="\n" + json.dumps(HISTORY))).drift
    assert drift == {"at": None, "count": None, "history": [HISTORY]}


def test_json_and_back_is_the_same() -> None:
    lines = "\n".join([json.dumps(REPORT), json.dumps(HISTORY)])
    found = describe("recorded", {"small": PLAN}, recorded(drift=lines))
    assert HostReport.from_json(json.loads(json.dumps(dataclasses.asdict(found)))) == found
