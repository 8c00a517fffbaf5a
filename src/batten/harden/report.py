"""REPORT.md: what a person reviews before an overlay goes live. Names and numbers; values of credentials never."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from batten.plan.limits import GIB, MIB

if TYPE_CHECKING:
    from batten.harden.decide import Decision, Note
    from batten.harden.stack import Hardened
    from batten.plan.model import ServicePlan

_MEANING = {
    "tried": "batten's tests saw this software healthy under its profile",
    "documented": "read in the software's own documentation or source, not tried by us",
    "observed": "`batten learn` watched it run",
    "assumed": "nobody looked at this image: only what is safe without knowing it",
}


def report(made: Hardened, written: Sequence[str]) -> str:
    """Return the report as Markdown; ``written`` are the overlays' file names in ``-f`` order."""
    lines = [*_head(made, written), *_table(made), *_services(made), *_credentials(made), *_findings(made)]
    return "\n".join(map(_line, lines)) + "\n"


def _line(text: str) -> str:
    """One line stays one: a name or a value of somebody's file makes no heading, no markup, no link of its own."""
    plain = "".join(character if character.isprintable() else " " for character in text)
    return plain.replace("<", "&lt;").replace("](", "] (")


def _cell(text: object) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")


def _code(text: object) -> str:
    return f"`{' '.join(str(text).split()).replace('`', chr(39))}`"


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _head(made: Hardened, written: Sequence[str]) -> Iterator[str]:
    files = shlex.join(word for path in (*map(str, made.project.files), *written) for word in ("-f", path))
    host = made.host
    yield f"# {made.project.name}, hardened for {made.stack.target}"
    yield ""
    yield (
        f"Planned for a host with {_size(host.memory_bytes)} of memory and {host.cpus:g} processors; "
        f"{_size(host.allocated_bytes)} are given to services, {_size(host.reserved_bytes)} stay with the host. "
        "Your own files are as they were."
    )
    yield ""
    yield "Run it with:"
    yield ""
    yield f"    docker compose {files} up -d"
    yield ""
    yield "How sure a line is:"
    yield ""
    used = {decision.confidence for decision in made.decisions.values()} | {
        note.confidence for decision in made.decisions.values() for note in decision.changed
    }
    for word, meaning in _MEANING.items():
        if word in used:
            yield f"- **{word}**: {meaning}."
    yield ""


def _table(made: Hardened) -> Iterator[str]:
    yield "| service | taken for | how sure | memory | cpus | pids | user | root file system | capabilities |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for name, plan in sorted(made.stack.services.items()):
        decision = made.decisions[name]
        yield _row(
            name,
            plan.profile or "unknown",
            decision.confidence,
            f"{_size(plan.memory_bytes)}{_times(decision)}",
            f"{plan.cpus:g}",
            plan.pids,
            _user(plan, decision),
            "read-only" if plan.read_only else "writable",
            _capabilities(plan, decision),
        )
    yield ""


def _services(made: Hardened) -> Iterator[str]:
    for name, decision in sorted(made.decisions.items()):
        yield f"## {name}"
        yield ""
        yield _what(decision)
        yield ""
        yield "Changed:"
        yield ""
        yield _limits(made.stack.services[name], decision)
        yield from _notes(decision.changed, sure=True)
        yield ""
        if decision.left_open:
            yield "Left open:"
            yield ""
            yield from _notes(decision.left_open, sure=False)
            yield ""


def _what(decision: Decision) -> str:
    evidence = decision.evidence
    image = str(evidence.raw.get("image") or "")
    what = (
        f"Built on {_code(evidence.image or 'an image that its Dockerfile does not tell')}"
        if evidence.built
        else _code(image)
    )
    if decision.match is None:
        return f"{what}: no profile knows it."
    sources = "; ".join(decision.match.profile.sources[:3])
    return f"{what}: taken for {decision.match.profile.name}, because {decision.match.why}." + (
        f" Sources: {sources}." if sources and decision.confidence != "assumed" else ""
    )


def _notes(notes: Sequence[Note], *, sure: bool) -> Iterator[str]:
    for note in notes:
        yield f"- `{note.facet}`: {note.text}" + (f" ({note.confidence})" if sure else "")


def _credentials(made: Hardened) -> Iterator[str]:
    found = made.credentials
    if not found:
        return
    yield "## Credentials in your files"
    yield ""
    yield (
        "Everyone who may run `docker inspect` or read these files knows them. `batten.yaml` declares each as a "
        "secret; no value is in it, nor here."
    )
    yield ""
    yield "| service | variable | why it looks like one | becomes the secret | how it is handed over |"
    yield "| --- | --- | --- | --- | --- |"
    for each in found:
        yield _row(each.service, each.variable, each.why, each.secret, each.how)
    yield ""
    yield "To move the values to where batten keeps them, with an inventory of these files and this `batten.yaml`:"
    yield ""
    files = shlex.join(word for path in made.project.files for word in ("--compose-file", str(path)))
    yield f"    batten secrets import -i INVENTORY {files}"
    yield ""
    yield (
        "Then `site.yml` delivers them, and the variables are gone from the containers. `compose.secrets.yaml` is the "
        f"overlay that does this by itself, on a host where they lie under `/opt/batten/{made.project.name}/secrets`."
    )
    yield ""


def _findings(made: Hardened) -> Iterator[str]:
    if not made.findings:
        return
    yield "## What else a person should know"
    yield ""
    for finding in made.findings:
        yield f"- {finding.severity}, {finding.where}: {finding.what}; fix: {finding.fix}"
    yield ""


def _limits(plan: ServicePlan, decision: Decision) -> str:
    own = [word for word in ("memory", "cpus", "pids") if word in decision.kept]
    said = {"memory": _size(plan.memory_bytes), "cpus": f"{plan.cpus:g} processors", "pids": f"{plan.pids} processes"}
    mine = ", ".join(text for word, text in said.items() if word not in own) or "nothing more"
    kept = f"; the file's own {', '.join(own)} stay" if own else ""
    tuned = "".join(f"; {name}={value}" for name, value in sorted(plan.environment.items()) if value is not None)
    return f"- `limits`: {mine}{kept}{tuned} ({decision.confidence})"


def _size(count: int) -> str:
    return f"{count / GIB:.3g} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"


def _times(decision: Decision) -> str:
    return f" x {decision.evidence.replicas}" if decision.evidence.replicas > 1 else ""


def _user(plan: ServicePlan, decision: Decision) -> str:
    return plan.user or str(decision.evidence.raw.get("user") or "the image's")


def _capabilities(plan: ServicePlan, decision: Decision) -> str:
    own = [str(item) for item in decision.evidence.raw.get("cap_add") or ()]
    if decision.evidence.raw.get("privileged"):
        return "all (privileged)"
    return ", ".join([*plan.cap_add, *own]) or "none"
