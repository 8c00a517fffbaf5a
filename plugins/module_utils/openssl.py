"""The host's own ``openssl`` 3. What it is given goes through pipes, not through files or arguments."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack

from .errors import BattenError

_PIPE_BYTES = 65536  # what a pipe takes without a reader (pipe(7)); keys and certificates are a hundredth of it


def run(words: Sequence[str], stdin: str = "", *texts: str, where: str = "secrets") -> str:
    """Run ``openssl`` and return what it prints; each ``{}`` of ``words`` becomes a pipe with one of ``texts``.

    Raises BattenError with what it says, of ``where``.
    """
    with ExitStack() as stack:
        pipes = [_pipe(stack, text, where) for text in texts]
        left = iter(pipes)
        arguments = [f"/dev/fd/{next(left)}" if word == "{}" else word for word in words]
        try:
            done = subprocess.run(
                ["openssl", *arguments], input=stdin.encode(), capture_output=True, check=False, pass_fds=pipes
            )
        except FileNotFoundError:
            raise BattenError("openssl is missing", "this host", "apt-get install openssl") from None
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())[-300:]
        raise BattenError(
            f"openssl {words[0]} failed: {said}", where, "run again; see: openssl version, batten needs 3.0"
        )
    return done.stdout.decode()


def _pipe(stack: ExitStack, text: str, where: str) -> int:
    """Return a pipe's end to read ``text`` from."""
    content = text.encode()
    if len(content) > _PIPE_BYTES:
        raise BattenError("a key or certificate is longer than 64 KiB", where, "give the key and its chain only")
    reader, writer = os.pipe()
    stack.callback(os.close, reader)
    os.write(writer, content)
    os.close(writer)
    return reader
