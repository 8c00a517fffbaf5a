"""Record the batch of reads that the unit tests mutate: ``python -m tests.verify.record`` (a minute, in the rig)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from batten.verify.live import command, endpoints, parse, sysctl_names
from batten.verify.model import LiveHost
from tests.rig import hosts
from tests.verify import stack

SNAPSHOT = Path(__file__).with_name("snapshot.txt")
MACHINE = Path(__file__).with_name("snapshot-vm.txt")
"""The same reads of a virtual machine (Debian 13, Linux 6.12, cgroup v2, AppArmor; qemu without KVM), outside CI, once:
stack.deploy; playbooks/host.yml with stack.VARIABLES and no planned port; /var/lib/docker mounted on itself; ``docker
update --memory 32m --memory-swap 32m`` of what runs (module_utils/scopes.py says why); batch(). Written into both by
hand since, as role ``host`` leaves them: ``upgrader``, apt-daily.timer, and batten-upgrades.timer, which is absent."""
RULES = Path(__file__).with_name("firewall.nft")
BOUNDARY = "batten-snapshot"
NAME = "verify-record"


def recorded(text: str = "", **sections: str) -> LiveHost:
    """Return the recorded host, or what ``text`` says in its place, with more sections."""
    more = "".join(f"\n{BOUNDARY} {name}\n{body}\n" for name, body in sections.items())
    text = (text or SNAPSHOT.read_text()).replace(f"\n{BOUNDARY} end", f"{more}\n{BOUNDARY} end")
    return parse("recorded", text, BOUNDARY)


def main() -> None:
    host = hosts.start(NAME)
    try:
        stack.deploy(host)
        harden(host)
        SNAPSHOT.write_text(batch(host))
    finally:
        host.remove()


def harden(host: hosts.Host) -> None:
    """Do by hand what role ``host`` does, as far as a container can be: firewall, kernel settings, updates."""
    packages = "nftables unattended-upgrades"
    host.run(f"apt-get update -qq && apt-get install -y -qq --no-install-recommends {packages}", timeout=600)
    host.put("/etc/batten/firewall.nft", RULES.read_text())
    host.put("/etc/systemd/system/batten-firewall.service", stack.FIREWALL_UNIT)
    settings = stack.VARIABLES["host_sysctls"]
    host.run(
        " && ".join(f"sysctl -qw {name}={value}" for name, value in settings.items() if name.startswith("net.ipv4"))
    )
    host.put("/etc/apt/apt.conf.d/52batten", stack.UPGRADES)
    host.put("/etc/security/limits.d/50-batten.conf", "* hard core 0\n")
    host.run(
        "systemctl daemon-reload && systemctl enable --now batten-firewall apt-daily.timer apt-daily-upgrade.timer"
    )


def batch(host: hosts.Host) -> str:
    """One batch of reads of a rig host, as text."""
    more = [*endpoints({"small": stack.PLAN}), *sysctl_names(stack.VARIABLES)]
    words = command(BOUNDARY, {"small": "small"}, ["/var/backups/batten"], more)
    done: subprocess.CompletedProcess[str] = host.run(words)
    return done.stdout


if __name__ == "__main__":
    main()
