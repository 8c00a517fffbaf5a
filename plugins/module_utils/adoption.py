"""Data that are there already: volumes are kept, and their owner is compared with who will write to them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import atomic
from .preflight import Problem


@dataclass(frozen=True)
class Place:
    """A directory that a service writes to, and who must own it.

    ``ours`` says that what is in it came from an image in a run that was killed before it could set the owner.
    ``mounted`` names the service whose base mounts a directory of the host here; else ``volume`` is a volume's name.
    """

    volume: str
    path: Path
    uid: int
    gid: int
    mode: int
    ours: bool = False
    mounted: str = ""
    shared: bool = False

    @property
    def exists(self) -> bool:
        return self.path.is_dir()

    @property
    def empty(self) -> bool:
        return not any(self.path.iterdir())

    @property
    def fits(self) -> bool:
        """Whether the owner is right; the group may be anything, as images differ in it.

        A mounted directory that everyone may write does too, but for a database: those insist on their own.
        """
        about = self.path.stat()
        return about.st_uid == self.uid or (self.shared and about.st_mode & 0o003 == 0o003)

    @property
    def chown(self) -> str:
        return f"chown -R {self.uid}:{self.gid} {shlex.quote(str(self.path))}"


def places(
    volumes: Mapping[str, Mapping[str, Any]], live: Iterable[Mapping[str, Any]], filling: Collection[str] = ()
) -> list[Place]:
    """Return where each planned volume's data lie: in its own directory, or where the engine keeps it, if it does yet.

    ``volumes`` is the plan's ``volumes`` as JSON, ``live`` the engine's list of volumes, ``filling`` what a killed run
    had begun to fill.
    """
    mounted = {volume["Name"]: volume.get("Mountpoint") for volume in live}
    found = []
    for volume in volumes.values():
        where = volume.get("device") or mounted.get(volume["name"])
        if where and volume.get("uid") is not None:  # without a uid the image's own user owns it, whoever that is
            mode = int(str(volume.get("mode") or "0700"), 8)
            name = volume["name"]
            found.append(Place(name, Path(where), int(volume["uid"]), int(volume["gid"]), mode, name in filling))
    return found


def binds(services: Mapping[str, Mapping[str, Any]], base: Path) -> list[Place]:
    """Return the directories of the host that services keep their data in, relative ones below ``base``.

    ``services`` is the plan's ``services`` as JSON. The engine would make a missing one, owned by root.
    """
    found = []
    for name, service in sorted(services.items()):
        for source in service.get("data_binds") or ():
            uid, _, gid = str(service["user"]).partition(":")
            place = Path(os.path.normpath(base / source))
            shared = service.get("service_class") != "database"
            found.append(Place(source, place, int(uid), int(gid or uid), 0o700, mounted=name, shared=shared))
    return found


def foreign_owners(found: Iterable[Place]) -> list[Problem]:
    """Return a problem, with the exact ``chown``, for each directory whose data another user owns."""
    return [
        Problem(
            f"its data in {place.path} belong to uid {place.path.stat().st_uid}; its service will run as {place.uid}",
            f"service {place.mounted}" if place.mounted else f"volume {place.volume}",
            f"stop the stack, then: {place.chown}" + ("" if place.mounted else "  (or set stack_adopt_chown: true)"),
        )
        for place in found
        if place.exists and not place.empty and not place.fits and not place.ours
    ]


def prepare(found: Iterable[Place], adopt_chown: bool, check: bool) -> list[str]:
    """Make missing directories and set owners; of existing data only with ``adopt_chown``. Returns what changed.

    What is in a mounted directory of the host is left as it is: it may be much more than one service's data.
    """
    changes = []
    for place in found:
        if not place.exists:
            changes.append(f"{place.path}: made")
            if not check:
                place.path.parent.mkdir(parents=True, exist_ok=True)
                atomic.make_directory(place.path, place.mode, place.uid, place.gid)
        elif not place.fits and (place.empty or place.ours or (adopt_chown and not place.mounted)):
            changes.append(f"{place.path}: owner {place.path.stat().st_uid} becomes {place.uid}")
            if not check:
                _chown(place)
    return changes


def _chown(place: Place) -> None:
    """Change the top last, so that a killed run is seen and done again by the next."""
    # By descriptor: who still runs in there may swap a directory for a link while we walk, and a path would follow it.
    for _, names, files, directory in os.fwalk(place.path):
        for name in (*names, *files):
            os.chown(name, place.uid, place.gid, dir_fd=directory, follow_symlinks=False)
    os.chown(place.path, place.uid, place.gid)
