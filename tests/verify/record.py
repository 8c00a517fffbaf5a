"""Record the batch of reads that the unit tests mutate: ``python -m tests.verify.record`` (20 s, in the rig)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from batten.verify.live import command, endpoints
from tests.rig import hosts
from tests.verify import stack

SNAPSHOT = Path(__file__).with_name("snapshot.txt")
BOUNDARY = "batten-snapshot"
NAME = "verify-record"


def main() -> None:
    host = hosts.start(NAME)
    try:
        stack.deploy(host)
        SNAPSHOT.write_text(batch(host))
    finally:
        host.remove()


def batch(host: hosts.Host) -> str:
    """One batch of reads of a rig host, as text."""
    words = command(BOUNDARY, {"small": "small"}, ["/var/backups/batten"], endpoints({"small": stack.PLAN}))
    done: subprocess.CompletedProcess[str] = host.run(words)
    return done.stdout


if __name__ == "__main__":
    main()
