"""What the kernel's control groups say of a process. Reads only."""

from __future__ import annotations

from pathlib import Path


def peak_memory(pid: int, root: str = "/") -> int | None:
    """Return the most bytes that the control group of process ``pid`` ever used, None where nothing tells.

    Page cache counts. Version 2 has ``memory.peak`` since Linux 5.19 (kernel, admin-guide/cgroup-v2.rst), version 1
    ``memory.max_usage_in_bytes`` (admin-guide/cgroup-v1/memory.rst).
    """
    for line in _read(Path(root) / f"proc/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        inside = path.lstrip("/")
        if not controllers:
            text = _read(Path(root) / "sys/fs/cgroup" / inside / "memory.peak")
        elif "memory" in controllers.split(","):
            text = _read(Path(root) / "sys/fs/cgroup/memory" / inside / "memory.max_usage_in_bytes")
        else:
            continue
        if text.strip().isdigit():
            return int(text)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
