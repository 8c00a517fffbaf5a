"""`stack_build: host`: the context goes to the host, is built there under a memory limit, and its digest is the tag."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.host.shop import BASE, ROOT, Shop


@pytest.fixture(scope="module")
def source(shop: Shop) -> Path:
    """The small stack again, its API built from the sample application's own source beside it."""
    directory = shop.directory / "stack"
    shutil.copytree(BASE.parent, directory)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "examples" / "api", directory / "source", ignore=ignored)
    base = directory / "compose.yaml"
    text = base.read_text()
    image = "image: ${API_IMAGE:-batten/sample-api:1.0.0}"
    assert image in text
    base.write_text(text.replace(image, f"build: ./source\n    {image}"))
    shop.variables["stack_base"] = str(base)
    return directory / "source"


def test_with_neither_way_named_it_is_refused_with_both(shop: Shop, source: Path) -> None:
    message = shop.refused().message
    assert "stack_images.api" in message
    assert "stack_build: host" in message


def test_it_is_built_on_the_host_and_again_only_when_it_changes(shop: Shop, source: Path) -> None:
    shop.variables["stack_build"] = "host"
    first = shop.up()
    assert first.done[0] == ("api", "build")
    assert '"status": "ok"' in shop.get("/health/deep")
    assert not shop.up().changed
    before, image = shop.containers(), shop.containers()["api"].image
    application = source / "api" / "app.py"
    application.write_text(application.read_text() + "\n# another digest\n")
    assert shop.up().done == [("api", "build"), ("api", "recreate")]
    assert shop.touched_since(before) == {"api"}
    assert shop.containers()["api"].image != image


def test_a_build_that_fails_says_why_and_nothing_is_touched(shop: Shop, source: Path) -> None:
    before, current = shop.containers(), shop.current()
    dockerfile = source / "Dockerfile"
    dockerfile.write_text(dockerfile.read_text() + 'RUN echo "this cannot work" && false\n')
    message = shop.refused().message
    assert "building its image failed" in message
    assert "this cannot work" in message
    assert "stack_images.api" in message
    assert shop.touched_since(before) == set()
    assert shop.current() == current
