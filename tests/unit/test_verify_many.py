"""Many hosts at once, what is tried from outside and from inside; with runs and sockets of our own, no host."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from batten import verify
from batten.errors import BattenError
from batten.verify import expectations, probe, scan
from batten.verify.catalogue import cases
from batten.verify.live import PROBE
from batten.verify.session import Session, Target
from batten.verify.waivers import Waiver
from tests.verify.record import SNAPSHOT, recorded
from tests.verify.stack import PLAN, VARIABLES

TEXT = SNAPSHOT.read_text()
HOSTS = [f"web{number}" for number in range(1, 6)]


def session(runs: dict[str, Callable[[str], Any]], monkeypatch: pytest.MonkeyPatch, *waived: Waiver) -> Session:
    """A session over hosts whose commands are answered by functions."""
    monkeypatch.setattr("secrets.token_hex", lambda _: "snapshot")
    monkeypatch.setattr(scan, "from_here", lambda targets: ["silent"] * len(targets))
    targets = [Target(name, SimpleNamespace(run=run), "inv", {"small": PLAN}, VARIABLES) for name, run in runs.items()]
    return Session(targets, waived, date(2026, 11, 23))


def answer(_: str) -> Any:
    return SimpleNamespace(rc=0, stdout=TEXT, stderr="")


def outcome(judged: Session) -> dict[str, set[str]]:
    """The statuses of each host's controls; what its error says, if it has one."""
    found: dict[str, set[str]] = {}
    for target, case in judged.cases():
        try:
            said = judged.judge(target, case).status
        except BattenError as error:
            said = f"error: {error.what}"  # type: ignore[assignment]
        found.setdefault(target.name, set()).add(said)
    return found


def test_hosts_are_read_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's read ends before all have begun: read one after the other, this would never end."""
    together = threading.Barrier(len(HOSTS), timeout=60)
    begun: set[str] = set()

    def run(name: str) -> Callable[[str], Any]:
        def wait_for_all(command: str) -> Any:
            if name not in begun:
                begun.add(name)
                together.wait()
            return answer(command)

        return wait_for_all

    found = outcome(session({name: run(name) for name in HOSTS}, monkeypatch))
    assert found == {name: {"pass", "not_applicable"} for name in HOSTS}


def test_the_trouble_of_one_host_hides_none_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_: str) -> Any:
        return SimpleNamespace(rc=255, stdout="", stderr="ssh: connect to host web3 port 22: No route to host")

    def cut_off(_: str) -> Any:
        raise ConnectionError("the pipe broke")

    runs = dict.fromkeys(HOSTS, answer) | {"web3": lost, "web4": cut_off}
    found = outcome(session(runs, monkeypatch))
    assert found["web3"] == {"error: the host cannot be reached: ssh: connect to host web3 port 22: No route to host"}
    assert found["web4"] == {"error: the host cannot be reached: the pipe broke"}
    assert all(found[name] == {"pass", "not_applicable"} for name in ("web1", "web2", "web5"))


def test_an_expired_waiver_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = TEXT.replace('"LiveRestoreEnabled":true', '"LiveRestoreEnabled":false')
    assert broken != TEXT
    control = "daemon.live-restore"
    for day, wanted in ((date(2026, 11, 23), "waived"), (date(2026, 11, 22), "fail")):
        run = {"web1": lambda _: SimpleNamespace(rc=0, stdout=broken, stderr="")}
        judged = session(run, monkeypatch, Waiver(control, "an upgrade is under way", day))
        (target,) = judged.targets
        case = next(one for one in cases("web1", {"small": PLAN}) if one.entry.id == control)
        assert judged.judge(target, case).status == wanted


def test_hosts_that_gave_no_answer_are_told_beside_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    why = {"web2": BattenError("the connection timed out", "web2", "ansible web2 -m ping")}
    results = {"controls": [], "hosts": [], "errors": [{"host": "web1", "what": "no engine", "fix": "see"}]}
    monkeypatch.setattr(verify, "_run_pytest", lambda *_: results)
    monkeypatch.setattr(expectations, "from_inventory", lambda *_: expectations.Asked({"web1": {}}, {}, why))
    found = verify.run(tmp_path / "hosts.yml")
    assert (found.exit_code, [error["host"] for error in found.errors]) == (1, ["web2", "web1"])
    assert found.errors[0] == {"host": "web2", "what": "the connection timed out", "fix": "ansible web2 -m ping"}
    monkeypatch.setattr(expectations, "from_inventory", lambda *_: expectations.Asked({}, {}, why))
    with pytest.raises(BattenError, match="no host could be judged: web2: the connection timed out"):
        verify.run(tmp_path / "hosts.yml")


SUITE = """
import pytest
from types import SimpleNamespace
from batten.errors import BattenError
from batten.verify import plugin
from batten.verify.test_controls import test_control

def judge(target, case):
    if case.host == "down":
        raise BattenError("no answer", "down", "ping it")
    raise KeyError(str(case))

class Case(SimpleNamespace):
    def __str__(self):
        return self.what

@pytest.fixture(autouse=True)
def around(case):
    assert case.what != "setup", "no fixture"
    yield
    assert case.what != "teardown", "not put away"

def pytest_generate_tests(metafunc):
    cases = [Case(host=host, what=what) for host, what in CASES]
    metafunc.parametrize(("judged", "target", "case"), [(SimpleNamespace(judge=judge), None, case) for case in cases])
"""


def recorder(directory: Path, cases: list[tuple[str, str]], *more: str) -> dict[str, Any]:
    """What the plugin records of a run of ``test_control`` in which no control comes to a verdict."""
    suite, results = directory / "test_suite.py", directory / "results.json"
    suite.write_text(f"CASES = {cases!r}\n{SUITE}")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "batten.verify.plugin"]
    environment = os.environ | {"BATTEN_VERIFY_RESULTS": str(results), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    words = [*command, "-c", "/dev/null", f"--rootdir={directory}", *more, str(suite)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert results.is_file(), done.stdout + done.stderr
    return dict(json.loads(results.read_text()))


def test_a_control_that_breaks_is_an_error_of_its_host(tmp_path: Path) -> None:
    cases = [("web1", "call"), ("web1", "call"), ("web2", "setup"), ("web3", "teardown"), ("down", "x"), ("down", "y")]
    found = recorder(tmp_path, cases)
    assert found["controls"] == []
    assert {error["host"]: error["what"] for error in found["errors"]} == {
        "web1": "KeyError: 'call' (test_suite.py, line 12)",
        "web2": "AssertionError: no fixture (test_suite.py, line 20)",
        "web3": "KeyError: 'teardown' (test_suite.py, line 12); AssertionError: not put away (test_suite.py, line 22)",
        "down": "no answer",
    }


def test_a_control_that_never_ran_is_an_error_of_its_host(tmp_path: Path) -> None:
    found = recorder(tmp_path, [("web1", "x"), ("web2", "x"), ("web2", "y")], "-x")
    assert [(error["host"], error["what"]) for error in found["errors"][1:]] == [
        ("web2", "2 of its controls gave no verdict")
    ]


# From outside


def words(said: dict[int, str], otherwise: str = "silent") -> scan.Vantage:
    return lambda targets: [said.get(port, otherwise) for _, port in targets]


def test_the_first_vantage_that_reaches_a_host_is_asked() -> None:
    live = dataclasses.replace(recorded(), addresses=("198.51.100.7",))
    seen = scan.outside(live, [PLAN], [words({}), words({22: "open"}, "refused"), words({22: "open", 80: "open"})])
    assert {port for port, word in seen["198.51.100.7"].items() if word == "open"} == {22}
    assert scan.outside(live, [PLAN], [words({}, "unreachable")]) == {}


def test_planned_and_listening_ports_are_tried_and_the_number_is_bounded() -> None:
    live = recorded()
    assert {80, 8443, 5432, 2375} <= set(scan.wanted(live, [PLAN]))
    many = [dataclasses.replace(live.listeners[0], protocol="tcp", port=port) for port in range(10000, 11000)]
    assert len(scan.wanted(dataclasses.replace(live, listeners=tuple(many)), [PLAN])) == scan.MOST_PORTS


def test_a_host_of_the_inventory_looks_by_its_own_python() -> None:
    def run(command: str) -> Any:
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
        return SimpleNamespace(rc=done.returncode, stdout=done.stdout, stderr=done.stderr)

    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        targets = [("127.0.0.1", one.getsockname()[1]) for one in (server, closed)]
        assert scan.from_host(run)(targets) == ["open", "refused"] == scan.from_here(targets)
    assert scan.from_host(lambda _: SimpleNamespace(rc=127, stdout="", stderr=""))(targets) == ["silent", "silent"]


# From inside, and logs


def test_the_probe_says_nothing_of_no_container() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROBE.read_text()], input="", capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["containers"] == {}


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("0100007F", True), ("0B00007F", True), ("00000000", False), ("0D00C6C6", False), (f"{'0' * 24}01000000", True)],
)
def test_addresses_of_the_kernel_are_read_in_its_order(address: str, loopback: bool) -> None:
    assert probe.is_loopback(address) is loopback


@pytest.mark.parametrize(
    ("messages", "counts"),
    [
        (["{}", '{"a": 1}'], (2, 2, 0)),
        (["starting", '{"a": 1}'], (2, 1, 0)),
        (['{"a": 1}', "panic", '{"a": 1}'], (3, 2, 1)),
        (["1", '"text"', "[]"], (3, 0, 0)),
        ([[123, 125]], (1, 1, 0)),
        ([[255, 254], None], (2, 0, 0)),
        ([], (0, 0, 0)),
    ],
)
def test_lines_are_counted_and_none_is_told(messages: list[Any], counts: tuple[int, int, int]) -> None:
    found = probe.count([{"MESSAGE": message} for message in messages])
    assert found == dict(zip(("lines", "json", "broken"), counts, strict=True))
    assert probe.count([{"MESSAGE": "{", "CONTAINER_PARTIAL_MESSAGE": "true"}])["lines"] == 0


def test_a_server_whose_queue_is_full_for_a_moment_is_reached() -> None:
    """The kernel drops what comes to a full queue (listen(2)), and who connects asks again a second later."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        server.settimeout(20)
        address = server.getsockname()
        waiting = [stack.enter_context(socket.socket()) for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(address)

        def serve() -> None:
            with suppress(OSError):  # the server is closed
                while True:
                    server.accept()[0].close()

        threading.Timer(0.3, serve).start()
        assert probe.attempts([address], 20) == ["open"]
    assert probe.SECONDS > 1  # what the kernel waits first (net/tcp.h, TCP_TIMEOUT_INIT)


def test_more_addresses_than_a_process_may_open_files_are_tried_in_turns() -> None:
    """None of 500 connections gets an answer, by a process that may have 300 files."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for one in [stack.enter_context(socket.socket()) for _ in range(3)]:
            one.setblocking(False)
            one.connect_ex(server.getsockname())
        asked = json.dumps([0.2, [server.getsockname()] * 500])
        words = ["sh", "-c", 'ulimit -n 300; exec "$@"', "sh", sys.executable, "-I", "-c", PROBE.read_text(), asked]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == ["silent"] * 500


def test_an_address_is_unreachable_without_its_protocol_but_not_for_want_of_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def without(code: int) -> Callable[..., socket.socket]:
        def make(family: int, *_: Any) -> socket.socket:
            raise OSError(code, os.strerror(code))

        return make

    monkeypatch.setattr(probe.socket, "socket", without(errno.EAFNOSUPPORT))
    assert scan.from_here([("2001:db8::1", 80)] * 2) == ["unreachable"] * 2
    monkeypatch.setattr(probe.socket, "socket", without(errno.EMFILE))
    with pytest.raises(BattenError, match="ports cannot be tried: Too many open files"):
        scan.from_here([("198.51.100.7", 80)])


@pytest.mark.parametrize(("files", "at_once"), [(256, 1), (1024, 3), (65536, 324), (-1, scan.MOST_SCANS)])
def test_scans_at_once_fit_into_the_files_that_a_process_may_open(files: int, at_once: int) -> None:
    assert scan.slots(files) == at_once
