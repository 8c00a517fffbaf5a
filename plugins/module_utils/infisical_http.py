"""HTTP to one Infisical server: one connection kept, every wait bounded, TLS with a pinned CA, no secret in any error.

What a server does when its database or Redis is gone, and that a request that was cut off may still be applied, was
recorded with a real one: it answers 500 at once, or closes the connection without an answer after 30 s.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import json
import re
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from .errors import BattenError

Json = Any
MAX_ANSWER = 32 * 1024 * 1024  # bytes; 40 values of 64 KiB are a tenth of it
PAUSES = (0.2, 0.6, 1.5)  # seconds between attempts at what may be repeated
PATIENCE = 65.0  # seconds that "too many requests" is waited for: servers of 2024 count in windows of 60 s
_IDLE = 30.0  # seconds; Node closes an idle connection after 72, proxies sooner
_SENSITIVE = frozenset({"secretValue", "secretComment", "clientSecret", "password", "accessToken", "token"})


class Unreachable(BattenError):  # noqa: N818 - what happened, as a person says it
    """The server gave no usable answer: refused, timed out, dropped, 5xx, or 429 for too long."""


class Uncertain(Unreachable):
    """A request that changes something was sent and its answer was lost: it may be applied, or may be applied soon."""


class Refused(BattenError):  # noqa: N818
    """The server said no. ``status`` is the HTTP status, ``label`` its ``error`` text, ``reason`` its message.

    ``exists`` tells that what was to be created is there already.
    """

    def __init__(self, status: int, label: str, reason: str, where: str, fix: str = "", exists: bool = False) -> None:
        self.status = status
        self.exists = exists
        self.label = label
        self.reason = reason
        super().__init__(f"Infisical refused ({status} {label}): {reason}", where, fix)

    @property
    def no_route(self) -> bool:
        """Whether the server does not know such a request at all: it is older, or newer, than that."""
        return self.status == 404 and no_route({"error": self.label, "message": self.reason})

    @property
    def locked(self) -> bool:
        """Whether a login was refused because of too many failed ones; right credentials are refused then, too."""
        return "locked" in self.reason.lower()


@dataclass(frozen=True)
class Answer:
    """One HTTP answer below 500. ``body`` is its JSON, None where it has none."""

    status: int
    etag: str
    body: Json


class _Lost(Exception):  # noqa: N818
    """No answer came. ``sent``: the server may have got the request. ``final``: asking again is vain."""

    def __init__(self, why: str, sent: bool, final: bool, fix: str = "") -> None:
        super().__init__(why)
        self.sent = sent
        self.final = final
        self.fix = fix


class Http:
    """Requests to the server at ``url``.

    ``ca`` is the PEM text of the only CA that is trusted; empty: those of the system. ``timeout`` is in seconds, for
    connecting and for each whole exchange. Raises BattenError for a URL that is not HTTPS, unless it is loopback.
    """

    def __init__(
        self, url: str, ca: str = "", timeout: float = 10.0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.url, self._host, self._port, self._prefix, secure = _address(url)
        self._context = _context(ca) if secure else None
        self._timeout = timeout
        self._sleep = sleep
        self._connection: http.client.HTTPConnection | None = None
        self._used = 0.0

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection:
            self._connection.close()
            self._connection = None

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Json = None,
        token: str = "",
        etag: str = "",
        repeat: bool = False,
    ) -> Answer:
        """Make one request and return the answer, whatever its status below 500.

        What changes nothing (GET, or ``repeat``) is tried again after a dropped answer or a 5xx; what changes
        something only while it surely was not received. 429 is waited out, at most :data:`PATIENCE` seconds.
        Raises :class:`Unreachable`, :class:`Uncertain`, or :class:`Refused` for an answer that is no Infisical's.
        """
        target = self._prefix + path + (f"?{urlencode(query)}" if query else "")
        content = None if body is None else json.dumps(body).encode()
        headers = _headers(content, token, etag)
        safe = repeat or method == "GET"
        where = f"{method} {self.url}{path}"
        pauses = iter(PAUSES)
        begun, waited = time.monotonic(), 0.0
        while True:
            fix, vain = "", False
            try:
                response, data = self._exchange(method, target, content, headers)
            except _Lost as lost:
                why, fix, vain = str(lost), lost.fix, lost.final
                if lost.sent and not safe:
                    raise _uncertain(where, why) from None
            else:
                if response.status == 429:
                    wait = _retry_after(response, PAUSES[-1])
                    waited += wait
                    if waited > PATIENCE:
                        raise Unreachable("Infisical has had too many requests (429)", where, "run again in a minute")
                    self._sleep(wait)
                    continue
                if response.status < 500:
                    return self._answer(response, data, where)
                why = f"it answered {response.status} ({_reason(_json(data), body)[1]})"
                if not safe:
                    raise _uncertain(where, why)
            pause = None if vain else next(pauses, None)
            if pause is None or time.monotonic() - begun > 2 * self._timeout:
                raise Unreachable(
                    f"Infisical gives no answer: {why}", where, fix or f"see: curl -i {self.url}/api/status"
                )
            self._sleep(pause)

    def refusal(self, answer: Answer, method: str, path: str, sent: Json = None) -> Refused:
        """Return ``answer`` as an error that holds nothing secret of what was ``sent``."""
        label, reason = _reason(answer.body, sent)
        exists = answer.status in (400, 409) and "already exist" in _reason(answer.body, None)[1].lower()
        return Refused(answer.status, label, reason, f"{method} {self.url}{path}", exists=exists)

    def _answer(self, response: http.client.HTTPResponse, data: bytes, where: str) -> Answer:
        if 300 <= response.status < 400 and response.status != 304:
            to = urlsplit(response.getheader("Location") or "")
            named = f"{to.scheme}://{to.netloc.rpartition('@')[2]}" if to.netloc else "another page"
            fix = "give the address that answers itself as the URL"
            raise Refused(response.status, "redirect", f"it sends us to {named}", where, fix)
        body = _json(data)
        if body is None and data.strip():
            fix = "see that the URL is Infisical's own, and not that of a proxy's page"
            raise Refused(response.status, "not JSON", "the answer is no Infisical's", where, fix)
        return Answer(response.status, response.getheader("ETag") or "", body)

    def _exchange(
        self, method: str, target: str, content: bytes | None, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = self._connected()
        try:
            with _watched(connection.sock, self._timeout) as late:
                try:
                    connection.request(method, target, content, dict(headers))
                    response = connection.getresponse()
                    data = response.read(MAX_ANSWER + 1)
                    whole = len(data) > MAX_ANSWER or not response.length
                    if not whole or late.is_set():  # read(n) does not say that the rest is missing
                        raise http.client.IncompleteRead(data)
                except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: no header may hold it
                    late_or_timeout = late.is_set() or isinstance(error, socket.timeout)
                    why = f"none within {self._timeout:g} s" if late_or_timeout else _dropped(error)
                    raise _Lost(why, sent=True, final=late_or_timeout) from None
        except BaseException:
            self.close()
            raise
        if len(data) > MAX_ANSWER:
            self.close()
            raise _Lost(f"more than {MAX_ANSWER >> 20} MiB came", sent=True, final=True)
        if response.will_close:
            self.close()
        self._used = time.monotonic()
        return response, data

    def _connected(self) -> http.client.HTTPConnection:
        """Return an open connection: the kept one only if the server has not closed it, so that no write is lost."""
        if self._connection and (time.monotonic() - self._used > _IDLE or _readable(self._connection.sock)):
            self.close()
        if self._connection:
            return self._connection
        if self._context:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._timeout, context=self._context
            )
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            connection.connect()
        except ssl.SSLCertVerificationError as error:
            connection.close()
            fix = "give the CA that signed this server's certificate (infisical_ca), and the name that is in it"
            raise _Lost(f"its certificate is not valid: {error.verify_message}", False, True, fix) from None
        except OSError as error:
            connection.close()
            slow = isinstance(error, socket.timeout)
            why = f"no connection within {self._timeout:g} s" if slow else _dropped(error)
            raise _Lost(why, sent=False, final=slow) from None
        self._connection = connection
        return connection


@contextlib.contextmanager
def _watched(sock: socket.socket, seconds: float) -> Iterator[threading.Event]:
    """Cut ``sock`` off after ``seconds``: a socket's own timeout starts anew with every byte that drips in."""
    late = threading.Event()

    def cut() -> None:
        late.set()
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)  # not the TLS socket's: that would read on in clear

    timer = threading.Timer(seconds, cut)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def _headers(content: bytes | None, token: str, etag: str) -> dict[str, str]:
    found = {"Accept": "application/json", "User-Agent": "batten"}
    if content is not None:
        found["Content-Type"] = "application/json"
    if token:
        found["Authorization"] = f"Bearer {token}"
    if etag:
        found["If-None-Match"] = etag
    return found


def _address(url: str) -> tuple[str, str, int, str, bool]:
    """Return ``(URL without /api, host, port, path prefix, TLS)``. Raises BattenError for what is no usable URL."""
    fix = "write it as https://HOST[:PORT], or as http://127.0.0.1:PORT on Infisical's own host"
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise BattenError("the URL of Infisical cannot be read", "infisical_url", fix) from None
    if parts.username or parts.password:
        raise BattenError("the URL of Infisical has a login in it", "infisical_url", fix)
    if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
        raise BattenError("the URL of Infisical is none", "infisical_url", fix)
    secure = parts.scheme == "https"
    if not secure and not is_loopback(host):
        raise BattenError(f"plain HTTP to {host} would show every secret on the way", "infisical_url", fix)
    prefix = parts.path.rstrip("/").removesuffix("/api")
    return f"{parts.scheme}://{parts.netloc}{prefix}", host, port or (443 if secure else 80), prefix, secure


def no_route(body: Json) -> bool:
    """Tell Fastify's own 404 (``Route GET:/... not found``, ``Not Found``) from that of a thing (``NotFound``)."""
    return isinstance(body, dict) and body.get("error") == "Not Found" and str(body.get("message")).startswith("Route ")


def is_loopback(host: str) -> bool:
    """Return whether ``host``, a name or an address, cannot lead off this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _context(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=ca or None)  # with cadata the system's CAs are not loaded
    except (ssl.SSLError, ValueError):
        fix = "give the text of a PEM certificate"
        raise BattenError("the CA of Infisical cannot be read", "infisical_ca", fix) from None


def _readable(sock: socket.socket) -> bool:
    """Return whether the server sent or closed something: on an idle connection both mean that it is over."""
    return bool(select.select([sock], [], [], 0)[0])


def _retry_after(response: http.client.HTTPResponse, default: float) -> float:
    try:
        return max(float(int(response.getheader("Retry-After") or "")), 1.0)
    except ValueError:
        return default


def _uncertain(where: str, why: str) -> Uncertain:
    return Uncertain(f"Infisical gives no answer: {why}; it may have done it all the same", where, "run again")


def _dropped(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it closed the connection" if isinstance(error, http.client.HTTPException) else type(error).__name__


def _json(data: bytes) -> Json:
    try:
        return json.loads(data)
    except ValueError:
        return None


def _reason(body: Json, sent: Json) -> tuple[str, str]:
    """Return ``(label, message)`` of an error's body, without any value that was sent."""
    if not isinstance(body, dict):
        return "no JSON", "no reason given"
    message = body.get("message")
    if isinstance(message, list):  # schema errors: a list of zod issues
        issues = [issue for issue in message if isinstance(issue, dict)]
        message = "; ".join(
            f"{'.'.join(str(part) for part in issue.get('path') or [])}: {issue.get('message')}" for issue in issues
        )
    label, text = str(body.get("error") or "no label"), str(message or "no reason given")
    for value in sorted(_values(sent), key=len, reverse=True):
        whole = re.compile(rf"(?<!\w){re.escape(value)}(?!\w)" if len(value) < 8 else re.escape(value))
        label, text = whole.sub("(value)", label), whole.sub("(value)", text)
    return label[:200], text[:400]


def _values(sent: Json, sensitive: bool = False) -> Iterator[str]:
    """Yield every text of a request that must not come back in an error."""
    if isinstance(sent, dict):
        for key, value in sent.items():
            yield from _values(value, sensitive or key in _SENSITIVE)
    elif isinstance(sent, list):
        for value in sent:
            yield from _values(value, sensitive)
    elif sensitive and isinstance(sent, str) and sent:
        yield sent
