"""A verify report of the reference stack and its Infisical, with invented findings, for tests of the page.

``python -m tests.report_sample DIRECTORY`` writes the page, pictures of it, and how it is printed, to be looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from batten.plan.infisical import host_stacks
from batten.plan.model import Capacity, StackPlan
from batten.plan.stack import plan_host
from batten.verify import waivers
from batten.verify.catalogue import cases, result
from batten.verify.hosts import Expiry, HostReport, ImageInUse, Usage
from batten.verify.model import Control, Report, Verdict
from batten.verify.waivers import Waiver

ROOT = Path(__file__).resolve().parents[1]
AT = "2026-11-23T09:30:00Z"
TODAY = date(2026, 11, 23)
GIB = 1024**3

# By control and service, what is found; None is any service.
FOUND: dict[tuple[str, str | None], Verdict] = {
    ("limits.memory", "api"): Verdict("fail", "memory is 2147483648, planned 671088640"),
    ("limits.memory-cgroup", "api"): Verdict("fail", "memory.max is 2147483648, planned 671088640"),
    ("ports.published", "grafana"): Verdict("fail", "0.0.0.0:3000 is published and not planned"),
    ("ports.interfaces", "grafana"): Verdict("fail", "0.0.0.0:3000 is reachable from every network"),
    ("backups.age", None): Verdict("fail", "app-20261120.age is 74.2 h old, at most 26.0"),
    ("files.docker-data", None): Verdict("fail", "/var/lib/docker root:root 0711"),
    ("privileges.read-only", "loki"): Verdict("fail", "the root file system is writable"),
}
WAIVERS = (
    Waiver("files.docker-data", "The distribution's own mode; nobody but root logs in.", date(2027, 1, 31)),
    Waiver(
        "privileges.read-only", "Loki's compactor writes beside its data until 3.8.", date(2026, 12, 15), None, "loki"
    ),
    Waiver("daemon.icc", "An older network needed it.", date(2026, 10, 1)),
)
DOES_NOT_APPLY = ("secrets.mount", "certificates", "mounts.files", "secrets.refreshed")


def stacks() -> dict[str, StackPlan]:
    """The plans of a self-hosted machine of 16 GiB, with every part of the reference stack."""
    folder = ROOT / "inventories" / "selfhosted"
    variables: dict[str, Any] = yaml.safe_load((folder / "group_vars" / "stack.yml").read_text())
    settings = host_stacks(variables | {"stack_profiles": ["auth", "observability"]})
    return dict(plan_host(settings, Capacity(16 * GIB, 4))[0].stacks)


def report(hosts: int = 1, *, found: dict[tuple[str, str | None], Verdict] | None = None) -> Report:
    """A whole report; ``found`` in place of :data:`FOUND`. Only the first of several hosts has failures."""
    plans, names = stacks(), [f"web{number}" for number in range(1, hosts + 1)]
    controls = tuple(
        one
        for name in names
        for one in _controls(name, plans, (FOUND if found is None else found) if name == names[0] else {})
    )
    servers = {"loki": "grafana/loki:3.7.6", "grafana": "grafana/grafana:13.2.0"}
    return Report(
        controls=controls,
        stand_ins=tuple(
            {"host": "web1", "stack": "app", "service": service, "image": image, "software": "server"}
            for service, image in servers.items()
        ),
        seconds=4.2,
        hosts=tuple(_host(name, plans) for name in names),
        waivers=waivers.told(WAIVERS, controls, TODAY),
        at=AT,
    )


def _controls(
    host: str, plans: dict[str, StackPlan], found: dict[tuple[str, str | None], Verdict]
) -> Iterator[Control]:
    for case in cases(host, plans):
        verdict = found.get((case.entry.id, case.service))
        if verdict is None:
            idle = case.entry.id.startswith(DOES_NOT_APPLY) and (case.service or "x")[0] in "agnx"
            verdict = Verdict("not_applicable", "has none") if idle else Verdict("pass", "as planned")
        verdict = waivers.apply(verdict, case.entry.id, host, case.service, WAIVERS, TODAY)
        yield result(case, verdict)


def _host(name: str, plans: dict[str, StackPlan]) -> HostReport:
    services = [(stack, service) for stack, plan in plans.items() for service in plan.services.values()]
    usage = []
    for number, (stack, service) in enumerate(services):
        share = 0.93 if service.name == "loki" else (number * 37 % 60 + 12) / 100
        used = None if service.restart == "no" else int(share * service.memory_bytes)
        usage.append(Usage(stack, service.name, service.memory_bytes, used, service.memory_bytes))
    images: dict[str, list[str]] = {}
    for stack, service in services:
        images.setdefault(service.image.partition("@")[0], []).append(f"{stack}/{service.name}")
    ends = [
        Expiry("certificate", stack, f"{service.name}/{file}", since, until)
        for stack, service in services
        for file, since, until in (
            ("ca.crt", "2026-09-01T00:00:00Z", "2036-08-29T00:00:00Z"),
            ("server.crt", "2026-10-20T00:00:00Z", "2026-12-13T00:00:00Z"),
        )
        if file in service.secrets
    ]
    ends.append(Expiry("secret", "app", "stripe_api_key", "2026-10-01T00:00:00Z", "2026-12-30T00:00:00Z"))
    secrets = sorted({(stack, secret) for stack, service in services for secret in service.rotations})
    ends += [
        Expiry("secret", stack, secret, f"2026-{10 - number % 3:02}-1{number % 9}T08:00:00Z", None)
        for number, (stack, secret) in enumerate(secrets)
    ]
    rows = [
        {"scope": "service", "name": "api", "facet": "memory"},
        {"scope": "service", "name": "grafana", "facet": "ports"},
    ]
    history = [
        {"at": "2026-11-09T02:00:00Z", "drift": 0, "rows": []},
        {
            "at": "2026-11-17T14:10:00Z",
            "drift": 1,
            "rows": [{"scope": "host", "name": "daemon.json", "facet": "daemon_config"}],
        },
        {"at": "2026-11-17T16:00:00Z", "drift": 0, "rows": []},
        {"at": "2026-11-23T08:50:00Z", "drift": 2, "rows": rows},
    ]
    return HostReport(
        name=name,
        versions={
            "engine": "26.1.5+dfsg1",
            "compose": "2.26.1-4",
            "kernel": "6.12.48+deb13-amd64",
            "system": "Debian GNU/Linux 13 (trixie)",
            "architecture": "x86_64",
        },
        memory_bytes=16 * GIB,
        foreign_bytes=GIB // 2,
        usage=tuple(usage),
        images=tuple(
            ImageInUse(
                reference,
                "" if reference.startswith("batten/") else f"sha256:{number:02x}" + "5e71c0d9" * 7 + "a1b2c3",
                f"sha256:{number:02x}" + "9d0c17e5" * 7 + "3c2b1a",
                tuple(sorted(users)),
            )
            for number, (reference, users) in enumerate(sorted(images.items()))
        ),
        expiries=tuple(ends),
        drift={"at": "2026-11-23T09:20:00Z", "count": 2, "history": history},
    )


def main(directory: Path) -> None:
    """Write what a person should look at after a change of the page."""
    from batten.report.html import html
    from tests.browser import started

    text = html(report(), inventory="inventories/selfhosted")
    (directory / "report.html").write_text(text)
    with started() as browser:
        page = browser.open(text)
        for width in (360, 768, 1280):
            for scheme in ("light", "dark"):
                page.look(width, 2000, scheme)
                page.screenshot(directory / f"{width}-{scheme}.png")
        (directory / "report.pdf").write_bytes(page.pdf())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
