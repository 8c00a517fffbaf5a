"""What an image reference means today, asked of its registry: the Docker Registry HTTP API v2, standard library only.

Sources: the OCI distribution specification 1.1 ("Pulling manifests"), distribution's "Token Authentication
Specification", and the engine's own order (moby registry/service_v2.go): for Docker Hub's names the mirrors first.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import ipaddress
import json
import os
import re
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from batten.errors import BattenError

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
HUB = "docker.io"
_HUB_URL = "https://registry-1.docker.io"
_HUB_AUTH = "https://index.docker.io/v1/"  # what `docker login` calls it in config.json
_TIMEOUT_SECONDS = 15.0
_LARGEST = 8 * 1024 * 1024  # a registry need not take manifests above 4 MiB (distribution specification, "Push")
_WAIT_SECONDS = 10.0
# The grammar of distribution/reference, "path-component".
_COMPONENT = r"[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class UnreachableError(BattenError):
    """A registry gave no answer; ``registry`` is its name, the same for every image of it."""

    def __init__(self, registry: str, reason: str) -> None:
        self.registry = registry
        super().__init__(
            f"the registry {registry} cannot be reached: {reason}",
            registry,
            "bring the network up, or name a mirror of it: --mirror http://HOST:5000",
        )


@dataclass(frozen=True)
class Reference:
    """An image reference, taken apart: ``docker.io``, ``library/redis``, ``8``."""

    registry: str
    repository: str
    tag: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Read a reference without a digest. The first part is a registry if it has a dot or a colon or is
        ``localhost`` (distribution/reference, ``splitDockerDomain``). Raises BattenError for what is none."""
        head, slash, rest = text.partition("/")
        registry, name = (head, rest) if slash and ("." in head or ":" in head or head == "localhost") else (HUB, text)
        registry = HUB if registry == "index.docker.io" else registry
        repository, colon, tag = name.partition(":")
        tag = tag if colon else "latest"
        if registry == HUB and "/" not in repository:
            repository = f"library/{repository}"
        if not _PATH.fullmatch(repository) or not _TAG.fullmatch(tag):
            raise BattenError(f"{text!r} is no image reference", text, "write it as [REGISTRY/]NAME:TAG")
        return cls(registry, repository, tag)


@dataclass(frozen=True)
class Resolved:
    """The digest that a tag means, and the platforms that are behind it, such as ``linux/arm64/v8``, sorted."""

    digest: str
    platforms: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """A registry's answer; header names in any case."""

    status: int
    headers: Message[str, str]
    body: bytes

    @property
    def kind(self) -> str:
        return str(self.headers.get("Content-Type") or "").partition(";")[0].strip()


Credentials = Callable[[str], "tuple[str, str] | None"]


class Registries:
    """A client for all registries of one run; threads may share it.

    ``mirrors`` are base URLs that are asked before Docker Hub. ``insecure`` names registries that speak plain HTTP;
    those on loopback always may, as with the engine. ``credentials`` returns a registry's user and password, or None.
    """

    def __init__(
        self, mirrors: Sequence[str] = (), insecure: Sequence[str] = (), credentials: Credentials | None = None
    ) -> None:
        self.mirrors = tuple(mirror.rstrip("/") for mirror in mirrors)
        self.insecure = frozenset(insecure)
        self.credentials = credentials or docker_credentials
        self._tokens: dict[tuple[str, str], str] = {}
        self._silent: dict[str, UnreachableError] = {}
        self._lock = threading.Lock()
        self._opener = urllib.request.build_opener(_Redirects())

    def resolve(self, text: str) -> Resolved:
        """Return what a reference means now. Raises UnreachableError, or BattenError for what the registry refuses."""
        reference = Reference.parse(text)
        last: BattenError | None = None
        for endpoint in self.endpoints(reference.registry):
            try:
                return self._resolve(endpoint, reference, text)
            except BattenError as error:
                # A mirror that lacks it or is away is no reason to fail; the registry itself comes last.
                last = error if last is None or not isinstance(error, UnreachableError) else _both(error, last)
        raise last or BattenError("no registry to ask", text)

    def endpoints(self, registry: str) -> tuple[str, ...]:
        """Return the base URLs to ask for images of a registry, in order."""
        if registry == HUB:
            return (*self.mirrors, _HUB_URL)
        plain = registry in self.insecure or _loopback(registry)
        return (f"{'http' if plain else 'https'}://{registry}",)

    def _resolve(self, endpoint: str, reference: Reference, text: str) -> Resolved:
        path = f"/v2/{reference.repository}/manifests/"
        head = self._manifest("HEAD", endpoint, path + reference.tag, reference, text)
        digest = str(head.headers.get("Docker-Content-Digest") or "")
        # Without the header (it is a SHOULD) the digest is that of the bytes.
        body = self._manifest("GET", endpoint, path + (digest or reference.tag), reference, text)
        computed = "sha256:" + hashlib.sha256(body.body).hexdigest()
        if not _DIGEST.fullmatch(digest or computed) or computed != (digest or computed):
            raise BattenError(
                f"{urlsplit(endpoint).netloc} answers {text} with bytes that are not those of {digest}",
                text,
                "something on the way changes them: ask the registry without a proxy",
            )
        try:
            platforms = self._platforms(endpoint, reference, text, body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BattenError(f"the manifest of {text} is not valid: {error}", endpoint, "push it again") from error
        return Resolved(computed, platforms)

    def _platforms(self, endpoint: str, reference: Reference, text: str, answer: Answer) -> tuple[str, ...]:
        manifest = json.loads(answer.body)
        if answer.kind in INDEXES:
            found = {_platform(entry.get("platform") or {}) for entry in manifest["manifests"]}
            return tuple(sorted(name for name in found if not name.startswith("unknown")))  # those are attestations
        blob = f"/v2/{reference.repository}/blobs/{manifest['config']['digest']}"
        config = self._ask("GET", endpoint, blob, reference)
        if config.status != 200:
            raise _refusal(config, endpoint, text)
        return (_platform(json.loads(config.body)),)

    def _manifest(self, method: str, endpoint: str, path: str, reference: Reference, text: str) -> Answer:
        answer = self._ask(method, endpoint, path, reference)
        if answer.status != 200:
            raise _refusal(answer, endpoint, text)
        if answer.kind not in (*INDEXES, *MANIFESTS):
            raise BattenError(
                f"{urlsplit(endpoint).netloc} answers with {answer.kind or 'no content type'}, which is no manifest",
                text,
                "is this the address of a registry? Manifests of schema 1 must be pushed again by a newer Docker",
            )
        return answer

    def _ask(self, method: str, endpoint: str, path: str, reference: Reference) -> Answer:
        """Make one request, logging in where the registry asks for it and waiting once where it asks for that."""
        key = (endpoint, reference.repository)
        answer = self._send(method, endpoint + path, self._tokens.get(key), reference.registry, endpoint)
        if answer.status == 401:
            token = self._log_in(endpoint, reference, str(answer.headers.get("WWW-Authenticate") or ""))
            if token is None:
                return answer
            self._tokens[key] = token
            answer = self._send(method, endpoint + path, token, reference.registry, endpoint)
        if answer.status == 429:
            time.sleep(min(_WAIT_SECONDS, _seconds(str(answer.headers.get("Retry-After") or ""))))
            answer = self._send(method, endpoint + path, self._tokens.get(key), reference.registry, endpoint)
        return answer

    def _log_in(self, endpoint: str, reference: Reference, challenge: str) -> str | None:
        """Answer a challenge with an Authorization header, or None where there is nothing to answer it with."""
        scheme, _, rest = challenge.partition(" ")
        wanted = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        known = self.credentials(reference.registry)
        basic = "Basic " + base64.b64encode(":".join(known).encode()).decode() if known else None
        if scheme.lower() == "basic":
            return basic
        realm = wanted.get("realm", "")
        if scheme.lower() != "bearer" or urlsplit(realm).scheme not in ("http", "https"):
            return None
        if endpoint.startswith("https:") and not realm.startswith("https:"):
            raise BattenError(
                f"{reference.registry} sends people to log in over plain HTTP",
                realm,
                "no password is sent there: correct the registry's token realm",
            )
        query = {"scope": wanted.get("scope") or f"repository:{reference.repository}:pull"}
        if "service" in wanted:
            query["service"] = wanted["service"]
        mark = "&" if urlsplit(realm).query else "?"
        answer = self._send("GET", f"{realm}{mark}{urlencode(query)}", basic, reference.registry, realm)
        try:
            given = json.loads(answer.body) if answer.status == 200 else {}
            token = given.get("token") or given.get("access_token")
        except (ValueError, AttributeError):
            token = None
        return f"Bearer {token}" if token else None

    def _send(self, method: str, url: str, authorization: str | None, registry: str, endpoint: str) -> Answer:
        with self._lock:
            if endpoint in self._silent:
                raise self._silent[endpoint]
        request = urllib.request.Request(url, method=method, headers={"Accept": ", ".join((*INDEXES, *MANIFESTS))})  # noqa: S310
        if authorization:
            # Storage that a registry redirects to must not see it.
            request.add_unredirected_header("Authorization", authorization)
        try:
            with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
                return Answer(answer.status, answer.headers, answer.read(_LARGEST))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.headers, error.read(_LARGEST))
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            where = urlsplit(endpoint).netloc
            name = registry if where in (registry, urlsplit(_HUB_URL).netloc) else f"{registry} at {where}"
            silent = UnreachableError(name, str(getattr(reason, "strerror", None) or reason or type(error).__name__))
            with self._lock:
                self._silent[endpoint] = silent
            raise silent from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows with the same method (Python's own turns HEAD into GET before 3.13), and never from HTTPS to HTTP."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is None:
            return None
        if req.type == "https" and made.type != "https":
            raise urllib.error.URLError("it redirects to plain HTTP")
        made.method = req.get_method()
        return made


def docker_credentials(registry: str) -> tuple[str, str] | None:
    """Return what ``docker login`` keeps for a registry: in a credential helper, or in ``config.json``."""
    directory = os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker"
    try:
        config = json.loads((Path(directory) / "config.json").read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(config, dict):
        return None
    names = (_HUB_AUTH,) if registry == HUB else (registry, f"https://{registry}", f"https://{registry}/v2/")
    for name in names:
        helper = (config.get("credHelpers") or {}).get(name) or config.get("credsStore")
        if helper and (found := _helped(str(helper), name)):
            return found
        kept = (config.get("auths") or {}).get(name) or {}
        try:
            user, colon, password = base64.b64decode(kept.get("auth") or "").decode().partition(":")
        except ValueError:
            continue
        if colon:
            return user, password
    return None


def _helped(helper: str, server: str) -> tuple[str, str] | None:
    """Ask a credential helper (docker-credential-helpers: ``get`` reads the server's name on standard input)."""
    try:
        done = subprocess.run(
            [f"docker-credential-{helper}", "get"],
            input=server,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        found: Mapping[str, str] = json.loads(done.stdout) if done.returncode == 0 else {}
        return (found["Username"], found["Secret"]) if found else None
    except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
        return None


def _both(error: UnreachableError, before: BattenError) -> BattenError:
    """The registry is away, and a mirror said something of its own before."""
    if isinstance(before, UnreachableError):
        return error
    return BattenError(f"{before.what}; {error.what}", error.where, error.fix)


def _refusal(answer: Answer, endpoint: str, text: str) -> BattenError:
    where = urlsplit(endpoint).netloc
    if answer.status in (401, 403):
        return BattenError(
            f"{where} does not let us read {text}", text, f"docker login {Reference.parse(text).registry}"
        )
    if answer.status == 404:
        return BattenError(f"{where} has no {text}", text, "correct the tag, or push the image")
    if answer.status == 429:
        return BattenError(
            f"{where} has had too many requests from here", text, "log in (docker login), or wait an hour"
        )
    return BattenError(f"{where} answers {answer.status} for {text}", text, "ask again later")


def _platform(value: Mapping[str, Any]) -> str:
    return "/".join(str(value[key]) for key in ("os", "architecture", "variant") if value.get(key))


def _loopback(registry: str) -> bool:
    host = registry.rpartition(":")[0] or registry
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _seconds(value: str) -> float:
    """Return the seconds of a Retry-After header; a date counts as one second (RFC 9110, 10.2.3)."""
    return float(value) if value.isdigit() else 1.0
