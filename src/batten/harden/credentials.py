"""Credentials that are written in Compose files, and the secrets that they become.

``dotenv.suspicion`` says what looks like one, by name and by shape; the same code reads ``.env`` files for
``batten secrets import``. Values are for that verb alone: no file and no text of ``batten harden`` has one.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from batten import dotenv

if TYPE_CHECKING:
    from batten.harden.decide import Decision

# Images whose Dockerfiles have no ENTRYPOINT (docker-library/python, golang, rust; bare systems): on these, what a
# Dockerfile says in CMD is all that runs.
_NO_ENTRYPOINT = re.compile(r"^(python|golang|debian|ubuntu|alpine|rust)(:|@|$)")
_PREFERRED = ("database",)


@dataclass(frozen=True)
class Credential:
    """One variable of one service that holds a credential. ``value`` is the secret part alone.

    ``file_variable`` is the variable that takes a file's name instead; ``template`` the variable's text, as a shell
    reads it, with the secret named in it, where that is more than the secret. ``start`` are entrypoint and command to
    say again, where a variable can come in only by a file that is read before them. ``how`` says it to a person;
    ``possible`` whether it can be done.
    """

    service: str
    variable: str
    why: str
    secret: str
    value: str = field(repr=False)
    how: str = ""
    possible: bool = True
    file_variable: str | None = None
    template: str | None = None
    start: tuple[tuple[str, ...], tuple[str, ...]] | None = None


def find(services: Mapping[str, Mapping[str, Any]], decisions: Mapping[str, Decision]) -> tuple[Credential, ...]:
    """Return the credentials in the environment of merged ``services``, databases' first.

    Variables of several services with one value are one secret: they are two ends of one connection.
    """
    order = sorted(services, key=lambda name: (decisions[name].profile.service_class not in _PREFERRED, name))
    found: list[Credential] = []
    for name in order:
        environment = services[name].get("environment") or {}
        mine: set[str] = set()
        for variable, raw in sorted(environment.items()):
            text = str(raw).replace("$$", "$") if raw is not None else ""
            why = dotenv.suspicion(dotenv.Entry(variable, text, 0, 0))
            if why is None:
                continue
            inside = dotenv.url_password(text)
            value = inside if inside is not None else text
            secret = _name(variable, value, name, mine, found, inside is not None)
            mine.add(secret)
            found.append(
                _delivered(decisions[name], variable, why, secret, value, text if inside is not None else None)
            )
    return tuple(found)


def _name(
    variable: str, value: str, service: str, mine: Iterable[str], found: Iterable[Credential], is_url: bool
) -> str:
    """The secret of a value that another service has too, else one named after the variable, if need be the service."""
    plain = re.sub(r"[^a-z0-9]+", "_", variable.lower()).strip("_") + ("_password" if is_url else "")
    same = [each for each in found if each.value == value and each.secret not in mine]
    for each in same:
        if each.secret == plain:
            return plain
    if same:
        return same[0].secret
    taken = {each.secret for each in found}
    return plain if plain not in taken else re.sub(r"[^a-z0-9]+", "_", f"{service}_{plain}".lower())


def _delivered(decision: Decision, variable: str, why: str, secret: str, value: str, url: str | None) -> Credential:
    service = decision.evidence.name
    file_variable = decision.profile.secret_file(variable) if url is None else None
    if file_variable:
        how = f"a file, named by {file_variable}"
        return Credential(service, variable, why, secret, value, how, True, file_variable)
    template = None
    if url is not None:
        written = next((form for form in (value, quote(value, safe="")) if f":{form}@" in url), None)
        if written is None:
            how = "by hand: the password in the URL is written in a way of its own"
            return Credential(service, variable, why, secret, value, how, False)
        before, _, after = url.partition(f":{written}@")
        template = f"{_quoted(before + ':')}${{{secret}:url}}{_quoted('@' + after)}"
    start = _start(decision)
    if start is None:
        how = f"by hand: only its image knows its entrypoint; write it under services.{service} in batten.yaml"
        return Credential(service, variable, why, secret, value, how, False, None, template)
    how = "a variable, read from a file before its entrypoint"
    return Credential(service, variable, why, secret, value, how, True, None, template, start)


def _quoted(text: str) -> str:
    """Text as a shell reads it back, in a template, where ``$$`` is a dollar sign."""
    return shlex.quote(text).replace("$", "$$")


def _start(decision: Decision) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Entrypoint and command as the files say them; None where only the image knows what runs before them."""
    evidence = decision.evidence
    own = evidence.dockerfile
    entrypoint, command = _words(evidence.raw.get("entrypoint")), _words(evidence.raw.get("command"))
    if entrypoint:
        return entrypoint, command
    if own is None or own.base == "scratch" or "distroless" in own.base:  # no shell there to read the file
        return None
    said = command or own.command
    if own.entrypoint:
        return own.entrypoint, said or ()
    if said and _NO_ENTRYPOINT.match(own.base):
        return (said[0],), said[1:]
    return None


def _words(value: Any) -> tuple[str, ...]:
    return tuple(str(word).replace("$$", "$") for word in value or ())


ENVIRONMENT_FILE = "harden.env"
_WRAPPER = ("/bin/sh", "-ec", f'set -a; . /run/secrets/{ENVIRONMENT_FILE}; set +a; exec "$@"', "batten")


def fragment(found: Iterable[Credential]) -> dict[str, Any]:
    """Return what of ``batten.yaml`` declares these secrets and hands them over. Their values are people's."""
    secrets: dict[str, Any] = {}
    services: dict[str, Any] = {}
    for each in found:
        secrets[each.secret] = {"generator": "provided"}
        if not each.possible:
            continue
        own = services.setdefault(each.service, {"environment": {}, "secrets": {}})
        own["environment"][each.variable] = None
        if each.file_variable:
            own["environment"][each.file_variable] = f"/run/secrets/{each.secret}"
            own["secrets"][each.secret] = {"secret": each.secret}
            continue
        entrypoint, command = each.start or ((), ())
        own["entrypoint"] = [*_WRAPPER, *entrypoint]
        own["command"] = [word.replace("$", "$$") for word in command]
        lines = own["secrets"].setdefault(ENVIRONMENT_FILE, {"template": ""})
        lines["template"] += f"{each.variable}={each.template or f'${{{each.secret}:sh}}'}\n"
    return {key: value for key, value in (("secrets", secrets), ("services", services)) if value}
