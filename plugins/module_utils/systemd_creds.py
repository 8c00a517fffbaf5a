"""Sealing with ``systemd-creds``: what lies on disk opens only on this host."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import atomic
from .errors import BattenError


def write(path: Path, name: str, value: Mapping[str, Any]) -> None:
    """Seal ``value`` as JSON into ``path``, for root alone. ``name`` is sealed in: a renamed file does not open.

    Plain text goes through a pipe, never through a file. ``auto`` seals with the TPM where there is one and with the
    host key. An empty ``--tpm2-pcrs`` binds to no boot measurement: with the default, PCR 7, an update of the firmware
    would lose every value (systemd-creds(1)).
    """
    text = json.dumps(value, sort_keys=True).encode()
    sealed = _run(["encrypt", f"--name={name}", "--with-key=auto", "--tpm2-pcrs="], text, path)
    atomic.write(path, sealed, 0o600)


def read(path: Path, name: str) -> dict[str, Any]:
    """Return what :func:`write` sealed. Raises BattenError when it does not open, FileNotFoundError when it is gone."""
    return dict(json.loads(_run(["decrypt", f"--name={name}"], path.read_bytes(), path)))


def _run(words: list[str], text: bytes, path: Path) -> bytes:
    try:
        done = subprocess.run(["systemd-creds", *words, "-", "-"], input=text, capture_output=True, check=False)
    except FileNotFoundError:
        raise BattenError("systemd-creds is missing", "this host", "install systemd 250 or newer") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().replace("\n", "; ")
        fix = (
            "as root, see: systemd-creds setup"
            if words[0] == "encrypt"
            else "the file was sealed on another host or damaged: restore it from a backup"
        )
        raise BattenError(f"systemd-creds cannot {words[0]} the credentials: {said}", str(path), fix)
    return done.stdout
