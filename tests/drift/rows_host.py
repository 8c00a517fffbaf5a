"""What a hand does to the host itself. What role docker or role host keeps is repaired by site.yml."""

from __future__ import annotations

from tests.drift.row import CURRENT, STATE, TOP, Row, container, row, services

UNITS = "/etc/systemd/system"
PROGRAM = "/usr/local/lib/batten/batten-host.pyz"
BOOT, TIMER = "batten-stack@yard.service", "batten-sync@yard.timer"
JOURNAL = "/etc/systemd/journald.conf.d/batten.conf"
UPDATES, LATER = "/etc/apt/apt.conf.d/52batten-upgrades", "/etc/apt/apt.conf.d/99mine"
DAEMON = "/etc/docker/daemon.json"
RELOAD = "systemctl daemon-reload"
# The engine takes some seconds to read daemon.json again; it says so in its answer to /info.
LIVE_RESTORE = (
    f"""sed -Ei 's/("live-restore": *)[a-z]+/\\1{{}}/' {DAEMON}; systemctl reload docker; """
    "until [ $(docker info -f '{{{{.LiveRestoreEnabled}}}}') = {} ]; do sleep 0.1; done"
)


def live_restore(value: str) -> str:
    """Shell: the engine runs with that, and daemon.json says it."""
    return LIVE_RESTORE.format(value, value)


def host(name: str, facet: str) -> list[tuple[str, str, str]]:
    return [("host", name, facet)]


OURS = (
    row(
        "a unit edited",
        f"sed -i s/MemoryMax=.*/MemoryMax=9G/ {UNITS}/batten-stack@.service; {RELOAD}",
        host("batten-stack@.service", "unit"),
    ),
    row(
        "the engine no longer waits for the secrets",
        f"rm {UNITS}/docker.service.d/batten-yard.conf; {RELOAD}",
        host("docker.service.d/batten-yard.conf", "drop_in"),
        controls=("lifecycle.boot",),
    ),
    row("a unit disabled", f"systemctl disable -q {BOOT}", host(BOOT, "unit"), controls=("lifecycle.boot",)),
    row(
        "a foreign drop-in for a unit of ours",
        f"mkdir -p {UNITS}/{BOOT}.d; printf '[Service]\\nExecStop=\\n' >{UNITS}/{BOOT}.d/mine.conf; {RELOAD}",
        host(BOOT, "drop_in"),
        refused=f"rm {UNITS}/{BOOT}.d/mine.conf",
        undo=f"rm {UNITS}/{BOOT}.d/mine.conf; {RELOAD}",
    ),
    row("a timer stopped", f"systemctl stop {TIMER}", host(TIMER, "timer")),
    row("a timer disabled", f"systemctl disable -q --now {TIMER}", host(TIMER, "timer")),
    row("a stack's state for all to list", f"chmod 0755 {STATE}", host(STATE, "mode")),
    row(
        "batten's state for all to list",
        "chmod 0755 /var/lib/batten",
        host("/var/lib/batten", "mode"),
        controls=("files.batten-state",),
    ),
    row(
        "the user's files of somebody else",
        f"chown daemon {TOP}/base",
        host(f"{TOP}/base", "owner"),
        controls=("files.release",),
    ),
)

OF_ROLE_HOST = (
    row(
        "redirects sent",
        "echo 1 >/proc/sys/net/ipv4/conf/all/send_redirects",
        host("net.ipv4.conf.all.send_redirects", "sysctl"),
    ),
    row("the firewall emptied", "nft flush table inet batten", host("nftables", "firewall")),
    row(
        "updates turned off",
        "systemctl disable -q --now apt-daily-upgrade.timer",
        host("apt-daily-upgrade.timer", "upgrades"),
        controls=("host.upgrades",),
    ),
    row(
        "updates turned off by a later file",
        f"""echo 'APT::Periodic::Unattended-Upgrade "0";' >{LATER}""",
        host("APT::Periodic::Unattended-Upgrade", "upgrades"),
        refused="grep APT::Periodic::Unattended-Upgrade /etc/apt/apt.conf.d/*",
        undo=f"rm {LATER}",
    ),
    row("/etc/docker for all to write", "chmod 0777 /etc/docker", host("/etc/docker", "mode")),
)

BY_SITE = (
    row("site: the program edited", f"echo x >>{PROGRAM}", host(PROGRAM, "program"), site=True),
    row(
        "site: the engine told to stop containers with itself",
        live_restore("false"),
        host("daemon.json", "daemon_config"),
        controls=("daemon.live-restore",),
        site=True,
    ),
    row(
        "site: the engine runs otherwise than its file says",
        f"cp -p {DAEMON} /tmp/d; {live_restore('false')}; cp -p /tmp/d {DAEMON}",
        host("dockerd", "daemon_running"),
        controls=("daemon.live-restore",),
        site=True,
    ),
    row(
        "site: the journal's bounds edited away, and the engine's packages let go",
        f"sed -i /^SystemMaxUse/d {JOURNAL}; apt-mark unhold -q docker.io; sed -i /docker/d {UPDATES}",
        [*host(JOURNAL, "journald"), *host("docker.io", "packages"), *host(UPDATES, "upgrades")],
        controls=("logging.journal-bounded", "host.engine-held"),
        site=True,
    ),
    row(
        "site: the firewall's table deleted",
        "nft delete table inet batten",
        host("nftables", "firewall"),
        site=True,
    ),
    row(
        "site: a hole in the firewall",
        "nft insert rule inet batten forward accept",
        host("nftables", "firewall"),
        site=True,
    ),
    row(
        "site: redirects taken",
        "echo 1 >/proc/sys/net/ipv4/conf/all/accept_redirects",
        host("net.ipv4.conf.all.accept_redirects", "sysctl"),
        site=True,
    ),
    row(
        "site: somebody in group docker",
        "gpasswd -a daemon docker",
        host("docker", "group"),
        controls=("daemon.docker-group",),
        site=True,
    ),
    row(
        "site: the engine's socket for all",
        "chmod 0666 /run/docker.sock",
        host("/run/docker.sock", "mode"),
        controls=("files.docker-socket",),
        site=True,
    ),
    row(
        "site: a limit, a stopped service, a secret and a file at once",
        f"docker update --memory 300m --memory-swap 300m {container('api')}; docker stop {container('worker')}; "
        f"chmod 0444 {TOP}/secrets/db/password; echo '# x' >>{CURRENT}/compose.prod.yaml",
        [
            *services("api", "memory", "memory_swap"),
            *services("worker", "state"),
            ("secret", "db/password", "mode"),
            ("file", f"{TOP}/releases/*/compose.prod.yaml", "content"),
        ],
        ["worker"],
        controls=("limits.memory", "lifecycle.running", "secrets.files"),
        site=True,
    ),
)

ROWS: tuple[Row, ...] = (*OURS, *OF_ROLE_HOST, *BY_SITE)
