"""Throwaway hosts: containers that boot systemd as a server does, reboot cleanly, and lose power.

What a container cannot show of a real server is in README.md.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from . import base, machine
from .docker import LABEL, RigError, docker, inspect
from .networks import PUBLIC, VPC, Network, addresses_held, ensure

BOOT_SECONDS = 60
LEGACY_CGROUPS = ("SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1", "systemd.unified_cgroup_hierarchy=0")
"""systemd 257 refuses a machine that has cgroup v1 only without these words on its (kernel) command line."""

_IMAGES: dict[str, Callable[[], str]] = {"base": base.base, "engine": base.engine}


@dataclass
class Answer:
    """What testinfra's ``host.run`` gives."""

    rc: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Host:
    """A host of the rig, by the name of its container."""

    name: str

    @property
    def address(self) -> str:
        """Its IPv4 address on the rig's network; the same after a reboot."""
        return self.addresses()[0]

    def addresses(self, network: Network = PUBLIC) -> tuple[str, str]:
        """Its IPv4 and IPv6 address on a network; RigError if it is not on it."""
        shown = inspect("container", self.name) or {}
        asked = shown.get("NetworkSettings", {}).get("Networks", {}).get(network.name, {}).get("IPAMConfig")
        if not asked:
            raise RigError(f"{self.name} has no address on {network.name}")
        return asked["IPv4Address"], asked["IPv6Address"]

    def run(
        self,
        command: str | Sequence[str],
        *,
        check: bool = True,
        stdin: str | None = None,
        user: str = "root",
        timeout: float | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command (a string) or a program (a list) on the host; RigError if it fails and `check` is set."""
        program = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        words = ["docker", "exec", "--user", user, *(["--interactive"] if stdin is not None else []), self.name]
        done = subprocess.run(
            [*words, *program], input=stdin, text=True, capture_output=True, check=False, timeout=timeout
        )
        if check and done.returncode:
            raise RigError(f"on {self.name}: {command!r} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def answer(self, command: str, user: str = "root") -> Answer:
        """Run a shell command as testinfra does: whatever its exit status."""
        done = self.run(command, check=False, user=user)
        return Answer(done.returncode, done.stdout, done.stderr)

    def put(self, path: str, text: str, mode: str = "0644") -> None:
        """Write a file on the host, its directory too."""
        program = 'mkdir -p "$(dirname "$1")" && cat >"$1" && chmod "$2" "$1"'
        self.run(["/bin/sh", "-ec", program, "put", path, mode], stdin=text)

    def reboot(self) -> None:
        """A clean reboot: systemd stops every unit in order, then boots again. Waits until it is up."""
        self.shutdown()
        self.power_on()

    def shutdown(self, seconds: int = 180) -> None:
        """Ask systemd to halt, and wait for it. RigError, and no halt by force, if it takes longer than `seconds`."""
        docker("kill", "--signal", "SIGRTMIN+3", self.name)
        try:
            subprocess.run(["docker", "wait", self.name], check=True, capture_output=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            raise RigError(f"{self.name} did not shut down in {seconds} s; see its journal") from None

    def power_cut(self) -> None:
        """The plug is pulled, and put in again. Waits until the host is up."""
        self.power_off()
        self.power_on()

    def power_off(self) -> None:
        """The plug is pulled: nothing on the host gets to stop cleanly."""
        docker("kill", "--signal", "SIGKILL", self.name)
        docker("wait", self.name)

    def power_on(self) -> None:
        """Boot, and wait until it is up."""
        docker("start", self.name)
        self.wait_until_up()

    def wait_until_up(self, seconds: float = BOOT_SECONDS) -> None:
        """Wait until systemd says that it has finished booting, be it with failed units."""
        deadline = time.monotonic() + seconds
        state = ""
        while time.monotonic() < deadline:
            state = self.run(["systemctl", "is-system-running"], check=False).stdout.strip()
            if state in ("running", "degraded"):
                return
            time.sleep(0.2)
        raise RigError(f"{self.name} did not boot in {seconds:.0f} s, systemd says {state or 'nothing'!r}")

    def plug_in(self, network: Network) -> None:
        """Give it an interface on one more network, with its own addresses."""
        ensure(network)
        with addresses_held(network) as (v4, v6):
            docker("network", "connect", "--ip", v4, "--ip6", v6, network.name, self.name)

    def remove(self) -> None:
        """Remove the host and its disk; nothing happens if there is none."""
        docker("rm", "--force", "--volumes", self.name, check=False)
        docker("volume", "rm", "--force", _disk(self.name), check=False)


def start(
    name: str,
    image: str = "engine",
    memory: str | None = None,
    networks: Sequence[Network] = (),
    publish: Sequence[str] = (),
    *,
    wait: bool = True,
) -> Host:
    """Boot a new host and wait until it is up.

    `image` is "base" (nothing of Docker), "engine" (Debian's engine and Compose) or any image's name; `memory` is
    what Docker takes, like "8g"; `networks` are networks beside PUBLIC, such as VPC; `publish` is in the words of
    `docker run --publish`. A host of that name must not exist.
    """
    if inspect("container", name):
        raise RigError(f"a container named {name} is there already; remove it with: python -m tests.rig rm {name}")
    parent = _IMAGES[image]() if image in _IMAGES else image
    ensure(PUBLIC)
    docker("volume", "rm", "--force", _disk(name))
    docker("volume", "create", "--label", LABEL, _disk(name))
    words = ["create", "--name", name, "--hostname", name, "--label", LABEL]
    words += ["--privileged", "--cgroupns=private", "--stop-signal", "SIGRTMIN+3"]
    # /run is memory on a server; without a volume of its own the inner engine would fall back to the vfs driver.
    words += ["--tmpfs", "/run:exec,mode=755", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec,mode=1777"]
    words += ["--volume", f"{_disk(name)}:/var/lib/docker"]
    words += ["--network", PUBLIC.name]
    words += ["--memory", memory, "--memory-swap", memory] if memory else []
    words += [word for port in publish for word in ("--publish", port)]
    host = Host(name)
    try:
        with addresses_held(PUBLIC) as (v4, v6):
            docker(*words, "--ip", v4, "--ip6", v6, parent, *init())
        for network in networks:
            host.plug_in(network)
        docker("start", name)
        if wait:
            host.wait_until_up()
    except RigError:
        host.remove()
        raise
    return host


def get(name: str) -> Host:
    """The host of that name; RigError if there is none."""
    if not inspect("container", name):
        raise RigError(f"there is no host {name}; start one with: python -m tests.rig host {name}")
    return Host(name)


def init() -> list[str]:
    """What a host starts, with the words that systemd needs on this machine."""
    return ["/sbin/init", *(LEGACY_CGROUPS if machine.has_cgroup_v1() else ())]


def _disk(name: str) -> str:
    return f"batten-rig-{name}-docker"


__all__ = ["PUBLIC", "VPC", "Host", "get", "start"]
