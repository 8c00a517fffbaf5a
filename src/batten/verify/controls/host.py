"""The host itself: kernel settings, clock, updates, swap, accounts, disks."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from batten.verify.catalogue import control
from batten.verify.live import wanted_sysctls
from batten.verify.model import HostPlan, LiveHost, Verdict, fails, holds, not_applicable

# What runs containers, by the names of Debian, Docker and Red Hat.
ENGINE = ("docker.io", "docker-ce", "containerd", "containerd.io", "runc")
LEAST_FREE = 0.10
# Anything but 0 forbids here, and the larger numbers forbid no less than 1 (kernel, admin-guide/sysctl/kernel.rst and
# admin-guide/LSM/Yama.rst). Debian 13 boots with kernel.unprivileged_bpf_disabled = 2.
STRICTER_ABOVE = {"kernel.yama.ptrace_scope", "kernel.kptr_restrict", "kernel.unprivileged_bpf_disabled"}


@control("host.sysctl-network", "Kernel settings of the network are those of the inventory", scope="host", cis="1.2.1")
def sysctl_network(expected: HostPlan, live: LiveHost) -> Verdict:
    return _sysctls(expected, live, "net.ipv4.", "net.ipv6.", own=True)


@control("host.sysctl-kernel", "Kernel settings are those of the inventory", scope="host", cis="1.2.1")
def sysctl_kernel(expected: HostPlan, live: LiveHost) -> Verdict:
    return _sysctls(expected, live, "kernel.", "net.core.", "vm.")


@control(
    "host.sysctl-files", "Kernel settings of files and links are those of the inventory", scope="host", cis="1.2.1"
)
def sysctl_files(expected: HostPlan, live: LiveHost) -> Verdict:
    return _sysctls(expected, live, "fs.")


def _sysctls(expected: HostPlan, live: LiveHost, *prefixes: str, own: bool = False) -> Verdict:
    """``own``: these belong to a network namespace, so that a container has its own."""
    if not own and _container(live):
        return not_applicable(f"a container ({_container(live)}) does not own them")
    wanted = {name: value for name, value in wanted_sysctls(expected.variables).items() if name.startswith(prefixes)}
    if not wanted:
        return not_applicable("the inventory sets none")
    known = {name: live.sysctls[name] for name in wanted if name in live.sysctls}  # a kernel may lack one
    wrong = [
        f"{name} is {value}, planned {wanted[name]}"
        for name, value in known.items()
        if value.split() != wanted[name].split()
        and not (name in STRICTER_ABOVE and value.isdigit() and int(value) >= int(wanted[name]))
    ]
    if wrong:
        return fails("; ".join(wrong))
    return holds(f"{len(known)} as planned") if known else fails(f"none of {', '.join(sorted(wanted))} could be read")


@control("host.clock", "The clock is kept", scope="host", cis="1.2.1")
def clock(expected: HostPlan, live: LiveHost) -> Verdict:
    if not expected.wants("host_time"):
        return not_applicable("host_time is off")
    if _container(live):
        return not_applicable(f"a container ({_container(live)}) has its machine's clock")
    keeper, synchronised = live.machine.get("keeper", ""), live.machine.get("clock")
    if not keeper:
        return fails("no service keeps the clock")
    return (
        holds(f"{keeper}, synchronised") if synchronised == "yes" else fails(f"{keeper} runs and is not synchronised")
    )


@control("host.upgrades", "Security updates are installed by themselves", scope="host", cis="1.2.1")
def upgrades(expected: HostPlan, live: LiveHost) -> Verdict:
    if not expected.wants("host_unattended_upgrades"):
        return not_applicable("host_unattended_upgrades is off")
    units = ("apt-daily.timer", "apt-daily-upgrade.timer") if live.apt else ("batten-upgrades.timer",)
    off = _apt_off(live) if live.apt else []
    for unit in units:
        timer = live.units.get(unit, {})
        if (timer.get("UnitFileState"), timer.get("ActiveState")) != ("enabled", "active"):
            off.append(f"{unit} is {timer.get('UnitFileState') or 'missing'} and {timer.get('ActiveState', 'missing')}")
    return fails("; ".join(off)) if off else holds(f"{', '.join(units)}: active")


def _apt_off(live: LiveHost) -> list[str]:
    """What keeps apt's timers from installing anything: apt.systemd.daily looks at each of these."""
    off = [
        f"{name} is off"
        for name in ("APT::Periodic::Update-Package-Lists", "APT::Periodic::Unattended-Upgrade")
        if live.apt.get(name) in (None, "", "0")
    ]
    if live.apt.get("APT::Periodic::Enable") == "0":  # where nobody says it, it is on
        off.append("APT::Periodic::Enable is off")
    if live.machine.get("upgrader") != "installed":
        off.append("unattended-upgrades is not installed")
    return off


@control("host.engine-held", "The engine is never upgraded by itself", scope="host")
def engine_held(expected: HostPlan, live: LiveHost) -> Verdict:
    """An engine that restarts unasked takes the stack's log lines and its live changes with it."""
    if not expected.wants("host_unattended_upgrades") or not live.apt:
        return not_applicable("nothing is upgraded by itself through apt")
    held = set(live.machine.get("held", "").split())
    free = [name for name in ENGINE if name not in held and not any(re.match(one, name) for one in live.held_back)]
    return fails(f"may be upgraded at any time: {', '.join(free)}") if free else holds("held back")


@control("host.swap", "No memory of processes goes to a disk", scope="host")
def swap(expected: HostPlan, live: LiveHost) -> Verdict:
    if expected.variables.get("host_swap") != "none":
        return not_applicable("host_swap leaves it as it is; secrets lie in memory that is never swapped")
    if _container(live):
        return not_applicable(f"a container ({_container(live)}) owns no swap")
    found = live.machine.get("swap", "")
    return fails(f"swaps to {found}") if found else holds("none")


@control("host.core-dumps", "A crash writes no memory to a disk", scope="host")
def core_dumps(expected: HostPlan, live: LiveHost) -> Verdict:
    if not expected.variables or expected.wants("host_core_dumps"):
        return not_applicable("host_core_dumps is on, or nothing is said of it")
    pattern, storage = live.machine.get("core_pattern", ""), live.machine.get("coredump", "")
    if "systemd-coredump" in pattern and storage != "none":
        return fails(f"systemd-coredump keeps them: Storage={storage or 'external'}")
    limits = live.machine.get("core_limits", "")
    return holds(f"logins {limits}") if limits else fails("no limit on core files in /etc/security/limits.d")


@control("host.root-users", "Only root is root", scope="host", cis="1.2.1")
def root_users(expected: HostPlan, live: LiveHost) -> Verdict:
    others = [name for name in live.machine.get("root_users", "").split() if name != "root"]
    return fails(f"uid 0 as well: {', '.join(others)}") if others else holds("uid 0 is root's alone")


@control("host.passwords", "Nobody logs in without a password", scope="host", cis="1.2.1")
def passwords(expected: HostPlan, live: LiveHost) -> Verdict:
    """An empty field of shadow(5), which PAM may take for a login without a password."""
    names = live.machine.get("no_password", "")
    return fails(f"no password: {names}") if names else holds("every account has one, or is locked")


@control("host.disk-space", "The disk of the engine's data has room", scope="host")
def disk_space(expected: HostPlan, live: LiveHost) -> Verdict:
    return _room(live, "root_disk", "KiB")


@control("host.disk-inodes", "The disk of the engine's data has room for more files", scope="host")
def disk_inodes(expected: HostPlan, live: LiveHost) -> Verdict:
    return _room(live, "root_inodes", "inodes")


@control("host.log-space", "The disk of the logs has room", scope="host")
def log_space(expected: HostPlan, live: LiveHost) -> Verdict:
    return _room(live, "journal_disk", "KiB")


@control("host.data-disk", "The engine's data lie on a disk of their own", scope="host", cis="1.1.1")
def data_disk(expected: HostPlan, live: LiveHost) -> Verdict:
    words = live.machine.get("root_disk", "").split()
    if len(words) < 6:
        return fails("df says nothing of the engine's directory")
    if words[5] != "/":
        return holds(f"{live.machine.get('root_dir')} lies on {words[5]}")
    root = PurePosixPath(live.machine.get("root_dir", ""))
    wanted = [path for stack in expected.stacks for path in stack.requires_mounts_for if root.is_relative_to(path)]
    if not wanted:
        return not_applicable("the inventory gives it no disk of its own; host.disk-space guards this one")
    return fails(f"{live.machine.get('root_dir')} lies on the system's disk")


@control("host.reboot", "No installed update waits for a reboot", scope="host", cis="1.2.1")
def reboot(expected: HostPlan, live: LiveHost) -> Verdict:
    asked = live.machine.get("reboot", "")
    return fails(f"it says: {asked}") if asked else holds("none waits")


def _room(live: LiveHost, key: str, unit: str) -> Verdict:
    """Judge a line of df: filesystem, all, used, free, share, mount point. A filesystem that counts none has no end."""
    words = live.machine.get(key, "").split()
    if len(words) < 6 or not words[1].isdigit():
        return fails("df says nothing of it")
    everything, free = int(words[1]), int(words[3])
    if not everything:
        return not_applicable(f"{words[5]} counts no {unit}")
    said = f"{free} of {everything} {unit} free on {words[5]}"
    return holds(said) if free >= LEAST_FREE * everything else fails(f"{said}: at least {LEAST_FREE:.0%} is wanted")


def _container(live: LiveHost) -> str:
    """The kind of container that the host is; empty for a machine."""
    kind = live.machine.get("container", "none")
    return "" if kind == "none" else kind
