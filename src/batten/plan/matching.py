"""Which profile an image is of: by its name, by the name of a mirror or a fork, or by what it runs and listens on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_OFFICIAL = "library/"


@dataclass(frozen=True)
class Evidence:
    """What one profile says of its images: the last parts of their names, words of their commands, and their ports."""

    names: frozenset[str]
    commands: tuple[tuple[str, ...], ...] = ()
    ports: frozenset[int] = frozenset()

    @classmethod
    def of(cls, images: Iterable[str], entrypoints: Iterable[str], ports: Iterable[int]) -> Evidence:
        """Take what a profile lists apart, once for all the images that are held against it."""
        commands = tuple(tuple(_words(one.split())) for one in entrypoints)
        return cls(frozenset(_last(image) for image in images), commands, frozenset(ports))


@dataclass(frozen=True)
class Guess:
    """The profile that evidence speaks for. ``whole``: enough of it that the image is laid out as the original."""

    name: str
    whole: bool
    why: str


def split_image(image: str) -> tuple[str, str | None]:
    """Return the repository of an image reference without its registry, and its tag if it has one.

    ``docker.io/library/postgres:18@sha256:...`` gives ``("postgres", "18")``. The first part of a reference is a
    registry if it holds a dot or a colon or is ``localhost`` (distribution/reference, ``splitDockerDomain``).
    """
    _, name = _split_registry(image)
    name, _, tag = name.partition(":")
    return name.removeprefix(_OFFICIAL), tag or None


def names(image: str) -> Iterator[str]:
    """Yield the names under which a profile may know an image, the likeliest first.

    A mirror keeps the path behind a prefix of its own: ``mirror.example/hub/library/redis`` is ``redis``,
    ``mirror.example/hub/grafana/loki`` is ``grafana/loki``. One part alone proves nothing: anyone may call it that.
    """
    registry, _ = _split_registry(image)
    repository, _ = split_image(image)
    yield repository
    if not registry:
        return
    before, official, name = repository.rpartition(f"/{_OFFICIAL}")
    if before and official:
        yield name
    parts = repository.split("/")
    for start in range(1, len(parts) - 1):
        yield "/".join(parts[start:])


def by_evidence(
    known: Mapping[str, Evidence], image: str, entrypoint: Sequence[str] | None, ports: Iterable[int]
) -> Guess | None:
    """Return the profile that an image of an unknown name is probably of, or None if none or several may be.

    ``entrypoint`` is the entrypoint with its command, None where nobody knows it. What it runs counts first, then
    what it listens on, then the last part of its name. Ports alone, or a name that what is known of the image does
    not bear out, are no evidence: anyone may listen on 8080, and ``example/redis-commander`` is no Redis.
    """
    words = _words(entrypoint or ())
    listens = set(ports)
    last = _last(image)
    scored = {}
    for name, evidence in known.items():
        runs = max((len(asked) for asked in evidence.commands if _holds(words, asked)), default=0)
        shared = len(listens & evidence.ports)
        named = last in evidence.names
        refuted = (words and evidence.commands and not runs) or (listens and evidence.ports and not shared)
        if runs or (named and not refuted):
            scored[name] = (runs, shared, named)
    best = max(scored.values(), default=None)
    winners = [name for name, score in scored.items() if score == best]
    if best is None or len(winners) > 1:
        return None
    runs, shared, named = best
    reasons = [
        *([f"it runs {' '.join(words)[:60]}"] if runs else []),
        *([f"it listens on {', '.join(map(str, sorted(listens & known[winners[0]].ports)))}"] if shared else []),
        *([f"it is called {last}"] if named else []),
    ]
    return Guess(winners[0], bool(runs and (shared or named)), " and ".join(reasons))


def _last(image: str) -> str:
    return split_image(image)[0].rsplit("/", 1)[-1]


def _split_registry(image: str) -> tuple[str, str]:
    name = image.split("@", 1)[0]
    head, slash, rest = name.partition("/")
    if slash and ("." in head or ":" in head or head == "localhost"):
        return head, rest
    return "", name


def _words(command: Sequence[str]) -> list[str]:
    """The words of a command by their last path part, also of one that a shell runs."""
    return [PurePosixPath(word).name for argument in command for word in argument.split()]


def _holds(words: Sequence[str], asked: Sequence[str]) -> bool:
    """Whether all words of ``asked`` are there, in their order."""
    rest = iter(words)
    return bool(asked) and all(word in rest for word in asked)
