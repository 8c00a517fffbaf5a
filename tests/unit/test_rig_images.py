from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.rig import images, registry
from tests.rig.images import CHECKOUT, IMAGES, SOURCES, bake_definition


def _targets(of: tuple[images.Image, ...] = IMAGES) -> dict[str, dict[str, Any]]:
    definition: Any = bake_definition(of, "shared:1", "recipe")
    targets: dict[str, dict[str, Any]] = definition["target"]
    return targets


@pytest.mark.parametrize("base", ["compose/compose.yaml", "compose/infisical/compose.yaml"])
def test_the_stacks_find_every_image_in_the_registry(base: str) -> None:
    services = yaml.safe_load((CHECKOUT / base).read_text())["services"].values()
    defaults = {re.sub(r"^\$\{\w+:-(.+)}$", r"\1", service["image"]) for service in services}
    assert defaults <= {image.name for image in IMAGES}


def test_every_stage_exists() -> None:
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", (SOURCES / "Dockerfile").read_text(), re.MULTILINE))
    assert {image.stage for image in IMAGES} - {"api"} <= stages


def test_stand_ins_say_so_in_a_label() -> None:
    for image, target in zip(IMAGES, _targets().values(), strict=True):
        assert target["labels"]["batten.standin"] == str(image.software != "own").lower()
        assert target["labels"]["batten.rig"] == "true"


def test_the_machines_own_images_keep_their_names() -> None:
    tags = [tag for target in _targets().values() for tag in target["tags"]]
    assert all(tag.startswith(f"127.0.0.1:{registry.PORT}/") for tag in tags)
    assert len(set(tags)) == len(IMAGES)


def test_the_sample_application_is_built_on_the_python_that_is_there() -> None:
    own = tuple(image for image in IMAGES if image.software == "own")
    assert _targets()["batten-sample-api-1-0-0"]["contexts"] == {images.PYTHON: "target:python-3-13-slim"}
    assert "contexts" not in _targets(own)["batten-sample-api-1-0-0"]


@pytest.mark.parametrize(
    ("name", "path"),
    [("postgres:17", "library/postgres:17"), ("grafana/loki:3.7.6", "grafana/loki:3.7.6")],
)
def test_names_in_the_registry_are_docker_hubs(name: str, path: str) -> None:
    assert registry.name_in_registry(name) == f"127.0.0.1:{registry.PORT}/{path}"
