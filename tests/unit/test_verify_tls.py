"""What verify's reads say of a TLS server: the script's own function, against a real server of this process."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from batten.verify.live import SCRIPTS

FUNCTIONS, _, _ = SCRIPTS[0].read_text().partition("\nsection host\n")
# A container at this machine's own address, in a stack whose authority is the file $2.
STAND_INS = """
docker() { [ "$1" = ps ] && echo 0123 || echo "127.0.0.1 "; }
authorities() { cat "$authority"; }
authority=$2
served "$1"
"""
Serve = Callable[[ssl.TLSVersion], int]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of localhost that is its own authority, and its key."""
    directory = tmp_path_factory.mktemp("tls")
    certificate, key = directory / "server.crt", directory / "server.key"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(words, check=True, capture_output=True)
    return certificate, key


@pytest.fixture
def serve(pair: tuple[Path, Path]) -> Iterator[Serve]:
    """Return what starts a server that takes this version of TLS and newer ones; it returns the port."""
    listeners: list[socket.socket] = []

    def start(oldest: ssl.TLSVersion) -> int:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = oldest
        context.load_cert_chain(*pair)
        listening = socket.create_server(("127.0.0.1", 0))
        listeners.append(listening)
        threading.Thread(target=answer, args=(listening, context), daemon=True).start()
        return int(listening.getsockname()[1])

    yield start
    for one in listeners:
        one.shutdown(socket.SHUT_RDWR)
        one.close()


def answer(listening: socket.socket, context: ssl.SSLContext) -> None:
    """Shake hands with each client, and wait until it leaves."""
    while True:
        try:
            client, _ = listening.accept()
        except OSError:  # the test has ended
            return
        client.settimeout(60)
        with client, suppress(OSError), context.wrap_socket(client, server_side=True) as shaken:
            shaken.recv(1)


def reads(port: int, authority: Path) -> dict[str, str]:
    arguments = ["boundary", "probe", f"small,small,store,{port},tls,server.crt,localhost", str(authority)]
    words = ["sh", "-c", FUNCTIONS + STAND_INS, "sh", *arguments]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return {key: value for key, _, value in (line.partition(" ") for line in done.stdout.splitlines())}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("oldest", "old"), [(ssl.TLSVersion.TLSv1_1, "accepted"), (ssl.TLSVersion.TLSv1_2, "")], ids=["1.1", "1.2"]
)
def test_a_server_that_takes_old_tls_is_found(
    serve: Serve, pair: tuple[Path, Path], oldest: ssl.TLSVersion, old: str
) -> None:
    """Also where the stack has an authority, which the client reads from its standard input, each time anew."""
    found = reads(serve(oldest), pair[0])
    assert (found["verify"], found["protocol"], found["old"]) == ("0 (ok)", "TLSv1.3", old)
