"""The private CA. Judged by ``openssl verify`` and by Python's own TLS, which knows nothing of batten."""

from __future__ import annotations

import ssl
import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from ansible_collections.batten.core.plugins.module_utils import pki
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class Authority(NamedTuple):
    key: str
    certificate: str


@pytest.fixture(scope="module")
def ca() -> Authority:
    key = pki.make_key()
    return Authority(key, pki.make_ca("tls_ca", key))


def verify(certificate: str, ca: str, place: Path, *words: str) -> str:
    (place / "ca").write_text(ca)
    (place / "leaf").write_text(certificate)
    command = ["openssl", "verify", "-x509_strict", "-CAfile", str(place / "ca"), *words, str(place / "leaf")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "OK" if done.returncode == 0 else done.stdout + done.stderr


def test_openssl_accepts_the_chain_for_its_names_and_no_others(ca: Authority, tmp_path: Path) -> None:
    leaf = pki.issue(ca.key, ca.certificate, pki.make_key(), ["postgres", "db.example.org", "10.0.0.5", "fd00::1"])
    for words in (
        ("-purpose", "sslserver", "-verify_hostname", "postgres"),
        ("-purpose", "sslserver", "-verify_hostname", "db.example.org"),
        ("-purpose", "sslserver", "-verify_ip", "10.0.0.5"),
        ("-purpose", "sslclient", "-verify_ip", "fd00::1"),
    ):
        assert verify(leaf, ca.certificate, tmp_path, *words) == "OK"
    assert "hostname mismatch" in verify(leaf, ca.certificate, tmp_path, "-verify_hostname", "redis")
    other = pki.make_ca("tls_ca", pki.make_key())
    assert verify(leaf, other, tmp_path) != "OK"


def test_a_leaf_issues_nothing_and_a_ca_no_further_ca(ca: Authority, tmp_path: Path) -> None:
    key = pki.make_key()
    leaf = pki.issue(ca.key, ca.certificate, key, ["postgres"])
    below = pki.issue(key, leaf, pki.make_key(), ["evil"])
    (tmp_path / "between").write_text(leaf)
    assert "invalid CA" in verify(below, ca.certificate, tmp_path, "-untrusted", str(tmp_path / "between"))
    shown = subprocess.run(["openssl", "x509", "-noout", "-text"], input=ca.certificate, text=True, capture_output=True)
    assert "CA:TRUE, pathlen:0" in shown.stdout
    assert "Certificate Sign" in shown.stdout


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> str | None:
    """Shake hands in memory; return the client's version of TLS."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    here = client.wrap_bio(to_client, to_server, server_hostname=name)
    there = server.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for side in (here, there):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
    return here.version()


def context(place: Path, key: str, certificate: str) -> ssl.SSLContext:
    (place / "key").write_text(key)
    (place / "certificate").write_text(certificate)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(place / "certificate", place / "key")
    return server


def test_a_tls_client_that_checks_everything_shakes_hands(ca: Authority, tmp_path: Path) -> None:
    key = pki.make_key()
    server = context(tmp_path, key, pki.issue(ca.key, ca.certificate, key, ["pgbouncer", "127.0.0.1"]))
    client = ssl.create_default_context(cadata=ca.certificate)
    assert handshake(server, client, "pgbouncer") == "TLSv1.3"
    assert handshake(server, client, "127.0.0.1") == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        handshake(server, client, "postgres")


def test_after_a_ca_was_renewed_both_of_them_hold_for_both_leaves(ca: Authority, tmp_path: Path) -> None:
    renewed = pki.make_ca("tls_ca", ca.key)
    assert renewed != ca.certificate
    for issuer in (ca.certificate, renewed):
        leaf = pki.issue(ca.key, issuer, pki.make_key(), ["postgres"])
        assert [verify(leaf, trusted, tmp_path) for trusted in (ca.certificate, renewed)] == ["OK", "OK"]


@pytest.mark.parametrize("kept", [True, False])
def test_what_begins_in_the_future_is_due_where_it_is_not_the_clock_that_is_behind(
    kept: bool, fake_program: Callable[[str, str], None]
) -> None:
    fake_program("timedatectl", f"#!/bin/sh\necho {'yes' if kept else 'no'}\n")
    key = pki.make_key()
    certificate = pki.make_ca("tls_ca", key, days=3650, now=NOW)
    assert pki.due(certificate, NOW - timedelta(days=60)) is kept
    assert not pki.due(certificate, NOW)


def test_times(fake_program: Callable[[str, str], None]) -> None:
    fake_program("timedatectl", "#!/bin/sh\necho no\n")
    key = pki.make_key()
    certificate = pki.make_ca("tls_ca", key, days=3650, now=NOW)
    start, end = pki.validity(certificate)
    assert start == NOW - timedelta(hours=1)
    assert end == NOW + timedelta(days=3650)
    leaf = pki.issue(key, certificate, key, ["a"], days=90, now=NOW)
    assert pki.validity(leaf) == (NOW - timedelta(hours=1), NOW + timedelta(days=90))
    assert not pki.due(leaf, NOW + timedelta(days=59))
    assert pki.due(leaf, NOW + timedelta(days=60))
    assert not pki.due(leaf, NOW - timedelta(days=1000)), "a clock that was set back renews nothing"


def test_a_leaf_does_not_outlive_its_ca() -> None:
    key = pki.make_key()
    certificate = pki.make_ca("tls_ca", key, days=30, now=NOW)
    leaf = pki.issue(key, certificate, key, ["a"], days=90, now=NOW)
    assert pki.validity(leaf)[1] == pki.validity(certificate)[1]


@pytest.mark.parametrize("days", [-2, 31])
def test_a_clock_outside_the_cas_time_is_an_error_that_says_so(days: int) -> None:
    key = pki.make_key()
    certificate = pki.make_ca("tls_ca", key, days=30, now=NOW)
    with pytest.raises(BattenError, match="this host's clock says") as caught:
        pki.issue(key, certificate, key, ["a"], now=NOW + timedelta(days=days))
    assert "timedatectl" in caught.value.fix


def test_serials_are_random(ca: Authority) -> None:
    def serial(certificate: str) -> str:
        command = ["openssl", "x509", "-noout", "-serial"]
        return subprocess.run(command, input=certificate, text=True, capture_output=True, check=True).stdout

    key = pki.make_key()
    found = {serial(pki.issue(ca.key, ca.certificate, key, ["a"])) for _ in range(5)}
    assert len(found) == 5
    assert all(len(one) > len("serial=") + 30 for one in found)


def test_pairs(ca: Authority) -> None:
    key = pki.make_key()
    leaf = pki.issue(ca.key, ca.certificate, key, ["a"])
    assert pki.matches(key, leaf)
    assert not pki.matches(ca.key, leaf)
    assert pki.issued_by(leaf, ca.certificate)
    assert not pki.issued_by(leaf, pki.make_ca("tls_ca", pki.make_key()))
    with pytest.raises(BattenError, match="not a pair"):
        pki.issue(key, ca.certificate, key, ["a"])


def test_names_come_back_in_one_spelling(ca: Authority) -> None:
    names = ["postgres", "*.example.org", "10.0.0.5", "FD00:0:0::1"]
    leaf = pki.issue(ca.key, ca.certificate, pki.make_key(), names)
    assert pki.names_of(leaf) == {"postgres", "*.example.org", "10.0.0.5", "fd00::1"} == pki.normal(names)


@pytest.mark.parametrize(
    "name",
    ["", "a b", "-a", "a..b", "a,DNS:evil", "a\nCN = evil", "a/b", "x" * 64, "*.*.a", "$ENV::HOME", "1.2.3.4.5/8", "ä"],
)
def test_a_name_that_is_none_is_refused(ca: Authority, name: str) -> None:
    with pytest.raises(BattenError, match="neither a DNS name nor an IP address"):
        pki.issue(ca.key, ca.certificate, ca.key, [name])


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 65, "$ENV::HOME", "a/b"])
def test_a_ca_with_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(BattenError, match="cannot be a CA's name"):
        pki.make_ca(name, pki.make_key())


def test_a_certificate_is_for_something(ca: Authority) -> None:
    with pytest.raises(BattenError, match="without a name"):
        pki.issue(ca.key, ca.certificate, ca.key, [])


def test_a_long_name_is_fine(ca: Authority, tmp_path: Path) -> None:
    name = ".".join(["very-long-label-number-0123456789"] * 4)
    leaf = pki.issue(ca.key, ca.certificate, pki.make_key(), [name])
    assert verify(leaf, ca.certificate, tmp_path, "-verify_hostname", name) == "OK"


def test_what_is_no_pem_is_refused_without_being_shown(ca: Authority) -> None:
    for wrong in ("hunter2", "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n", "x" * 70000):
        with pytest.raises(BattenError) as caught:
            pki.issue(ca.key, ca.certificate, wrong, ["a"])
        assert "hunter2" not in str(caught.value)


def test_without_openssl_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(BattenError, match="openssl is missing") as caught:
        pki.make_key()
    assert caught.value.fix == "apt-get install openssl"


def test_no_private_key_is_in_a_file_or_an_argument(
    ca: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake_program: Callable[[str, str], None]
) -> None:
    """A witness in openssl's place notes its arguments and every file below the temporary directory."""
    real = subprocess.run(["sh", "-c", "command -v openssl"], capture_output=True, text=True, check=True).stdout.strip()
    place, noted = tmp_path / "temporary", tmp_path / "noted"
    place.mkdir()
    script = f"""#!/bin/sh
{{ echo "$@"; find {place} -type f -exec cat {{}} +; }} >>{noted}
exec {real} "$@"
"""
    fake_program("openssl", script)
    monkeypatch.setattr("tempfile.tempdir", str(place))
    key = pki.make_key()
    pki.make_ca("tls_ca", key)
    pki.issue(ca.key, ca.certificate, key, ["a"])
    text = noted.read_text()
    assert "-keyfile /dev/fd/" in text
    lines = {line for pem in (key, ca.key) for line in pem.splitlines() if not line.startswith("-----")}
    assert not any(line in text for line in lines)
    assert not any(path.is_file() for path in place.rglob("*"))


def test_threads_do_not_mix_up_their_pipes(ca: Authority) -> None:
    keys = [pki.make_key() for _ in range(4)]
    found: dict[int, str] = {}

    def run(number: int) -> None:
        found[number] = pki.issue(ca.key, ca.certificate, keys[number], [f"s{number}"])

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(pki.matches(keys[number], found[number]) for number in range(4))
