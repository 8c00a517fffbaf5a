"""A whole site on one host of the rig, deployed as a user does it: by site.yml, with Infisical beside the stack."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.rig import hosts, registry

ROOT = Path(__file__).parents[2]
CONNECTION = {"ansible_connection": "community.docker.docker", "ansible_python_interpreter": "/usr/bin/python3"}


@dataclass(frozen=True)
class Run:
    """What one run of a playbook came to: exit code, each task's result, and all that was printed."""

    code: int
    tasks: Mapping[str, Mapping[str, Any]]
    output: str

    @property
    def changed(self) -> list[str]:
        """What changed, in the words of the tasks that say more than their name."""
        found = []
        for name, result in self.tasks.items():
            if result.get("changed"):
                found += [name, *map(str, result.get("differences") or ()), *map(str, result.get("changes") or ())]
        return found

    @property
    def failed(self) -> str:
        """The message of the task that failed, or nothing."""
        return next((str(one.get("msg", "")) for one in self.tasks.values() if one.get("failed")), "")

    def task(self, words: str) -> Mapping[str, Any]:
        """Return the result of the task whose name holds ``words``."""
        return next(result for name, result in self.tasks.items() if words in name)


class Site:
    """One host with an inventory of its own; ``variables`` are the inventory's."""

    def __init__(self, host: hosts.Host, directory: Path, **variables: Any) -> None:
        self.host, self.directory = host, directory
        daemon = [{"name": "registry-mirrors", "value": [registry.mirror_url()]}]
        self.variables = {"docker_source": "distro", "docker_daemon": daemon, **variables}
        self.stack, self.domain = str(variables["stack_name"]), str(variables.get("stack_domain", ""))

    @property
    def inventory(self) -> Path:
        """The inventory, as it is now."""
        return inventory(self.directory, {self.host.name: self.variables})

    def run(self, *options: str, playbook: str = "site.yml", **variables: Any) -> Run:
        """Run a playbook with what ``variables`` lay over the inventory."""
        return finished(self.start(*options, playbook=playbook, **variables), self.host.name)

    def up(self, *options: str, **variables: Any) -> Run:
        """Run site.yml; AssertionError with all it said if it fails."""
        run = self.run(*options, **variables)
        assert run.code == 0, run.failed or run.output
        return run

    def start(self, *options: str, playbook: str = "site.yml", **variables: Any) -> subprocess.Popen[str]:
        """Start a playbook in a process group of its own."""
        return play(playbook, self.inventory, self.directory, options, variables)

    def batten(self, verb: str, *words: str, check: bool = True) -> Any:
        """Run a verb of the command line with ``--json``; return its document."""
        command = [sys.executable, "-m", "batten", verb, "-i", str(self.inventory), "--json", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def program(self, verb: str, stack: str = "", check: bool = True) -> str:
        """Run a verb of the host's own program; return what it said."""
        words = f"python3 /usr/local/lib/batten/batten-host.pyz {verb} {stack or self.stack}"
        done = self.host.run(words, check=check)
        return done.stdout + done.stderr

    def get(self, path: str) -> str:
        """What the stack answers on its public port 80."""
        return get(self.host, path, check=False)

    def lives(self, stack: str = "") -> dict[str, str]:
        """Return each service's container and the time of its start: equal lives are untouched containers."""
        return dict(lives(self.host, stack or self.stack))

    def secret(self, name: str, stack: str = "") -> str:
        """Return a value of the sealed bundle."""
        stack = stack or self.stack
        sealed = f"/var/lib/batten/{stack}/secrets.cred"
        words = f"systemd-creds decrypt --name=batten-{stack} {sealed} -"
        return str(json.loads(self.host.run(words).stdout)["values"][name])


def inventory(directory: Path, stack: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write the inventory of a directory: hosts of the rig in group ``stack``, each with its variables."""
    path = directory / "hosts.yml"
    every = {name: {**CONNECTION, **variables} for name, variables in stack.items()}
    path.write_text(json.dumps({"stack": {"hosts": every}}))
    return path


def get(host: hosts.Host, path: str, *, check: bool = True) -> str:
    """Return what a host answers on its port 80."""
    program = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).read().decode())"
    return host.run(["python3", "-c", program, f"http://{host.address}{path}"], check=check).stdout


def containers(host: hosts.Host, project: str) -> list[dict[str, Any]]:
    """Return what ``docker inspect`` says of each container of a Compose project."""
    ours = f"--filter label=com.docker.compose.project={project}"
    found: list[dict[str, Any]] = json.loads(host.run(f"docker ps -aq {ours} | xargs -r docker inspect").stdout or "[]")
    return found


def lives(host: hosts.Host, project: str) -> list[tuple[str, str]]:
    """Return of each container of a project its service, and its ID with the time of its last start."""
    return [(service(one), life(one)) for one in containers(host, project)]


def service(inspected: Mapping[str, Any]) -> str:
    return str(inspected["Config"]["Labels"]["com.docker.compose.service"])


def life(inspected: Mapping[str, Any]) -> str:
    """Equal lives are untouched containers."""
    return f"{inspected['Id']} {inspected['State']['StartedAt']}"


def play(
    playbook: str, inventory: Path, directory: Path, options: Sequence[str], variables: Mapping[str, Any]
) -> subprocess.Popen[str]:
    """Start a playbook in a process group of its own, with ``variables`` over the inventory; see :func:`read`."""
    given = directory / "given.json"
    given.write_text(json.dumps(variables))
    environment = {
        **os.environ,
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "XDG_STATE_HOME": str(directory),
        "TMPDIR": str(directory),
    }
    program = str(Path(sys.executable).parent / "ansible-playbook")
    return subprocess.Popen(
        [program, "-i", str(inventory), playbook, "--diff", "-e", f"@{given}", *options],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finished(process: subprocess.Popen[str], host: str) -> Run:
    """Wait for a playbook and read what it said."""
    report, output = read(process)
    tasks = {
        task["task"]["name"]: task["hosts"][host]
        for play in report["plays"]
        for task in play["tasks"]
        if host in task["hosts"]
    }
    return Run(process.returncode, tasks, output)


def read(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """Wait for a playbook; return what ansible.posix.json reported, and all that was printed."""
    output, _ = process.communicate(timeout=600)
    begin = re.search(r"^\{$", output, re.MULTILINE)
    assert begin, output
    report, _ = json.JSONDecoder().raw_decode(output[begin.start() :])
    return report, output
