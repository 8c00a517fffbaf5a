"""batten pin against a real registry: what it writes is what the registry serves, and what an engine can pull by."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from batten.cli import main
from batten.plan.lock import FILE
from tests.host.shop import BASE, Shop
from tests.rig import images, registry
from tests.rig.docker import docker

REDIS, CADDY = "redis:7.4.11-alpine", "caddy:2.11.4-alpine"


@pytest.fixture(scope="module")
def mirror() -> str:
    registry.ensure_registry()
    images.ensure_images()
    return f"http://127.0.0.1:{registry.PORT}"


def inventory(place: Path, **services: str) -> str:
    base = {"services": {name: {"image": image} for name, image in services.items()}}
    (place / "compose.yaml").write_text(yaml.safe_dump(base))
    variables = {"stack_name": "app", "stack_base": str(place / "compose.yaml"), "infisical_mode": "none"}
    hosts = {"stack": {"hosts": {"h1": {}}, "vars": variables}}
    (place / "hosts.yml").write_text(yaml.safe_dump(hosts))
    return str(place / "hosts.yml")


def test_pinned_digests_are_those_of_the_registry(mirror: str, tmp_path: Path) -> None:
    there = registry.name_in_registry(CADDY)
    where = inventory(tmp_path, cache=REDIS, web=there)
    assert main(["pin", "-i", where, "--mirror", mirror]) == 0
    lock = yaml.safe_load((tmp_path / FILE).read_text())["images"]
    assert {name: entry["digest"] for name, entry in lock.items()} == {
        REDIS: registry.digest(REDIS),
        there: registry.digest(CADDY),
    }
    assert all(entry["platforms"][0].startswith("linux/") for entry in lock.values())
    docker("pull", "--quiet", f"{there}@{lock[there]['digest']}")
    assert main(["pin", "-i", where, "--mirror", mirror, "--check"]) == 0


def test_a_tag_that_is_not_there(mirror: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = inventory(tmp_path, web=registry.name_in_registry("caddy:never"))
    assert main(["pin", "-i", where, "--json"]) == 1
    captured = capsys.readouterr()
    assert "has no 127.0.0.1" in json.loads(captured.out)["errors"][0]["what"]
    assert not (tmp_path / FILE).exists()


def test_a_host_runs_what_the_lock_says(mirror: str, shop: Shop, tmp_path: Path) -> None:
    shutil.copytree(BASE.parent, tmp_path / "shop")
    base = tmp_path / "shop" / "compose.yaml"
    variables = {"stack_name": "shop", "stack_base": str(base), "infisical_mode": "none"}
    place = tmp_path / "hosts.yml"
    place.write_text(yaml.safe_dump({"stack": {"hosts": {"h1": {}}, "vars": variables}}))
    assert main(["pin", "-i", str(place), "--mirror", mirror]) == 0
    assert (base.parent / FILE).is_file()
    shop.up(stack_base=str(base))
    assert shop.all_healthy()
    running = {one.image for one in shop.containers().values()}
    assert running == {f"{name}@{registry.digest(name)}" for name in {image.partition("@")[0] for image in running}}
    assert not shop.up(stack_base=str(base)).changed
