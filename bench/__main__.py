"""`python -m bench NAME`: measure, print and write the figures as JSON."""

from __future__ import annotations

import argparse
import json
import re
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import drift_hosts, drift_matrix, plan_size
from bench.timing import BIN, DEMO, ROOT, Timed, medians, timed
from tests.host.site import Site
from tests.host.underload import Load
from tests.rig import base, hosts, registry


def playbook(inventory: Path, *more: str) -> Timed:
    """Run site.yml."""
    return timed(str(BIN / "ansible-playbook"), "site.yml", "-i", str(inventory), *more)


def rerun() -> dict[str, object]:
    """A run that finds nothing to change, against a ping of the same host."""
    hosts.get("batten-demo")
    playbook(DEMO)
    second = playbook(DEMO).output
    recap = re.search(r"ok=(\d+)\s+changed=(\d+)", second)
    if not recap or recap[2] != "0":
        raise SystemExit(f"the second run changed something:\n{second[-4000:]}")
    ping = (str(BIN / "ansible"), "all", "-m", "ping", "-i", str(DEMO))
    run, pinged = medians(5, lambda: playbook(DEMO), lambda: timed(*ping))
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return {
        "site_seconds": run,
        "ping_seconds": pinged,
        "ratio": round(run / pinged, 2),
        "tasks": int(recap[1]),
        "controller_peak_mb": round(peak / 1024),
    }


def cold() -> dict[str, object]:
    """A bare host to a running stack, against the same by hand on a second bare host."""
    ours, theirs = hosts.start("batten-bench-cold", "base"), hosts.start("batten-bench-hand", "base")
    try:
        inventory = _inventory(ours.name)
        run = playbook(inventory)
        _copy_release(ours, theirs)
        started = time.monotonic()
        theirs.run(_by_hand(), timeout=1800)
        by_hand = time.monotonic() - started
    finally:
        ours.remove()
        theirs.remove()
    return {
        "site_seconds": round(run.seconds, 1),
        "by_hand_seconds": round(by_hand, 1),
        "ratio": round(run.seconds / by_hand, 2),
    }


def _inventory(host: str) -> Path:
    """Return the demo's inventory for another host, made in a folder that git ignores."""
    folder = ROOT / ".cache" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    # By hand there is no Infisical either.
    text = (DEMO / "hosts.yml").read_text().replace("batten-demo:", f"{host}:\n      infisical_mode: none")
    (folder / "hosts.yml").write_text(text)
    link = folder / "group_vars"
    if not link.exists():
        link.symlink_to(DEMO / "group_vars")
    return folder


def _copy_release(source: hosts.Host, target: hosts.Host) -> None:
    """Give the second host the layers, the mounted files and the credentials that a person would have written."""
    pack = "cd / && tar -c --exclude=./opt/batten/*/dumps opt/batten | base64"
    target.run("base64 -d | tar -C / -x", stdin=source.run(pack).stdout)
    for ours, theirs in zip(source.addresses(), target.addresses(), strict=True):
        target.run(f"sed -i 's/{ours}/{theirs}/' /opt/batten/demo/releases/*/compose.selfhosted.yaml")
    target.run(f"""mkdir -p /etc/docker /var/log/journal && cat >/etc/docker/daemon.json <<'EOF'
{{"registry-mirrors": ["{registry.mirror_url()}"]}}
EOF""")


def _by_hand() -> str:
    return """set -e
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -qy --no-install-recommends install docker.io docker-cli docker-compose iptables
cd /opt/batten/demo/current
compose() {
  docker compose -p demo --project-directory /opt/batten/demo/base --profile observability \\
    -f compose.yaml -f compose.prod.yaml -f compose.selfhosted.yaml "$@"
}
compose up -d --wait postgres
cd /opt/batten/demo/secrets
docker exec -i demo-postgres-1 psql -U postgres <<SQL
CREATE ROLE app;
CREATE ROLE app_a LOGIN PASSWORD '$(sed -E 's,^[^:]*://[^:]*:([^@]*)@.*,\\1,' api/database_url)' IN ROLE app;
ALTER ROLE app_a SET role = 'app';
CREATE ROLE exporter LOGIN PASSWORD '$(cat postgres-exporter/password)' IN ROLE pg_monitor;
CREATE DATABASE app OWNER app;
SQL
cd /opt/batten/demo/current
compose create
chown -R 1000:1000 /var/lib/docker/volumes/demo_caddy-*/_data
chown -R 473:473 /var/lib/docker/volumes/demo_alloy-data/_data
compose up -d --wait
"""


def plan() -> dict[str, object]:
    """`batten plan` against reading the same inventory."""
    inventory = str(ROOT / "inventories" / "selfhosted")
    planned = (str(BIN / "batten"), "plan", "-i", inventory, "--memory", "8G", "--cpus", "4")
    listed = (str(BIN / "ansible-inventory"), "-i", inventory, "--list")
    ours, theirs = medians(5, lambda: timed(*planned), lambda: timed(*listed))
    return {"plan_seconds": ours, "inventory_seconds": theirs, "difference_seconds": round(ours - theirs, 2)}


def harden() -> dict[str, object]:
    """`batten harden` of one file of three services, as a process."""
    services = {name: {"image": image} for name, image in (("web", "caddy:2"), ("db", "postgres:17"), ("c", "redis:8"))}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "compose.yaml"
        file.write_text(json.dumps({"services": services}))
        words = (str(BIN / "batten"), "harden", str(file), "--memory", "8G", "--cpus", "4", "-o", f"{scratch}/out")
        return {"harden_seconds": medians(5, lambda: timed(*words))[0]}


def secrets() -> dict[str, object]:
    """Forty secrets and no change: the host's look at Infisical with all its deliveries, and the task around it."""
    hosts.get("batten-demo")
    more = {f"bench_{number}": {"generator": "password"} for number in range(40)}
    given = ROOT / ".cache" / "bench" / "secrets.json"
    given.parent.mkdir(parents=True, exist_ok=True)
    given.write_text(
        json.dumps(
            {"stack_secrets": more, "stack_services": {"api": {"secrets": {name: {"secret": name} for name in more}}}}
        )
    )
    words = (str(BIN / "ansible-playbook"), "playbooks/secrets.yml", "-i", str(DEMO), "-e", f"@{given}")
    timed(*words)
    ping = (str(BIN / "ansible"), "all", "-m", "ping", "-i", str(DEMO))
    sync = ("docker", "exec", "batten-demo", "python3", "/usr/local/lib/batten/batten-host.pyz", "sync", "demo")
    task, pinged, looked = medians(5, lambda: timed(*words), lambda: timed(*ping), lambda: timed(*sync))
    return {"playbook_seconds": task, "ping_seconds": pinged, "on_the_host_seconds": looked}


KINDS = {
    "postgres_role": "app_password",
    "postgres": "exporter_password",
    "pgbouncer": "pgbouncer_stats_password",
    "tls": "postgres_tls",
    "restart": "stack_auth_server_secret",
    "redis": "infisical/redis_password",
    "infisical_identity": "infisical_identity",
}


def rotate() -> dict[str, object]:
    """Every rotatable secret at once under load, then one of each kind: what failed, who was away, how long it took."""
    site = Site(
        hosts.start("batten-bench-rotate", "base"),
        Path(tempfile.mkdtemp()),
        stack_name="demo",
        stack_domain="rotation.localhost",
        stack_profiles=["observability", "auth"],
        stack_images={"api": "batten/sample-api:1.0.0"},
    )
    try:
        site.up()
        return {"all": _rotated(site, "--all"), **{kind: _rotated(site, name) for kind, name in KINDS.items()}}
    finally:
        site.host.remove()


def _rotated(site: Site, what: str) -> dict[str, object]:
    load = Load(site)
    stacks = site.batten("rotate", what)["hosts"][site.host.name]["stacks"]
    found = load.end()
    failed = {name: len(found.pop(name)) for name in ("failed_requests", "failed_transactions")}
    return {**found, **failed, "steps": {name: one["seconds"] for name, one in stacks.items() if one["rotated"]}}


BENCHMARKS: dict[str, Callable[[], dict[str, object]]] = {
    "rerun": rerun,
    "cold": cold,
    "plan": plan,
    "plan-size": plan_size.sizes,
    "harden": harden,
    "secrets": secrets,
    "rotate": rotate,
    "drift-matrix": drift_matrix.matrix,
    **drift_hosts.BENCHMARKS,
}

ON_THE_CONTROLLER = {"plan", "plan-size", "harden"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--out", type=Path, default=ROOT / ".cache" / "bench.json")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"unknown benchmark {min(unknown)!r}; there are {', '.join(BENCHMARKS)}")
    if set(options.names or BENCHMARKS) - ON_THE_CONTROLLER:
        base.base()
    figures = {name: BENCHMARKS[name]() for name in options.names or BENCHMARKS}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
