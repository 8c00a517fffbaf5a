"""What to do about a control that fails, for a person who reads a report: a sentence, and what to type."""

from __future__ import annotations

import shlex

_UP = "batten up -i {inventory}"
_DRIFT = (
    "The host is not what the inventory says. This brings it back; with --check it only shows what it would change.",
    _UP,
)
_ENGINE = (
    "Not batten's own setting: take it out of docker_daemon, and out of daemon.json on the host, then deploy.",
    _UP,
)
_ROOM = (
    "Make room on that disk; what Docker could give back is shown by: docker system df -v; journalctl --disk-usage",
    "",
)
_MEMORY = (
    "It has too little: raise limits.memory of the service in batten.yaml; this shows what the host has left to give.",
    "batten plan -i {inventory}",
)
_LOGS = ("Read what the service logged and what its health check printed; a run starts it again.", _UP)
_BY_HAND = "Batten changes nothing of this by itself. On the host: "
_TLS = ("The service's own settings decide: allow TLS 1.2 and newer alone there, then deploy.", _UP)
_CREDENTIAL = (
    "Where the stack's own files say it, declare it under secrets in batten.yaml, then give it a new value.",
    _UP,
)
_DATA = (
    "Data are never moved or given to somebody else unasked. This says how by hand; for owners, see stack_adopt_chown.",
    "batten drift -i {inventory}",
)

# By a control's id; of all others something that runs is not what is planned, which a run puts right.
REMEDIES = {
    "backups.age": (
        "Make a backup now, then see on the host why the last is missing or old: journalctl -u 'batten-backup@*'",
        "batten backup -i {inventory} --to DIR",
    ),
    "certificates.expiry": (
        "A run renews batten's own; one that you gave has to be replaced first, in Infisical or in the inventory.",
        _UP,
    ),
    "certificates.strength": ("Give a stronger one in Infisical or the inventory, then deploy.", _UP),
    "certificates.protocol": _TLS,
    "certificates.old-protocols": _TLS,
    **{
        f"daemon.{name}": _ENGINE
        for name in (
            *("base-size", "debug", "experimental", "insecure-registries", "iptables", "log-level", "runtime"),
            *("seccomp", "socket-only"),
        )
    },
    "daemon.cgroups": (
        f"{_BY_HAND}no cgroup-parent in daemon.json; cgroup_enable=memory swapaccount=1 for the kernel.",
        "",
    ),
    "daemon.no-swarm": (f"{_BY_HAND}docker swarm leave --force; services of the swarm end with it.", ""),
    "daemon.storage": (
        f"{_BY_HAND}move the engine's data to a file system for overlay2: ext4, or xfs with ftype=1. Back up first.",
        "batten backup -i {inventory} --to DIR",
    ),
    "daemon.version": ("Let docker_version and docker_source of the inventory allow a newer engine, then deploy.", _UP),
    "files.docker-data": (f"{_BY_HAND}chmod 0711 /var/lib/docker; chown root:root /var/lib/docker", ""),
    "files.registry-certificates": (f"{_BY_HAND}chmod 0444 the files below /etc/docker/certs.d", ""),
    "files.registry-certificates-owner": (f"{_BY_HAND}chown -R root:root /etc/docker/certs.d", ""),
    "files.volumes": _DATA,
    "firewall.engine-rules": (
        f"{_BY_HAND}systemctl restart docker; the engine writes its rules anew, and containers go on meanwhile.",
        "",
    ),
    "health.healthy": _LOGS,
    "health.fresh": _LOGS,
    "host.clock": (
        "A run has a service keep it. Where one does, no time server answers: timedatectl timesync-status.",
        _UP,
    ),
    "host.data-disk": (
        f"{_BY_HAND}mount a disk of its own at the engine's directory; or accept it in waivers.yaml.",
        "",
    ),
    "host.disk-space": _ROOM,
    "host.disk-inodes": _ROOM,
    "host.log-space": _ROOM,
    "host.passwords": (f"{_BY_HAND}passwd -l USER, for each that is named.", ""),
    "host.reboot": (
        f"{_BY_HAND}systemctl reboot, when it suits; stacks are stopped and started in health order.",
        "",
    ),
    "host.root-users": (f"{_BY_HAND}usermod -u UID USER, or userdel USER, for each that is named.", ""),
    "images.current": (
        "A run makes the container anew. An image whose name is gone from the host is needed there first: docker pull.",
        _UP,
    ),
    "images.environment": (
        "Build the image without it, declare it under secrets in batten.yaml, and give it a new value.",
        "batten rotate -i {inventory} NAME",
    ),
    "lifecycle.image-tag": (
        "Pin it by digest, then deploy; or name a version in stack_images.",
        "batten pin -i {inventory}",
    ),
    "lifecycle.stable": _LOGS,
    "limits.headroom": _MEMORY,
    "limits.oom-kills": _MEMORY,
    "logging.json": (
        "Have the service write JSON, one object a line; if it cannot, accept it in waivers.yaml.",
        "",
    ),
    "logging.readable": (
        "It has said nothing since it started, or the journal dropped it: journalctl -u systemd-journald tells which.",
        "",
    ),
    "mounts.volume-places": _DATA,
    "mounts.volumes": _DATA,
    "networks.members": (
        "A run takes the container that is not of the stack off its network, and leaves it running.",
        _UP,
    ),
    "ports.outside": (
        "A run closes ports of containers. Of the host's own, stop what listens, or set host_firewall_input.",
        _UP,
    ),
    "ports.served": (
        "See that the service is healthy, and that no firewall before the host, such as the cloud's, keeps it closed.",
        "batten drift -i {inventory}",
    ),
    "ports.privileged": ("Publish it through the proxy: take it out of ports in batten.yaml, then deploy.", _UP),
    "privileges.arguments": _CREDENTIAL,
    "privileges.environment": _CREDENTIAL,
    "privileges.no-sshd": ("Take the SSH server out of the image; docker exec gets in without one.", ""),
    "secrets.age": (
        "Give those that are named new values while the stack keeps answering.",
        "batten rotate -i {inventory} NAME",
    ),
    "secrets.at-rest": (
        "Where the sealed values are gone, a run brings them from Infisical; a host without one needs its backup.",
        _UP,
    ),
    "secrets.looked": (
        "See on the host why it does not look, then run: journalctl -u 'batten-sync@*'",
        _UP,
    ),
    "secrets.refreshed": ("Correct the value in Infisical, or bring Infisical back; a run looks again.", _UP),
}


def remedy(control: str, inventory: str) -> tuple[str, str]:
    """Return a sentence, and a command for this inventory ("" if there is none)."""
    text, command = REMEDIES.get(control, _DRIFT)
    return text, command.format(inventory=shlex.quote(inventory) if inventory else "INVENTORY")
