"""A generated secret is in its consumer's file, in memory, and nowhere else: on the host and on the controller."""

from __future__ import annotations

import re
from pathlib import Path

from tests.host.shop import Shop

SEARCH = (Path(__file__).parent / "leaks.py").read_text()


def search(shop: Shop) -> list[str]:
    """Search the host; return what was found, after making sure that something was searched."""
    *found, last = shop.host.run(["python3", "-", "shop"], stdin=SEARCH).stdout.splitlines()
    counts = re.fullmatch(r"(\d+) values in (\d+) places", last)
    assert counts
    assert int(counts[1]) > 3
    assert int(counts[2]) > 200
    return found


def test_a_run_leaves_no_value_anywhere(shop: Shop) -> None:
    outputs = [shop.run("-vvv").output, shop.run("-vvv", stack_images={"api": "batten/sample-api:nowhere"}).output]
    assert "nowhere" in outputs[1]
    assert search(shop) == []
    texts = [path.read_text(errors="replace") for path in shop.directory.rglob("*") if path.is_file()]
    delivered = shop.host.run("for f in /opt/batten/shop/secrets/*/*; do cat $f; echo; done").stdout.split()
    assert len(delivered) > 1
    for value in delivered:
        assert len(value) > 16
        assert not [text for text in (*outputs, *texts) if value in text]


def test_the_search_finds_what_leaks(shop: Shop) -> None:
    """Each way in which a value could get out is seen: as it is in a file, in base64 in a log, in arguments."""
    shop.host.run(
        "v=$(cat /opt/batten/shop/secrets/db/password); echo $v >/tmp/leak; "
        'printf "password=%s" $v | base64 -w0 | logger -t leak; systemd-run -q --unit=leak sh -c "sleep 60; : $v"'
    )
    try:
        found = search(shop)
    finally:
        shop.host.run("systemctl stop leak; rm /tmp/leak")
    assert {"db_password in /tmp/leak", "db_password in the journal"} <= set(found)
    assert any(one.startswith("db_password in cmdline of") for one in found)


def test_only_root_reads_what_is_sealed_and_only_its_user_a_delivered_file(shop: Shop) -> None:
    listed = "find /opt/batten /var/lib/batten /var/log/batten -printf '%M %U %p\\n'"
    lines = [line.split(maxsplit=2) for line in shop.host.run(listed).stdout.splitlines()]
    assert [path for mode, _, path in lines if mode[0] != "l" and (mode[5] == "w" or mode[8] == "w")] == []
    assert [path for _, uid, path in lines if uid != "0" and "/secrets/" not in path] == []
    assert shop.host.run("cat /var/lib/batten/shop/plan.json", user="nobody", check=False).returncode != 0
    assert shop.host.run("cat /opt/batten/shop/secrets/db/password", user="nobody", check=False).returncode != 0
    assert shop.host.run("cat /var/log/batten/audit.jsonl", user="nobody", check=False).returncode != 0
