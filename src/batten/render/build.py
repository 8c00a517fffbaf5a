"""Images that the host builds: what ``docker build`` needs of a context, and the tag that names its content."""

from __future__ import annotations

import base64
import fnmatch
import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from batten.plan import schema
from batten.plan.base import base_text
from batten.plan.interpolate import interpolate_all
from batten.plan.profile import split_image
from batten.plan.schema import At

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from batten.plan.model import StackPlan

_LIMIT = 8 * 1024 * 1024
_NEVER = (".git", "__pycache__", "*.pyc", ".venv", "node_modules")


@dataclass(frozen=True)
class Build:
    """One build: ``entries`` maps paths below the context to bytes and whether the file is executable."""

    dockerfile: str
    arguments: Mapping[str, str]
    stage: str | None
    entries: Mapping[str, tuple[bytes, bool]]

    @property
    def digest(self) -> str:
        """SHA-256, in hex and cut to 48 bits, over all that decides what is built. It is the image's tag."""
        state = hashlib.sha256()
        facts = [
            self.dockerfile,
            self.stage or "",
            *(f"{key}={value}" for key, value in sorted(self.arguments.items())),
        ]
        parts = [fact.encode() for fact in facts]
        for path, (content, executable) in sorted(self.entries.items()):
            parts += [path.encode(), b"x" if executable else b"-", content]
        for part in parts:
            state.update(len(part).to_bytes(8, "big") + part)
        return state.hexdigest()[:12]


def builds(plan: StackPlan, base: Path, variables: Mapping[str, str], files: tuple[Path, ...] = ()) -> dict[str, Build]:
    """Read the context of every service that the host builds; ``files`` as in :func:`batten.plan.base.base_text`.

    Raises BattenError for a context that is no local directory, has no Dockerfile, or is larger than 8 MiB.
    """
    wanted = [name for name, service in sorted(plan.services.items()) if service.build]
    if not wanted:
        return {}
    at = At(str(base), "services")
    services = interpolate_all(schema.load_yaml(base_text(base, files), str(base)), variables, at)["services"]
    return {name: _build(services[name]["build"], base.parent, at.key(name).key("build")) for name in wanted}


def with_images(plan: StackPlan, found: Mapping[str, Build]) -> StackPlan:
    """Return the plan with built services named by their context's digest: a change of source is a change of image."""
    services = dict(plan.services)
    for name, build in found.items():
        services[name] = replace(services[name], image=f"{split_image(services[name].image)[0]}:{build.digest}")
    return replace(plan, services=services)


def payload(plan: StackPlan, found: Mapping[str, Build]) -> dict[str, Any]:
    """Return ``builds`` of the release payload."""
    return {
        name: {
            "image": plan.services[name].image,
            "dockerfile": build.dockerfile,
            "arguments": dict(sorted(build.arguments.items())),
            "stage": build.stage,
            "entries": {
                path: {"content": base64.b64encode(content).decode(), "executable": executable}
                for path, (content, executable) in sorted(build.entries.items())
            },
        }
        for name, build in sorted(found.items())
    }


def _build(value: Any, directory: Path, at: At) -> Build:
    given = value if isinstance(value, dict) else {"context": value}
    known = ("context", "dockerfile", "args", "target")
    for key in given:
        if key not in known:
            raise at.error(f"stack_build: host cannot do `{key}`", "build it elsewhere and set stack_images for it")
    context = (directory / str(given.get("context", "."))).resolve()
    if not context.is_dir():
        raise at.error(
            f"the build context {given.get('context')} is no directory here", "correct it, or set stack_images"
        )
    dockerfile = str(given.get("dockerfile", "Dockerfile"))
    if not (context / dockerfile).is_file():
        raise at.error(f"the build context has no {dockerfile}", "correct build.dockerfile, or set stack_images")
    arguments = given.get("args") or {}
    if isinstance(arguments, list):
        arguments = dict(str(item).partition("=")[::2] for item in arguments)
    entries = _entries(context, at)
    return Build(dockerfile, {str(k): str(v) for k, v in arguments.items()}, given.get("target"), entries)


def _entries(context: Path, at: At) -> dict[str, tuple[bytes, bool]]:
    """Read a context without what ``.dockerignore`` names; one with exceptions (``!``) is left to ``docker build``."""
    file = context / ".dockerignore"
    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []
    ignored = [line.strip("/") for line in lines if line and not line.startswith("#")]
    if any(line.startswith("!") for line in ignored):
        ignored = []
    entries, total = {}, 0
    for path in sorted(context.rglob("*")):
        relative = path.relative_to(context)
        if not path.is_file() or any(_matches(relative, pattern) for pattern in (*_NEVER, *ignored)):
            continue
        if not path.resolve().is_relative_to(context):
            raise at.error(f"{relative} is a link that leads out of the build context", "put the file itself there")
        content = path.read_bytes()
        total += len(content)
        if total > _LIMIT:
            raise at.error("the build context is larger than 8 MiB", "name what it does not need in .dockerignore")
        entries[relative.as_posix()] = (content, bool(path.stat().st_mode & 0o111))
    return entries


def _matches(relative: Path, pattern: str) -> bool:
    """Say whether a path or a directory above it matches; our own patterns match a name at any depth."""
    if pattern in _NEVER or pattern.startswith("**/"):
        return any(fnmatch.fnmatchcase(part, pattern.removeprefix("**/")) for part in relative.parts)
    parts = ["/".join(relative.parts[: count + 1]) for count in range(len(relative.parts))]
    return any(fnmatch.fnmatchcase(part, pattern) for part in parts)
