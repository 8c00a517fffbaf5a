"""Live progress of a playbook from ansible-runner's events: one line a step, what changed, failures whole and last."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO

CLOCK_AFTER_SECONDS = 2.0
_COLOURS = {"ok": "", "changed": "33", "failed": "31", "unreachable": "31"}


@dataclass(frozen=True)
class Step:
    """One task on one host, done. ``result`` is what its module returned."""

    host: str
    task: str
    status: str
    seconds: float
    result: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Summary:
    """What came of a run. ``messages`` is what Ansible said outside any task, such as why it could not start."""

    steps: list[Step] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    @property
    def changed(self) -> list[Step]:
        return [step for step in self.steps if step.status == "changed"]

    @property
    def failed(self) -> list[Step]:
        return [step for step in self.steps if step.status in ("failed", "unreachable")]

    def to_json(self) -> dict[str, Any]:
        """Return the run as ``batten up --json`` prints it: per host its steps, without Ansible's own bookkeeping."""
        hosts: dict[str, Any] = {}
        for step in self.steps:
            entry = hosts.setdefault(step.host, {"changed": False, "failed": False, "steps": []})
            entry["changed"] |= step.status == "changed"
            entry["failed"] |= step.status in ("failed", "unreachable")
            result = {key: value for key, value in step.result.items() if not key.startswith("_") and key not in _NOISE}
            entry["steps"].append(
                {"task": step.task, "status": step.status, "seconds": round(step.seconds, 2), "result": result}
            )
        return {"hosts": hosts, "messages": self.messages}


_NOISE = {"invocation", "stdout_lines", "stderr_lines", "diff", "ansible_facts", "exception", "failed", "changed"}


def step_of(event: Mapping[str, Any]) -> Step | None:
    """Return the step that an event of ansible-runner ends, or None."""
    data = event.get("event_data", {})
    kind = event.get("event")
    result = data.get("res") or {}
    if kind == "runner_on_ok":
        status = "changed" if result.get("changed") else "ok"
    elif kind == "runner_on_failed" and not data.get("ignore_errors"):
        status = "failed"
    elif kind == "runner_on_unreachable":
        status = "unreachable"
    else:
        return None
    return Step(data.get("host", "?"), data.get("task") or "?", status, float(data.get("duration") or 0), result)


def failure_text(step: Step) -> str:
    """Return all that a person needs of a failed step: the message with its fix, and a command's own output."""
    lines = [f"{step.host}: {step.task}: {step.status}", *_indented(str(step.result.get("msg", "")).strip())]
    for key in ("stderr", "stdout", "module_stderr", "module_stdout"):
        output = str(step.result.get(key) or "").strip()
        if output and output not in str(step.result.get("msg", "")):
            lines += [f"  {key}:", *_indented(output, 4)]
    if step.status == "unreachable":
        lines.append(f"  fix: ansible {step.host} -m ping -vvv -i INV shows why; check the address, user and key")
    return "\n".join(lines)


def _indented(text: str, by: int = 2) -> list[str]:
    return [" " * by + line for line in text.splitlines()]


def change_lines(step: Step) -> list[str]:
    """Return what a changed step did: the module's ``actions``, ``pending`` or ``changes``, else the task's name."""
    actions = step.result.get("actions") or step.result.get("pending") or step.result.get("changes")
    if isinstance(actions, list) and actions:
        return [f"{step.host}: {_action(action)}" for action in actions]
    return [f"{step.host}: {step.task}"]


def waiting_lines(step: Step) -> list[str]:
    """Return what a step left for later, with the seconds that it will take."""
    return [f"{step.host}: {_action(one)}" for one in step.result.get("deferred") or ()]


def _action(action: object) -> str:
    if not isinstance(action, Mapping):
        return str(action)
    what = " ".join(str(action[key]) for key in ("action", "service") if action.get(key))
    if action.get("seconds") and action.get("action") == "recreate":
        what += f" ({action['seconds']:g} s)"
    return f"{what}: {action['why']}" if action.get("why") else what


class Progress:
    """Writes a run's progress to ``out`` as events come in; :attr:`summary` is what came of it.

    On a terminal the running step is shown with a clock once it takes longer than two seconds; elsewhere each step is
    one plain line. With ``verbosity`` Ansible's own output is passed on instead.
    """

    def __init__(
        self, out: TextIO | None = None, verbosity: int = 0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.out = out or sys.stderr
        self.verbosity = verbosity
        self.now = now
        self.summary = Summary()
        self._terminal = self.out.isatty()
        self._running: dict[tuple[str, str], float] = {}
        self._drawn = False
        self._lock = threading.Lock()
        self._started = now()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Take in one event."""
        with self._lock:
            self._clear()
            step = step_of(event)
            data = event.get("event_data", {})
            key = (data.get("host", ""), data.get("task", ""))
            if event.get("event") == "runner_on_start":
                self._running[key] = self.now()
            elif str(event.get("event", "")).startswith("runner_on_"):
                self._running.pop(key, None)
            if step:
                self.summary.steps.append(step)
            if event.get("event") in ("verbose", "error") and event.get("stdout"):
                self.summary.messages.append(str(event["stdout"]).rstrip())
            if self.verbosity:
                if event.get("stdout"):
                    self._write(event["stdout"])
            elif event.get("event") in ("runner_on_file_diff", "warning") and event.get("stdout"):
                self._write(event["stdout"])
            elif step:
                self._write(self._line(step))

    @contextmanager
    def clock(self) -> Iterator[None]:
        """Keep the clock of the running steps going, on a terminal; then take it away."""
        if not self._terminal or self.verbosity:
            yield
            return
        stop = threading.Event()
        thread = threading.Thread(target=self._tick, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self._clear()

    def close(self, code: int) -> None:
        """Write the summary: what changed, then every failure whole."""
        seconds = self.now() - self._started
        changed = [line for step in self.summary.changed for line in change_lines(step)]
        self._write("")
        if changed:
            self._write("changed:")
            for line in changed:
                self._write(f"  {line}")
        waiting = [line for step in self.summary.steps for line in waiting_lines(step)]
        if waiting:
            self._write(
                "waits for the next time a service is made anew (--apply-tunables, or without --defer-stateful):"
            )
            for line in waiting:
                self._write(f"  {line}")
        hosts = sorted({step.host for step in self.summary.steps})
        outcome = "failed" if code else "done"
        nothing = "" if changed or code else ", nothing to change"
        self._write(f"{outcome} in {seconds:.1f} s on {', '.join(hosts) or 'no host'}{nothing}")
        for step in self.summary.failed:
            self._write("")
            self._write(failure_text(step))
        if code and not self.summary.failed:
            for message in self.summary.messages:
                self._write(message)

    def _line(self, step: Step) -> str:
        status = self._coloured(f"{step.status:11}", _COLOURS[step.status])
        return f"{status} {step.seconds:6.1f} s  {step.host}  {step.task}"

    def _tick(self, stop: threading.Event) -> None:
        while not stop.wait(0.5):
            with self._lock:
                waits = [(self.now() - start, *key) for key, start in self._running.items()]
                long = [wait for wait in waits if wait[0] >= CLOCK_AFTER_SECONDS]
                if long:
                    seconds, host, task = max(long)
                    more = f" (and {len(long) - 1} more)" if len(long) > 1 else ""
                    self.out.write(f"\r\033[K{'running':11} {seconds:6.0f} s  {host}  {task}{more}")
                    self.out.flush()
                    self._drawn = True

    def _clear(self) -> None:
        if self._drawn:
            self.out.write("\r\033[K")
            self._drawn = False

    def _coloured(self, text: str, colour: str) -> str:
        return f"\033[{colour}m{text}\033[0m" if self._terminal and colour else text

    def _write(self, line: str) -> None:
        print(line, file=self.out, flush=True)
