"""The Compose command line: what batten lets Compose do, and nothing more."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .errors import BattenError

_LIBC = ctypes.CDLL(None)  # loaded here: after a fork little is safe
INSTALL = "run the docker role (playbooks/docker.yml), or install Docker's Compose plugin 2.24.4 or newer"


@dataclass(frozen=True)
class Compose:
    """One project: its name, directory, ``-f`` layers in order, env file, and variables for interpolation."""

    project: str
    directory: Path
    layers: tuple[Path, ...]
    env_file: Path | None = None
    profiles: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def config(self) -> dict[str, Any]:
        """Return the merged model. Raises :class:`BattenError` with Compose's own words when it refuses the layers."""
        return dict(json.loads(self.run(["config", "--format", "json"], "Compose refuses these layers")))

    def up(self, services: Sequence[str], start: bool = True) -> None:
        """Create ``services`` anew and start them, touching no other (not even their dependencies)."""
        how = ["-d"] if start else ["--no-start"]
        arguments = ["up", *how, "--no-deps", "--force-recreate", "--pull", "never", "--no-build", *services]
        self.run(arguments, "Compose could not start the service")

    def command(self) -> list[str]:
        """Return the command line up to Compose's own verb; a person may type the same."""
        words = ["docker", "compose", "-p", self.project, "--project-directory", str(self.directory)]
        for layer in self.layers:
            words += ["-f", str(layer)]
        if self.env_file is not None:
            words += ["--env-file", str(self.env_file)]
        for profile in self.profiles:
            words += ["--profile", profile]
        return words

    def run(self, arguments: Sequence[str], failure: str, fix: str = "") -> str:
        """Run Compose without a terminal; return its standard output."""
        try:
            done = subprocess.run(
                [*self.command(), *arguments],
                preexec_fn=_die_with_parent,
                env=_environment(self.variables),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            raise BattenError("there is no `docker` command on this host", fix=INSTALL) from None
        if done.returncode:
            reason = _reason(done.stderr)
            raise BattenError(f"{failure}: {reason}", f"Compose project {self.project}", fix)
        return done.stdout


def version() -> str | None:
    """Return Compose's version, such as ``2.26.1``, or None when it is not installed."""
    try:
        done = subprocess.run(
            ["docker", "compose", "version", "--short"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return None
    return done.stdout.strip().lstrip("v") or None if done.returncode == 0 else None


def _die_with_parent() -> None:
    """Ask the kernel to kill this child with its parent (prctl(2), PR_SET_PDEATHSIG): a run that is killed must not go
    on through Compose, without the lock."""
    _LIBC.prctl(1, signal.SIGKILL)


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Only what Docker needs: a stray variable of the caller's shell must not change a release."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_CONFIG", "DOCKER_HOST") if name in os.environ}
    return {"PATH": os.defpath, "COMPOSE_PROGRESS": "quiet", "COMPOSE_ANSI": "never", **kept, **variables}


def _reason(stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip() and "level=warning" not in line]
    return "\n".join(lines[-10:]) or "it gave no reason"
