"""Infisical's API, as far as batten uses it: log in, and keep the secrets of one place.

Speaks v4 (``/api/v4/secrets``) and falls back to v3 (``/api/v3/secrets/raw``), which servers up to late 2025 have. v3
is as recorded with a real server of October 2024; v4 is as in Infisical's own router, CLI and Terraform provider.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import BattenError
from .infisical_http import Answer, Http, Refused, Uncertain, Unreachable, no_route

__all__ = ["Client", "Listing", "Place", "Refused", "Stored", "Uncertain", "Unreachable", "decode", "encode"]

Json = Any
MARKER = "batten-base64:"
MAX_VALUE = 512 * 1024  # bytes, encoded: a request of 1 MiB (Fastify's bodyLimit) must hold it, escaped as JSON
_BATCH_BYTES = 900 * 1024
_BATCH_COUNT = 100
_SETTLE = (0.5, 1.0, 2.0, 4.0)  # seconds between looks after a lost answer: what was cut off may be applied late
_ENROL = "where batten made the login: rm /var/lib/batten/STACK/infisical.cred, and site.yml enrols this host anew"
_LOGIN = "/api/v1/auth/universal-auth/login"


@dataclass(frozen=True)
class Place:
    """Where secrets lie: a project's id, an environment's slug, a folder."""

    project_id: str
    environment: str = "prod"
    path: str = "/"

    def __str__(self) -> str:
        return f"project {self.project_id}, environment {self.environment}, path {self.path}"


@dataclass(frozen=True)
class Stored:
    """One secret as Infisical has it. ``version`` goes up with every update, also to the same value.

    ``updated`` is when, by the server's clock: ISO 8601, UTC; empty where it does not say.
    """

    value: str
    version: int
    updated: str = field(default="", compare=False)

    def __repr__(self) -> str:  # a traceback or a failed assertion must not show the value
        return f"Stored(version={self.version})"


@dataclass(frozen=True)
class Listing:
    """All secrets of a place. ``duplicates`` names those that the server has more than once; the newest one counts."""

    etag: str
    secrets: Mapping[str, Stored] = field(default_factory=dict)
    duplicates: tuple[str, ...] = ()


class Client:
    """One server. ``ca`` is PEM text, or empty for the system's CAs; ``timeout`` is in seconds, for each exchange.

    Every method raises :class:`Unreachable` where no usable answer comes and :class:`Refused` where the server says no;
    what changes something may raise :class:`Uncertain`, an ``Unreachable`` after which one has to look. Not for use by
    several threads at once.
    """

    def __init__(
        self, url: str, ca: str = "", timeout: float = 10.0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._how = url, ca, timeout, sleep
        self._http = Http(*self._how)
        self.sleep = sleep
        self.remarks: list[str] = []
        self._token = ""
        self._renew_at = float("inf")
        self._credentials: tuple[str, str] | None = None
        self._v3 = False

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def another(self) -> Client:
        """Return a new client of the same server, not logged in."""
        return Client(*self._how)

    @property
    def url(self) -> str:
        return self._http.url

    @property
    def level(self) -> str:
        """``v4``, or ``v3`` once the server has said that it has no v4."""
        return "v3" if self._v3 else "v4"

    def close(self) -> None:
        """Close the connection and forget the token."""
        self._http.close()
        self._token, self._credentials = "", None

    def login(self, client_id: str, client_secret: str) -> None:
        """Log in as a machine identity (universal auth).

        A 401 is never tried again: three of them lock the identity out for 300 s.
        """
        self._token, self._credentials = "", None
        body = {"clientId": client_id, "clientSecret": client_secret}
        answer = self._http.send("POST", _LOGIN, body=body, repeat=True)
        if answer.status != 200:
            raise _login_refused(self._http.refusal(answer, "POST", _LOGIN, body))
        self._token = _text(answer.body, "accessToken", _LOGIN)
        lifetime = answer.body.get("expiresIn")  # 0 meant for ever until 2026
        self._renew_at = time.monotonic() + lifetime * 2 / 3 if lifetime else float("inf")
        self._credentials = client_id, client_secret

    def use_token(self, token: str) -> None:
        """Speak with a ready-made token, such as the bootstrap's; it is not renewed. Empty: with none."""
        self._token, self._credentials, self._renew_at = token, None, float("inf")

    # Secrets

    def secrets(self, place: Place, etag: str = "") -> Listing | None:
        """List the secrets of ``place``, references not expanded and imports left out; None while ``etag`` still holds.

        An environment or folder that is not there has no secrets; only a create tells (404).
        """
        answer = self._secrets("GET", place, etag=etag)
        return None if answer.status == 304 else _listing(answer, f"{self.url}, {place}")

    def create(self, place: Place, values: Mapping[str, str]) -> dict[str, int]:
        """Create all of ``values``; return their versions. One that exists refuses its whole batch (400)."""
        return self._write("POST", place, _items(values))

    def update(self, place: Place, values: Mapping[str, str]) -> dict[str, int]:
        """Give existing secrets new values; return their versions. A missing one refuses its whole batch (404)."""
        return self._write("PATCH", place, _items(values))

    def delete(self, place: Place, names: Sequence[str]) -> None:
        """Delete secrets by name, all rows of that name. A missing one refuses its whole batch (404)."""
        self._write("DELETE", place, [{"secretKey": name, "type": "shared"} for name in names])

    def create_missing(self, place: Place, values: Mapping[str, str]) -> Listing:
        """Create those of ``values`` that are not there; return what is there then, which may be another's value.

        A create whose answer was lost is looked for, and made again only when it has not appeared for some seconds.
        """
        listing, settle = self._list(place), iter(_SETTLE)
        for _ in range(3):
            missing = {name: value for name, value in values.items() if name not in listing.secrets}
            if not missing:
                return listing
            try:
                self.create(place, missing)
            except Uncertain:
                listing = self._list(place)
                for pause in settle:
                    if set(missing) <= set(listing.secrets):
                        break
                    self.sleep(pause)
                    listing = self._list(place)
            except Refused as refused:
                if not refused.exists:
                    raise
                listing = self._list(place)  # another host was faster
            else:
                listing = self._list(place)
        lacking = sorted(set(values) - set(listing.secrets))
        if lacking:
            raise Uncertain(f"Infisical does not show what was created: {', '.join(lacking)}", str(place), "run again")
        return listing

    # Anything else

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Json = None,
        repeat: bool = False,
    ) -> Json:
        """Make one request with the token, if there is one; return its JSON. See :meth:`Http.send` for ``repeat``."""
        answer = self._authorised(method, path, query, body, repeat=repeat)
        if answer.status >= 400:
            raise self._http.refusal(answer, method, path, body)
        return answer.body

    def _list(self, place: Place) -> Listing:
        listing = self.secrets(place)
        if listing is None:
            raise Unreachable(
                "Infisical answers 304 to a request without an ETag", str(place), "see the proxy before it"
            )
        return listing

    def _write(self, method: str, place: Place, items: Sequence[Mapping[str, str]]) -> dict[str, int]:
        versions: dict[str, int] = {}
        for batch in _batches(items):
            body = self._secrets(method, place, batch).body
            if "approval" in body:
                fix = "approve it in Infisical, or remove the policy of this environment and folder, and run again"
                raise Refused(200, "approval", "an approval policy holds the change back", str(place), fix)
            rows = body.get("secrets")
            versions.update((row["secretKey"], row["version"]) for row in rows or [])
        return versions

    def _secrets(self, method: str, place: Place, batch: Sequence[Json] | None = None, etag: str = "") -> Answer:
        """Make a request about secrets, by v4, or by v3 once the server has said that it has no such route."""
        while True:
            path, query, body = (_v3 if self._v3 else _v4)(place, batch)
            answer = self._authorised(method, path, query, body, etag)
            if answer.status == 404 and not self._v3 and no_route(answer.body):
                self._v3 = True
                continue
            if answer.status >= 400:
                raise self._http.refusal(answer, method, path, body)
            if answer.status != 304 and not isinstance(answer.body, dict):
                raise Refused(answer.status, "shape", "the answer is no Infisical's", f"{method} {self.url}{path}")
            return answer

    def _authorised(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Json = None,
        etag: str = "",
        repeat: bool = False,
    ) -> Answer:
        """Make a request with the token; log in again once when the token has run out. Refused so, nothing was done."""
        fresh = False
        if self._credentials and time.monotonic() > self._renew_at:
            self.login(*self._credentials)
            fresh = True
        answer = self._http.send(method, path, query, body, self._token, etag, repeat)
        if self._credentials and not fresh and _token_over(answer):
            self.login(*self._credentials)
            answer = self._http.send(method, path, query, body, self._token, etag, repeat)
        return answer


def encode(value: str) -> str:
    """Return ``value`` in a form that Infisical gives back byte for byte.

    It trims both ends and keeps one final newline; what that would change, and what only looks encoded, is written as
    base64 behind a marker. Everything else stays readable in its UI.
    """
    core = value.removesuffix("\n")
    plain = core and not _blank(core[0]) and not _blank(core[-1]) and "\0" not in core and not core.startswith(MARKER)
    try:
        raw = value.encode()
    except UnicodeEncodeError:
        raise BattenError("the value is no valid text (a lone surrogate)", "", "give it as UTF-8") from None
    return value if plain else MARKER + base64.b64encode(raw).decode()


def decode(text: str) -> str:
    """Return the value that :func:`encode` made ``text`` from; what a person typed comes back as it is."""
    if not text.startswith(MARKER):
        return text
    try:
        return base64.b64decode(text[len(MARKER) :], validate=True).decode()
    except (binascii.Error, ValueError):
        return text


def _blank(character: str) -> bool:
    return character.isspace() or character == "\ufeff"  # JavaScript's trim() takes the byte order mark too


def _items(values: Mapping[str, str]) -> list[dict[str, str]]:
    items = []
    for name, value in values.items():
        text = encode(value)
        if len(json.dumps(text)) > MAX_VALUE:
            fix = f"keep it under {MAX_VALUE >> 10} KiB, encoded; a large file belongs in an image or a volume"
            raise BattenError("the value is longer than Infisical takes", f"secret {name}", fix)
        items.append({"secretKey": name, "secretValue": text})
    return items


def _batches(items: Sequence[Mapping[str, str]]) -> Iterator[list[Mapping[str, str]]]:
    """Split into lists of at most 100 secrets and 900 KiB of JSON."""
    batch: list[Mapping[str, str]] = []
    size = 0
    for item in items:
        length = len(json.dumps(item)) + 2
        if batch and (size + length > _BATCH_BYTES or len(batch) == _BATCH_COUNT):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += length
    if batch:
        yield batch


_Request = tuple[str, "Mapping[str, str] | None", Json]


def _v4(place: Place, batch: Sequence[Json] | None) -> _Request:
    """Return path, query and body. Every flag is sent: in released v4 those for references and imports are on."""
    names = {"projectId": place.project_id, "environment": place.environment, "secretPath": place.path}
    if batch is not None:
        return "/api/v4/secrets/batch", None, {**names, "secrets": list(batch)}
    flags = {"viewSecretValue": "true", "recursive": "false"}
    off = dict.fromkeys(("expandSecretReferences", "includeImports", "includePersonalOverrides"), "false")
    return "/api/v4/secrets", {**names, **flags, **off}, None


def _v3(place: Place, batch: Sequence[Json] | None) -> _Request:
    names = {"workspaceId": place.project_id, "environment": place.environment, "secretPath": place.path}
    if batch is not None:
        return "/api/v3/secrets/batch/raw", None, {**names, "secrets": list(batch)}
    off = dict.fromkeys(("expandSecretReferences", "include_imports", "recursive"), "false")
    return "/api/v3/secrets/raw", {**names, **off}, None


def _listing(answer: Answer, where: str) -> Listing:
    """Return the rows as a Listing. Parallel creates of one name leave several rows: the one changed last counts."""
    rows = answer.body.get("secrets")
    if not isinstance(rows, list):
        raise Refused(answer.status, "shape", "the answer is no Infisical's", where)
    newest: dict[str, Json] = {}
    twice = set()
    for row in rows:
        if row.get("type", "shared") != "shared":
            continue
        if row.get("secretValueHidden"):
            fix = "give the identity a project role that may read values, such as member"
            raise Refused(403, "hidden", "the identity may see names, not values", where, fix)
        name = row["secretKey"]
        if name in newest:
            twice.add(name)
        if name not in newest or _age(row) > _age(newest[name]):
            newest[name] = row
    secrets = {
        name: Stored(decode(row["secretValue"]), row["version"], str(row.get("updatedAt") or ""))
        for name, row in sorted(newest.items())
    }
    return Listing(answer.etag, secrets, tuple(sorted(twice)))


def _age(row: Json) -> tuple[str, int, str]:
    return str(row.get("updatedAt") or ""), row["version"], str(row.get("id") or "")


def _token_over(answer: Answer) -> bool:
    """Revoked or used up is 401 UnauthorizedError, expired is 403 TokenError; a 401 ValidationFailure is neither."""
    label = answer.body.get("error") if isinstance(answer.body, dict) else None
    return (answer.status, label) in ((401, "UnauthorizedError"), (403, "TokenError"))


def _login_refused(refused: Refused) -> Refused:
    if refused.locked:
        fix = "wait five minutes without another try, then run again"
    elif refused.status == 404:
        fix = f"the client id is unknown there: see the URL and the client id; {_ENROL}"
    else:
        fix = f"give a client secret that is not revoked or expired; {_ENROL}"
    return Refused(refused.status, refused.label, refused.reason, refused.where, fix)


def _text(body: Json, key: str, where: str) -> str:
    value = body.get(key) if isinstance(body, dict) else None
    if not isinstance(value, str) or not value:
        raise Refused(200, "shape", f"the answer has no {key}", where, "see that the URL is Infisical's own")
    return value
