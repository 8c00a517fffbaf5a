"""Volumes of a stack. They hold data, so what differs is told with the way to put it right by hand, never repaired."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .compare import PRESENCE, Difference
from .compose_labels import PROJECT
from .observed import Observed


def compare_volumes(
    stack: str,
    project: str,
    model: Mapping[str, Any],
    volumes: Iterable[Mapping[str, Any]],
    there: Mapping[str, Sequence[Observed]],
    is_directory: Callable[[str], bool] = lambda path: Path(path).is_dir(),
) -> list[Difference]:
    """Return how the volumes of a stack differ from its ``model``. One that no container uses yet Compose just makes.

    ``volumes`` are all of the engine, ``there`` the stack's containers by service.
    """
    live = {volume["Name"]: volume for volume in volumes}
    found = []
    for key, options in sorted((model.get("volumes") or {}).items()):
        wanted = options or {}
        name = str(wanted.get("name") or f"{project}_{key}")
        users = sorted(service for service, containers in there.items() if _uses(containers[0], name))
        volume = live.get(name)
        if volume is None or not _has_place(volume, is_directory):
            if users:
                actual = "absent" if volume is None else f"its directory {_place(volume)} is gone"
                found.append(_told(stack, name, PRESENCE, "present", actual, _lost(project, users)))
        elif not wanted.get("external"):
            fix = _moved(stack, project, volume, users)
            found += [
                _told(stack, name, facet, desired, actual, fix)
                for facet, desired, actual in _pairs(wanted, volume, project)
                if desired != actual
            ]
    return found


def _told(stack: str, name: str, facet: str, desired: Any, actual: Any, fix: str) -> Difference:
    return Difference(stack, "volume", name, facet, desired, actual, "none", reason=fix)


def _pairs(wanted: Mapping[str, Any], volume: Mapping[str, Any], project: str) -> list[tuple[str, Any, Any]]:
    """Labels only of those that Compose made for this project: an adopted volume keeps its own."""
    options = {name: str(value) for name, value in (wanted.get("driver_opts") or {}).items()}
    pairs: list[tuple[str, Any, Any]] = [
        ("driver", wanted.get("driver") or "local", volume.get("Driver")),
        ("options", options, dict(volume.get("Options") or {})),
    ]
    there = volume.get("Labels") or {}
    if there.get(PROJECT) == project:
        labels = {str(name): str(value) for name, value in (wanted.get("labels") or {}).items()}
        pairs.append(("labels", labels, {name: there[name] for name in labels if name in there}))
    return pairs


def _uses(container: Observed, name: str) -> bool:
    return any(mount[:2] == ("volume", name) for mount in container.mounts)


def _has_place(volume: Mapping[str, Any], is_directory: Callable[[str], bool]) -> bool:
    """Whether the directory of a local volume is there; of other drivers' only they know."""
    return volume.get("Driver") != "local" or not _place(volume) or is_directory(_place(volume))


def _place(volume: Mapping[str, Any]) -> str:
    options = volume.get("Options") or {}
    bound = "bind" in str(options.get("o") or "").split(",")
    return str((options.get("device") if bound else volume.get("Mountpoint")) or "")


def _lost(project: str, users: Sequence[str]) -> str:
    return (
        f"what {', '.join(users)} kept is gone, and an empty volume would hide that. Put the directory back, "
        f"or a backup: batten restore. To begin empty: docker rm -f {_containers(project, users)}, then run site.yml"
    )


def _moved(stack: str, project: str, volume: Mapping[str, Any], users: Sequence[str]) -> str:
    name, place = volume["Name"], shlex.quote(_place(volume) or "ITS_DATA")
    return (
        "a volume cannot be changed, and its data are not touched. By hand: "
        f"systemctl stop batten-stack@{stack}; cp -a {place} /var/tmp/{name}; docker rm {_containers(project, users)}; "
        f"docker volume rm {name}; run site.yml; stop again; put /var/tmp/{name} into the new volume; start"
    )


def _containers(project: str, users: Sequence[str]) -> str:
    return " ".join(f"{project}-{one}-1" for one in users)
