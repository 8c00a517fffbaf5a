"""The program age: a stream encrypted to a public key, and opened again; installed where it is missing.

Keys and texts go through pipes. See age(1), age-keygen(1).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from . import command
from .engine_packages import APT, APT_ENVIRONMENT
from .errors import BattenError

_BLOCK_BYTES = 1024 * 1024
_RECIPIENT = re.compile(r"age1[a-z0-9]+", re.MULTILINE)


def ensure(check: bool) -> list[str]:
    """Install age if it is not there; return what changed. Raises BattenError where the distribution has none."""
    if shutil.which("age") and shutil.which("age-keygen"):
        return []
    if check:
        return ["age: installed"]
    again = "install age by hand (https://age-encryption.org), and run again"
    if shutil.which("apt-get"):
        command.must([*APT, "update"], again, APT_ENVIRONMENT)
        command.must([*APT, "install", "--no-install-recommends", "age"], again, APT_ENVIRONMENT)
    elif shutil.which("dnf"):  # in EPEL, on RHEL and its kin
        command.must(["dnf", "-y", "-q", "install", "age"], again, {"LC_ALL": "C"})
    else:
        raise BattenError("age is not installed, and neither apt-get nor dnf is here", "this host", again)
    return ["age: installed"]


@contextmanager
def encrypting(recipient: str, target: IO[bytes]) -> Iterator[IO[bytes]]:
    """Give a stream whose content lands in ``target``, encrypted. Raises BattenError where age could not write it."""
    with tempfile.TemporaryFile() as said:
        process = _age(["--encrypt", "--recipient", recipient], subprocess.PIPE, target, said)
        stream: Any = process.stdin
        try:
            yield stream
            stream.close()
        except BrokenPipeError:
            pass  # age has ended before us, and tells why
        except BaseException:
            process.kill()
            _drain(process)
            raise
        _drain(process)
        if process.returncode:
            raise BattenError(f"age failed: {_last_line(said)}", "backup", "see: df -h")


@contextmanager
def decrypting(identity: str, source: IO[bytes] | int, path: str = "") -> Iterator[IO[bytes]]:
    """Give the plain content of ``source``, an encrypted stream, or of the file ``path``.

    The key goes to age through a pipe. Raises BattenError with age's own words for a wrong key, and for a stream that
    was cut short or changed, which is certain only when all of it was read (age authenticates chunk by chunk).
    """
    reader, writer = os.pipe()
    with tempfile.TemporaryFile() as said:
        try:
            os.write(writer, identity.encode())  # a pipe takes 64 KiB at once (pipe(7)); callers keep to less
        finally:
            os.close(writer)
        try:
            words = ["--decrypt", "--identity", f"/dev/fd/{reader}", *([path] if path else [])]
            process = _age(words, source, subprocess.PIPE, said, reader)
        finally:
            os.close(reader)
        stream: Any = process.stdout
        try:
            yield stream
            while stream.read(_BLOCK_BYTES):
                pass  # what follows the tar's end is authenticated too
        except BaseException:
            with suppress(OSError):
                stream.close()
            process.wait()
            if process.returncode not in (0, -13):  # SIGPIPE: we stopped reading, and our own reason is the better one
                raise _refused(said) from None
            raise
        process.wait()
        if process.returncode:
            raise _refused(said)


def new_identity() -> tuple[str, str]:
    """Return a new private key and its public key (age-keygen(1))."""
    try:
        done = subprocess.run(["age-keygen"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise _no_age() from None
    public = _RECIPIENT.search(done.stdout)
    if done.returncode or not public:
        raise BattenError(f"age-keygen failed: {done.stderr.strip()}", "this host", "install the package age anew")
    return done.stdout, public[0]


def _age(
    words: list[str], source: IO[bytes] | int, target: IO[bytes] | int, said: IO[bytes], *keep: int
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(["age", *words], stdin=source, stdout=target, stderr=said, pass_fds=keep)
    except FileNotFoundError:
        raise _no_age() from None


def _no_age() -> BattenError:
    return BattenError(
        "age is not installed", "this host", "set backup_recipient and run site.yml, or: apt install age"
    )


def _drain(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        if process.stdin:
            process.stdin.close()
    process.wait()


def _refused(said: IO[bytes]) -> BattenError:
    words = _last_line(said)
    fix = "give the private key that belongs to backup_recipient" if "no identity matched" in words else "take another"
    return BattenError(f"age cannot open it: {words}", "backup", fix)


def _last_line(said: IO[bytes]) -> str:
    """Return the last thing that age said of what is wrong; it ends with an invitation to report bugs."""
    said.seek(0)
    lines = [line.strip() for line in said.read().decode(errors="replace").splitlines()]
    told = [line for line in lines if line and "report unexpected or unhelpful errors" not in line]
    return (told or ["it gave no reason"])[-1].removeprefix("age: ").removeprefix("error: ")
