"""Verify: prove on the live hosts that what was planned is what runs.

The controls are plain pytest-testinfra (``test_controls.py``); :func:`run` starts pytest on them and returns a report.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batten.errors import BattenError
from batten.verify import expectations, waivers
from batten.verify.expectations import Expectations, Variables
from batten.verify.hosts import HostReport
from batten.verify.model import Control, Report
from batten.verify.waivers import Waiver

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Control", "Expectations", "Report", "Waiver", "run"]

SUITE = Path(__file__).with_name("test_controls.py")


def run(
    inventory: str | Path,
    *,
    limit: str | None = None,
    plans: Expectations | None = None,
    variables: Variables | None = None,
    accepted: Sequence[Waiver] | None = None,
) -> Report:
    """Run every control on every planned host of an inventory.

    :param plans: host to stack name to plan; made anew from the inventory and the hosts' capacity if None.
    :param variables: what role ``host`` is told of each host; with plans given and none of these, its controls do not
        apply.
    :param accepted: waivers; read from ``waivers.yaml`` beside the inventory if None.
    :raises BattenError: the inventory, a plan or a waiver is wrong, or no host answers. One of several that cannot be
        judged is in ``Report.errors``.
    """
    started = time.monotonic()
    if accepted is None:
        accepted = waivers.load(waivers.beside(Path(inventory)))
    errors: list[dict[str, str]] = []
    if plans is None:
        asked = expectations.from_inventory(str(inventory), limit)
        plans, variables = asked.plans, asked.variables
        if not plans and asked.errors:
            said = "; ".join(f"{host}: {why.what}" for host, why in asked.errors.items())
            raise BattenError(f"no host could be judged: {said}", str(inventory), f"ansible all -m ping -i {inventory}")
        errors = [{"host": host, "what": why.what, "fix": why.fix} for host, why in asked.errors.items()]
    with tempfile.TemporaryDirectory(prefix="batten-verify-") as directory:
        results = _run_pytest(str(inventory), plans, variables or {}, accepted, Path(directory))
    stand_ins = {
        (c["host"], c["stack"], c["service"], software)
        for c in results["controls"]
        if (software := c.pop("stand_in")) in ("real", "server")
    }
    controls = tuple(Control(**control) for control in results["controls"])
    now = datetime.now(tz=UTC)
    today = now.astimezone().date()
    return Report(
        controls=controls,
        errors=(*errors, *results["errors"]),
        notes=waivers.notes(accepted, controls, today),
        stand_ins=tuple(
            {
                "host": host,
                "stack": stack,
                "service": service,
                "image": plans[host][stack].services[service].image,
                "software": software,
            }
            for host, stack, service, software in sorted(stand_ins)
        ),
        seconds=time.monotonic() - started,
        hosts=tuple(HostReport.from_json(host) for host in results["hosts"]),
        waivers=waivers.told(accepted, controls, today),
        at=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _run_pytest(
    inventory: str, plans: Expectations, variables: Variables, accepted: Sequence[Waiver], directory: Path
) -> dict[str, Any]:
    """Run the suite in its own process: pytest keeps state, and prints. Only the plugins that it needs are loaded."""
    from batten.verify.session import PLANS, RESULTS, WAIVERS

    files = {name: directory / name for name in (PLANS, WAIVERS, RESULTS)}
    files[PLANS].write_text(expectations.dump(plans, variables))
    files[WAIVERS].write_text(waivers.dump(accepted))
    environment = os.environ | {name: str(path) for name, path in files.items()}
    environment |= {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_ADDOPTS": "",
        "ANSIBLE_INVENTORY_IGNORE_PATTERNS": r"waivers\.yaml,images\.lock\.yaml",
        # testinfra calls ansible-inventory by name.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": os.pathsep.join([str(SUITE.parents[2]), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--no-header",
        "--tb=short",
        "-c",
        str(SUITE.with_name("pytest.ini")),
    ]
    command += ["-p", "testinfra.plugin", "-p", "batten.verify.plugin", "-p", "no:cacheprovider", "-p", "no:logging"]
    command += [
        f"--hosts={','.join(f'ansible://{host}' for host in plans)}",
        f"--ansible-inventory={inventory}",
        str(SUITE),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    try:
        results: dict[str, Any] = json.loads(files[RESULTS].read_text())
    except (OSError, ValueError):
        results = {"controls": [], "errors": [], "hosts": []}
    # 0 and 1 are pytest's "all passed" and "some failed"; anything else means that it could not judge.
    if done.returncode not in (0, 1) or not (results["controls"] or results["errors"]):
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-15:]
        raise BattenError("the verify suite could not run:\n  " + "\n  ".join(said), inventory, "see what pytest says")
    return results
