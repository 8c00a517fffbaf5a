"""Handing a text to another host through somebody who must not read it.

The host that is to get it makes a key; who sends seals to its certificate; only that host opens it. Sealing is CMS with
AES-256-GCM (RFC 5083, 5084) by the host's own ``openssl`` 3, so a changed text does not open. Texts go through pipes.
"""

from __future__ import annotations

from . import atomic, openssl
from .errors import BattenError
from .paths import SharedPaths


def public_key(paths: SharedPaths) -> str:
    """Return the certificate to which others seal, PEM; made with its key the first time."""
    path = paths.sealing_key
    if not path.exists():
        atomic.make_directory(paths.var, 0o700)
        # Ten years are no promise to anybody: the certificate only carries the key, and nobody checks its dates.
        words = ["req", "-x509", "-newkey", "rsa:3072", "-noenc", "-keyout", "-", "-subj", "/CN=batten"]
        made = openssl.run([*words, "-days", "3650"], where=str(path))
        atomic.write(path, made.encode(), 0o600)
    return openssl.run(["x509"], path.read_text(encoding="ascii"), where=str(path))


def seal(text: str, public: str) -> str:
    """Return ``text`` so that only the holder of the key behind ``public`` can read it, PEM.

    Raises BattenError when ``public`` is no certificate.
    """
    words = ["cms", "-encrypt", "-binary", "-aes-256-gcm", "-outform", "PEM"]
    words += ["-recip", "{}", "-keyopt", "rsa_padding_mode:oaep"]  # of the recipient before it: cms(1)
    return openssl.run(words, text, public, where="public_key")


def unseal(paths: SharedPaths, sealed: str) -> str:
    """Return what was sealed to this host. Raises BattenError when it was not, or was changed on the way."""
    path = paths.sealing_key
    if not path.exists():
        raise BattenError("this host has no key to open it with", str(path), "run site.yml again")
    words = ["cms", "-decrypt", "-binary", "-inform", "PEM", "-inkey", str(path), "-recip", str(path)]
    return openssl.run(words, sealed, where="what was sealed to this host")
