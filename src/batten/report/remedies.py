"""What to do about a control that fails, for a person who reads a report: a sentence, and what to type."""

from __future__ import annotations

import shlex

_UP = "batten up -i {inventory}"
_DRIFT = (
    "The host is not what the inventory says. This brings it back; with --check it only shows what it would change.",
    _UP,
)

# By a control's id, else by its family; else something that runs is not what is planned.
_REMEDIES = {
    "backups": ("Make a backup now, then see why the last one is missing or old.", "batten backup -i {inventory}"),
    "certificates.expiry": (
        "Renew it: batten issues its own certificates anew; one from elsewhere is replaced in Infisical.",
        "batten rotate -i {inventory} --all",
    ),
    "health": ("Read what the service logged and what its health check printed; a run starts it again.", _UP),
    "images": ("Resolve the images anew, read what changed, then deploy.", "batten pin -i {inventory}"),
    "networks.members": ("Take the container that is not part of the stack off its network, or remove it.", ""),
    "secrets.age": (
        "Give the secrets new values while the stack keeps answering.",
        "batten rotate -i {inventory} --all",
    ),
    "secrets.refreshed": ("Correct the value in Infisical, or bring Infisical back; a run looks again.", _UP),
}


def remedy(control: str, inventory: str) -> tuple[str, str]:
    """Return a sentence, and a command for this inventory ("" if there is none)."""
    text, command = _REMEDIES.get(control) or _REMEDIES.get(control.partition(".")[0]) or _DRIFT
    return text, command.format(inventory=shlex.quote(inventory) if inventory else "INVENTORY")
