"""Metrics as Prometheus reads them: a file that node_exporter's textfile collector takes in. Pure.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def text(families: Iterable[tuple[str, str, Mapping[str, Any]]]) -> str:
    """Return gauges, each ``(name, purpose, {labels: value})``, labels as ``stack="demo"`` or empty. One without
    samples is left out."""
    lines = []
    for name, purpose, samples in families:
        if samples:
            lines += [f"# HELP {name} {purpose}", f"# TYPE {name} gauge"]
            lines += [
                f"{name}{{{labels}}} {value}" if labels else f"{name} {value}" for labels, value in samples.items()
            ]
    return "\n".join(lines) + "\n"
