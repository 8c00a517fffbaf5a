"""What a re-run brings back, and what it leaves alone. One host, one story: every test leaves the stack healthy."""

from __future__ import annotations

import re

import pytest

from tests.host.shop import Shop, services, wait_until

RELEASE = "/opt/batten/shop/current"
NEW = {"stack_images": {"api": "batten/sample-api:1.0.1"}}


@pytest.fixture(scope="module", autouse=True)
def deployed(shop: Shop) -> None:
    shop.up()


def test_a_second_run_changes_nothing(shop: Shop) -> None:
    before = shop.containers()
    run = shop.up()
    assert not run.changed
    assert (run.done, run.result["differences"]) == ([], [])
    assert shop.touched_since(before) == set()
    assert shop.all_healthy()
    assert '"status": "ok"' in shop.get("/health/deep")


@pytest.mark.parametrize(
    ("damage", "done"),
    [
        ("docker kill shop-api-1; docker pause shop-proxy-1", [("api", "start"), ("proxy", "start")]),
        ("docker stop shop-db-1; docker rm -f shop-proxy-1", [("db", "start"), ("proxy", "create")]),
    ],
)
def test_services_taken_down_by_hand_come_back_and_the_rest_stays(
    shop: Shop, damage: str, done: list[tuple[str, str]]
) -> None:
    before = shop.containers()
    shop.host.run(damage)
    assert shop.up().done == done
    assert shop.touched_since(before) <= {service for service, _ in done}
    assert shop.all_healthy()


FILES = {
    f"{RELEASE}/compose.prod.yaml": "echo '# more memory' >>{}",
    f"{RELEASE}/compose.yaml": "rm {}",
    "/opt/batten/shop/secrets/db/password": "rm {}",
    "/opt/batten/shop/secrets/api/database_password": "chmod 0444 {}",
    "/usr/local/lib/batten/batten-host.pyz": "rm {}",
    "/etc/systemd/system/docker.service.d/batten-shop.conf": "rm {}",
    RELEASE: "rm {}",
}


def test_edited_and_deleted_files_come_back_and_no_container_notices(shop: Shop) -> None:
    before = shop.containers()
    listing = f"stat -L -c '%n %a %U %s' {' '.join(FILES)}; cat /var/lib/batten/shop/plan.json"
    files = shop.host.run(listing).stdout
    shop.host.run("; ".join(damage.format(path) for path, damage in FILES.items()))
    shop.host.run("rm /var/lib/batten/shop/plan.json; systemctl disable -q batten-stack@shop")
    run = shop.up()
    assert run.changed
    assert run.done == []
    assert shop.touched_since(before) == set()
    assert shop.host.run(listing).stdout == files
    assert shop.host.run("systemctl is-enabled batten-stack@shop").stdout == "enabled\n"
    assert not shop.up().changed


@pytest.mark.parametrize(
    "damage",
    [
        "echo '# x' >>/opt/batten/shop/base/Caddyfile; for f in /opt/batten/shop/files/api/*/*; do echo x >>$f; done",
        "rm /opt/batten/shop/base/Caddyfile; rm -r /opt/batten/shop/files/api /opt/batten/shop/secrets/api",
    ],
)
def test_what_containers_mount_comes_back_and_they_alone_read_it_again(shop: Shop, damage: str) -> None:
    before = shop.containers()
    mounted = "docker exec shop-proxy-1 cat /etc/caddy/Caddyfile; "
    mounted += "docker exec shop-api-1 sh -c 'cat /etc/api/* /run/secrets/database_password'"
    content = shop.host.run(mounted).stdout
    shop.host.run(damage)
    assert services(shop.run("--check").result["differences"]) == {"api", "proxy"}
    assert shop.up().done == [("api", "restart"), ("proxy", "restart")]
    assert shop.touched_since(before) == {"api", "proxy"}
    assert shop.host.run(mounted).stdout == content


def test_a_changed_variable_or_image_recreates_its_service_alone_and_a_limit_none(shop: Shop) -> None:
    before = shop.containers()
    other = {"api": {"environment": {"GREETING": "good morning"}}, "proxy": {"limits": {"pids": 99}}}
    run = shop.up(stack_services=other)
    assert run.done == [("api", "recreate"), ("proxy", "update")]
    assert {one["facet"] for one in run.result["differences"] if one["name"] == "api"} == {"environment"}
    assert shop.host.run("docker inspect -f '{{.HostConfig.PidsLimit}}' shop-proxy-1").stdout == "99\n"
    assert shop.up(**NEW).done == [("api", "recreate"), ("proxy", "update")]
    assert shop.containers()["api"].image == "batten/sample-api:1.0.1"
    assert not shop.up(**NEW).changed
    assert shop.touched_since(before) == {"api"}


def test_changed_secret_files_reload_who_can_and_recreate_who_cannot(shop: Shop) -> None:
    before = shop.containers()
    more = {"secrets": {"more": {"template": "x ${db_password}\n"}}}
    run = shop.up(**NEW, stack_services={"api": more, "proxy": more})
    assert run.done == [("api", "reload"), ("proxy", "recreate")]
    assert shop.touched_since(before) == {"proxy"}
    assert shop.host.run("docker exec shop-proxy-1 cat /run/secrets/more").stdout.startswith("x ")


def test_what_is_not_in_the_plan_goes_and_what_is_not_ours_stays(shop: Shop) -> None:
    labels = "--label com.docker.compose.project=shop --label com.docker.compose.service=old"
    shop.host.run(f"docker run -d --name shop-old-1 {labels} batten/sample-api:1.0.0 sleep 600")
    shop.host.run("docker run -d --name mine batten/sample-api:1.0.0 sleep 600")
    assert shop.up().done == [("old", "remove"), ("api", "recreate"), ("proxy", "recreate")]
    assert set(shop.containers()) == {"db", "api", "proxy"}
    assert shop.host.run("docker inspect -f '{{.State.Running}} {{.RestartCount}}' mine").stdout == "true 0\n"
    shop.host.run("docker rm -f mine")


def test_of_two_runs_at_once_the_second_names_the_first(shop: Shop) -> None:
    slow = {"test": ["CMD", "sleep", "20"], "timeout": "40s", "start_period": "60s"}
    first = shop.start(stack_services={"proxy": {"healthcheck": slow}})
    wait_until(shop.works, "the first run")
    wait_until(lambda: shop.containers()["proxy"].health == "starting", "the slow start")
    refused = shop.refused()
    assert re.search(r"another run holds this stack \(pid \d+ since ", refused.message)
    assert "fix: wait until it ends" in refused.message
    assert shop.finish(first).code == 0
    assert shop.up().done == [("proxy", "recreate")]


def test_everything_is_in_the_audit_file_and_no_secret(shop: Shop) -> None:
    lines = shop.audit()
    assert {"time", "who", "stack", "release", "result"} <= set.intersection(*(set(line) for line in lines))
    assert {(line["service"], line["action"]) for line in lines} >= {("api", "restart"), ("proxy", "recreate")}
    password = shop.host.run("cat /opt/batten/shop/secrets/api/database_password").stdout
    assert password not in str(lines)
