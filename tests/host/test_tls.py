"""TLS of the reference stack: nobody gets in without it, and certificates are renewed under open connections."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.host.site import Site
from tests.rig import hosts, images, registry

# As if the leaves had been made 61 days ago, of which they hold 90. Their CA was made then, on the same key.
AGE = """
import sys
sys.path.insert(0, "/usr/local/lib/batten/batten-host.pyz")
from datetime import datetime, timedelta, timezone
from batten_host import credentials, paths, pki
where = paths.StackPaths("tls")
bundle = credentials.load(where)
then, values, key = datetime.now(timezone.utc) - timedelta(days=61), bundle.values, bundle.values["tls_ca"]
ca = pki.make_ca("tls_ca", key, now=then)
old = {f"{name}_tls_certificate": pki.issue(key, ca, values[f"{name}_tls"], [name], 90, then)
       for name in ("postgres", "pgbouncer")}
credentials.save(where, bundle.having(old))
"""

# In the api's container, on one connection through PgBouncer that checks its certificate, until its input ends.
CLIENT = """
import os, select, sys
import psycopg
from api.settings import from_environment
changed = dict(word.split("=") for word in sys.argv[1:])
connection = psycopg.connect(**{**from_environment(os.environ).connection(), **changed})
print(connection.pgconn.ssl_in_use, flush=True)
while not select.select([sys.stdin], [], [], 0.05)[0]:
    connection.execute("SELECT 1").fetchall()
    connection.commit()
print("went on")
"""

# Asks the proxy, each time on a new connection, until its input ends; prints the certificates of the first and of the
# last, and every answer that is not as it should be.
ASK = """
import hashlib, select, socket, ssl, sys
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
def connect():
    s = context.wrap_socket(socket.create_connection((sys.argv[1], 443), 10), server_hostname="tls.example.org")
    s.settimeout(10)
    return s
def shown(s):
    return hashlib.sha256(s.getpeercert(True)).hexdigest()
def answer(s):
    s.sendall(b"GET /health HTTP/1.1\\r\\nHost: tls.example.org\\r\\n\\r\\n")
    return s.recv(4096)
wrong, first, last = [], shown(connect()), ""
while not select.select([sys.stdin], [], [], 0.01)[0]:
    one = connect()
    said, last = answer(one), shown(one)
    wrong += [] if said.startswith(b"HTTP/1.1 200") else [said]
print(first, last, wrong)
"""


def pair(directory: Path) -> dict[str, str]:
    """A certificate of the site and its key, as a person gives them."""
    key, certificate = directory / "site.key", directory / "site.crt"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-noenc",
        "-days",
        "90",
    ]
    names = ["-subj", "/CN=tls.example.org", "-addext", "subjectAltName=DNS:tls.example.org"]
    subprocess.run([*command, *names, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    return {"site_certificate": certificate.read_text(), "site_key": key.read_text()}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    registry.ensure_registry()
    images.ensure_images()
    directory = tmp_path_factory.mktemp("tls")
    host = hosts.start(f"batten-tls-{os.getpid()}", "engine")
    try:
        found = Site(
            host,
            directory,
            stack_name="tls",
            stack_domain="tls.example.org",
            stack_tls="provided",
            stack_images={"api": "batten/sample-api:1.0.0"},
            infisical_mode="none",
            **pair(directory),
        )
        found.up()
        yield found
    finally:
        host.remove()


def client(site: Site, *words: str) -> subprocess.Popen[str]:
    inside = ["docker", "exec", "-i", "tls-api-1", "python", "-c", CLIENT, *words]
    return piped(["docker", "exec", "-i", site.host.name, *inside])


def piped(command: list[str]) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True)


def said(process: subprocess.Popen[str]) -> str:
    """End the process's input, and return what it printed. A line comes first: docker exec may lose a bare end."""
    return process.communicate("\n", timeout=60)[0]


def controls(site: Site) -> dict[str, set[str]]:
    found: dict[str, Any] = site.batten("verify")
    return {
        status: {one["id"] for one in found["controls"] if one["status"] == status}
        for status in ("pass", "fail", "not_applicable")
    }


def test_every_port_shows_the_certificate_that_was_delivered(site: Site) -> None:
    judged = controls(site)
    assert judged["fail"] == set()
    assert {"certificates.served", "certificates.expiry", "secrets.at-rest", "secrets.age"} <= judged["pass"]


def test_the_pool_takes_nobody_without_tls_and_is_nobody_else(site: Site) -> None:
    assert said(client(site)) == "True\nwent on\n"
    assert "SSL required" in said(client(site, "sslmode=disable"))
    address = json.loads(site.host.run("docker inspect tls-pgbouncer-1").stdout)[0]["NetworkSettings"]["Networks"]
    by_number = next(iter(address.values()))["IPAddress"]
    assert "does not match host name" in said(client(site, f"host={by_number}"))


def test_certificates_are_renewed_under_open_connections(site: Site) -> None:
    before = site.lives()
    site.host.run(["python3", "-"], stdin=AGE)
    held = client(site)
    run = site.up(playbook="playbooks/stack.yml")
    assert {one["name"] for one in run.task("Plan, render")["differences"] if one["facet"] == "delivery"} >= {
        "postgres_tls",
        "pgbouncer_tls",
    }
    assert said(held) == "True\nwent on\n"
    assert site.lives() == before, "no container was started anew"
    assert controls(site)["fail"] == set(), "what is served is what was delivered"


def test_the_proxy_takes_a_new_certificate_and_fails_no_request(site: Site) -> None:
    before = site.lives()
    asking = piped(["python3", "-c", ASK, site.host.address])
    site.variables.update(pair(site.directory))
    site.up()
    first, last, wrong = said(asking).strip().split(" ", 2)
    assert wrong == "[]"
    assert first != last
    assert site.lives() == before


def test_nothing_changes_in_a_second_run(site: Site) -> None:
    assert site.up().changed == []
