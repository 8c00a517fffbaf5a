"""Counters in Prometheus' text format (exposition format 0.0.4)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[str, str, int]


class Metrics:
    """Requests and their seconds, by method, route and status."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[Labels] = Counter()
        self._seconds: dict[Labels, float] = {}

    def observe(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request. `route` is one of the known paths, so that the number of series has an end."""
        key = (method, route, status)
        with self._lock:
            self._requests[key] += 1
            self._seconds[key] = self._seconds.get(key, 0.0) + seconds

    def render(self, version: str, gauges: Mapping[str, float]) -> str:
        """All series as text; `gauges` are more, `{metric name: value}`."""
        with self._lock:
            requests, seconds = dict(self._requests), dict(self._seconds)
        lines = ["# TYPE api_info gauge", f'api_info{{version="{_escape(version)}"}} 1']
        lines.append("# TYPE api_requests_total counter")
        lines += [f"api_requests_total{_labels(key)} {count}" for key, count in sorted(requests.items())]
        lines.append("# TYPE api_request_duration_seconds summary")
        for key, count in sorted(requests.items()):
            lines.append(f"api_request_duration_seconds_sum{_labels(key)} {seconds[key]:.6f}")
            lines.append(f"api_request_duration_seconds_count{_labels(key)} {count}")
        for name, value in sorted(gauges.items()):
            lines += [f"# TYPE {name} gauge", f"{name} {value:g}"]
        return "\n".join(lines) + "\n"


def _labels(key: Labels) -> str:
    method, route, status = key
    return f'{{method="{_escape(method)}",route="{_escape(route)}",status="{status}"}}'


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
