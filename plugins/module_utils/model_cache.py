"""Compose's merge of a release, kept: it costs a fifth of a second each time, and follows from the release alone.

Kept in the stack's state directory beside what it was made from: the release, and the Compose program. A file that was
edited has another digest than it says, and is made again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import atomic, release, survey
from .paths import StackPaths

# Where the docker command looks for its plugins, first found wins (docker/cli, cli-plugins/manager/manager_unix.go).
_PLUGINS = (
    "~/.docker/cli-plugins",
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)


def merged(paths: StackPaths, payload: Mapping[str, Any]) -> dict[str, Any]:
    """Return :func:`survey.merged_model` of a release, from the copy that is kept where that is still true of it."""
    made_from = {"release": release.identity(payload), "compose": compose_program()}
    kept = atomic.read_json(paths.model, {})
    if kept.get("made_from") == made_from and kept.get("digest") == atomic.digest(kept.get("model")):
        return dict(kept["model"])
    model = survey.merged_model(paths, payload)
    atomic.write_json(paths.model, {"made_from": made_from, "digest": atomic.digest(model), "model": model})
    return model


def compose_program() -> list[list[Any]]:
    """Return what tells one installed Compose from another: path, size and time of each plugin that is there."""
    places = [Path(os.path.expanduser(place)) / "docker-compose" for place in _PLUGINS]
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in places if path.is_file()]
