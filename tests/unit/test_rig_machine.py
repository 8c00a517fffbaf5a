from __future__ import annotations

import pytest

from tests.rig.machine import copied_apt_conf, debian_mirror

DEB822 = """\
Types: deb
URIs: {security}
Suites: bookworm-security

Types: deb
# a comment
URIs: {main}
Suites: bookworm bookworm-updates
"""
ONE_LINE = """\
# deb http://old.example/debian bookworm main
deb [arch=amd64 signed-by=/usr/share/keyrings/x.gpg] http://tools.example/apt stable main
deb [trusted=yes] http://mirror.example/debian/ bookworm main
"""


@pytest.mark.parametrize(
    ("sources", "mirror"),
    [
        (
            {
                "debian.sources": DEB822.format(
                    security="http://a.example/debian-security", main="http://b.example/debian"
                )
            },
            "http://b.example/debian",
        ),
        ({"sources.list": ONE_LINE}, "http://mirror.example/debian"),
        ({"ubuntu.sources": "Types: deb\nURIs: http://c.example/ubuntu\n"}, ""),
        ({}, ""),
    ],
)
def test_the_mirror_is_the_machines_own_main_archive(sources: dict[str, str], mirror: str) -> None:
    assert debian_mirror(sources) == mirror


DUMP = """\
Acquire "";
Acquire::http::Proxy "http://proxy.example:3128";
Acquire::https::Proxy::internal.example "DIRECT";
Acquire::Check-Date "false";
Acquire::http::User-Agent "x";
Acquire::IndexTargets::deb::Packages "";
"""


def test_only_what_decides_how_the_mirror_is_reached_is_copied() -> None:
    assert copied_apt_conf(DUMP).splitlines() == DUMP.splitlines()[1:4]
