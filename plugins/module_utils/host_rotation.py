"""Which secrets of a host change hands: those of the stack, those of its Infisical, and the host's own login."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from . import credentials, infisical_access, infisical_provision, lock, release, sync
from .docker_api import Docker
from .errors import BattenError
from .infisical import Client
from .paths import StackPaths
from .rotation import Result, Rotation, chosen
from .sync import LOCAL

INFISICAL = LOCAL.stack
PREFIX = f"{INFISICAL}/"
IDENTITY = "infisical_identity"


@dataclass(frozen=True)
class Wanted:
    """``older_than`` is in seconds; ``host`` is the name that this host's identity carries."""

    names: Sequence[str] = ()
    everything: bool = False
    older_than: float | None = None
    host: str = ""

    def of(self, stack: str) -> list[str]:
        """Return the names that mean ``stack``: those of Infisical's own are written ``infisical/NAME``."""
        if stack == INFISICAL:
            return [name[len(PREFIX) :] for name in self.names if name.startswith(PREFIX)]
        return [name for name in self.names if not name.startswith(PREFIX) and name != IDENTITY]


def rotate(stack: str, wanted: Wanted, docker: Docker, check: bool) -> dict[str, dict[str, Any]]:
    """Rotate on this host what is ``wanted``; return what came of it by stack. Names are checked before any is rotated.

    ``stack`` is the host's own, or ``infisical`` on a host that runs nothing else.
    Raises BattenError for a name that cannot be rotated, and what :meth:`Rotation.rotate` raises.
    """
    here = [stack]
    if stack != INFISICAL and release.running(LOCAL):
        here.append(INFISICAL)
    if INFISICAL not in here and any(name.startswith(PREFIX) for name in wanted.names):
        raise BattenError("no Infisical of batten's runs here", "rotate", "leave infisical/NAME to whoever runs it")
    with ExitStack() as locks:
        for name in here if not check else ():
            locks.enter_context(lock.held(StackPaths(name).lock))
        turns = {name: Rotation(docker, StackPaths(name), _push(StackPaths(name))) for name in here}
        names = {
            name: chosen(
                one.rules,
                credentials.load(one.paths),
                wanted.of(name),
                wanted.everything,
                wanted.older_than,
                PREFIX if name == INFISICAL else "",
            )
            for name, one in turns.items()
        }
        if check:
            return {name: Result(rotated=names[name]).to_json() for name in here}
        if stack != INFISICAL and INFISICAL in here and names[stack]:
            turns[INFISICAL].mend()  # the new values of the stack are stored there first
        found = {name: one.rotate(names[name]).to_json() for name, one in turns.items()}
        if stack != INFISICAL and (IDENTITY in wanted.names or (wanted.everything and INFISICAL in here)):
            _new_login(StackPaths(stack), wanted.host, local=INFISICAL in here)
            found[stack]["rotated"].append(IDENTITY)
        return found


def _push(paths: StackPaths) -> Callable[..., dict[str, int]] | None:
    """Return what stores values of this stack in Infisical; None for one whose values are kept on the host alone."""
    known = infisical_access.load(paths)
    return sync.Vault(known).push if known else None


def _new_login(paths: StackPaths, host: str, local: bool) -> None:
    known = infisical_access.load(paths)
    if known is None or not local:
        fix = (
            f"rm {paths.access} on this host and run site.yml, which makes a new login and ends this one; with "
            "infisical_mode: external make a new client secret there, set infisical_client_secret and run site.yml"
        )
        raise BattenError("the login to an Infisical elsewhere cannot be rotated from here", IDENTITY, fix)
    with Client(known.url, known.ca) as client:
        infisical_provision.rotate_identity(
            LOCAL, client, paths.stack, host, lambda new: infisical_access.save(paths, new)
        )
