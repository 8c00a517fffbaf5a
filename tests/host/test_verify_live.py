"""Break the live thing, see the control fail: a representative set of each family, on a rig host.

Every other control is shown to notice its mutation in tests/unit/test_verify_mutations.py; here the question is whether
the batch of reads really sees what an administrator, a person in a hurry or an attacker does to a host.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from batten import verify
from batten.errors import BattenError
from batten.verify import scan
from batten.verify.catalogue import Case, cases, catalogue, judge
from batten.verify.live import endpoints, read
from tests.rig import hosts
from tests.verify import stack

NAME = f"verify-live-{os.getpid()}"


@pytest.fixture(scope="module")
def host() -> Iterator[hosts.Host]:
    started = hosts.start(NAME)
    try:
        stack.deploy(started)
        yield started
    finally:
        started.remove()


def failing(host: hosts.Host) -> set[str]:
    """The controls that fail now."""
    planned = {"small": stack.PLAN}
    directories = [stack.PLAN.backup.directory] if stack.PLAN.backup else []
    live = read(
        host.name,
        host.answer,
        {"small": "small"},
        backups=directories,
        more=endpoints(planned),
    )
    return {case.entry.id for case in cases(host.name, planned) if judge(case, planned, live).status == "fail"}


def test_the_deployed_stack_holds_every_control(host: hosts.Host) -> None:
    assert failing(host) == set()


LIVE = [
    (
        "docker update --memory 64m --memory-swap 96m --memory-reservation 8m --cpus 1 --pids-limit -1 $WEB",
        {
            "limits.memory",
            "limits.memory-cgroup",
            "limits.memory-reservation",
            "limits.swap",
            "limits.swap-cgroup",
            "limits.cpus",
            "limits.cpus-cgroup",
            "limits.pids",
            "limits.pids-cgroup",
        },
    ),
    ("docker update --restart no $WEB", {"lifecycle.restart-policy"}),
    (
        "docker exec $WEB rm /tmp/up; until docker ps --filter health=unhealthy -q | grep -q .; do sleep 0.2; done",
        {"health.healthy"},
    ),
    # Behind the engine's back: only the control group knows.
    (
        """id=$(docker inspect -f '{{.Id}}' $WEB)
        if [ -e /sys/fs/cgroup/cgroup.controllers ]
        then echo max >/sys/fs/cgroup/system.slice/docker-$id.scope/cpu.max
        else echo -1 >/sys/fs/cgroup/cpu/docker/$id/cpu.cfs_quota_us; fi""",
        {"limits.cpus-cgroup"},
    ),
    ("docker kill $WEB", {"lifecycle.running"}),
    ("docker rm -f $WEB", {"lifecycle.present"}),
]


@pytest.mark.parametrize(("command", "noticed"), LIVE, ids=[command[:40] for command, _ in LIVE])
def test_a_container_changed_by_hand_is_noticed(host: hosts.Host, command: str, noticed: set[str]) -> None:
    host.run(f"WEB=small-web-1; {command}")
    try:
        assert noticed - failing(host) == set()
    finally:
        host.run("docker rm -f small-web-1", check=False)
        stack.up(host)
    assert failing(host) == set()


# What a hand that "just gets it to run" writes: keys of the service `web`, laid over its hardened ones.
RECREATED = {
    "privileged": (
        """
    privileged: true
    user: "0"
    pid: host
    ipc: host
    cap_add: [SYS_ADMIN]
    init: false
""",
        {
            "lifecycle.init",
            "privileges.capabilities",
            "privileges.ipc-namespace",
            "privileges.not-privileged",
            "privileges.pid-namespace",
            "privileges.process-capabilities",
            "privileges.process-user",
            "privileges.seccomp",
            "privileges.user",
        },
    ),
    "loosened": (
        """
    cap_drop: []
    security_opt: [seccomp=unconfined]
    read_only: false
    ulimits: {nofile: 2048}
    oom_score_adj: 0
    shm_size: 64m
    logging: {driver: json-file}
    stop_grace_period: 9s
""",
        {
            "lifecycle.stop-grace",
            "limits.nofile",
            "limits.oom-score",
            "limits.shm",
            "logging.driver",
            "logging.readable",
            "privileges.capabilities",
            "privileges.no-new-privileges",
            "privileges.process-capabilities",
            "privileges.read-only",
            "privileges.seccomp",
        },
    ),
    "exposed": (
        """
    ports: ["80:80", "8080:8080"]
    networks: [edge]
    tmpfs: []
    devices: ["/dev/null:/dev/x"]
    environment: {API_TOKEN: abc, DATABASE_URL: 'postgres://u:p@h/d'}
    volumes: ["/var/run/docker.sock:/var/run/docker.sock", "/etc:/host/etc", "/tmp"]
    command: [/bin/sh, -c, exec sleep 100000]
    healthcheck: {test: [CMD, /bin/sh, -c, 'true']}
""",
        {
            "health.check-planned",
            "mounts.docker-socket",
            "mounts.files",
            "mounts.sensitive",
            "mounts.tmpfs",
            "mounts.writable",
            "networks.attached",
            "ports.interfaces",
            "ports.published",
            "privileges.devices",
            "privileges.environment",
            "secrets.mount",
        },
    ),
}


@pytest.mark.parametrize("keys", RECREATED)
def test_a_container_recreated_without_its_hardening_is_noticed(host: hosts.Host, keys: str) -> None:
    written, noticed = RECREATED[keys]
    web = stack.COMPOSE.index("  web:\n")
    end = stack.COMPOSE.index("  ui:\n")
    service = f"  web:\n    <<: *common{written}"
    if "ports:" not in written:
        service += "    networks: [edge, inner]\n"
    try:
        stack.up(host, stack.COMPOSE[:web] + service + stack.COMPOSE[end:])
        assert noticed - failing(host) == set()
    finally:
        stack.up(host)
    assert failing(host) == set()


HOST = [
    ("chmod 0666 /etc/docker/daemon.json", "chmod 0644 /etc/docker/daemon.json", "files.daemon-json"),
    ("chown daemon /etc/docker", "chown root /etc/docker", "files.docker-directory-owner"),
    ("chmod 0666 /run/docker.sock", "chmod 0660 /run/docker.sock", "files.docker-socket"),
    ("chmod 0755 /var/lib/batten", "chmod 0700 /var/lib/batten", "files.batten-state"),
    ("chmod 0644 /var/log/batten/audit.jsonl", "chmod 0600 /var/log/batten/audit.jsonl", "files.batten-audit"),
    (
        "chmod 0666 /opt/batten/small/files/web/0123abcd/web.conf",
        "chmod 0644 /opt/batten/small/files/web/0123abcd/web.conf",
        "files.release",
    ),
    (
        "chmod 0444 /opt/batten/small/secrets/web/password",
        "chmod 0400 /opt/batten/small/secrets/web/password",
        "secrets.files",
    ),
    ("mv $SEALED /tmp", "mv /tmp/secrets.cred $SEALED", "secrets.at-rest"),
    # Delivered, and not reloaded.
    (f"cd /opt/batten/small; {stack.LEAF}", "docker restart -t 1 small-store-1", "certificates.served"),
    ("umount -l /opt/batten/small/secrets", "true", "secrets.memory-only"),
    ("gpasswd -a daemon docker", "gpasswd -d daemon docker", "daemon.docker-group"),
    ("systemctl disable batten-stack@small", "systemctl enable batten-stack@small", "lifecycle.boot"),
    (
        "docker run -d --name intruder --network small_inner shell:1 sleep 1000",
        "docker rm -f intruder",
        "networks.members",
    ),
    (
        "docker network create --label com.docker.compose.project=small more",
        "docker network rm more",
        "networks.internal",
    ),
    ("docker network connect small_inner small-ui-1", "docker rm -f small-ui-1", "networks.isolated"),
    ("docker exec -d -u 0 small-web-1 sleep 1000", "docker restart -t 1 small-web-1", "privileges.exec-user"),
    ("docker swarm init", "docker swarm leave --force", "daemon.no-swarm"),
]


@pytest.mark.parametrize(("damage", "repair", "control"), HOST, ids=[control for *_, control in HOST])
def test_a_host_changed_by_hand_is_noticed(host: hosts.Host, damage: str, repair: str, control: str) -> None:
    if control == "secrets.memory-only":
        repair = "cd /opt/batten/small; mount -t tmpfs -o noswap,mode=0711 s secrets; " + stack.SECRETS
    if control == "daemon.no-swarm":
        # The engine refuses a swarm while live-restore is on.
        damage, repair = f"{_LIVE_RESTORE.format('false')} && {damage}", f"{repair}; {_LIVE_RESTORE.format('true')}"
    sealed = "SEALED=/var/lib/batten/small/secrets.cred; "
    host.run(sealed + damage)
    try:
        assert control in failing(host)
    finally:
        host.run(sealed + repair)
        if control == "secrets.memory-only":
            host.run("docker rm -f small-web-1 small-store-1")
        stack.up(host)
    assert failing(host) == set()


_LIVE_RESTORE = (
    """sed -Ei 's/("live-restore": )[a-z]+/\\1{}/' /etc/docker/daemon.json; systemctl reload docker; sleep 1"""
)


# An engine (26.1.5) that begins without live-restore kills the containers that one with it left running and starts them
# anew. It may then take the end of an old one, told late, for the new one's: it kills and starts that again and again.
STOP = "docker ps -q | xargs -r docker stop -t 1"


def test_an_engine_with_its_defaults_is_noticed(host: hosts.Host) -> None:
    noticed = {
        "daemon.live-restore",
        "daemon.userland-proxy",
        "daemon.icc",
        "daemon.no-new-privileges",
        "daemon.log-driver",
        "daemon.insecure-registries",
        "logging.journal-complete",
        "logging.journal-persistent",
        "logging.journal-bounded",
    }
    host.put("/etc/docker/daemon.json", json.dumps({"insecure-registries": ["10.0.0.0/8"]}))
    host.run("mv /etc/systemd/system/docker.service.d /root/; mv /etc/systemd/journald.conf.d /var/log/journal /root/")
    # However soon after other starts (docker.service has StartLimitBurst=).
    restart = "systemctl daemon-reload; systemctl reset-failed docker; systemctl restart systemd-journald docker"
    try:
        host.run(f"{STOP}; {restart}")
        stack.up(host)
        assert noticed - failing(host) == set()
    finally:
        host.run("rm -rf /var/log/journal; mv /root/docker.service.d /root/journald.conf.d /etc/systemd/system/; true")
        host.run("mv /etc/systemd/system/journald.conf.d /etc/systemd/; mv /root/journal /var/log/")
        host.put("/etc/docker/daemon.json", stack.DAEMON)
        host.run(f"{STOP}; {restart}")
        host.run("docker rm -f small-web-1 small-store-1 small-migrate-1")
        stack.up(host)
    assert failing(host) == set()


def test_a_port_that_answers_another_host_is_noticed(host: hosts.Host) -> None:
    """Seen from a second host, and from this machine, which shares a network with it."""
    key = "-v /opt/batten/small/secrets/store:/s:ro --user 999 shell:1"
    serve = "openssl s_server -quiet -accept 8443 -cert /s/server.crt -key /s/server.key"
    host.run(f"docker run -d --name stranger -p {host.address}:5432:8443 {key} {serve}")
    second = hosts.start(f"{NAME}-2", image="base")
    try:
        live = read(host.name, host.answer, {"small": "small"})
        away = scan.from_host(second.answer)
        for vantage in (away, scan.from_here):
            seen = scan.outside(live, [stack.PLAN], [vantage])
            assert seen[host.address][5432] == "open"
            case = Case(catalogue()["ports.outside"], host.name)
            told = {"host_firewall": True}
            verdict = judge(case, {"small": stack.PLAN}, dataclasses.replace(live, outside=seen), told)
            assert (verdict.status, f"{host.address}:5432" in verdict.evidence) == ("fail", True)
    finally:
        second.remove()
        host.run("docker rm -f stranger")


def test_the_whole_suite_runs_as_batten_verify_does(host: hosts.Host, tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(
        json.dumps({"stack": {"hosts": {host.name: {"ansible_connection": "community.docker.docker"}}}})
    )
    (tmp_path / "waivers.yaml").write_text("- {control: limits.pids, reason: tried here, expires: 2999-01-01}\n")
    host.run("docker update --pids-limit 30 small-web-1")
    report = verify.run(inventory, plans={host.name: {"small": stack.PLAN}})
    host.run("docker update --pids-limit 20 small-web-1")
    statuses = {control.id: control.status for control in report.controls if control.service in (None, "web")}
    assert statuses.keys() == catalogue().keys()
    assert (statuses["limits.pids"], statuses["limits.pids-cgroup"]) == ("waived", "fail")
    assert (report.counts["fail"], report.exit_code) == (1, 2)


def test_a_login_that_is_not_root_reads_through_sudo_or_says_why_not(host: hosts.Host) -> None:
    host.run("useradd -m ann")

    def as_ann(command: str) -> hosts.Answer:
        return host.answer(command, user="ann")

    with pytest.raises(BattenError, match="sudo refused"):
        read(host.name, as_ann, {"small": "small"})
    host.run("echo 'ann ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/ann")
    assert read(host.name, as_ann, {"small": "small"}).facts["uid"] == "0"


def test_an_engine_that_is_down_is_an_error_that_says_what_to_type(host: hosts.Host) -> None:
    host.run("systemctl stop docker.socket docker.service")
    try:
        with pytest.raises(BattenError, match="the Docker engine does not answer") as caught:
            failing(host)
    finally:
        host.run("systemctl start docker.socket docker.service")
    assert "systemctl status docker" in caught.value.fix
