"""The memory mount that holds a stack's secrets: tmpfs that never swaps, or ramfs where the kernel cannot."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .errors import BattenError

SIZE_BYTES = 16 * 1024 * 1024  # far more than keys and certificates need, far less than hurts
# For root alone: a service sees its own directory, mounted from within; a user of the host with the same uid sees none.
MODE = 0o700
_FLAGS = "nosuid,nodev,noexec"
_MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True)
class Mount:
    """One line of /proc/self/mountinfo: ``filesystem`` is its type, ``options`` those of the super block."""

    filesystem: str
    options: tuple[str, ...]

    @property
    def never_swaps(self) -> bool:
        return self.filesystem == "ramfs" or (self.filesystem == "tmpfs" and "noswap" in self.options)


def find(path: Path, mountinfo: str) -> Mount | None:
    """Return the topmost mount at exactly ``path``. Format: proc_pid_mountinfo(5); later lines lie on earlier ones."""
    found = None
    for line in filter(None, mountinfo.split("\n")):  # not splitlines(): a name may hold what that splits at, too
        place, _, rest = line.partition(" - ")
        if place.split(" ")[4].encode().decode("unicode_escape") == str(path):
            filesystem, _, options = rest.split(" ", 2)
            found = Mount(filesystem, tuple(options.split(",")))
    return found


def mounted(path: Path) -> Mount | None:
    """Return what is mounted at ``path`` now."""
    return find(path, _MOUNTINFO.read_text(errors="replace"))


def ensure(path: Path, check: bool) -> bool:
    """Mount memory at ``path`` if it is not. Returns whether anything changes; in ``check`` nothing does.

    Raises BattenError when something else is mounted there, or the kernel grants neither kind.
    """
    present = mounted(path)
    if present and present.never_swaps:
        if not check:
            path.chmod(MODE)
        return False
    if present:
        raise BattenError(
            f"a {present.filesystem} that may swap is mounted where secrets go", str(path), f"umount {path}"
        )
    if check:
        return True
    path.mkdir(parents=True, exist_ok=True)
    _remove_empty_directories(path)
    # noswap came with kernel 6.4 (Documentation/filesystems/tmpfs.rst); an older one answers EINVAL. ramfs has no size.
    attempts = (
        ("tmpfs", f"{_FLAGS},noswap,size={SIZE_BYTES},mode={MODE:04o}"),
        ("ramfs", f"{_FLAGS},mode={MODE:04o}"),
    )
    said = ""
    for filesystem, options in attempts:
        done = subprocess.run(
            ["mount", "-t", filesystem, "-o", options, "batten-secrets", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return True
        said = done.stderr.strip()
    raise BattenError(f"cannot mount memory for secrets: {said}", str(path), "run as root, outside a user namespace")


def remove(path: Path, check: bool) -> bool:
    """Unmount ``path``. Raises BattenError when a process still uses it."""
    if mounted(path) is None:
        return False
    if not check:
        done = subprocess.run(["umount", str(path)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BattenError(f"cannot unmount secrets: {done.stderr.strip()}", str(path), f"see: fuser -vm {path}")
    return True


def _remove_empty_directories(path: Path) -> None:
    """Remove what the engine leaves when it starts containers without the mount: empty directories."""
    for directory, _, _ in os.walk(path, topdown=False):
        if directory != str(path):
            with suppress(OSError):  # a person's file: the mount hides it, and nobody lost it
                Path(directory).rmdir()
