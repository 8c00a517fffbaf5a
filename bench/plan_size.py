"""How planning grows with the number of services: ``python -m bench.plan_size COUNT`` measures one size, as JSON."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from batten.plan import Capacity, StackSettings, plan_host
from batten.plan.limits import GIB
from batten.plan.stack import load_inputs

SIZES = (10, 100, 500)
_IMAGES = ("postgres:17.6-trixie", "redis:7.4.11-alpine", "caddy:2.11.4-alpine", "grafana/loki:3.7.6", "acme/api:1.0")


def base(count: int) -> dict[str, Any]:
    """Return a Compose file of ``count`` services, each of which needs the one before and one far before it."""
    services = {
        f"s{number:04}": {
            "image": _IMAGES[number % len(_IMAGES)],
            "environment": {"PLACE": str(number)},
            "volumes": [f"data{number}:/data"],
            "networks": ["inner"],
            "depends_on": sorted({f"s{earlier:04}" for earlier in (number - 1, number // 2) if 0 <= earlier < number}),
        }
        for number in range(count)
    }
    volumes: dict[str, Any] = {f"data{number}": {} for number in range(count)}
    return {"services": services, "networks": {"inner": {}}, "volumes": volumes}


def measure(count: int) -> dict[str, float]:
    """Plan ``count`` services twice, the second time against the first plan; return seconds and this process's peak."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "compose.yaml"
        path.write_text(yaml.safe_dump(base(count)))
        settings = StackSettings.from_variables({"stack_name": "app", "stack_base": str(path)})
        capacity = Capacity((8 + count) * GIB, 16, default_addresses=("203.0.113.5",))
        begun = time.perf_counter()
        inputs = {"app": load_inputs(settings)}
        loaded = time.perf_counter()
        host, _ = plan_host([settings], capacity, None, inputs)
        planned = time.perf_counter()
        again, _ = plan_host([settings], capacity, host.stacks, inputs)
        ended = time.perf_counter()
    if again != host or len(host.stacks["app"].services) != count:
        raise SystemExit("the second plan is not the first")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "load_seconds": round(loaded - begun, 3),
        "plan_seconds": round(planned - loaded, 3),
        "again_seconds": round(ended - planned, 3),
        "peak_mb": round(peak),
    }


def reference() -> float:
    """Return the milliseconds that the whole reference stack's plan takes, at best of ten."""
    settings = StackSettings.from_variables(
        {"stack_name": "app", "stack_build": "host", "stack_profiles": ["auth", "observability"]}
    )
    capacity = Capacity(16 * GIB, 4, default_addresses=("203.0.113.5",))
    inputs = {"app": load_inputs(settings)}
    taken = []
    for _ in range(10):
        begun = time.perf_counter()
        plan_host([settings], capacity, None, inputs)
        taken.append(time.perf_counter() - begun)
    return round(min(taken) * 1000, 1)


def sizes() -> dict[str, object]:
    """Measure every size in a process of its own, and how much more than in proportion the largest takes."""
    found = {}
    for count in SIZES:
        words = [sys.executable, "-m", "bench.plan_size", str(count)]
        done = subprocess.run(words, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
        found[count] = json.loads(done.stdout)
    first, last = SIZES[1], SIZES[-1]
    growth = found[last]["plan_seconds"] / found[first]["plan_seconds"] / (last / first)
    return {"reference_milliseconds": reference(), "services": found, "growth_over_linear": round(growth, 2)}


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
