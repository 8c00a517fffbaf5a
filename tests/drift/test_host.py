"""The drift matrix: kernel, files, secrets, networks, volumes, host. A row that fails does not spoil the next."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.drift import rows_host, rows_kernel, rows_stack
from tests.drift.matrix import ask
from tests.drift.row import Row, slug
from tests.drift.yard import Yard

BEGUN = """
held() { p=$(sed -n 's/.*"pid": \\([0-9]*\\).*"brief": false.*/\\1/p' /run/lock/batten-yard.lock) && kill -0 $p; }
until held 2>/dev/null || docker inspect yard-worker-1 >/dev/null 2>&1; do sleep 0.05; done"""
"""Shell: waits until a run holds the stack, or has done its work."""


@pytest.mark.parametrize("row", [*rows_kernel.ROWS, *rows_stack.ROWS, *rows_host.ROWS], ids=slug)
@pytest.mark.usefixtures("brought_back")
def test_row(yard: Yard, row: Row) -> None:
    ask(yard, row)


def test_a_look_while_a_run_is_going_on_shows_nothing_that_is_half_done(yard: Yard) -> None:
    yard.hand("docker rm -f yard-worker-1")
    with ThreadPoolExecutor(1) as beside:
        run = beside.submit(yard.repair)
        yard.hand(BEGUN)
        look = yard.look()
        assert run.result().returncode == 0, run.result().stderr
    assert look.rows == (), str(look)
    assert all("another run holds" in one["what"] for one in look.errors), str(look)
    assert yard.look().is_empty


def test_every_repair_is_in_the_audit_file_with_before_and_after_and_no_secret(yard: Yard) -> None:
    lines = [json.loads(line) for line in yard.host.run("cat /var/log/batten/audit.jsonl").stdout.splitlines()]
    written = {(line["scope"], line["service"], line["facet"]) for line in lines if "facet" in line}
    repaired = {one for row in rows_kernel.ROWS for one in row.found}
    assert repaired <= written
    assert all({"before", "after"} <= set(line) for line in lines if "facet" in line)
    secret = yard.host.run("cat /opt/batten/yard/secrets/api/database_password").stdout.strip()
    assert secret not in str(lines)


def test_in_the_end_every_control_holds_again(yard: Yard) -> None:
    assert yard.failing() <= yard.waived
