from __future__ import annotations

import platform
import shutil

import pytest

from tests.rig import engine, machine


def _machine(monkeypatch: pytest.MonkeyPatch, programs: set[str], system: dict[str, str], *, answers: bool) -> None:
    monkeypatch.setattr(engine, "answers", lambda: answers)
    monkeypatch.setattr(shutil, "which", lambda name: name if name in programs else None)
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: system)
    monkeypatch.setattr(machine, "read", lambda: machine.Machine("http://mirror.example/debian", "", {}))


def test_nothing_is_done_where_an_engine_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, {"debootstrap"}, {}, answers=True)
    assert engine.commands() == []


def test_an_installed_engine_is_only_started(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, {"debootstrap", "dockerd"}, {}, answers=False)
    (command,) = engine.commands()
    assert command.startswith(("setsid -f dockerd", "systemctl start docker"))


def test_debian_12_gets_the_engine_alone_from_debian_13(monkeypatch: pytest.MonkeyPatch) -> None:
    _machine(monkeypatch, set(), {"ID": "debian", "VERSION_CODENAME": "bookworm"}, answers=False)
    pins, source, update, install, _ = engine.commands()
    assert "Package: *\nPin: release n=trixie\nPin-Priority: 100\n" in pins
    assert "URIs: http://mirror.example/debian\nSuites: trixie\n" in source
    assert update == "apt-get update -qq"
    assert {"docker.io", "docker-cli", "docker-buildx", "debootstrap"} <= set(install.split())


@pytest.mark.parametrize(
    ("system", "has_client_package"),
    [({"ID": "debian", "VERSION_CODENAME": "trixie"}, True), ({"ID": "ubuntu", "VERSION_CODENAME": "noble"}, False)],
)
def test_other_systems_use_their_own_engine_without_pins(
    monkeypatch: pytest.MonkeyPatch, system: dict[str, str], has_client_package: bool
) -> None:
    _machine(monkeypatch, set(), system, answers=False)
    update, install, _ = engine.commands()
    assert update == "apt-get update -qq"
    assert ("docker-cli" in install.split()) == has_client_package
