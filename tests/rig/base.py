"""Three local images: a Debian 13 root, a host that boots systemd, and that host with an engine on it.

Each is tagged with a digest of its recipe and of what it copies from the machine, so that it is built again exactly
when one of them changes.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from . import machine
from .docker import LABEL, REPOSITORY, RigError, docker, exists
from .locks import alone
from .progress import step

SUITE = "trixie"
HERE = Path(__file__).parent


def debian() -> str:
    """The name of the Debian root image; made with debootstrap(8) if it is not there."""
    here = machine.read()
    name = f"{REPOSITORY}/debian:{_digest(SUITE, 'minbase', json.dumps(asdict(here)), _source('debian.Dockerfile'))}"
    with alone("debian"):
        if not exists("image", name):
            _debootstrap(name, here)
    return name


def base() -> str:
    """The name of the host image: Debian 13 with systemd and Python, nothing of Docker; built if it is not there."""
    return layer("base", debian())


def engine() -> str:
    """The name of the host image with Debian's engine and Compose installed; built if it is not there."""
    return layer("engine", base())


def build(dockerfile: str, name: str, parent: str, context: Path | None = None) -> None:
    """`docker build` a Dockerfile of this folder on top of `parent`."""
    words = ["build", "--quiet", "--label", LABEL, "--build-arg", f"PARENT={parent}", "--tag", name]
    docker(*words, "--file", str(HERE / dockerfile), str(context or HERE / "context"))


def layer(kind: str, parent: str, extra: Sequence[str] = ()) -> str:
    """The name of the image that KIND.Dockerfile makes of `parent`; built if it is not there.

    `extra` are files of this folder that the recipe copies.
    """
    name = f"{REPOSITORY}/{kind}:{_digest(parent, *map(_source, [f'{kind}.Dockerfile', *extra]))}"
    if not exists("image", name):
        with step(name):
            build(f"{kind}.Dockerfile", name, parent)
    return name


def _debootstrap(name: str, here: machine.Machine) -> None:
    with step(f"{name} (debootstrap)"), tempfile.TemporaryDirectory(prefix="batten-rig-") as scratch:
        root = Path(scratch) / "root"
        _run(
            "debootstrap",
            "--variant=minbase",
            "--include=ca-certificates",
            SUITE,
            str(root),
            *([here.mirror] if here.mirror else []),
        )
        _import(root, f"{name}-raw")
        context = Path(scratch) / "context"
        (context / "certificates").mkdir(parents=True)
        (context / "apt.conf").write_text(here.apt_conf)
        for file, text in here.certificates.items():
            (context / "certificates" / file).write_text(text)
        build("debian.Dockerfile", name, f"{name}-raw", context=context)
        docker("image", "rm", f"{name}-raw")


def _source(file: str) -> str:
    return (HERE / file).read_text()


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _import(root: Path, name: str) -> None:
    words = ["tar", "-C", str(root), "--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*", "-c", "."]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as tar:
        importer = ["docker", "import", "-c", f"LABEL {LABEL}", "-", name]
        done = subprocess.run(importer, stdin=tar.stdout, stdout=subprocess.DEVNULL, check=False)
    if done.returncode or tar.returncode:
        raise RigError(f"docker import of {name} failed")


def _run(*words: str) -> None:
    done = subprocess.run(words, text=True, capture_output=True, check=False)
    if done.returncode:
        last = "\n".join(done.stdout.splitlines()[-10:] + done.stderr.splitlines()[-10:])
        raise RigError(f"{' '.join(words)} ended with {done.returncode}:\n{last}")
