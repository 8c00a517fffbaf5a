"""New firewall rules that go by themselves, unless the controller gets through to the host with them in place."""

from __future__ import annotations

from . import atomic, command, host_live
from .errors import BattenError

RULES_FILE = "/etc/batten/firewall.nft"
"""What is loaded at boot: only rules that were confirmed, so that a reboot helps a host that nobody reaches."""
FIREWALL = "batten-firewall.service"
_NEW, _OLD = "/run/batten/firewall-new.nft", "/run/batten/firewall-old.nft"
_ROLLBACK = "batten-firewall-rollback"
_NONE = "table inet batten\ndelete table inet batten\n"


def load(text: str, seconds: int, root: str = "/") -> str:
    """Load rules, and have systemd put the old ones back after ``seconds``, 0 meaning never. Returns their digest
    while they wait to be confirmed, else nothing. Raises BattenError when nft refuses them; the old ones stay then."""
    digest = str(host_live.listing(text)["digest"])
    new, old = host_live.at(_NEW, root), host_live.at(_OLD, root)
    atomic.write(new, text.encode(), 0o600)
    command.must(["nft", "--check", "--file", str(new)], "report this as a defect, with the line that nft names")
    disarm()
    if seconds:
        atomic.write(old, (host_live.text(RULES_FILE, root) or _NONE).encode(), 0o600)
        nft = ["/usr/sbin/nft", "--file", str(old)]
        words = [
            "systemd-run",
            "--quiet",
            f"--unit={_ROLLBACK}",
            f"--on-active={seconds}",
            "--timer-property=AccuracySec=1s",
        ]
        command.must([*words, *nft], f"systemctl status {_ROLLBACK}.timer")
    command.must(["nft", "--file", str(new)], "nft list ruleset")
    if seconds:
        return digest
    _keep(text, root)
    return ""


def confirm(digest: str, root: str = "/") -> None:
    """Keep the rules that :func:`load` loaded. Raises BattenError when the old ones are back already."""
    disarm()
    there, text = host_live.table(), host_live.text(_NEW, root)
    if there is None or there["digest"] != digest or text is None:
        raise BattenError(
            "the new rules were taken back, as no new connection from the controller came in time",
            "host_firewall_confirm_seconds",
            "see that the rules let the controller in (host_firewall_ssh_ports, host_firewall_allow), or wait longer",
        )
    _keep(text, root)


def _keep(text: str, root: str) -> None:
    atomic.write(host_live.at(RULES_FILE, root), text.encode(), 0o644)
    command.must(["systemctl", "start", FIREWALL], f"journalctl -b -u {FIREWALL}")
    for path in (_NEW, _OLD):
        host_live.at(path, root).unlink(missing_ok=True)


def disarm() -> None:
    """Have nothing put back any more."""
    command.run(["systemctl", "stop", f"{_ROLLBACK}.timer"])
    command.run(["systemctl", "reset-failed", f"{_ROLLBACK}.service", f"{_ROLLBACK}.timer"])
