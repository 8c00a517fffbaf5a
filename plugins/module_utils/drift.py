"""How a host differs from what was put on it: every stack with its secrets and files, and the host. Reads only."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from . import atomic, host, host_ours, host_state, lock, model_cache, policy, release, secret_facets, survey
from .compare import Difference
from .docker_api import Docker
from .engine_view import View
from .errors import BattenError
from .paths import HostPaths, StackPaths

_INFISICAL, _HOST = "infisical", "this host"
NONE, FAILED, DRIFT = 0, 1, 2
"""Exit codes."""
_SHOWN = 100  # characters of a value, on a terminal


@dataclass
class Report:
    """What :func:`look` found. ``drift`` and ``ignored`` are rows (:meth:`Difference.to_json`), ``errors`` say what
    could not be looked at, ``deferred`` what waits for the next time a service is made anew, ``notes`` what a person
    should know beside, ``busy`` what a run holds. ``stacks`` is ``{STACK: {"release": ID}}``."""

    at: str
    seconds: float = 0.0
    stacks: dict[str, dict[str, Any]] = field(default_factory=dict)
    drift: list[dict[str, Any]] = field(default_factory=list)
    ignored: list[dict[str, Any]] = field(default_factory=list)
    deferred: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """0 no drift, 2 drift, 1 something could not be looked at."""
        return FAILED if self.errors else DRIFT if self.drift else NONE

    def to_json(self) -> dict[str, Any]:
        return dict(self.__dict__)


def look(docker: Docker, root: str = "/", stack: str | None = None, program: str = "") -> Report:
    """Compare this host, or one ``stack`` of it alone, with what was put on it.

    A stack that cannot be looked at is one of ``errors`` and hides nothing else. ``program`` is the digest that
    batten-host.pyz should have, by default the recorded one. No run starts while this goes on: it holds the locks, of
    stacks while it reads what their runs write, and of role host while it reads what that writes.
    """
    started = time.monotonic()
    report = Report(lock.now())
    names = known(root)
    if stack is not None and stack not in names:
        raise BattenError(f"no stack {stack} runs here", "this host", f"use one of: {', '.join(names) or '(none)'}")
    with ExitStack() as locks:
        wanted = _in_order(root, [stack] if stack else names)
        free = [one for one in wanted if _lock(report, locks, f"stack {one.stack}", lock.held(one.lock, brief=True))]
        running = {paths: payload for paths in free if (payload := _running(report, paths))}
        view = _view(report, docker) if running else None
        live = _units(report, running)
        for paths, payload in running.items():
            _stack(report, paths, payload, view, live)
        if stack is None:
            with _Told(report, _HOST):
                _add(report, host_ours.of_host(root, program, live, names), ())
    if stack is None:
        with _Told(report, _HOST):
            _add(report, host_state.of_engine(root, view.info if view else None), ())
        _of_role_host(report, root)
    report.seconds = round(time.monotonic() - started, 3)
    return report


def text(report: Report) -> str:
    """Return the report as a person reads it on the host: what it came to first."""
    drift, errors = len(report.drift), len(report.errors)
    lines = [f"{drift} {'difference' if drift == 1 else 'differences'}, {errors} errors, in {report.seconds:.1f} s"]
    lines += [f"ERROR {one['where']}: {one['what']}\n  fix: {one['fix']}" for one in report.errors]
    for one in report.drift:
        why = f" ({one['reason']})" if one.get("reason") else ""
        sides = f"{_short(one['actual'])}, planned {_short(one['desired'])}"
        lines.append(
            f"{one['stack'] or 'host'} {one['scope']} {one['name']} {one['facet']}: {sides}: {one['action']}{why}"
        )
    lines += [
        f"ignored: {one['name']} {one['facet']} until {one.get('until')}: {one['reason']}" for one in report.ignored
    ]
    return "\n".join([*lines, *report.notes])


def _short(value: Any) -> str:
    shown = value if isinstance(value, str) else atomic.canonical(value)
    return shown if len(shown) <= _SHOWN else shown[: _SHOWN - 3] + "..."


def known(root: str = "/") -> list[str]:
    """Return the stacks that were deployed here."""
    here = HostPaths(root)
    return sorted({path.parent.name for path in (*here.plans, *here.stacks.glob("*/current"))})


def _in_order(root: str, names: Sequence[str]) -> list[StackPaths]:
    """Infisical last: who holds the lock of another stack may wait for its lock, never the other way round."""
    return [StackPaths(name, root) for name in sorted(names, key=lambda name: (name == _INFISICAL, name))]


def _lock(report: Report, locks: ExitStack, what: str, held: AbstractContextManager[None]) -> bool:
    """Hold a lock; where a run holds it, that is an error of the report: things are half done now."""
    with _Told(report, what):
        try:
            locks.enter_context(held)
        except lock.Busy:
            report.busy.append(what)
            raise
        return True
    return False


def _of_role_host(report: Report, root: str) -> None:
    with ExitStack() as locks, _Told(report, _HOST):
        if _lock(report, locks, _HOST, host.held(root, brief=True)):
            rules = host_state.rules(root)
            report.notes += policy.expired(rules, policy.today())
            _add(report, host_state.of_host(root), rules)


def _view(report: Report, docker: Docker) -> View | None:
    with _Told(report, "the Docker engine"):
        return View.read(docker)
    return None


def _units(report: Report, running: Mapping[StackPaths, Mapping[str, Any]]) -> host_ours.Live:
    names = [name for paths, payload in running.items() for name in host_ours.watched(paths, payload["plan"])]
    with _Told(report, "systemd"):
        return host_ours.live_units(names) if names else {}
    return {}


def _running(report: Report, paths: StackPaths) -> dict[str, Any] | None:
    """Return the release that should run, with what there is to say of it already."""
    with _Told(report, f"stack {paths.stack}"):
        _add(report, host_ours.current(paths), ())
        payload = planned(paths)
        report.stacks[paths.stack] = {"release": release.identity(payload)}
        report.notes += policy.expired(payload["plan"].get("drift") or (), policy.today())
        return payload
    return None


def _stack(
    report: Report, paths: StackPaths, payload: Mapping[str, Any], view: View | None, live: host_ours.Live
) -> None:
    """Add one stack's secrets, what lies on the host for it, its containers: each whatever becomes of the others."""
    where, rules = f"stack {paths.stack}", payload["plan"].get("drift") or ()
    digests = atomic.read_json(paths.loaded, {})
    with _Told(report, where):
        secrets = secret_facets.look(paths, payload["secrets"])
        digests = secrets.digests
        _add(report, secrets.differences, rules)
    with _Told(report, where):
        there = None if view is None else view.containers_of(payload["project"])
        _add(report, host_ours.of_stack(paths, payload, there, live), rules)
    if view is None:
        return
    with _Told(report, where):
        model = survey.with_digests(model_cache.merged(paths, payload), digests)
        seen = survey.look(view, paths, payload, model, digests, survey.still_put_off(paths, payload))
        _list(report, [*seen.differences, *seen.reported], seen.ignored)
        report.deferred += [{"stack": paths.stack, **one.to_json()} for one in seen.waits]


def planned(paths: StackPaths) -> dict[str, Any]:
    """Return the release that should run: ``current``, and the last good one where that names none that is whole."""
    good, there = release.last_good(paths), release.running(paths)
    try:
        return release.read(paths, there or good or "(none)")
    except BattenError:
        if good in (None, there):
            raise
        return release.read(paths, str(good))


def _add(report: Report, differences: Sequence[Difference], rules: Sequence[policy.Rule]) -> None:
    """Sort differences by what the policy does about them. What is only told counts as drift, with the reason."""
    division = policy.divide(differences, rules, policy.today())
    _list(report, [*division.repair, *division.report], division.ignored)


def _list(report: Report, found: Sequence[Difference], ignored: Sequence[Difference]) -> None:
    # Templates of units are every stack's: said once.
    known = {(one["scope"], one["name"], one["facet"]) for one in report.drift if one["scope"] == "host"}
    report.drift += [one.to_json() for one in found if (one.scope, one.name, one.facet) not in known]
    report.ignored += [one.to_json() for one in ignored]


class _Told:
    """Makes what goes wrong in its block one of the report's errors, and goes on after it.

    Of a defect of ours only its kind and place are told: its words may hold a value.
    """

    def __init__(self, report: Report, where: str) -> None:
        self._report, self._where = report, where

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, trace: TracebackType | None) -> bool:
        if isinstance(error, BattenError):
            told = {"where": error.where or self._where, "what": error.what, "fix": error.fix}
        elif isinstance(error, OSError):
            fix = "run it as root" if isinstance(error, PermissionError) else "see that the disk is whole: dmesg; df -h"
            told = {"where": self._where, "what": str(error), "fix": fix}
        elif isinstance(error, Exception):
            frames = traceback.extract_tb(trace)
            last = [one for one in frames if os.path.dirname(one.filename) == os.path.dirname(__file__)][-1]
            what = f"{type(error).__name__} in {os.path.basename(last.filename)}, line {last.lineno}"
            told = {"where": self._where, "what": what, "fix": "report this as a defect; the rest of the report holds"}
        else:
            return False
        self._report.errors.append(told)
        return True
