"""Load on the reference stack, run on its host as root: `python3 - STACK DOMAIN ADDRESS FILE`.

Fifty requests a second through proxy, api and PgBouncer, each of which writes to the database; and pgbench through
PgBouncer with the credentials that the api has at that moment, until FILE is gone. Prints one JSON document: how many
there were, and what failed.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

STACK, DOMAIN, ADDRESS, GOES_ON = sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4])
REQUESTS_A_SECOND = 50
CLIENTS = 4
VISIT = "INSERT INTO visits VALUES (random(), 1) ON CONFLICT (page) DO UPDATE SET count = visits.count + 1;"
DSN = Path(f"/opt/batten/{STACK}/secrets/api/database_url")
POSTGRES, PGBOUNCER = f"{STACK}-postgres-1", f"{STACK}-pgbouncer-1"


class Requests(threading.Thread):
    """One of several that ask in turn, each over a connection that it keeps, as a proxy's clients do."""

    def __init__(self, pause: float) -> None:
        super().__init__()
        self.pause, self.count, self.failed, self.slowest = pause, 0, [], 0.0  # type: ignore[var-annotated]

    def run(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # Caddy's own authority
        connection: Any = None
        while GOES_ON.exists():
            begun = time.monotonic()
            try:
                if connection is None:
                    connection = _Named(ADDRESS, context)
                connection.request("GET", "/", headers={"Host": DOMAIN})
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    self.failed.append(f"{answer.status} {body[:200]!r}")
            except Exception as error:  # noqa: BLE001 - whatever it is, a request failed
                self.failed.append(repr(error))
                connection = None
            self.count += 1
            taken = time.monotonic() - begun
            self.slowest = max(self.slowest, taken)
            time.sleep(max(0.0, self.pause - taken))


class _Named(http.client.HTTPSConnection):
    """A connection to an address that asks for the stack's name (SNI)."""

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        super().__init__(address, timeout=15, context=context)
        self.context = context

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self.context.wrap_socket(self.sock, server_hostname=DOMAIN)


class Transactions(threading.Thread):
    """pgbench again and again, each time as whoever the api is then; the runs overlap every change of credentials."""

    def __init__(self) -> None:
        super().__init__()
        self.count, self.failed, self.users, self.seconds = 0, [], set(), 0.0  # type: ignore[var-annotated]

    def run(self) -> None:
        place = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
        words = ["docker", "inspect", "-f", place, PGBOUNCER]
        while GOES_ON.exists():
            host = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()[0]
            url = urlsplit(DSN.read_text().strip())
            user, password = unquote(url.username or ""), unquote(url.password or "")
            self.users.add(user)
            script = (
                f"IFS= read -r PGPASSWORD; export PGPASSWORD; f=$(mktemp); printf '%s\\n' \"{VISIT}\" >$f; "
                f"exec pgbench -n -h {host} -p 6432 -U {user} -c {CLIENTS} -j 1 -T 3 -f $f app 2>&1"
            )
            done = subprocess.run(
                ["docker", "exec", "-i", POSTGRES, "sh", "-c", script],
                input=password + "\n",
                capture_output=True,
                text=True,
                check=False,
            )
            made = re.search(r"transactions actually processed: (\d+)", done.stdout)
            lost = re.search(r"failed transactions: (\d+)", done.stdout)
            self.count += int(made[1]) if made else 0
            self.seconds += 3
            if done.returncode or not made or (lost and int(lost[1])):
                self.failed.append(done.stdout[-500:])


def main() -> None:
    threads = 5
    asking = [Requests(threads / REQUESTS_A_SECOND) for _ in range(threads)]
    querying = [Transactions(), Transactions()]  # two that take turns: one always begins anew while the other runs
    begun = time.monotonic()
    for thread in (*asking, *querying):
        thread.start()
        time.sleep(0.3)
    for thread in (*asking, *querying):
        thread.join()
    seconds = time.monotonic() - begun
    found = {
        "seconds": round(seconds, 1),
        "requests": sum(one.count for one in asking),
        "requests_a_second": round(sum(one.count for one in asking) / seconds, 1),
        "failed_requests": [text for one in asking for text in one.failed],
        "slowest_request": round(max(one.slowest for one in asking), 2),
        "transactions": sum(one.count for one in querying),
        "transactions_a_second": round(sum(one.count for one in querying) / seconds),
        "failed_transactions": [text for one in querying for text in one.failed],
        "users": sorted(set().union(*(one.users for one in querying))),
    }
    print(json.dumps(found))  # noqa: T201 - standard output is what it is for


main()
