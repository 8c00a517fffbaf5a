"""Handing a text to another host through somebody who must not read it.

The host that is to get it makes a key; who sends seals to its certificate; only that host opens it. Sealing is CMS with
AES-256-GCM (RFC 5083, 5084) by the host's own ``openssl`` 3, so a changed text does not open. Texts go through pipes.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from . import atomic
from .errors import BattenError
from .paths import StackPaths

_MOST = 60 * 1024  # bytes: a certificate waits in a pipe (64 KiB, pipe(7)) until openssl reads it


def key_file(paths: StackPaths) -> Path:
    """Return where this host's private key lies, for root alone; the same for all its stacks."""
    return paths.var / "sealing.key"


def public_key(paths: StackPaths) -> str:
    """Return the certificate to which others seal, PEM; made with its key the first time."""
    path = key_file(paths)
    if not path.exists():
        atomic.make_directory(paths.var, 0o700)
        # Ten years are no promise to anybody: the certificate only carries the key, and nobody checks its dates.
        words = [
            "req",
            "-x509",
            "-newkey",
            "rsa:3072",
            "-noenc",
            "-keyout",
            "-",
            "-subj",
            "/CN=batten",
            "-days",
            "3650",
        ]
        atomic.write(path, _openssl(words, b"", str(path)), 0o600)
    return _openssl(["x509"], path.read_bytes(), str(path)).decode()


def seal(text: str, public: str) -> str:
    """Return ``text`` so that only the holder of the key behind ``public`` can read it, PEM.

    Raises BattenError when ``public`` is no certificate.
    """
    words = ["cms", "-encrypt", "-binary", "-aes-256-gcm", "-outform", "PEM"]
    with _Pipe(public.encode()) as recipient:
        words += ["-recip", recipient.name, "-keyopt", "rsa_padding_mode:oaep"]  # of the recipient before it: cms(1)
        sealed = _openssl(words, text.encode(), "public_key", (recipient.reader,))
    return sealed.decode()


def unseal(paths: StackPaths, sealed: str) -> str:
    """Return what was sealed to this host. Raises BattenError when it was not, or was changed on the way."""
    path = key_file(paths)
    if not path.exists():
        raise BattenError("this host has no key to open it with", str(path), "run site.yml again")
    words = ["cms", "-decrypt", "-binary", "-inform", "PEM", "-inkey", str(path), "-recip", str(path)]
    return _openssl(words, sealed.encode(), "what was sealed to this host").decode()


class _Pipe:
    """A short text that a program can open by name, without being a file."""

    def __init__(self, content: bytes) -> None:
        if len(content) > _MOST:
            raise BattenError(f"it is longer than {_MOST} bytes", "public_key", "give a certificate")
        self.reader, writer = os.pipe()
        self.name = f"/dev/fd/{self.reader}"
        os.write(writer, content)
        os.close(writer)

    def __enter__(self) -> _Pipe:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.reader)


def _openssl(words: Sequence[str], given: bytes, where: str, files: Sequence[int] = ()) -> bytes:
    try:
        done = subprocess.run(["openssl", *words], input=given, capture_output=True, check=False, pass_fds=files)
    except FileNotFoundError:
        raise BattenError("openssl is missing", "this host", "install openssl 3: apt-get install openssl") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise BattenError(f"openssl {words[0]} failed: {lines[-1] if lines else 'no reason given'}", where, "run again")
    return done.stdout
