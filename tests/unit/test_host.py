"""The host under the engine: what it should be, and how that is compared. No host is touched."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import (
    atomic,
    command,
    host,
    host_act,
    host_facts,
    host_items,
    host_live,
    host_ports,
    host_rollback,
    host_rules,
    host_state,
    host_wanted,
)
from ansible_collections.batten.core.plugins.module_utils.engine_packages import Package
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError
from ansible_collections.batten.core.plugins.module_utils.host_facts import Facts
from ansible_collections.batten.core.plugins.module_utils.host_firewall import Rules
from ansible_collections.batten.core.plugins.module_utils.host_items import Item

SERVER = Facts(
    audited=("/usr/bin/dockerd", "/var/lib/docker", "/etc/docker"), ssh=(22,), keepers=("systemd-timesyncd",)
)
OPTIONS = host_wanted.Options(
    sysctls={"net.ipv4.tcp_syncookies": 1, "kernel.dmesg_restrict": 1, "fs.suid_dumpable": None}
)


def facets(options: host_wanted.Options, facts: Facts) -> set[str]:
    return {item.facet for item in host_wanted.items(options, facts, {})}


def test_a_server_gets_everything_and_a_container_what_it_can_own() -> None:
    everything = {"firewall", "audit", "sysctl", "core_dumps", "time", "upgrades", "group", "owner", "mode", "swap"}
    assert facets(OPTIONS, SERVER) == everything
    in_container = replace(SERVER, container=True)
    assert facets(OPTIONS, in_container) == everything - {"audit", "time", "swap"}
    names = [item.name for item in host_wanted.items(OPTIONS, in_container, {}) if item.kind == "sysctl"]
    assert names == ["net.ipv4.tcp_syncookies"]


@pytest.mark.parametrize(
    ("off", "gone"),
    [
        ({"firewall": False}, {"firewall"}),
        ({"audit": False}, {"audit"}),
        ({"sysctls": {}}, {"sysctl"}),
        ({"core_dumps": True}, {"core_dumps"}),
        ({"time": False}, {"time"}),
        ({"unattended_upgrades": False}, {"upgrades"}),
        ({"docker_group": False}, {"group"}),
        ({"docker_files": False}, {"owner", "mode"}),
    ],
)
def test_each_part_is_turned_off_by_itself(off: dict[str, Any], gone: set[str]) -> None:
    assert facets(OPTIONS, SERVER) - facets(replace(OPTIONS, **off), SERVER) == gone


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"firewall_allow": ({"port": 70000, "protocol": "tcp"},)}, "70000 is no port"),
        ({"firewall_allow": ({"port": 80, "protocol": "tcp", "from": ["ten"]},)}, "'ten' is no network"),
        ({"sysctls": {"net.ipv4": True}}, "is no value"),
        ({"sysctls": {"net/ipv4": 1}}, "is no kernel setting"),
        ({"unattended_reboot": "4:30"}, "is no time of day"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BattenError, match=said):
        host_wanted.items(replace(OPTIONS, **options), SERVER, {})


def test_what_is_there_already_is_no_difference_and_everything_else_is() -> None:
    items = host_wanted.items(OPTIONS, SERVER, {})
    live = {item.key: item.value for item in items}
    assert host_items.compare(items, live) == []
    nothing = {item.key: None for item in items}
    found = {(one.facet, one.name) for one in host_items.compare(items, nothing)}
    missing = {"owner", "mode", "sysctl", "group"}  # a file, a setting or a group that is not there is no difference
    assert found == {(item.facet, item.name) for item in items if item.kind not in missing}


@pytest.mark.parametrize(
    ("item", "actual", "same"),
    [
        (Item("mode", "mode", "/etc/docker", "0755"), "0700", True),
        (Item("mode", "mode", "/etc/docker", "0755"), "0757", False),
        (Item("owner", "owner", "/etc/docker", "root:root"), "daemon:root", False),
        (Item("sysctl", "sysctl", "kernel.yama.ptrace_scope", "1"), "2", True),
        (Item("sysctl", "sysctl", "kernel.yama.ptrace_scope", "1"), "0", False),
        (Item("sysctl", "sysctl", "net.ipv4.ip_local_port_range", "1024 65535"), "1024\t65535", True),
        (Item("sysctl", "sysctl", "net.ipv4.tcp_syncookies", "1"), "2", False),
        (Item("group", "group", "docker", []), ["ann"], False),
        (Item("unit", "audit", "auditd.service", "enabled, active"), "enabled, failed", False),
    ],
)
def test_what_counts_as_the_same(item: Item, actual: Any, same: bool) -> None:
    assert host_items.holds(item, actual) is same


def test_of_a_file_only_the_lines_that_differ_are_told() -> None:
    item = Item("file", "sysctl", "/etc/x", "one\ntwo\n")
    found = host_items.compare([item], {item.key: "one\nthree\n"})
    assert (found[0].desired, found[0].actual) == (["two"], ["three"])


def test_of_audit_rules_only_those_that_differ_are_told() -> None:
    item = Item("audit", "audit", "audit rules", ["/etc/docker", "/var/lib/docker"], "reload")
    found = host_items.compare([item], {item.key: ["/etc/docker", "/srv"]})
    assert (found[0].desired, found[0].actual) == (["/var/lib/docker"], ["/srv"])


def table(digest: str = "aa", listing: tuple[str, ...] = ("x",), version: str = "v1.1") -> dict[str, Any]:
    return {"digest": digest, "listing": list(listing), "version": version}


@pytest.mark.parametrize(
    ("actual", "told"),
    [
        (table(), None),
        (None, ("loaded", "absent")),
        (table(digest="bb"), ("rules aa", "rules bb")),
        (table(listing=("x", "tcp dport 22 drop")), ([], ["tcp dport 22 drop"])),
        (table(listing=("y",), version="v1.2"), None),  # another nft lists the same rules otherwise
    ],
)
def test_rules_that_somebody_edited_are_told(actual: dict[str, Any] | None, told: tuple[Any, Any] | None) -> None:
    item = Item("table", "firewall", "nftables", table())
    found = host_items.compare([item], {item.key: actual})
    assert [(one.desired, one.actual) for one in found] == ([told] if told else [])


def test_a_record_is_read_as_it_was_written() -> None:
    items = host_wanted.items(OPTIONS, SERVER, {})
    assert host_items.from_json([item.to_json() for item in items]) == items


def test_what_is_no_longer_wanted_goes_but_no_package_owner_or_member() -> None:
    record = {"items": [item.to_json() for item in host_wanted.items(OPTIONS, SERVER, {})]}
    wanted = host_wanted.items(replace(OPTIONS, firewall=False, docker_group=False, docker_files=False), SERVER, {})
    assert {one.kind for one in host.left(record, wanted)} == {"file", "table", "unit"}
    assert host.left(record, host_wanted.items(OPTIONS, SERVER, {})) == []


def test_a_listing_is_remembered_as_long_as_the_rules_are_the_same() -> None:
    wanted = host_wanted.firewall_items(host_wanted.Rules(), [("", "tcp", 443)])
    kept = [
        replace(one, value={**one.value, "listing": ["as loaded"]}) if one.kind == "table" else one for one in wanted
    ]
    record = {"items": [one.to_json() for one in kept]}
    assert host.remembered(wanted, record) == kept
    other = host_wanted.firewall_items(host_wanted.Rules(), [])
    assert host.remembered(other, record) == other


def test_of_containers_only_people_s_changes_are_recorded() -> None:
    text = host_rules.audit_text(["/usr/bin/dockerd", "/var/lib/docker"])
    rules = [line for line in text.splitlines() if not line.startswith("#")]
    assert rules == [
        "-a always,exit -F arch=b64 -F path=/usr/bin/dockerd -F perm=x -F auid!=unset -F key=batten",
        "-a always,exit -F arch=b64 -F dir=/var/lib/docker -F perm=wa -F auid!=unset -F key=batten",
    ]
    listed = (
        text.replace("auid!=unset", "auid!=-1") + "-w /etc/passwd -p wa -k identity\n-w /etc/docker -p wa -k batten\n"
    )
    assert host_live.watched(listed) == ["/etc/docker", "/usr/bin/dockerd", "/var/lib/docker"]
    assert host_live.watched("No rules\n") == []


@pytest.mark.parametrize(("enabled", "told"), [("1", ["/etc/docker"]), ("2", ["/etc/docker"]), ("0", [])])
def test_rules_that_the_kernel_does_not_act_on_are_none(
    enabled: str, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen on a virtual machine: after `auditctl -e 0` all rules are still listed."""
    said = {"-l": "-w /etc/docker -p wa -k batten\n", "-s": f"enabled {enabled}\nfailure 1\npid 412\n"}
    monkeypatch.setattr(command, "run", lambda words: CompletedProcess(words, 0, said[words[1]], ""))
    item = Item("audit", "audit", "audit rules", ["/etc/docker"], "reload")
    assert host_live.read([item])[item.key] == told


def test_what_is_watched_is_there_before_the_rules_are_loaded() -> None:
    """Seen on a virtual machine: a second run found /etc/batten, which the first had made; and a rule below a directory
    that is not there, as /run/containerd is not at boot, keeps all that follow it from being loaded."""
    before = host_rules.audit(["/run/containerd", "/usr/bin/dockerd"], debian=True)
    after = host_rules.audit([*host_rules.AUDITED], debian=True)
    assert before == host_rules.audit(["/etc/batten", "/opt/batten", "/run/containerd", "/usr/bin/dockerd"], True)
    places = {item.name: item.value for item in before}[host_rules.AUDIT_PLACES]
    assert [line for line in places.splitlines() if not line.startswith("#")] == [
        "d /etc/batten 0755 root root",
        "d /opt/batten 0755 root root",
        "d /run/containerd 0711 root root",
        "d /var/lib/batten 0700 root root",
    ]
    assert host_rules.places_text(["/run/docker.sock", "/var/lib/docker"]).count("\n") == 1
    assert after[1].value == places


def test_the_engine_is_never_upgraded_by_itself() -> None:
    debian, redhat = host_rules.apt_text("04:30"), host_rules.dnf_service("")
    for name in ("docker-ce", "docker.io", "containerd.io", "runc"):
        assert f'"^{name}$";' in debian
        assert name in redhat.split("--exclude=")[1].split("\n")[0].split(",")
    assert 'Automatic-Reboot-Time "04:30"' in debian
    assert "shutdown" not in redhat
    assert "shutdown -r 04:30" in host_rules.dnf_service("04:30")


def test_files_of_tls_are_those_that_daemon_json_names() -> None:
    items = host_rules.docker_files({"tlskey": "/etc/docker/key.pem"})
    assert Item("mode", "mode", "/etc/docker/key.pem", "0400") in items


def test_units_of_docker_and_containerd_are_root_s() -> None:
    """Seen on a virtual machine: a unit of containerd that anyone may write failed its control and was left so."""
    units = {item.name for item in host_rules.docker_files({}) if item.kind == "mode" and item.value == "0644"}
    assert {
        f"/usr/lib/systemd/system/{name}" for name in ("docker.service", "docker.socket", "containerd.service")
    } <= units


def test_a_bridge_that_only_looks_like_docker_s_is_told_apart() -> None:
    networks: list[dict[str, Any]] = [
        {"Driver": "bridge", "Id": "0123456789abcdef", "Options": {}},
        {"Driver": "bridge", "Id": "fe" * 8, "Options": {"com.docker.network.bridge.name": "br-shop"}},
        {"Driver": "macvlan", "Id": "ab" * 8},
    ]
    present = ["br-0123456789ab", "br-lan", "br-shop", "virbr0"]
    assert host_facts.foreign_bridges(present, networks) == ("br-lan",)


@pytest.mark.parametrize(
    ("ufw", "firewalld", "found"),
    [
        ("# comment\nENABLED=yes\nLOGLEVEL=low\n", "missing", ("ufw",)),
        ("ENABLED=no\n", "disabled, inactive", ()),
        ("", "enabled, active", ("firewalld",)),
    ],
)
def test_another_firewall_that_is_on_is_seen(ufw: str, firewalld: str, found: tuple[str, ...]) -> None:
    assert host_facts.other_firewalls(ufw, firewalld) == found


def test_live_values_are_read_below_a_root(tmp_path: Path) -> None:
    for path, text in {
        "proc/sys/net/ipv4/tcp_syncookies": "1\n",
        "proc/swaps": "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n",
        "proc/self/mountinfo": "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 8:16 / /mnt/data rw - ext4 /dev/sdb rw\n",
        "etc/group": "root:x:0:\ndocker:x:999:zoe,ann\n",
        "etc/docker/daemon.json": "{}\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    (tmp_path / "etc/docker/daemon.json").chmod(0o640)
    wanted = {
        ("sysctl", "net.ipv4.tcp_syncookies"): "1",
        ("sysctl", "net.ipv4.none"): None,
        ("swap", "swap"): ["/dev/sda2"],
        ("mount", "/mnt/data/app"): "mounted",
        ("mount", "/mnt/other"): "on the system's disk",
        ("group", "docker"): ["ann", "zoe"],
        ("file", "/etc/docker/daemon.json"): "{}\n",
        ("file", "/etc/none"): None,
        ("mode", "/etc/docker/daemon.json"): "0640",
        ("owner", "/etc/none"): None,
    }
    assert host_live.read([Item(kind, kind, name, None) for kind, name in wanted], str(tmp_path)) == wanted


INFO = {"LiveRestoreEnabled": True, "LoggingDriver": "journald", "SecurityOptions": ["name=no-new-privileges"]}
OURS = {"live-restore": True, "icc": False, "default-ulimits": {"nofile": {"Hard": 1024}}}


@pytest.mark.parametrize(
    ("daemon", "info", "told"),
    [
        (OURS, INFO, []),
        ({**OURS, "dns": ["192.0.2.1"]}, INFO, []),
        ({**OURS, "icc": True}, INFO, [("daemon.json", "daemon_config", {"icc": False}, {"icc": True}, "restart")]),
        (
            {**OURS, "live-restore": False},
            {**INFO, "LiveRestoreEnabled": False},
            [("daemon.json", "daemon_config", {"live-restore": True}, {"live-restore": False}, "reload")],
        ),
        (
            OURS,
            {**INFO, "LiveRestoreEnabled": False},
            [("dockerd", "daemon_running", {"live-restore": True}, {"live-restore": False}, "reload")],
        ),
    ],
)
def test_the_engine_s_settings_are_compared_in_the_file_and_as_it_runs(
    daemon: dict[str, Any], info: dict[str, Any], told: list[tuple[Any, ...]]
) -> None:
    found = [*host_state.configured(OURS, daemon), *host_state.heeded(OURS, daemon, info)]
    assert [(one.name, one.facet, one.desired, one.actual, one.action) for one in found] == told


@pytest.mark.parametrize(
    ("kept", "version", "installed", "told"),
    [
        ({"held": [], "version": ""}, "27.0.1", {}, []),
        ({"held": ["docker.io"], "version": "26.1"}, "26.1.5", {"docker.io": Package("26.1.5", True)}, []),
        ({"held": ["docker.io"], "version": ""}, "26.1.5", {"docker.io": Package("26.1.5")}, ["not held"]),
        ({"held": ["docker.io"], "version": ""}, "", {}, ["missing"]),
        ({"held": [], "version": "26.1"}, "28.5.0", {}, ["28.5.0"]),
    ],
)
def test_packages_are_held_at_the_version_that_was_asked_for(
    kept: dict[str, Any], version: str, installed: dict[str, Package], told: list[str]
) -> None:
    assert [one.actual for one in host_state.packages(kept, version, installed)] == told


def test_a_removed_docker_service_is_missing(tmp_path: Path, fake_program: Callable[[str, str], None]) -> None:
    """As systemd prints it of a unit that it does not know (tests/verify/snapshot.txt)."""
    said = "LoadState=not-found\nUnitFileState=\nActiveState=inactive\nMainPID=0"
    words = 'case "$2" in *LoadState*) ;; *) exit 1 ;; esac'
    fake_program("systemctl", f'#!/bin/sh\n{words}\necho "{said}"\n')
    kept = {"daemon": {}, "command": ["/usr/bin/dockerd"], "drop_ins": {}, "held": [], "version": ""}
    atomic.write_json(tmp_path / "var/lib/batten/engine.json", kept)
    [found] = host_state.of_engine(str(tmp_path), {})
    assert (found.name, found.facet, found.actual) == ("docker.service", "daemon_running", "missing")


def test_an_untouched_host_without_records_shows_nothing(tmp_path: Path) -> None:
    assert [*host_state.of_engine(str(tmp_path), {}), *host_state.of_host(str(tmp_path))] == []


def test_a_host_is_made_again_what_the_last_run_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_facts, "look", lambda root: SERVER)
    wanted = [Item("file", "sysctl", "/etc/sysctl.d/x.conf", "a = 1\n"), Item("mode", "mode", "/etc/docker", "0755")]
    record = {"items": [one.to_json() for one in wanted], "before": {}, "rules": None, "open": ["tcp 80"]}
    atomic.write_json(tmp_path / "var/lib/batten/host.json", record)
    (tmp_path / "etc/docker").mkdir(parents=True)
    (tmp_path / "etc/docker").chmod(0o777)
    assert [one.facet for one in host.again(str(tmp_path))] == ["sysctl", "mode"]
    assert (tmp_path / "etc/sysctl.d/x.conf").read_text() == "a = 1\n"
    assert (tmp_path / "etc/docker").stat().st_mode & 0o777 == 0o755
    assert host.again(str(tmp_path)) == ()
    assert atomic.read_json(tmp_path / "var/lib/batten/host.json", None) == record
    lines = [json.loads(line) for line in (tmp_path / "var/log/batten/audit.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    told = {"scope": "host", "service": "/etc/docker", "facet": "mode", "before": "0777", "after": "0755"}
    assert lines[1].items() >= {**told, "stack": None, "action": "rewrite", "result": "done"}.items()


def test_what_another_file_sets_too_is_not_said_to_be_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_facts, "look", lambda root: SERVER)
    name = "APT::Periodic::Unattended-Upgrade"
    monkeypatch.setitem(host_live._READERS, "apt", lambda names, root: dict.fromkeys(names, "0"))
    atomic.write_json(tmp_path / "var/lib/batten/host.json", {"items": [Item("apt", "upgrades", name, "1").to_json()]})
    with pytest.raises(BattenError, match="is '0' after it was set to '1'") as refused:
        host.again(str(tmp_path))
    assert f"grep {name} /etc/apt/apt.conf.d/*" in refused.value.fix


@pytest.mark.parametrize("first", ["0", "1"])
def test_a_kernel_setting_gets_back_what_it_had_before_the_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """Whatever a repair found since, and whatever the inventory said in between."""
    monkeypatch.setattr(host_facts, "look", lambda root: SERVER)
    place, root = tmp_path / "proc/sys/kernel/dmesg_restrict", str(tmp_path)

    def run(value: str) -> None:
        wanted = [Item("sysctl", "sysctl", "kernel.dmesg_restrict", value)]
        record = atomic.read_json(tmp_path / "var/lib/batten/host.json", {})
        host_act.Actor(wanted, host_live.read(wanted, root), True, root).run((), record, {}, 0)

    atomic.write(place, first.encode())
    run("1")
    run("2")
    place.write_text("7")
    assert len(host.again(root)) == 1
    assert place.read_text().strip() == "2"
    host.remove(check=False, root=root)
    assert place.read_text().strip() == first


RULE = {
    "facet": "mode",
    "service": "*",
    "policy": "ignore",
    "reason": "an agent of ours reads it",
    "until": "2099-01-31",
}


@pytest.mark.parametrize(
    ("change", "done", "told"),
    [
        ({}, ["sysctl"], 0),
        ({"policy": "report"}, ["sysctl"], 1),
        ({"service": "/etc/docker"}, ["sysctl"], 0),
        ({"service": "/etc/other"}, ["sysctl", "mode"], 0),
        ({"policy": "repair"}, ["sysctl", "mode"], 0),
        ({"until": "2020-01-31"}, ["sysctl", "mode"], 0),
    ],
)
def test_what_people_change_on_purpose_is_left_alone_until_its_last_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, str], done: list[str], told: int
) -> None:
    monkeypatch.setattr(host_facts, "look", lambda root: SERVER)
    wanted = [Item("file", "sysctl", "/etc/sysctl.d/x.conf", "a = 1\n"), Item("mode", "mode", "/etc/docker", "0755")]
    record = {"items": [one.to_json() for one in wanted], "before": {}, "rules": None, "drift": [{**RULE, **change}]}
    atomic.write_json(tmp_path / "var/lib/batten/host.json", record)
    (tmp_path / "etc/docker").mkdir(parents=True)
    (tmp_path / "etc/docker").chmod(0o777)
    _live, said = host.spared(wanted, host_live.read(wanted, str(tmp_path)), record["drift"])
    assert len([line for line in said if "is left until" in line]) == told
    assert [one.facet for one in host.again(str(tmp_path))] == done
    assert [one.facet for one in host_state.of_host(str(tmp_path))] == ([] if "mode" in done else ["mode"])
    assert atomic.read_json(tmp_path / "var/lib/batten/host.json", None) == record
    assert host_state.rules(str(tmp_path)) == record["drift"]


@pytest.mark.parametrize(
    ("sshd", "sockets", "ports"),
    [
        ("port 22\naddressfamily any\nlistenaddress 0.0.0.0:22\nlistenaddress [::]:22\n", "", {22}),
        ("port 22\nlistenaddress 203.0.113.7:2222\nlistenaddress [fd00::1]:2223\n", "", {22, 2222, 2223}),
        ("", "[::]:2022 (Stream)\n", {2022}),
        ("permitopen any:80\n", "", set()),
    ],
)
def test_every_port_that_people_come_in_by(sshd: str, sockets: str, ports: set[int]) -> None:
    assert host_facts.listening(sshd, sockets) == ports


RULES = 'table inet batten {\n\tcomment "batten NEW"\n}\n'.replace("NEW", "0123456789abcdef")


@pytest.fixture
def armed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[list[str]]]:
    """A host whose new rules were loaded, never confirmed, and taken back."""
    asked: list[list[str]] = []

    def run(words: list[str], *_: object) -> SimpleNamespace:
        asked.append(words)
        return SimpleNamespace(returncode=0, stdout="", stderr="")

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(command, "must", run)
    monkeypatch.setattr(host_live, "table", lambda: None)
    monkeypatch.setattr(host_facts, "look", lambda root: SERVER)
    items = [
        Item("file", "firewall", host_rollback.RULES_FILE, RULES),
        Item("table", "firewall", "nftables", {"digest": "0123456789abcdef"}),
        Item("mode", "mode", "/etc/docker", "0755"),
    ]
    record = {"items": [one.to_json() for one in items], "rules": {}, "open": [], "armed": "0123456789abcdef"}
    atomic.write_json(tmp_path / "var/lib/batten/host.json", {**record, "rules": Rules().to_json()})
    (tmp_path / "etc/docker").mkdir(parents=True)
    (tmp_path / "etc/docker").chmod(0o777)
    return tmp_path, asked


def loaded(asked: list[list[str]]) -> list[list[str]]:
    return [words for words in asked if words[:2] == ["nft", "--file"]]


def test_rules_that_nobody_confirmed_are_loaded_by_no_repair(armed: tuple[Path, list[list[str]]]) -> None:
    """They may have been taken back because they let nobody in."""
    root, asked = armed
    assert [one.facet for one in host.again(str(root))] == ["mode"]
    assert host_ports.follow(str(root)) == []
    assert not (root / host_rollback.RULES_FILE[1:]).exists()
    assert loaded(asked) == []
    assert atomic.read_json(root / "var/lib/batten/host.json", {})["armed"] == "0123456789abcdef"
    assert "firewall" in {one.facet for one in host_state.of_host(str(root))}


def test_confirmed_rules_are_repaired_like_all_else(
    armed: tuple[Path, list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, asked = armed
    live = {"digest": "0123456789abcdef", "listing": [], "version": "1"}
    monkeypatch.setattr(host_live, "table", lambda: live)
    atomic.write(root / "run/batten/firewall-new.nft", RULES.encode())
    host.confirm("0123456789abcdef", str(root))
    assert "armed" not in atomic.read_json(root / "var/lib/batten/host.json", {})
    assert (root / host_rollback.RULES_FILE[1:]).read_text() == RULES
    monkeypatch.setattr(host_live, "table", lambda: live if loaded(asked) else None)
    assert [one.facet for one in host.again(str(root))] == ["firewall", "mode"]
    assert len(loaded(asked)) == 1


def test_rules_that_are_loaded_and_not_yet_confirmed_are_not_written_for_the_next_boot(
    armed: tuple[Path, list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run within the minute: what it finds loaded may still be taken back."""
    root, asked = armed
    monkeypatch.setattr(host_live, "table", lambda: {"digest": "0123456789abcdef", "listing": [], "version": "1"})
    items = host_items.from_json(atomic.read_json(root / "var/lib/batten/host.json", {})["items"])[:2]
    actor = host_act.Actor(items, host_live.read(items, str(root)), True, str(root))
    assert actor.run((), {}, {}, 60) == "0123456789abcdef"
    assert not (root / host_rollback.RULES_FILE[1:]).exists()
    assert [words[0] for words in asked if words[0] == "systemd-run"] == ["systemd-run"]


def test_the_ports_of_a_stack_that_goes_are_predicted_and_stay_open_until_it_does(tmp_path: Path) -> None:
    plan = {"services": {"web": {"ports": [{"published": 80, "protocol": "tcp", "address": None}]}}}
    atomic.write_json(tmp_path / "var/lib/batten/shop/plan.json", plan)
    items = host_wanted.firewall_items(Rules(), host_wanted.ports({"shop": plan}, {}))
    record = {"items": [one.to_json() for one in items], "rules": Rules().to_json(), "open": ["tcp 80"]}
    atomic.write_json(tmp_path / "var/lib/batten/host.json", record)
    [found] = host_ports.follow(str(tmp_path), {"shop": {}}, check=True)
    assert (found.desired, found.actual) == ([], ["tcp 80"])
    assert atomic.read_json(tmp_path / "var/lib/batten/host.json", None) == record


def test_a_systemd_that_does_not_answer_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a host without units: a run would install a second keeper of the clock."""
    failed = SimpleNamespace(returncode=1, stdout="", stderr="Failed to connect to bus\n")
    monkeypatch.setattr(subprocess, "run", lambda *_words, **_more: failed)
    with pytest.raises(BattenError, match="Failed to connect to bus"):
        host_live.units(["auditd.service"])
