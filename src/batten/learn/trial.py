"""Running a service under a proposed profile: the real planner and the real layers, on top of our isolated base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from batten import resources
from batten.errors import BattenError
from batten.learn import engine, isolate
from batten.learn.engine import Place
from batten.learn.propose import Outcome
from batten.learn.watch import await_good
from batten.plan.model import Capacity, refuse
from batten.plan.profile import load_profiles
from batten.plan.settings import StackSettings
from batten.plan.stack import load_inputs, plan_stack
from batten.render import layers

_MARK = "batten-learn-logging"
_CAPACITY = Capacity(memory_bytes=4 * 1024**3, cpus=2, oom_score_adj_min=0, source="batten learn")


def layered(place: Place, model: Mapping[str, Any], service: str, profile: Mapping[str, Any]) -> list[Path]:
    """Write the layers of a service under ``profile``, at the least memory that it asks for; return them in order.

    The other services of the model have batten's own profiles. Raises BattenError for a profile that is not valid.
    """
    base = engine.write(place.directory / "compose.yaml", model)
    settings = StackSettings(
        name=place.project,
        base=base,
        definition=None,
        project=place.project,
        profiles=("*",),
        images={name: one["image"] for name, one in model["services"].items()},
        services={service: {"limits": {"memory": profile["memory"]["floor"]}}},
        profiles_directory=_profiles(place, profile),
        source="batten learn",
    )
    plan, findings = plan_stack(settings, _CAPACITY, inputs=load_inputs(settings))
    refuse(findings)
    files = []
    for layer in layers(plan, base.read_text()):
        path = place.directory / layer.name
        path.write_text(layer.text, encoding="utf-8")
        files.append(path)
    overlay = isolate.apart(model["services"], place.project)
    overlay["services"] = {name: {**one, "logging": _MARK} for name, one in overlay["services"].items()}
    files.append(place.directory / "compose.learn.yaml")
    files[-1].write_text(_overlay(overlay), encoding="utf-8")
    return files


def _overlay(document: Mapping[str, Any]) -> str:
    """JSON does not know Compose's ``!override``; YAML's flow style, which JSON is, takes the tag before a value."""
    return json.dumps(document).replace(json.dumps(_MARK), f"!override {json.dumps(isolate.LOGGING)}")


def _profiles(place: Place, profile: Mapping[str, Any]) -> Path:
    """Return a directory of batten's profiles with ``profile`` in the place of its family."""
    directory = place.directory / "profiles"
    if not directory.exists():
        directory.mkdir()
        product = resources.compose() / "profiles"
        family = load_profiles(product).family(profile["images"][0])
        for path in product.glob("*.yaml"):
            if path.stem not in ("EXAMPLE", family):
                shutil.copy(path, directory)
    (directory / "learned.yaml").write_text(json.dumps(dict(profile)), encoding="utf-8")
    return directory


def attempt(place: Place, files: Sequence[Path], service: str, settle: float) -> Outcome:
    """Start a service from nothing, see it good, restart it, see it good again; take all of it away."""
    try:
        try:
            engine.up(place, list(files), service)
        except BattenError as error:
            return Outcome(False, error.what)
        outcome = await_good(place, service, settle)
        found = engine.container(place, service)
        if not outcome.ok or found is None:
            return outcome
        place.docker.restart(found["Id"])
        again = await_good(place, service, settle)
        return again if again.ok else Outcome(False, f"after a restart: {again.said}", again.seconds)
    finally:
        engine.down(place)
