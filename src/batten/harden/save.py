"""What ``batten harden`` writes, and the last look at it: Compose merges it, and nothing may be lost."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """Write everything below ``directory``, and have Compose merge it. Files of the same name are replaced.

    Raises BattenError if it cannot be written, would be in a user's file's place, or if Compose refuses the result.
    """
    names = [layer.name for layer in made.layers]
    own = {path.resolve() for path in made.project.files}
    texts = {layer.name: layer.text for layer in made.layers}
    texts |= made.extra
    texts["plan.json"] = json.dumps(document(made), indent=2, sort_keys=True) + "\n"
    texts["REPORT.md"] = report(made, [str(directory / name) for name in names])
    for name in texts:
        if (directory / name).resolve() in own:
            raise BattenError("this is one of your own files", str(directory / name), "choose another --out")
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (directory / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise BattenError(f"cannot write: {error.strerror}", str(directory), "choose another --out") from error
    lost = check(made, [directory / name for name in names])
    return Saved(tuple(directory / name for name in texts), lost)
