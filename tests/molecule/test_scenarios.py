"""The molecule scenarios, run as a user's CI would run them, on the images and the registry of the rig."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig import base, hosts, machine, registry

ROOT = Path(__file__).parents[2]
SCENARIOS = sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario: str) -> None:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BATTEN_RIG_BASE": base.base(),
        "BATTEN_RIG_INIT": " ".join(["/sbin/init", *(hosts.LEGACY_CGROUPS if machine.has_cgroup_v1() else ())]),
        "BATTEN_RIG_MIRROR": registry.mirror_url(),
    }
    done = subprocess.run(
        [sys.executable, "-m", "molecule", "test", "--scenario-name", scenario],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-12000:]
