"""What the kernel's control groups say of a process. Reads only.

Version 1 is told in the kernel's admin-guide/cgroup-v1, version 2 in admin-guide/cgroup-v2.rst. What runc writes into
them is in opencontainers/runc, libcontainer/cgroups/fs and fs2.
"""

from __future__ import annotations

import math
from pathlib import Path

_UNLIMITED = 1 << 62  # version 1 writes the largest number that is a whole count of pages


class Groups:
    """The control groups of process ``pid``; every figure is None where nothing tells it."""

    def __init__(self, pid: int, root: str = "/") -> None:
        top = Path(root) / "sys/fs/cgroup"
        self.unified: Path | None = None
        self._controllers: dict[str, Path] = {}
        for line in _read(Path(root) / f"proc/{pid}/cgroup").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers.startswith("name="):
                continue  # a hierarchy of somebody's own, without figures
            inside = path.lstrip("/")
            for name in filter(None, controllers.split(",")):
                self._controllers[name] = top / name / inside
            if not controllers and not self._controllers:  # a host with both has the figures in version 1, listed first
                self.unified = top / inside

    def memory(self) -> int | None:
        """The limit in bytes, 0 for none."""
        return self._limit("memory.max", "memory", "memory.limit_in_bytes")

    def memory_swap(self) -> int | None:
        """The limit of memory and swap together, as Docker counts it; 0 for none. None where swap is not counted."""
        if self.unified is None:
            return self._limit("", "memory", "memory.memsw.limit_in_bytes")
        memory, swap = self.memory(), self._limit("memory.swap.max", "", "", bare=True)
        if swap is None or memory is None:
            return None
        return 0 if swap < 0 or not memory else memory + swap

    def pids(self) -> int | None:
        return self._limit("pids.max", "pids", "pids.max")

    def cpus(self) -> float | None:
        """The quota in processors, 0 for none."""
        if self.unified is not None:
            words = _read(self.unified / "cpu.max").split()
        else:
            words = [*self._text("cpu", "cpu.cfs_quota_us").split(), *self._text("cpu", "cpu.cfs_period_us").split()]
        if len(words) != 2:
            return None
        return 0.0 if words[0] in ("max", "-1") else int(words[0]) / int(words[1])

    def cpu_shares(self, wanted: int) -> int | None:
        """The shares; on version 2 ``wanted`` if the weight is what either of runc's two formulas makes of it."""
        if self.unified is None:
            return _number(self._text("cpu", "cpu.shares"))
        weight = _number(_read(self.unified / "cpu.weight"))
        return wanted if weight in weights(wanted) else weight

    def peak(self) -> int | None:
        """The most bytes that were ever used, page cache included (``memory.peak`` since Linux 5.19)."""
        if self.unified is not None:
            return _number(_read(self.unified / "memory.peak"))
        return _number(self._text("memory", "memory.max_usage_in_bytes"))

    def unreclaimable(self) -> int | None:
        """The bytes that the kernel could not give back now without swap: all but the page cache of files."""
        if self.unified is not None:
            used, stat = _read(self.unified / "memory.current"), _read(self.unified / "memory.stat")
        else:
            used, stat = self._text("memory", "memory.usage_in_bytes"), self._text("memory", "memory.stat")
        figures = {name: int(value) for name, value in (line.split() for line in stat.splitlines())}
        files = sum(figures.get(f"total_{name}", figures.get(name, 0)) for name in ("inactive_file", "active_file"))
        total = _number(used)
        return None if total is None or not figures else max(total - files, 0)

    def _limit(self, unified: str, controller: str, name: str, bare: bool = False) -> int | None:
        """Return a limit, 0 for none; ``bare`` returns -1 for none, as 0 is a limit of swap."""
        text = _read(self.unified / unified) if self.unified is not None else self._text(controller, name)
        if text.strip() == "max":
            return -1 if bare else 0
        value = _number(text)
        return 0 if value is not None and value >= _UNLIMITED else value

    def _text(self, controller: str, name: str) -> str:
        return _read(self._controllers[controller] / name) if controller in self._controllers else ""


def weights(shares: int) -> set[int]:
    """Return what runc makes of shares on version 2: a line until 1.3.1, a curve since (opencontainers/cgroups,
    utils.go, ConvertCPUSharesToCgroupV2Value; issue opencontainers/runc#4772)."""
    shares = min(max(shares, 2), 262144)
    line = 1 + (shares - 2) * 9999 // 262142
    power = math.log2(shares)
    curve = math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))
    return {line, curve}


def _number(text: str) -> int | None:
    return int(text) if text.strip().isdigit() else None


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
