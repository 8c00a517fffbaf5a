"""Secrets of a live stack and its Infisical: people's changes, mistakes, outages, a reboot. The tests are a story."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.host import shop
from tests.host.site import Run, Site
from tests.rig import hosts, images, registry

HEALTH = 'test "$(cat /run/secrets/token)" != broken && python -m api.probe http://127.0.0.1:8000/health'
SERVICES = {
    "api": {
        "secrets": {"token": {"secret": "token"}, "note": {"secret": "note"}},
        "reload": ["SIGNAL", "CONT"],
        "healthcheck": {
            "test": ["CMD-SHELL", HEALTH],
            "interval": "2s",
            "timeout": "5s",
            "retries": 2,
            "start_period": "4s",
            "start_interval": "500ms",
        },
    }
}
SECRETS = {
    "token": {"generator": "alnum", "length": 24},
    "note": {"generator": "provided", "from": "shop_note"},
}
NOTE = "  $HOME `id` ' \" \\ two\nlines, \u00fc\u4e2d and blanks \n\n"
PERSON = """
import json, sys
sys.path.insert(0, "/usr/local/lib/batten/batten-host.pyz")
from batten_host import paths, sync
vault, (verb, given) = sync.vault(paths.StackPaths("shop")), json.load(sys.stdin)
listing = vault.listing()
print(json.dumps({name: one.value for name, one in listing.secrets.items()}))
if verb:
    getattr(vault.client, verb)(vault.place, given)
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    registry.ensure_registry()
    images.ensure_images()
    host = hosts.start(f"batten-secrets-{os.getpid()}", "engine")
    try:
        yield Site(
            host,
            tmp_path_factory.mktemp("secrets"),
            stack_name="shop",
            stack_base=str(shop.BASE),
            stack_services=SERVICES,
            stack_secrets=SECRETS,
            stack_capacity={"memory": "6G", "cpus": 2},
            secrets_sync_interval="0",
        )
    finally:
        host.remove()


def infisical(site: Site, verb: str = "", given: Any = None) -> dict[str, str]:
    """Do in Infisical what a person does in the browser; return what was there before."""
    done = site.host.run(["python3", "-c", PERSON], stdin=json.dumps([verb, given]))
    found: dict[str, str] = json.loads(done.stdout)
    return found


def secrets(site: Site, **variables: Any) -> Run:
    """Run what site.yml runs for the secrets alone."""
    return site.run(playbook="playbooks/secrets.yml", **variables)


LEAKS = (Path(__file__).parent / "leaks.py").read_text()


def inside(site: Site, name: str) -> str:
    """What the api sees as its secret."""
    return site.host.run(f"docker exec shop-api-1 cat /run/secrets/{name}; echo .").stdout[:-2]


@contextmanager
def stopped(site: Site, *containers: str, verb: str = "stop", back: str = "start") -> Iterator[None]:
    """Infisical's containers stopped or paused meanwhile."""
    names = " ".join(f"infisical-{name}-1" for name in containers)
    site.host.run(f"docker {verb} {names}")
    try:
        yield
    finally:
        site.host.run(f"docker {back} {names}")
        site.host.run(
            "until docker inspect -f '{{.State.Health.Status}}' infisical-infisical-1 | grep -qx healthy; "
            "do sleep 0.5; done",
            timeout=90,
        )


def test_a_value_that_only_a_person_has_is_asked_for_before_anything_is_made(site: Site) -> None:
    refused = site.run()
    assert "no value was given for note" in refused.failed
    assert "shop_note" in refused.failed
    assert "environment prod, path /" in refused.failed
    assert site.lives() == {}


def test_the_first_run_puts_every_value_into_infisical(site: Site) -> None:
    site.up("-vvv", shop_note=NOTE)
    there = infisical(site)
    assert set(there) >= {"token", "note", "db_password", "app_password"}
    assert {name: site.secret(name) for name in there} == there
    assert inside(site, "note") == NOTE
    assert inside(site, "token") == there["token"]


def test_the_second_run_changes_nothing_and_needs_no_value_again(site: Site) -> None:
    before = site.lives(), site.lives("infisical")
    run = site.up()
    assert run.changed == []
    assert (site.lives(), site.lives("infisical")) == before
    assert run.task("stack's secrets")["versions"]["token"] == 1


def test_a_value_changed_by_a_person_reaches_its_consumer_without_a_restart(site: Site) -> None:
    before = site.lives()
    infisical(site, "update", {"token": "typed-by-a-person"})
    assert "token: changed in Infisical" in site.program("sync")
    assert inside(site, "token") == "typed-by-a-person"
    assert site.lives() == before
    assert site.program("sync") == ""


def test_a_database_password_changed_by_a_person_is_set_in_the_database(site: Site) -> None:
    infisical(site, "update", {"app_password": "0therWise"})
    assert "app_password: changed" in site.program("sync")
    # By its name: the image's pg_hba.conf trusts loopback.
    words = "PGPASSWORD=0therWise psql -h db -U app -d app -Atc 'SELECT 1'"
    assert site.host.run(["docker", "exec", "shop-db-1", "sh", "-c", words]).stdout.strip() == "1"


def test_a_value_that_does_not_work_goes_back_and_is_not_tried_again(site: Site) -> None:
    infisical(site, "update", {"token": "broken"})
    said = site.program("sync")
    assert "token: does not work here as it is in Infisical" in said
    assert inside(site, "token") == "typed-by-a-person"
    assert site.program("sync") == ""
    assert secrets(site).task("stack's secrets")["refused"] == {"token": 3}
    metrics = site.host.run("cat /run/batten/metrics/shop.prom").stdout
    assert 'batten_secret_refused{stack="shop",name="token"} 1' in metrics
    infisical(site, "update", {"token": "mended"})
    site.program("sync")
    assert inside(site, "token") == "mended"
    assert secrets(site).changed == []


def test_a_secret_deleted_by_mistake_is_put_back_and_said(site: Site) -> None:
    infisical(site, "delete", ["token"])
    run = secrets(site)
    assert "token: gone from Infisical, put back from this host's copy" in run.task("stack's secrets")["changes"]
    assert infisical(site)["token"] == "mended"


def test_copies_lost_on_the_host_come_back_from_infisical(site: Site) -> None:
    before = site.secret("db_password")
    site.host.run("rm /var/lib/batten/shop/secrets.cred")
    secrets(site)
    assert site.secret("db_password") == before


def test_what_neither_has_any_more_is_refused_with_the_way_out(site: Site) -> None:
    before = site.secret("db_password")
    site.host.run("cp -p /var/lib/batten/shop/secrets.cred /run/kept.cred; rm /var/lib/batten/shop/secrets.cred")
    infisical(site, "delete", ["db_password"])
    refused = secrets(site)
    assert "neither Infisical nor this host has db_password any more" in refused.failed
    assert "batten restore" in refused.failed
    site.host.run("mv /run/kept.cred /var/lib/batten/shop/secrets.cred")
    secrets(site)
    assert infisical(site)["db_password"] == before


def test_a_generator_that_changes_under_a_value_is_refused(site: Site) -> None:
    refused = secrets(site, stack_secrets={**SECRETS, "token": {"generator": "uuid"}})
    assert "token" in refused.failed
    assert "mended" not in refused.output
    assert inside(site, "token") == "mended"


def test_a_full_disk_loses_nothing_and_leaves_nothing_half_written(site: Site) -> None:
    before = site.secret("token")
    place = "/var/lib/batten/shop"
    site.host.run(
        f"cp -a {place} /run/kept && mount -t tmpfs -o size=96k none {place} && cp -a /run/kept/. {place} && "
        f"dd if=/dev/zero of={place}/filler bs=4k 2>/dev/null; df {place}",
        check=False,
    )
    try:
        infisical(site, "update", {"token": "no-room-for-this"})
        refused = secrets(site)
        assert refused.code == 2
        assert "No space left" in refused.failed
        assert "df -h" in refused.failed
        assert site.secret("token") == before
        assert site.host.run(f"find {place} -name '.secrets*'").stdout == ""
    finally:
        site.host.run(f"umount {place}")
    secrets(site)
    assert inside(site, "token") == "no-room-for-this"
    infisical(site, "update", {"token": before})
    site.program("sync")


@pytest.mark.parametrize("how", ["stopped", "hanging", "without its database"])
def test_without_infisical_the_rest_of_the_run_goes_on(site: Site, how: str) -> None:
    before = site.lives()
    what: dict[str, Any] = {
        "stopped": {"containers": ("infisical",)},
        "hanging": {"containers": ("infisical",), "verb": "pause", "back": "unpause"},
        "without its database": {"containers": ("db",)},
    }[how]
    with stopped(site, *what.pop("containers"), **what):
        run = secrets(site)
        assert run.code == 0, run.failed
        assert run.task("stack's secrets")["stale"]
        assert "were not refreshed" in run.output
        said = site.program("sync")
        assert "not refreshed" in said
        assert 'batten_secrets_stale{stack="shop"} 1' in site.host.run("cat /run/batten/metrics/shop.prom").stdout
    assert site.lives() == before
    assert not secrets(site).task("stack's secrets")["stale"]


def test_a_revoked_login_is_one_clear_error_and_everything_runs_on(site: Site) -> None:
    before = site.lives()
    keep = "cp -p /var/lib/batten/shop/infisical.cred /run/kept.cred"
    site.host.run(keep)
    site.batten("rotate", "infisical_identity")
    site.host.run("cp -p /var/lib/batten/shop/infisical.cred /run/new.cred")
    site.host.run("cp -p /run/kept.cred /var/lib/batten/shop/infisical.cred")
    refused = secrets(site)
    assert refused.code == 2
    assert "Infisical" in refused.failed
    assert "fix:" in refused.failed
    assert site.lives() == before
    site.host.run("cp -p /run/new.cred /var/lib/batten/shop/infisical.cred; rm /run/new.cred /run/kept.cred")
    assert secrets(site).code == 0


def test_an_infisical_that_exists_already(site: Site) -> None:
    """External mode, with the login that the host has: the same values, and no lockout by a wrong one."""
    words = "systemd-creds decrypt --name=batten-shop-infisical /var/lib/batten/shop/infisical.cred -"
    known = json.loads(site.host.run(words).stdout)
    external = {
        "infisical_mode": "external",
        "infisical_url": known["url"],
        "infisical_project": known["project_id"],
        "infisical_client_id": known["client_id"],
    }
    right = {**external, "infisical_client_secret": known["client_secret"]}
    before = site.lives()
    assert secrets(site, **right).changed == []
    wrong = secrets(site, **external, infisical_client_secret="wrong")
    assert wrong.code == 2
    assert "fix:" in wrong.failed
    assert known["client_secret"] not in wrong.output
    assert secrets(site, **right).code == 0
    assert site.lives() == before
    plain = secrets(site, **{**right, "infisical_url": "http://192.0.2.1:8080"})
    assert "plain HTTP" in plain.failed


def test_after_a_reboot_the_stack_starts_from_its_copies_without_infisical(site: Site) -> None:
    site.host.run(
        "systemctl disable --now batten-stack@infisical; docker update --restart no $(docker ps -aqf name=infisical)"
    )
    site.host.reboot()
    ready = "docker ps --filter label=com.docker.compose.project=shop --filter health=healthy -q | wc -l | grep -qx 3"
    site.host.run(f"until {ready}; do sleep 0.5; done", timeout=120)
    assert inside(site, "token") == "mended"
    assert inside(site, "note") == NOTE
    assert site.host.run("docker ps -q --filter name=infisical").stdout == ""
    site.up()
    assert site.run().changed == []


def test_a_rotation_killed_at_any_time_leaves_the_stack_working_and_is_finished_by_the_next(site: Site) -> None:
    names = {
        "rotate_names": ["app_password", "db_password", "token", "infisical/db_password", "infisical/redis_password"]
    }
    before = {name: site.secret(name) for name in ("app_password", "db_password", "token")}
    killed = 0
    for pause in (0.2, 0.8, 1.6, 2.6, 4.0):
        run = site.start(playbook="playbooks/rotate.yml", **names)
        words = f"until {shop.HOLDER}; do sleep 0.02; done 2>/dev/null; sleep {pause}; kill -9 $p"
        done = site.host.run(words, timeout=60, check=False)
        killed += done.returncode == 0
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        if '"visits"' not in site.get("/"):
            # Killed between the database's new password and the file's: what the timer, off here, does within minutes.
            site.program("sync")
        assert '"visits"' in site.get("/"), pause
    assert killed >= 3
    site.batten("rotate", *names["rotate_names"])
    assert '"visits"' in site.get("/")
    assert {name for name, value in before.items() if site.secret(name) == value} == set()
    assert infisical(site)["token"] == site.secret("token") == inside(site, "token")
    assert site.run().changed == []


def test_no_value_is_anywhere_else(site: Site) -> None:
    """On the host: as leaks.py says, after runs with -vvv, failed ones, rotations and a backup of nothing in clear."""
    watch = "while :; do cat /proc/[0-9]*/cmdline >>/run/arguments 2>/dev/null; sleep 0.05; done"
    site.host.run(f"systemd-run -q --unit=watch-arguments sh -c '{watch}'")
    outputs = [
        site.run("-vvv").output,
        site.run("-vvv", stack_images={"api": "batten/sample-api:nowhere"}).output,
        site.run("-vvv", playbook="playbooks/rotate.yml", rotate_names=["token", "app_password"]).output,
    ]
    site.host.run("systemctl stop watch-arguments")
    *found, last = site.host.run(["python3", "-", "shop", "infisical"], stdin=LEAKS, timeout=120).stdout.splitlines()
    assert found == []
    assert int(last.split()[0]) > 15
    # The controller: its folders hold what the operator handed in, and nothing else.
    values = [value.encode() for name, value in infisical(site).items() if len(value) > 8 and name != "note"]
    texts = [path.read_bytes() for path in site.directory.rglob("*") if path.is_file()]
    texts += [output.encode() for output in outputs]
    assert len(values) > 4
    assert [value for value in values for text in texts if value in text] == []
