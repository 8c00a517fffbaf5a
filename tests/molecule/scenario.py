"""Run a molecule scenario as a user's CI would, on the images and the registry of the rig."""

import os
import subprocess
import sys
from pathlib import Path

from tests.rig import base, hosts, networks, registry

ROOT = Path(__file__).parents[2]


def run(scenario: str) -> None:
    """Run `molecule test`; what it printed last is the failure's message."""
    # molecule would make a network that is missing, without the rig's subnets.
    for network in (networks.PUBLIC, networks.VPC):
        networks.ensure(network)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BATTEN_RIG_BASE": base.base(),
        "BATTEN_RIG_INIT": " ".join(hosts.init()),
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
