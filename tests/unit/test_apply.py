"""What a run does after a failed gate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import apply, credentials, release, survey
from ansible_collections.batten.core.plugins.module_utils.engine_view import View
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError
from ansible_collections.batten.core.plugins.module_utils.observed import Observed
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths


def payload(text: str) -> dict[str, Any]:
    plan = {"services": {name: {"stateful": name != "web"} for name in ("cache", "db", "queue", "web")}}
    layers = [{"name": "compose.yaml", "text": text}]
    return {"stack": "shop", "project": "shop", "layers": layers, "plan": plan, "secrets": {}}


class Engine:
    """Has these containers."""

    def __init__(self, *identifiers: str) -> None:
        self.identifiers = identifiers

    def list(self, project: str) -> Any:
        return [{"Id": one} for one in self.identifiers]


@pytest.mark.parametrize(("defer", "kept"), [(True, ["cache"]), (False, [])])
def test_a_return_leaves_alone_what_the_failed_run_put_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, defer: bool, kept: list[str]
) -> None:
    """But not what was made anew all the same: db was dead, and the queue was gone."""
    paths, good, bad = StackPaths("shop", str(tmp_path)), payload("name: good\n"), payload("name: bad\n")
    for one in (good, bad):
        release.write(paths, one)
    asked: list[list[str]] = []

    def look(*words: Any) -> survey.Survey:
        asked.append(list(words[5]))
        raise BattenError("enough", "here")

    monkeypatch.setattr(credentials, "deliver", lambda *_words, **_more: credentials.Delivery(False, [], {}))
    monkeypatch.setattr(survey, "merged_model", lambda *_: {"services": {}})
    monkeypatch.setattr(survey, "look", look)
    monkeypatch.setattr(View, "read", lambda docker: None)
    engine: Any = Engine("cache-old", "db-new", "queue-new", "web-new")
    before = {name: [Observed({"Id": f"{name}-old"})] for name in ("cache", "db", "web")}
    run = apply._run(bad, apply.Options(defer_stateful=defer), engine, paths)
    failed = apply._after_failure(run, BattenError("web is unhealthy", "web"), release.identity(good), before)
    assert "could not be put back either: here: enough" in failed.what
    assert asked == [kept]
