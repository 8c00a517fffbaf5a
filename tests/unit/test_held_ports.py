"""Ports that the engine keeps for a container that is gone: told apart from real conflicts."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import held_ports
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError

# The words of Engine 26.1.5, by way of Compose and of the API.
REFUSED = (
    "driver failed programming external connectivity on endpoint web (b722): "
    "Bind for {} failed: port is already allocated"
)


def container(address: str, port: int) -> dict[str, Any]:
    return {"Ports": [{"Type": "tcp", "PrivatePort": 9}, {"IP": address, "PublicPort": port, "Type": "tcp"}]}


@pytest.mark.parametrize(
    ("refused", "containers", "held"),
    [
        ("fd00::e:8080", [], "fd00::e:8080"),
        ("192.0.2.1:8080", [container("192.0.2.1", 8081), container("192.0.2.2", 8080)], "192.0.2.1:8080"),
        ("192.0.2.1:8080", [container("192.0.2.1", 8080)], ""),
        ("192.0.2.1:8080", [container("0.0.0.0", 8080)], ""),
        ("0.0.0.0:8080", [container("192.0.2.1", 8080)], ""),
        ("[fd00::e]:8080", [container("fd00::e", 8080)], ""),
    ],
)
def test_a_port_that_no_container_has_is_held_for_nobody(refused: str, containers: list[Any], held: str) -> None:
    assert held_ports.held_for_nobody(REFUSED.format(refused), containers) == held


class Engine:
    """Answers after its second question; ``live`` is whether containers outlive it."""

    path = "/run/docker.sock"

    def __init__(self, live: bool = True) -> None:
        self.live, self.asked = live, 0

    def list(self) -> list[Any]:
        return []

    def info(self) -> dict[str, Any]:
        return {"LiveRestoreEnabled": self.live}

    def answers(self) -> bool:
        self.asked += 1
        return self.asked > 1


@pytest.fixture
def restarts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    done: list[tuple[str, ...]] = []
    monkeypatch.setattr(held_ports.engine_host, "systemctl", lambda *words: done.append(words))
    return done


def test_the_engine_is_started_anew_and_waited_for(restarts: list[Any]) -> None:
    engine: Any = Engine()
    assert "192.0.2.1:80 for a container that is gone" in held_ports.let_go(engine, REFUSED.format("192.0.2.1:80"))
    assert (restarts, engine.asked) == ([("restart", "docker.service")], 2)


def test_another_complaint_restarts_nothing(restarts: list[Any]) -> None:
    engine: Any = Engine()
    assert held_ports.let_go(engine, "no such image") == ""
    assert restarts == []


def test_an_engine_whose_containers_would_stop_is_left_to_a_person(restarts: list[Any]) -> None:
    engine: Any = Engine(live=False)
    with pytest.raises(BattenError, match="live-restore is off") as refused:
        held_ports.let_go(engine, REFUSED.format("192.0.2.1:80"))
    assert refused.value.fix.startswith("systemctl restart docker")
    assert restarts == []
