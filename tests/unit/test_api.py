from __future__ import annotations

import http.client
import json
import logging
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2] / "examples/api"))

from api.app import App
from api.logs import JsonFormatter, choose_request_id, request_id
from api.metrics import Metrics
from api.probe import probe
from api.server import Server
from api.settings import SettingsError, from_environment, parse_url

ENVIRONMENT = {"DATABASE_HOST": "pool", "DATABASE_NAME": "app", "DATABASE_USER": "app", "DATABASE_PASSWORD": "one"}


class BrokenError(Exception):
    """The database does not answer; the text may quote a secret."""


class Memory:
    """A database in memory, which can be broken, and which can be slow."""

    def __init__(self) -> None:
        self.visits, self.broken = 0, False
        self.entered, self.go = threading.Event(), threading.Event()
        self.go.set()

    def latency_ms(self) -> float:
        if self.broken:
            raise BrokenError("password=hunter2")
        return 1.5

    def visit(self, page: str) -> int:
        self.entered.set()
        assert self.go.wait(10)
        self.latency_ms()
        self.visits += 1
        return self.visits

    def gauges(self) -> dict[str, float]:
        return {"api_database_pool_size": 4}


@pytest.fixture
def store() -> Memory:
    return Memory()


@pytest.fixture
def server(store: Memory) -> Iterator[Server]:
    metrics = Metrics()
    server = Server(("127.0.0.1", 0), App(store, metrics, "1.2.3", BrokenError), metrics)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    store.go.set()
    server.stop()
    thread.join()
    server.server_close()


def _ask(server: Server, path: str, method: str = "GET", **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
    connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_a_credential_in_a_file_is_read_again_for_each_connection(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("one\n")
    environment = {**ENVIRONMENT, "DATABASE_PASSWORD_FILE": str(file)}
    del environment["DATABASE_PASSWORD"]
    settings = from_environment(environment)
    assert settings.connection()["password"] == "one"
    file.write_text("two\n")
    assert settings.connection()["password"] == "two"


def test_a_url_in_a_file_changes_user_and_password_at_one_moment(tmp_path: Path) -> None:
    file = tmp_path / "url"
    file.write_text("postgresql://app_a:one@pool:6432/app?sslmode=verify-full\n")
    settings = from_environment({"DATABASE_URL_FILE": str(file)})
    expected = {"host": "pool", "port": "6432", "dbname": "app", "user": "app_a", "password": "one"}
    assert settings.database() == {**expected, "sslmode": "verify-full"}
    file.write_text("postgres://app_b:p%40ss%2Fw%3A@pool/app")
    assert (settings.connection()["user"], settings.connection()["password"]) == ("app_b", "p@ss/w:")
    assert settings.connection()["port"] == "5432"


@pytest.mark.parametrize(
    "url", ["", "hunter2", "https://app:hunter2@h/d", "postgres://h:port-hunter2/d", "postgres://[:hunter2"]
)
def test_a_wrong_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(SettingsError, match="DATABASE_URL is not") as refused:
        parse_url(url)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"DATABASE_URL": "postgres://a:b@c/d", "DATABASE_URL_FILE": "/run/secrets/x"}, "both DATABASE_URL and"),
        ({"DATABASE_URL_FILE": "/nowhere/url"}, "DATABASE_URL_FILE cannot be read"),
        ({"DATABASE_PASSWORD": ""}, "DATABASE_PASSWORD_FILE"),
        ({"DATABASE_PASSWORD_FILE": "/run/secrets/x"}, "both DATABASE_PASSWORD and"),
        ({"DATABASE_HOST": ""}, "DATABASE_HOST"),
        ({"DATABASE_PORT": "5432x"}, "DATABASE_PORT"),
        ({"API_POOL_SIZE": "0"}, "API_POOL_SIZE"),
    ],
)
def test_a_wrong_environment_is_refused_by_name(change: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        from_environment({**ENVIRONMENT, **change})


def test_connections_prepare_nothing_because_the_pool_is_in_transaction_mode() -> None:
    assert from_environment(ENVIRONMENT).connection()["prepare_threshold"] is None


@given(st.text())
def test_a_request_id_is_always_safe_in_a_header(given_id: str) -> None:
    chosen = choose_request_id(given_id)
    assert chosen
    assert all(sign.isascii() and (sign.isalnum() or sign in "._-") for sign in chosen)


def test_the_callers_request_id_is_kept(server: Server) -> None:
    answer, _ = _ask(server, "/health", X_Request_Id="abc-1")
    assert answer.headers["X-Request-Id"] == "abc-1"


@given(st.text(), st.text())
def test_a_log_line_is_one_line_of_json(message: str, text: str) -> None:
    record = logging.LogRecord("api", logging.INFO, "", 0, message, None, None)
    record.fields = {"path": text}
    token = request_id.set("abc")
    line = JsonFormatter().format(record)
    request_id.reset(token)
    assert "\n" not in line
    shown = json.loads(line)
    assert (shown["message"], shown["path"], shown["request_id"], shown["level"]) == (message, text, "abc", "info")


def test_health_is_of_the_process_and_deep_health_of_the_database(server: Server, store: Memory) -> None:
    assert json.loads(_ask(server, "/health/deep")[1])["database"] == {"latency_ms": 1.5}
    store.broken = True
    assert _ask(server, "/health")[0].status == 200
    answer, body = _ask(server, "/health/deep")
    assert answer.status == 503
    assert b"hunter2" not in body


def test_visits_are_counted_in_the_database(server: Server, store: Memory) -> None:
    assert json.loads(_ask(server, "/?from=x")[1]) == {"service": "sample-api", "version": "1.2.3", "visits": 1}
    store.broken = True
    assert _ask(server, "/")[0].status == 503


def test_head_has_the_length_and_no_body(server: Server) -> None:
    answer, body = _ask(server, "/health", "HEAD")
    assert (answer.status, body) == (200, b"")
    assert int(answer.headers["Content-Length"]) > 0


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nope", 404), ("POST", "/", 405), ("PUT", "/nope", 404)]
)
def test_what_is_not_offered_is_refused(server: Server, method: str, path: str, status: int) -> None:
    assert _ask(server, path, method)[0].status == status


def test_an_unread_body_is_not_taken_for_the_next_request(server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=5)
    connection.request("POST", "/", body=b"GET /smuggled HTTP/1.1\r\n\r\n")
    answer = connection.getresponse()
    answer.read()
    assert answer.headers["Connection"] == "close"
    connection.close()


def test_metrics_have_few_series_and_the_pools_size(server: Server) -> None:
    for path in ("/health", "/a", "/b"):
        _ask(server, path)
    two = 'api_requests_total{method="GET",route="other",status="404"} 2'
    deadline = time.monotonic() + 5
    while True:  # a request is counted when it has been answered: its caller may be back before
        answer, body = _ask(server, "/metrics")
        lines = body.decode().splitlines()
        if two in lines or time.monotonic() > deadline:
            break
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert 'api_info{version="1.2.3"} 1' in lines
    assert 'api_requests_total{method="GET",route="/health",status="200"} 1' in lines
    assert two in lines
    assert "api_database_pool_size 4" in lines


def test_label_values_are_escaped() -> None:
    assert r'api_info{version="a\"b\\c\nd"} 1' in Metrics().render('a"b\\c\nd', {})


def test_stopping_lets_a_request_end_and_closes_idle_connections(server: Server, store: Memory) -> None:
    idle = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    idle.request("GET", "/health")
    idle.getresponse().read()
    store.go.clear()
    answers: list[int] = []
    busy = threading.Thread(target=lambda: answers.append(_ask(server, "/")[0].status))
    busy.start()
    assert store.entered.wait(60)
    server.stop()
    started = time.monotonic()
    assert idle.sock is not None
    assert idle.sock.recv(1) == b""
    store.go.set()
    busy.join()
    server.server_close()
    assert answers == [200]
    assert time.monotonic() - started < 60  # it would keep the idle one for 75 s
    idle.close()


def test_the_probe_tells_up_from_down(server: Server, store: Memory) -> None:
    address = f"http://127.0.0.1:{server.server_port}"
    assert probe(f"{address}/health")
    store.broken = True
    assert not probe(f"{address}/health/deep")
    assert not probe("http://127.0.0.1:1/")
    assert not probe("nonsense")
