"""One stack with a service for every profile: it plans, renders, Compose merges it, and the linter is content."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from batten import resources
from batten.plan.model import Capacity, StackPlan
from batten.plan.profile import load_profiles, parse_profile
from batten.plan.settings import StackSettings
from batten.plan.stack import load_inputs, plan_stack
from batten.render import release, write
from tests.contract.conftest import ROOT, compose

if TYPE_CHECKING:
    from batten.plan.profile import Profile

PROFILES = load_profiles(resources.compose() / "profiles")


def services() -> dict[str, tuple[str, Profile]]:
    """Every profile under its first image, and each of its variants under one that it is for."""
    images: dict[str, tuple[str, str]] = {}
    for name, record in PROFILES.records.items():
        own = record["images"][0]
        images[name] = (name, f"{own}:9.9")
        for index, variant in enumerate(record.get("variants", ())):
            tag = re.sub(r"\[.*?\]", "0", variant.get("tag", "9.9")).replace("*", "-").strip("-")
            images[f"{name}-{index}"] = (name, f"{variant.get('image', own)}:{tag}")
    return {
        service: (image, parse_profile(name, PROFILES.records[name], image))
        for service, (name, image) in images.items()
    }


SERVICES = services()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> tuple[StackPlan, Path]:
    """The plan of one stack with them all, and where Compose's merge of its layers lies."""
    directory = tmp_path_factory.mktemp("profiles")
    base: dict[str, Any] = {"name": "profiles", "services": {}, "volumes": {}}
    definition: dict[str, Any] = {"services": {}}
    for name, (image, profile) in SERVICES.items():
        volumes = [(f"{name}-{i}", item.path) for i, item in enumerate(profile.writable) if not item.tmpfs_bytes]
        base["services"][name] = {"image": image, "volumes": [f"{volume}:{path}" for volume, path in volumes]}
        base["volumes"] |= {volume: {} for volume, _ in volumes}
        definition["services"][name] = {"profile": profile.name, **({"migrates": "app"} if profile.migrates else {})}
    (directory / "compose.yaml").write_text(yaml.safe_dump(base))
    (directory / "batten.yaml").write_text(yaml.safe_dump(definition))
    settings = StackSettings.from_variables({"stack_name": "profiles", "stack_base": str(directory / "compose.yaml")})
    plan, _ = plan_stack(settings, Capacity(memory_bytes=256 * 1024**3, cpus=16))
    payload = release(plan, settings, load_inputs(settings).definition)
    write(payload, directory / "out")
    files = [word for layer in payload["layers"] for word in ("-f", str(directory / "out" / layer["name"]))]
    result = compose(*files, "config", "--format", "json")
    assert (result.returncode, result.stderr) == (0, "")
    merged = directory / "merged.yaml"
    merged.write_text(result.stdout)
    return plan, merged


def test_there_is_a_service_for_every_profile(stack: tuple[StackPlan, Path]) -> None:
    plan, merged = stack
    assert len(PROFILES.records) >= 25 + 15
    assert set(plan.services) == set(json.loads(merged.read_text())["services"]) == set(SERVICES)


def test_what_the_profile_says_is_what_compose_reads(stack: tuple[StackPlan, Path]) -> None:
    plan, merged = stack
    rendered = json.loads(merged.read_text())["services"]
    for name, (_, profile) in SERVICES.items():
        service = rendered[name]
        assert service["cap_drop"] == ["ALL"], name
        assert sorted(service.get("cap_add") or []) == sorted(profile.cap_add), name
        assert bool(service.get("read_only")) == profile.read_only, name
        assert service.get("user") == profile.user, name
        assert int(service["mem_limit"]) >= profile.memory.floor, name
        if profile.healthcheck:
            # Compose doubles what it would fill in.
            assert [word.replace("$$", "$") for word in service["healthcheck"]["test"]] == list(
                profile.healthcheck.test
            )
        for tunable, value in plan.services[name].tunables.items():
            said = " ".join(service.get("command") or ()) + " " + json.dumps(service.get("environment") or {})
            assert value in said, f"{name}: {tunable}"


def test_compose_lint_finds_only_what_a_profile_says_itself(stack: tuple[StackPlan, Path]) -> None:
    _, merged = stack
    program = Path(sys.executable).parent / "compose-lint"
    words = [program, "--config", ROOT / ".compose-lint.yml", "--format", "json", "--fail-on", "low", merged]
    result = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False, cwd=ROOT)
    findings = json.loads(result.stdout)["findings"]
    found = {(one["rule_id"], one["service"]) for one in findings if not one["suppressed"]}
    writable = {("CL-0007", name) for name, (_, profile) in SERVICES.items() if not profile.read_only}
    root = {("CL-0018", name) for name, (_, profile) in SERVICES.items() if profile.user == "0:0"}
    assert found == writable | root
    assert len(root) <= 2  # HAProxy before 2.4
