"""Role docker on a real host that starts with nothing of Docker: systemd, apt, and the distribution's engine.

The tests are a story on one host, told in order: each leaves the engine running with batten's defaults.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.site import ROOT, finished, inventory, play
from tests.rig import hosts

DAEMON = "/etc/docker/daemon.json"
UNIT = "/etc/systemd/system/docker.service"


class Role:
    """Runs playbooks/docker.yml on one host through Ansible's docker connection."""

    def __init__(self, host: hosts.Host, directory: Path) -> None:
        self.host = host
        self.directory = directory
        variables = {"docker_source": "distro", "stack_name": "app", "stack_build": "host"}
        self.inventory = inventory(directory, {host.name: variables})

    def run(self, *, check: bool = False, **variables: Any) -> dict[str, Any]:
        """Return the module's result; ``msg`` is there if it refused."""
        options = ["--check"] if check else []
        run = finished(play("playbooks/docker.yml", self.inventory, self.directory, options, variables), self.host.name)
        result = dict(list(run.tasks.values())[-1])
        assert run.code == (2 if result.get("failed") else 0), run.output
        return result

    def daemon(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.host.run(f"cat {DAEMON}").stdout)
        return found

    def write_daemon(self, document: dict[str, Any]) -> None:
        self.host.put(DAEMON, json.dumps(document))

    def pid(self) -> str:
        return self.host.run("systemctl show -P MainPID docker").stdout.strip()

    def started(self, container: str) -> str:
        return self.host.run(f"docker inspect -f '{{{{.State.Running}}}} {{{{.State.StartedAt}}}}' {container}").stdout


@pytest.fixture(scope="module")
def role(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Role]:
    host = hosts.start(f"batten-docker-role-{os.getpid()}", "base")
    try:
        yield Role(host, tmp_path_factory.mktemp("role"))
    finally:
        host.remove()


@pytest.fixture(scope="module")
def image(role: Role) -> str:
    """An image of nothing but a shell, on the host's own engine, which an earlier test has installed."""
    role.host.run(
        "apt-get -qq install -y busybox-static >/dev/null && mkdir -p /root/image/bin && "
        "cp /usr/bin/busybox /root/image/bin/sh && cp /usr/bin/busybox /root/image/bin/sleep && "
        "tar -C /root/image -c . | docker import - shell:1"
    )
    return "shell:1"


def changed(results: list[dict[str, Any]]) -> list[bool]:
    return [bool(result["changed"]) for result in results]


def test_an_upstream_that_cannot_be_reached_leaves_the_host_as_it_was(role: Role) -> None:
    result = role.run(docker_source="upstream", docker_upstream_url="https://127.0.0.1:9")
    assert "cannot fetch Docker's signing key" in result["msg"]
    assert "docker_source: distro" in result["msg"]
    assert role.host.run("ls /etc/apt/sources.list.d/docker.sources /etc/docker", check=False).stdout == ""


def test_check_run_check_run_and_a_change(role: Role) -> None:
    first = role.run(check=True)
    assert {one["name"] for one in first["differences"]} >= {"docker.io", "docker-compose", DAEMON}
    assert role.host.run("command -v dockerd", check=False).returncode != 0, "check mode installed it"
    results = [first, role.run(), role.run(check=True), role.run()]
    more: dict[str, Any] = {"docker_daemon_host": [{"name": "debug", "value": True}]}
    results += [role.run(check=True, **more), role.run(**more), role.run(**more)]
    assert changed(results) == [True, True, False, False, True, True, False]
    assert results[1]["engine_version"].startswith("26.")
    assert results[5]["engine_action"] == "reload"
    assert changed([role.run()]) == [True]  # `debug` has gone from the layers, and so from the file
    assert "debug" not in role.daemon()


def test_the_engine_really_runs_so(role: Role) -> None:
    info = json.loads(role.host.run("docker info -f '{{json .}}'").stdout)
    assert info["LiveRestoreEnabled"] is True
    assert info["LoggingDriver"] == "journald"
    assert "name=no-new-privileges" in info["SecurityOptions"]
    assert role.host.run("systemctl is-enabled docker").stdout.strip() == "enabled"
    assert role.host.run("stat -c '%a %U' /etc/docker/daemon.json").stdout.strip() == "644 root"


def test_a_container_starts_with_the_nofile_limit_that_was_found(role: Role, image: str) -> None:
    wanted = role.daemon()["default-ulimits"]["nofile"]["Hard"]
    assert role.host.run(f"docker run --rm {image} sh -c 'ulimit -n'").stdout.strip() == str(wanted)


def test_the_journal_takes_a_burst_of_lines(role: Role, image: str) -> None:
    """journald's own limit drops all but some 30000; see engine.unit_text."""
    loop = "i=0; while [ $i -lt 60000 ]; do echo $i; i=$((i+1)); done"
    role.host.run(["docker", "run", "--name", "flood", image, "sh", "-c", loop])
    counting = "journalctl --sync; journalctl -q -o cat CONTAINER_NAME=flood | wc -l"
    assert role.host.run(counting).stdout.strip() == "60000"
    role.host.run("docker rm flood")


def test_user_keys_survive_and_a_hand_edit_of_ours_is_repaired(role: Role) -> None:
    document = role.daemon()
    document["icc"] = True
    document["max-concurrent-downloads"] = 7
    document["default-ulimits"]["msgqueue"] = {"Name": "msgqueue", "Soft": 65536, "Hard": 65536}
    role.write_daemon(document)
    result = role.run()
    assert [one["facet"] for one in result["differences"]] == ["icc"]
    assert role.daemon()["max-concurrent-downloads"] == 7
    assert set(role.daemon()["default-ulimits"]) == {"core", "msgqueue", "nofile"}


def test_a_file_that_dockerd_refuses_is_not_put_in_place(role: Role) -> None:
    good, pid = role.daemon(), role.pid()
    result = role.run(docker_daemon_host=[{"name": "no-such-key", "value": 1}])
    assert "no-such-key" in result["msg"]
    assert role.daemon() == good
    assert role.pid() == pid
    assert changed([role.run()]) == [False]


def test_a_key_that_a_flag_of_the_unit_sets_is_found_first(role: Role) -> None:
    role.host.run("cp /etc/default/docker /root/default-docker")
    role.host.put("/etc/default/docker", "DOCKER_OPTS='--log-level=warn'\n")
    result = role.run(check=True, docker_daemon=[{"name": "log-level", "value": "info"}])
    assert "--log-level=warn" in result["msg"]
    assert "state: absent" in result["msg"]
    role.host.run("mv /root/default-docker /etc/default/docker")


def test_containers_survive_the_restart_that_turns_live_restore_on(role: Role, image: str) -> None:
    document = role.daemon()
    for key in ("live-restore", "icc"):
        del document[key]
    role.write_daemon(document)
    role.host.run("systemctl restart docker")
    role.host.run(f"docker run -d --name survivor {image} sleep 1000")
    before, pid = role.started("survivor"), role.pid()
    result = role.run()
    assert result["engine_action"] == "restart"
    assert role.pid() != pid
    assert role.started("survivor") == before
    assert before.startswith("true ")
    assert changed([role.run()]) == [False]


def test_what_the_daemon_has_not_loaded_is_loaded(role: Role) -> None:
    """The file is right, the running daemon is not: someone edited, reloaded, and edited back."""
    document = role.daemon()
    role.write_daemon({**document, "live-restore": False})
    role.host.run("systemctl reload docker; sleep 1")
    role.write_daemon(document)
    pid = role.pid()
    result = role.run()
    assert [(one["name"], one["facet"]) for one in result["differences"]] == [("docker.service", "live-restore")]
    assert result["engine_action"] == "reload"
    assert role.pid() == pid


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([{"name": "live-restore", "value": False}, {"name": "icc", "value": True}], "stops survivor"),
        ([{"name": "data-root", "value": "/srv/docker"}], "would vanish"),
        ([{"name": "userns-remap", "value": "default"}], "would vanish"),
        ([{"name": "features", "value": {"containerd-snapshotter": True}}], "would vanish"),
        ([{"name": "storage-driver", "value": "vfs"}], "would vanish"),
    ],
)
def test_what_would_stop_or_hide_containers_is_refused(role: Role, entries: list[dict[str, Any]], said: str) -> None:
    good, before = role.daemon(), role.started("survivor")
    for check in (True, False):
        result = role.run(check=check, docker_daemon_host=entries)
        assert said in result["msg"]
        assert "fix: " in result["msg"]
    assert role.daemon() == good
    assert role.started("survivor") == before


def test_another_source_does_not_take_an_engine_that_holds_containers(role: Role) -> None:
    result = role.run(check=True, docker_source="upstream")
    assert "holds 1 containers (survivor run)" in result["msg"]


def test_packages_are_held_and_let_go(role: Role) -> None:
    assert changed([role.run(docker_hold=True), role.run(docker_hold=True)]) == [True, False]
    assert "docker.io" in role.host.run("apt-mark showhold").stdout.split()
    assert changed([role.run(), role.run()]) == [True, False]
    assert role.host.run("apt-mark showhold").stdout.split() == []


def test_a_run_that_was_killed_before_the_restart_is_finished_by_the_next(role: Role) -> None:
    role.host.run(
        "python3 -c \"import json; p='/var/lib/batten/docker.json'; d=json.load(open(p)); d['pending']='restart'; "
        "json.dump(d, open(p, 'w'))\""
    )
    pid, before = role.pid(), role.started("survivor")
    assert role.run()["engine_action"] == "restart"
    assert role.pid() != pid
    assert role.started("survivor") == before
    assert changed([role.run()]) == [False]


def test_absent_takes_ours_and_leaves_the_rest(role: Role) -> None:
    before = role.started("survivor")
    words = ["ansible", "-i", str(role.inventory), "all", "-m", "batten.core.docker_engine", "-a", "state=absent"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    program = str(Path(sys.executable).parent / words[0])
    done = subprocess.run([program, *words[1:]], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(role.daemon()) == {"max-concurrent-downloads", "default-ulimits"}
    assert set(role.daemon()["default-ulimits"]) == {"msgqueue"}
    ours = ("/var/lib/batten/docker.json", "/etc/systemd/journald.conf.d/batten.conf", f"{UNIT}.d/batten.conf")
    assert role.host.run(["ls", *ours], check=False).stdout == ""
    assert role.started("survivor") == before
    assert role.host.run("docker version -f '{{.Server.Version}}'").stdout.startswith("26.")
