"""One batch of reads, and what each stack takes from it."""

from __future__ import annotations

from typing import Any

from ansible_collections.batten.core.plugins.module_utils.engine_view import View


class Engine:
    """Answers like an engine and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def info(self) -> Any:
        return {"NCPU": 2}

    def list(self) -> Any:
        return [{"Id": "a"}, {"Id": "b"}]

    def inspect_all(self, identifiers: Any) -> Any:
        labels = {"a": {"com.docker.compose.project": "shop"}, "b": None}
        return [{"Id": one, "Config": {"Labels": labels[one]}} for one in identifiers]

    def networks(self) -> Any:
        return [{"Name": "shop_edge", "Labels": {"com.docker.compose.project": "shop"}}, {"Name": "bridge"}]

    def volumes(self) -> Any:
        return [{"Name": "data"}]

    def image(self, reference: str) -> Any:
        self.asked.append(reference)
        return None if reference == "gone" else {"Id": "sha256:1"}


def test_a_view_knows_each_project_and_asks_for_an_image_once() -> None:
    engine: Any = Engine()
    view = View.read(engine)
    assert [one["Id"] for one in view.containers] == ["a", "b"]
    assert [one["Id"] for one in view.containers_of("shop")] == ["a"]
    assert [view.image("x"), view.image("x"), view.image("gone"), view.image("gone")][1:3] == [{"Id": "sha256:1"}, None]
    assert engine.asked == ["x", "gone"]
