"""One session of learning: isolate, watch, propose, try, until a profile holds or nothing is left to try."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from batten import compose, resources
from batten.errors import BattenError
from batten.learn import engine, isolate, propose, trial, watch
from batten.learn.engine import Place
from batten.learn.propose import MOST_TRIES, Observation, Shape
from batten.plan.profile import load_profiles, split_image

Note = Callable[[str], None]
_BIND_LIMIT = 64 * 1024 * 1024
_SETTLE_SECONDS = 3.0


@dataclass(frozen=True)
class Try:
    """One run under a proposal, and what came of it."""

    shape: Shape
    ok: bool
    why: str


@dataclass(frozen=True)
class Learned:
    """A profile that held, as text and as a value, how it was found, and what a reviewer should know."""

    service: str
    image: str
    name: str
    profile: Mapping[str, Any]
    text: str
    tries: tuple[Try, ...]
    observed: tuple[str, ...]
    inferred: tuple[str, ...]
    unseen: tuple[str, ...]


def learn(files: Sequence[Path], service: str, *, seconds: float, dependencies: bool, note: Note) -> Learned:
    """Learn the profile of one service of a Compose project, on the engine of this machine.

    Everything that it makes has a label of its own and is removed at the end, also when it is interrupted. Raises
    BattenError if the service does not run even without a profile, or under none that was tried.
    """
    project = compose.read(list(files))
    names = isolate.chosen(project.model, service, dependencies=dependencies)
    # Who is not root cannot remove what a container wrote into a copy.
    with tempfile.TemporaryDirectory(prefix="batten-learn-", ignore_cleanup_errors=True) as scratch:
        place = engine.local(f"batten-learn-{secrets.token_hex(4)}", Path(scratch))
        isolated = isolate.isolate(project.model, names, place.project, scratch)
        left_out = [*isolated.left_out, *_copied(isolated)]
        for what in left_out:
            note(f"not given: {what}")
        if isolated.replaced:
            note(f"throw-away values for {', '.join(isolated.replaced)}")
        try:
            for image, wanted in isolated.builds.items():
                note(f"building {image}")
                engine.build(place, image, wanted)
            seen = _watched(place, isolated.model, service, seconds, note)
            known = _known(seen.image)
            plan, tries = _tried(place, isolated.model, service, seen, known, note)
        finally:
            with _uninterrupted():
                engine.remove_all(place)
    real = project.services[service].get("image") or service
    seen = replace(seen, image=str(real))  # not the name that we built it under
    made = propose.profile(seen, plan, known)
    said = propose.remarks(seen, plan, left_out)
    text = propose.text(made, said, f"{files[0].name}, service {service}, image {real}")
    name = _profile_name(str(real))
    _check(name, text)
    return Learned(service, str(real), name, made, text, tuple(tries), *map(tuple, said))


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Cleaning up goes on through another Ctrl-C. Signals are the main thread's (Python's documentation of signal)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.signal(one, signal.SIG_IGN) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _watched(place: Place, model: Mapping[str, Any], service: str, seconds: float, note: Note) -> Observation:
    """Run the service as its file says, but apart, and watch it."""
    overlay = isolate.apart(model["services"], place.project)
    overlay["services"] = {name: {**one, **isolate.watched()} for name, one in overlay["services"].items()}
    base = engine.write(place.directory / "compose.yaml", model)
    note(f"starting {service} apart from everything, as its file says")
    try:
        engine.up(place, [base, engine.write(place.directory / "compose.learn.yaml", overlay)], service)
        outcome = watch.await_good(place, service, min(seconds, _SETTLE_SECONDS))
        if not outcome.ok:
            raise BattenError(
                f"it does not run even without a profile: {outcome.said}",
                service,
                "give it what it needs: --with-dependencies starts what it depends on",
            )
        note(f"watching it for {seconds:g} s")
        return watch.observe(place, service, seconds, outcome.seconds, note)
    finally:
        engine.down(place)


def _tried(
    place: Place,
    model: Mapping[str, Any],
    service: str,
    seen: Observation,
    known: Mapping[str, Any] | None,
    note: Note,
) -> tuple[Shape, list[Try]]:
    """Try proposals from the least privilege up; of one that holds, take away each capability that it does without."""
    tries: list[Try] = []

    def holds(shape: Shape) -> propose.Outcome:
        note(f"trying {_spoken(shape)}")
        files = trial.layered(place, model, service, propose.profile(seen, shape, known))
        outcome = trial.attempt(place, files, service, _SETTLE_SECONDS)
        tries.append(Try(shape, outcome.ok, "" if outcome.ok else _reason(outcome.said)))
        note("  it held, also after a restart" if outcome.ok else f"  {tries[-1].why}")
        return outcome

    plan: propose.Plan | None = propose.first(seen)
    while plan is not None and len(tries) < MOST_TRIES:
        outcome = holds(plan.shape)
        if outcome.ok:
            return _least(plan.shape, holds, lambda: len(tries) < MOST_TRIES), tries
        plan = propose.after(plan, outcome)
    raise BattenError(
        f"it held under none of {len(tries)} proposals; the last: {tries[-1].why}",
        service,
        "batten harden leaves open what it does not know, and limits it all the same",
    )


def _least(shape: Shape, holds: Callable[[Shape], propose.Outcome], more: Callable[[], bool]) -> Shape:
    """Return the shape without the capabilities that can be taken away one after the other."""
    if len(shape.cap_add) < 2:
        return shape
    for cap in shape.cap_add:
        fewer = propose.without(shape, cap)
        if more() and holds(fewer).ok:
            shape = fewer
    return shape


def _spoken(shape: Shape) -> str:
    root = "a read-only root" if shape.read_only else "a writable root"
    writable = f" but for {', '.join(one.path for one in shape.writable)}" if shape.writable else ""
    return f"user {shape.user or 'of the image'}, capabilities {' '.join(shape.cap_add) or 'none'}, {root}{writable}"


def _reason(said: str) -> str:
    """The most telling line of a failure: one that speaks of permission or a read-only place, else the first."""
    lines = [line for line in said.splitlines() if line.strip()]
    telling = [line for line in lines if any(word in line.lower() for word in ("permitted", "denied", "read-only"))]
    return (telling or lines or ["it gave no reason"])[0].strip()[:300]


def _copied(isolated: isolate.Isolated) -> list[str]:
    """Copy what is mounted from this machine, and write throw-away secrets; return what was too much to copy."""
    refused = []
    for bind in isolated.binds:
        source, place = Path(bind.source), Path(bind.place)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            if source.is_dir():
                if sum(one.stat().st_size for one in source.rglob("*") if one.is_file()) > _BIND_LIMIT:
                    raise OSError("larger than 64 MiB")
                shutil.copytree(source, place, symlinks=True)
            elif source.is_file():
                shutil.copy(source, place)
            else:
                raise OSError("not there, or no file")
        except (OSError, shutil.Error) as error:
            refused.append(f"what lies at {source} ({error}); it found an empty directory")
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir()
        _open_up(place, source, read_only=bind.read_only)
    for name in isolated.secret_files:
        path = Path(isolated.model["secrets"][name]["file"])
        path.parent.mkdir(exist_ok=True)
        path.write_text(secrets.token_urlsafe(24))
        path.chmod(0o444)
    return refused


def _open_up(copied: Path, source: Path, *, read_only: bool) -> None:
    """Let the service read its copy, and write it where it may: as the owner that the original has if we can make it
    so, else as anybody. Nothing becomes writable for all that need not: some software refuses such files."""
    for path in (copied, *copied.rglob("*")):
        if path.is_symlink():
            continue
        original = source / path.relative_to(copied) if path != copied else source
        mode = path.stat().st_mode
        try:
            about = original.stat()
            os.chown(path, about.st_uid, about.st_gid)
        except OSError:
            mode |= 0 if read_only else 0o006
        executable = path.is_dir() or mode & 0o111
        path.chmod(mode | 0o004 | (0o001 if executable else 0))


def _known(image: str) -> Mapping[str, Any] | None:
    """Return batten's own profile of this family as it was read, for what cannot be watched: its class."""
    profiles = load_profiles(resources.compose() / "profiles")
    family = profiles.family(image)
    return profiles.records[family] if family else None


def _profile_name(image: str) -> str:
    return split_image(image)[0].replace("/", "-")


def _check(name: str, text: str) -> None:
    """See that the real loader takes what is written."""
    with tempfile.TemporaryDirectory(prefix="batten-learn-") as scratch:
        (Path(scratch) / f"{name}.yaml").write_text(text, encoding="utf-8")
        load_profiles(Path(scratch))
