"""Role host on a real host, seen from the host itself and from a second one on the same link.

The tests are a story on one host, told in order: each leaves the rules of the role's defaults loaded.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.site import Run, finished, inventory, play
from tests.rig import hosts, images, registry

ROOT = Path(__file__).parents[2]
METADATA = "169.254.169.254"
OWN = "172.29.99.10"
STACK = {"stack_name": "app", "stack_build": "host", "stack_domain": "app.example.org"}  # it publishes 80 and 443
ANSWERS = """
import socket, sys
for target in sys.argv[1:]:
    address, _, port = target.rpartition(":")
    try:
        with socket.create_connection((address.strip("[]"), int(port)), 3) as connection:
            connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            print(bool(connection.recv(4)))
    except OSError:
        print(False)
"""
SERVE = "python3 -m http.server --bind :: --directory /tmp"


class Role:
    """Runs playbooks/host.yml on one host, and asks what is reached on it."""

    def __init__(self, host: hosts.Host, outside: hosts.Host, directory: Path) -> None:
        self.host, self.outside, self.directory = host, outside, directory
        self.inventory = inventory(directory, {host.name: STACK})

    def run(self, *options: str, playbook: str = "playbooks/host.yml", **variables: Any) -> dict[str, Any]:
        """Return the module's result."""
        done: Run = finished(play(playbook, self.inventory, self.directory, options, variables), self.host.name)
        assert done.code == 0, done.failed or done.output
        return dict(next(iter(done.tasks.values())))

    def from_outside(self, *targets: str) -> list[bool]:
        return self._answers(self.outside.run(["python3", "-c", ANSWERS, *targets]).stdout)

    def from_itself(self, *targets: str) -> list[bool]:
        return self._answers(self.host.run(["python3", "-c", ANSWERS, *targets]).stdout)

    def from_a_container(self, *targets: str) -> list[bool]:
        return self._answers(self.host.run(["docker", "exec", "planned", "python3", "-c", ANSWERS, *targets]).stdout)

    def _answers(self, printed: str) -> list[bool]:
        return [line == "True" for line in printed.split()]

    @property
    def planned(self) -> list[str]:
        v4, v6 = self.host.addresses()
        return [f"{v4}:80", f"[{v6}]:80"]

    @property
    def others(self) -> list[str]:
        """A port that no plan publishes, and a container's own address, past its port on the host."""
        return [f"{self.host.address}:8080", f"{OWN}:8000"]

    def sources(self, body: str) -> str:
        """Run ``body`` on the host with batten's host modules."""
        tar = "tar -C /root/batten -x"
        words = ["tar", "-C", str(ROOT / "plugins"), "--exclude=__pycache__", "-c", "module_utils"]
        packed = base64.b64encode(subprocess.run(words, capture_output=True, check=True).stdout).decode()
        self.host.run(f"mkdir -p /root/batten && base64 -d | {tar}", stdin=packed)
        head = "import sys; sys.path.insert(0, '/root/batten')\n"
        return self.host.run(["python3", "-"], stdin=head + body).stdout


@pytest.fixture(scope="module")
def role(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Role]:
    registry.ensure_registry()
    images.ensure_images()
    host = hosts.start(f"batten-host-role-{os.getpid()}", "engine")
    outside = hosts.start(f"batten-outside-{os.getpid()}", "base")
    try:
        daemon = {"live-restore": True, "userland-proxy": False, "registry-mirrors": [registry.mirror_url()]}
        # What Engine 27 and newer do by themselves.
        daemon |= {"experimental": True, "ip6tables": True}
        host.put("/etc/docker/daemon.json", json.dumps(daemon))
        subnets = "--subnet fd00:172:16::/64 --subnet 172.29.99.0/24"
        host.run(f"systemctl restart docker && docker network create --ipv6 {subnets} both")
        # An address that stays over a reboot: only to this one does the outside know a way.
        for name, more in {
            "planned": f"-p 80:8000 --ip {OWN}",
            "forgotten": "-p 8080:8000",
            "console": "-p 127.0.0.1:9000:8000",
        }.items():
            host.run(
                f"docker run -d --name {name} --network both --restart always {more} python:3.13-slim {SERVE} 8000"
            )
        outside.run(f"ip route add {OWN}/32 via {host.address}")
        outside.run(f"ip address add {METADATA}/32 dev eth0 && systemd-run --quiet {SERVE} 80")
        host.run(f"ip route add {METADATA}/32 via {outside.address}")
        yield Role(host, outside, tmp_path_factory.mktemp("role"))
    finally:
        host.remove()
        outside.remove()


def wait_until_served(role: Role) -> None:
    """The containers answer on the host itself, which no rule of ours concerns."""
    deadline = time.monotonic() + 120
    while role.from_itself("127.0.0.1:80", "127.0.0.1:8080", "127.0.0.1:9000") != [True] * 3:
        assert time.monotonic() < deadline, role.host.run("docker ps -a").stdout
        time.sleep(1)


def test_without_the_role_everything_is_open(role: Role) -> None:
    wait_until_served(role)
    assert role.from_outside(*role.planned, *role.others) == [True] * 4
    assert role.from_a_container(f"{METADATA}:80") == [True]


def test_check_run_check_run_and_a_change(role: Role) -> None:
    first = role.run("--check")
    assert {one["facet"] for one in first["differences"]} >= {"firewall", "sysctl", "core_dumps", "upgrades"}
    assert role.host.run("nft list table inet batten; ls /etc/batten /var/lib/batten", check=False).stdout == ""
    results = [first, role.run()]
    assert any("forgotten publishes tcp 8080" in warning for warning in results[1]["warnings"])
    results += [role.run("--check"), role.run()]
    more = {"host_firewall_allow": [{"port": 8080}]}
    results += [role.run("--check", **more), role.run(**more)]
    assert role.from_outside(role.others[0]) == [True]
    results += [role.run(**more), role.run()]
    assert [one["changed"] for one in results] == [True, True, False, False, True, True, False, True]


def closed(role: Role) -> None:
    assert role.from_outside(*role.planned, *role.others) == [True, True, False, False]
    assert role.from_itself("127.0.0.1:8080", "127.0.0.1:9000", f"{METADATA}:80") == [True] * 3
    assert role.from_a_container(f"{METADATA}:80") == [False]


def test_only_what_the_plan_publishes_is_reached(role: Role) -> None:
    closed(role)


def test_a_neighbour_does_not_reach_what_is_published_on_loopback(role: Role) -> None:
    """It routes 127.0.0.1 to the host, as an engine before 28 lets it; see the rule in chain prerouting."""
    role.outside.run(
        "sysctl -qw net.ipv4.conf.all.route_localnet=1 && ip route del local 127.0.0.0/8 dev lo table local && "
        f"ip route del local 127.0.0.1 dev lo table local && ip route add 127.0.0.1/32 via {role.host.address}"
    )
    assert role.from_outside("127.0.0.1:9000") == [False]
    counted = role.host.run("nft list chain inet batten prerouting").stdout
    assert "ip daddr 127.0.0.0/8 counter packets 0" not in counted, "it never came to the host"


def test_rules_stay_when_docker_or_nftables_restarts_and_after_a_reboot(role: Role) -> None:
    role.host.run("systemctl restart docker")
    wait_until_served(role)
    closed(role)
    role.host.run("systemctl start nftables && systemctl restart nftables")  # its file begins with: flush ruleset
    # systemctl waits for nftables itself, and not for what restarts with it.
    deadline = time.monotonic() + 60
    while "batten" not in role.host.run("nft list tables").stdout:
        assert time.monotonic() < deadline, role.host.run("systemctl status batten-firewall", check=False).stdout
        time.sleep(0.2)
    role.host.run(
        "systemctl disable --quiet nftables; systemctl reset-failed docker; systemctl restart docker"
    )  # Docker's own rules were flushed too
    role.host.run(
        "docker stop --time 0 planned forgotten console"
    )  # else the shutdown waits for them, see live-restore
    role.host.reboot()
    role.host.run(f"ip route add {METADATA}/32 via {role.outside.address}")
    wait_until_served(role)
    closed(role)
    assert role.run()["changed"] is False
    assert role.sources(LOOK).split() == []


LOOK = """
from module_utils import host_state
print(*(one.facet for one in (*host_state.of_engine(), *host_state.of_host())))
"""
DAMAGE = {
    "firewall": "nft add element inet batten anywhere '{ tcp . 8080 }'",
    "sysctl": "sysctl -qw net.ipv4.conf.all.send_redirects=1",
    "core_dumps": "echo '* hard core unlimited' >>/etc/security/limits.d/50-batten.conf",
    "upgrades": "systemctl disable --quiet --now apt-daily-upgrade.timer",
    "group": "gpasswd -a daemon docker",
    "mode": "chmod 0666 /etc/docker/daemon.json",
    "owner": "chown daemon /etc/docker",
}


def test_each_change_by_hand_is_found_by_its_facet_and_repaired_by_one_run(role: Role) -> None:
    for facet, damage in DAMAGE.items():
        role.host.run(damage)
        assert facet in role.sources(LOOK).split(), facet
    assert sorted(set(role.sources(LOOK).split())) == sorted(DAMAGE)
    result = role.run()
    assert {one["facet"] for one in result["differences"]} == set(DAMAGE)
    assert role.sources(LOOK).split() == []
    closed(role)


def test_what_is_changed_on_purpose_is_left_until_its_last_day(role: Role) -> None:
    name = "net.ipv4.conf.all.send_redirects"
    role.host.run(f"sysctl -qw {name}=1")
    rule = {"facet": "sysctl", "name": name, "policy": "report", "reason": "a trial", "until": "2099-01-31"}
    assert [one["facet"] for one in role.run(host_drift=[rule])["differences"]] == []
    assert role.host.run(f"sysctl -n {name}").stdout == "1\n"
    assert [one["name"] for one in role.run(host_drift=[{**rule, "until": "2020-01-31"}])["differences"]] == [name]
    assert role.run()["changed"] is False


def test_rules_that_nobody_confirms_go_by_themselves(role: Role) -> None:
    before = role.host.run("nft -s list table inet batten").stdout
    role.sources(
        "from module_utils import host_firewall, host_rollback\n"
        "text = host_firewall.render(host_firewall.Rules(), [])\n"
        "print(host_rollback.load(text, 2))\n"
    )
    deadline = time.monotonic() + 60
    while role.host.run("nft -s list table inet batten").stdout != before:
        assert time.monotonic() < deadline, "the old rules did not come back"
        time.sleep(0.5)
    late = role.sources(
        "from module_utils import host_rollback\nfrom module_utils.errors import BattenError\n"
        "try: host_rollback.confirm('0123')\nexcept BattenError as error: print(error)\n"
    )
    assert "were taken back" in late
    assert role.run()["changed"] is False


def test_ports_follow_the_recorded_plans(role: Role) -> None:
    follow = "from module_utils import host_ports\nprint([one.desired for one in host_ports.follow()])"
    plan = {"services": {"web": {"ports": [{"published": 8080, "protocol": "tcp", "address": None, "target": 1}]}}}
    role.host.put("/var/lib/batten/other/plan.json", json.dumps(plan))
    assert "tcp 8080" in role.sources(follow)
    assert role.from_outside(role.others[0]) == [True]
    role.host.run("rm -r /var/lib/batten/other")
    assert "tcp 8080" not in role.sources(follow)
    assert role.from_outside(role.others[0]) == [False]
    assert role.sources(follow).strip() == "[]"
    role.run()  # what this run's stack will publish is open again
    closed(role)


def test_the_host_s_own_ports_are_closed_when_asked(role: Role) -> None:
    role.host.run(f"systemd-run --quiet --unit=own {SERVE} 7000; systemd-run --quiet --unit=ssh-like {SERVE} 2222")
    targets = [f"{role.host.address}:7000", f"{role.host.address}:2222", *role.planned]
    deadline = time.monotonic() + 60
    while role.from_outside(*targets) != [True] * 4:
        assert time.monotonic() < deadline
        time.sleep(0.5)
    more = {"host_firewall_input": True, "host_firewall_ssh_ports": [2222]}
    assert role.run(**more)["changed"] is True
    assert role.from_outside(*targets) == [False, True, True, True]
    assert role.run()["changed"] is True
    assert role.from_outside(*targets) == [True] * 4


def test_beside_ufw_both_keep_what_is_theirs(role: Role) -> None:
    role.host.run("apt-get update -qq && apt-get install -qq -y --no-install-recommends ufw >/dev/null 2>&1")
    role.host.run("ufw allow 22/tcp && ufw --force enable")
    result = role.run(host_firewall_input=True, host_core_dumps=True)
    assert any("ufw is active: host_firewall_input is left to it" in warning for warning in result["warnings"])
    assert "hook input" not in role.host.run("nft list table inet batten").stdout
    closed(role)
    assert "Status: active" in role.host.run("ufw status").stdout
    assert role.from_outside(f"{role.host.address}:7000") == [False], "ufw closes the host's own ports"
    role.run()
    role.host.run("ufw disable")


def test_absent_takes_ours_away_and_gives_settings_back(role: Role) -> None:
    playbook = role.directory / "absent.yml"
    playbook.write_text(
        "- {hosts: stack, gather_facts: false, tasks: [{name: Off, batten.core.host: {state: absent}}]}\n"
    )
    predicted = role.run("--check", playbook=str(playbook))
    done = role.run(playbook=str(playbook))
    assert predicted["differences"] == done["differences"]
    assert role.run(playbook=str(playbook))["changed"] is False
    left = role.host.run("find /etc -name '*batten*'; find /var/lib/batten -mindepth 1").stdout
    assert left == ""
    assert role.from_outside(*role.planned, *role.others) == [True] * 4
    assert role.host.run("sysctl -n net.ipv4.conf.all.send_redirects").stdout.strip() == "1"
