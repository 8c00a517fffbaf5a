"""What ``batten harden`` writes, and the last look at it: Compose merges it, and nothing may be lost."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_collections.batten.core.plugins.module_utils import atomic
from batten.errors import BattenError
from batten.harden.report import report
from batten.harden.stack import HOST, Hardened, check
from batten.plan.model import Plan, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Saved:
    """Where everything is, and what the overlays would take from a service: nothing, unless batten is wrong."""

    paths: tuple[Path, ...]
    lost: tuple[str, ...]

    def as_json(self, made: Hardened) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {**document(made), "files": [str(path) for path in self.paths], "lost": list(self.lost)}

    def summary(self, made: Hardened) -> str:
        """Return the last words to a person."""
        count = Counter(decision.confidence for decision in made.decisions.values())
        sure = ", ".join(f"{number} {word}" for word, number in sorted(count.items()))
        words = f"{len(made.decisions)} services ({sure})"
        if made.credentials:
            words += f"; {len(made.credentials)} credentials are written in your files"
        return f"{words}; read {self.paths[0].parent / 'REPORT.md'} first"


def document(made: Hardened) -> dict[str, Any]:
    """Return the content of ``plan.json``: the plan as ``batten plan --json`` prints it, and why it is so."""
    plan: dict[str, Any] = to_json(Plan({HOST: made.host}, made.findings))
    reasons: Mapping[str, Any] = {
        name: {
            "confidence": decision.confidence,
            "matched": decision.match.why if decision.match else None,
            "changed": [vars(note) for note in decision.changed],
            "left_open": [vars(note) for note in decision.left_open],
        }
        for name, decision in sorted(made.decisions.items())
    }
    credentials = [
        {"service": each.service, "variable": each.variable, "secret": each.secret, "why": each.why, "how": each.how}
        for each in made.credentials
    ]
    return {**plan, "services": reasons, "credentials": credentials}


def save(made: Hardened, directory: Path) -> Saved:
    """Write everything below ``directory``, and have Compose merge it.

    What an earlier run wrote there is replaced, or removed where it is not written any more; anything else of these
    names stays, a file of ours that somebody has changed too. Raises BattenError for that, if it cannot be written, or
    if Compose refuses the result.
    """
    names = [layer.name for layer in made.layers]
    texts = {layer.name: layer.text for layer in made.layers}
    texts |= made.extra
    texts["REPORT.md"] = report(made, [str(directory / name) for name in names])
    digests = {name: _digest(text.encode()) for name, text in sorted(texts.items())}
    texts["plan.json"] = json.dumps({**document(made), "written": digests}, indent=2, sort_keys=True) + "\n"
    try:
        stale = _clear(directory, texts, {path.resolve() for path in made.project.files})
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            atomic.write(directory / name, text.encode())
        for path in stale:
            path.unlink()
    except OSError as error:
        raise BattenError(f"cannot write: {error.strerror}", str(directory), "choose another --out") from error
    lost = check(made, [directory / name for name in names])
    return Saved(tuple(directory / name for name in texts), lost)


def _clear(directory: Path, texts: Mapping[str, str], users: set[Path]) -> list[Path]:
    """Return what an earlier run left and this one does not write; raises BattenError for what is not ours."""
    before = _written(directory / "plan.json")
    for name in {*texts, *before}:
        path = directory / name
        if path.resolve() in users:
            raise BattenError("this is one of your own files", str(path), "choose another --out")
        if not os.path.lexists(path) or (name == "plan.json" and before):
            continue
        if name not in before or path.is_symlink() or not path.is_file():
            raise BattenError("this is not of an earlier run of batten harden", str(path), "choose another --out")
        if _digest(path.read_bytes()) != before[name]:
            fix = "move it away, or choose another --out"
            raise BattenError("somebody has changed this file since batten harden wrote it", str(path), fix)
    return [directory / name for name in sorted(before) if name not in texts and (directory / name).is_file()]


_NAMES = re.compile(r"compose\.[a-z]+\.yaml|batten\.yaml|REPORT\.md")


def _written(record: Path) -> dict[str, str]:
    """Return the files that an earlier run wrote, with their digests, by its own record."""
    if record.is_symlink():
        return {}
    try:
        found = json.loads(record.read_text(encoding="utf-8"))["written"]
        return {name: str(digest) for name, digest in found.items() if _NAMES.fullmatch(name)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
