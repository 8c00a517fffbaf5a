"""batten learn on the rig's engine: five images, each with a profile that held, and nothing left of any session."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from batten.learn import Learned, learn
from batten.learn.isolate import LABEL
from batten.plan.profile import Profile, load_profiles
from tests.rig import images, registry
from tests.rig.docker import docker

SECRET = "c0ffee00c0ffee00c0ffee00c0ffee00"
IMAGES = {
    "redis": "redis:7.4.11-alpine",
    "postgres": "postgres:17.6-trixie",
    "caddy": "caddy:2.11.4-alpine",
    "prometheus": "prom/prometheus:v3.5.0",
    "pgbouncer": "edoburu/pgbouncer:v1.25.2-p0",
}


def leftovers() -> list[str]:
    """What is there with a session's label: containers, networks, volumes, images."""
    kinds = {"ps": ["--all"], "network": ["ls"], "volume": ["ls"], "images": []}
    return [
        line
        for kind, words in kinds.items()
        for line in docker(kind, *words, "--quiet", "--filter", f"label={LABEL}").stdout.split()
    ]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody's compose.yaml, with ports that are taken and a credential."""
    registry.ensure_registry()
    images.ensure_images()
    place = tmp_path_factory.mktemp("stack")
    (place / "prometheus.yml").write_text("scrape_configs: []\n")
    named = {name: registry.name_in_registry(image) for name, image in IMAGES.items()}
    services: dict[str, dict[str, object]] = {name: {"image": image} for name, image in named.items()}
    services["redis"]["ports"] = [f"127.0.0.1:{registry.PORT}:6379"]  # the registry has it
    services["postgres"] |= {"environment": {"POSTGRES_PASSWORD": SECRET}, "volumes": ["data:/var/lib/postgresql/data"]}
    services["prometheus"]["volumes"] = ["./prometheus.yml:/etc/prometheus/prometheus.yml:ro"]
    database = {"DB_HOST": "postgres", "DB_USER": "postgres", "DB_PASSWORD": SECRET}
    services["pgbouncer"] |= {"environment": database, "depends_on": ["postgres"]}
    path = place / "compose.yaml"
    path.write_text(json.dumps({"services": services, "volumes": {"data": {}}}))
    return path


@pytest.fixture(scope="module")
def learned(stack: Path) -> dict[str, Learned]:
    said: list[str] = []

    def one(name: str) -> Learned:
        return learn([stack], name, seconds=1, dependencies=False, note=said.append)

    with ThreadPoolExecutor(3) as pool:  # a session mostly waits: for starts, probes, stops
        return dict(zip(IMAGES, pool.map(one, IMAGES), strict=True))


def profile(found: Learned, place: Path) -> Profile:
    """What was learned, through the loader of batten's own profiles."""
    (place / f"{found.name}.yaml").write_text(found.text)
    match = load_profiles(place).match(IMAGES[found.service])
    assert match is not None
    assert match.confidence == "observed"
    return match.profile


@pytest.mark.parametrize("name", IMAGES)
def test_a_profile_of_every_image_held(name: str, learned: dict[str, Learned], tmp_path: Path) -> None:
    found = learned[name]
    assert any(one.ok for one in found.tries)
    made = profile(found, tmp_path)
    assert made.healthcheck is not None
    assert SECRET not in found.text
    assert found.unseen


def test_who_steps_down_from_root_is_never_root(learned: dict[str, Learned], tmp_path: Path) -> None:
    for name, uid in (("redis", "999"), ("postgres", "999")):
        made = profile(learned[name], tmp_path)
        assert made.user is not None
        assert made.user.partition(":")[0] == uid
        assert (made.cap_add, made.read_only) == ((), True)
        assert any(item.tmpfs_bytes is None for item in made.writable), "its data needs a volume"


def test_the_capability_of_caddys_file_is_found_by_trying(learned: dict[str, Learned], tmp_path: Path) -> None:
    made = profile(learned["caddy"], tmp_path)
    assert made.cap_add == ("NET_BIND_SERVICE",)
    assert made.log_format == "json"
    assert "ermitted" in learned["caddy"].tries[0].why


def test_probes_are_those_that_answered(learned: dict[str, Learned], tmp_path: Path) -> None:
    tests = {name: profile(found, tmp_path).healthcheck for name, found in learned.items()}
    words = {name: check.test[1] for name, check in tests.items() if check}
    assert (words["redis"], words["postgres"]) == ("redis-cli", "pg_isready")


def test_nothing_is_left(learned: dict[str, Learned]) -> None:
    assert learned
    assert leftovers() == []


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_session_leaves_nothing(
    stack: Path, learned: dict[str, Learned], ending: signal.Signals
) -> None:
    assert learned  # two sessions at once would see each other's leftovers
    # A shell's background job, as tests may be, ignores Ctrl-C, and hands that down.
    words = ["env", "--default-signal=INT", sys.executable, "-m", "batten", "learn", str(stack), "redis"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*words, "--seconds", "60"], stderr=pipe, stdout=pipe, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("watching"):
                break
        assert leftovers()
        os.kill(process.pid, ending)
        time.sleep(0.1)
        os.kill(process.pid, ending)  # whoever is impatient
        process.stderr.read()
        assert process.wait(60) == 130
    assert leftovers() == []


def test_a_service_that_does_not_run_is_told_of(stack: Path, learned: dict[str, Learned], tmp_path: Path) -> None:
    assert learned
    path = tmp_path / "compose.yaml"
    image = registry.name_in_registry(IMAGES["redis"])
    path.write_text(json.dumps({"services": {"app": {"image": image, "command": ["sh", "-c", "echo no way; exit 3"]}}}))
    words = [sys.executable, "-m", "batten", "learn", str(path), "app", "--seconds", "1", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert "it ended with 3" in error["what"]
    assert "no way" in error["what"]
    assert leftovers() == []
