"""Packages and repository files of an engine."""

from __future__ import annotations

import base64
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import engine_packages as packages
from ansible_collections.batten.core.plugins.module_utils.engine import Options
from ansible_collections.batten.core.plugins.module_utils.engine_packages import Package, PackagePlan, System
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError

TRIXIE = System("debian", "debian", "13", "trixie", "debian")
BOOKWORM = System("debian", "debian", "12", "bookworm", "debian")
NOBLE = System("debian", "ubuntu", "24.04", "noble", "ubuntu")
ROCKY = System("redhat", "rocky", "9.6", "", "centos")

# The first packet of Docker's public key for Debian and Ubuntu, the part that its fingerprint is made of.
DEB_KEY = """-----BEGIN PGP PUBLIC KEY BLOCK-----

mQINBFit2ioBEADhWpZ8/wvZ6hUTiXOwQHXMAlaFHcPH9hAtr4F1y2+OYdbtMuth
lqqwp028AqyY+PRfVMtSYMbjuQuu5byyKR01BbqYhuS3jtqQmljZ/bJvXqnmiVXh
38UuLa+z077PxyxQhu5BbqntTPQMfiyqEiU+BKbq2WmANUKQf+1AmZY/IruOXbnq
L4C1+gJ8vfmXQt99npCaxEjaNRVYfOS8QcixNzHUYnb6emjlANyEVlZzeqo7XKl7
UrwV5inawTSzWNvtjEjj4nJL8NsLwscpLPQUhTQ+7BbQXAwAmeHCUTQIvvWXqw0N
cmhh4HgeQscQHYgOJjjDVfoY5MucvglbIgCqfzAHW9jxmRL4qbMZj+b1XoePEtht
ku4bIQN1X5P07fNWzlgaRL5Z4POXDDZTlIQ/El58j9kp4bnWRCJW0lya+f8ocodo
vZZ+Doi+fy4D5ZGrL4XEcIQP/Lv5uFyf+kQtl/94VFYVJOleAv8W92KdgDkhTcTD
G7c0tIkVEKNUq48b3aQ64NOZQW7fVjfoKwEZdOqPE72Pa45jrZzvUFxSpdiNk2tZ
XYukHjlxxEgBdC/J3cMMNRE1F4NCA3ApfV1Y7/hTeOnmDuDYwr9/obA8t016Yljj
q5rdkywPf4JF8mXUW5eCN1vAFHxeg9ZWemhBtQmGxXnw9M+z6hWwc6ahmwARAQAB
-----END PGP PUBLIC KEY BLOCK-----
"""
# The same of its key for RPM, and in its old form: a checksum line, and a user id after the key.
RPM_KEY = """-----BEGIN PGP PUBLIC KEY BLOCK-----

mQINBFit5IEBEADDt86QpYKz5flnCsOyZ/fk3WwBKxfDjwHf/GIflo+4GWAXS7wJ
1PSzPsvSDATV10J44i5WQzh99q+lZvFCVRFiNhRmlmcXG+rk1QmDh3fsCCj9Q/yP
w8jn3Hx0zDtz8PIB/18ReftYJzUo34COLiHn8WiY20uGCF2pjdPgfxE+K454c4G7
gKFqVUFYgPug2CS0quaBB5b0rpFUdzTeI5RCStd27nHCpuSDCvRYAfdv+4Y1yiVh
KKdoe3Smj+RnXeVMgDxtH9FJibZ3DK7WnMN2yeob6VqXox+FvKYJCCLkbQgQmE50
uVK0uN71A1mQDcTRKQ2q3fFGlMTqJbbzr3LwnCBE6hV0a36t+DABtZTmz5O69xdJ
WGdBeePCnWVqtDb/BdEYz7hPKskcZBarygCCe2Xi7sZieoFZuq6ltPoCsdfEdfbO
+VBVKJnExqNZCcFUTEnbH4CldWROOzMS8BGUlkGpa59Sl1t0QcmWlw1EbkeMQNrN
spdR8lobcdNS9bpAJQqSHRZh3cAM9mA3Yq/bssUS/P2quRXLjJ9mIv3dky9C3udM
+q2unvnbNpPtIUly76FJ3s8g8sHeOnmYcKqNGqHq2Q3kMdA2eIbI0MqfOIo2+Xk0
rNt3ctq3g+cQiorcN3rdHPsTRSAcp+NCz1QF9TwXYtH1XV24A6QMO0+CZwARAQAB
-----END PGP PUBLIC KEY BLOCK-----
"""


def plan(
    host: System, source: str = "upstream", *, repositories: Any = None, key: str | None = None, **changes: Any
) -> PackagePlan:
    installed = changes.pop("installed", {})
    seen: Any = SimpleNamespace(installed=installed, repositories=repositories or {}, architecture="amd64", key=key)
    return packages.plan_packages(Options(source=source, **changes), host, seen)


def having(*names: str, version: str = "5:28.5.1-1", held: bool = False) -> dict[str, Package]:
    return {name: Package(version, held) for name in names}


def test_the_pinned_fingerprints_are_those_of_dockers_keys() -> None:
    assert packages.key_fingerprint(DEB_KEY.encode()) == packages.DEB_KEY
    assert packages.key_fingerprint(RPM_KEY.encode()) == packages.RPM_KEY


def armored(data: bytes) -> bytes:
    text = base64.encodebytes(data).decode()
    return f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{text}-----END PGP PUBLIC KEY BLOCK-----\n".encode()


def test_a_second_key_beside_the_pinned_one_is_refused() -> None:
    one = base64.b64decode("".join(DEB_KEY.splitlines()[2:-1]))
    two = base64.b64decode("".join(RPM_KEY.splitlines()[2:-1]))
    assert packages.key_fingerprint(armored(one)) == packages.DEB_KEY
    with pytest.raises(BattenError, match="2 primary keys"):
        packages.key_fingerprint(armored(one + two))


@pytest.mark.parametrize("text", ["", "<html>", DEB_KEY[:600], DEB_KEY.replace("mQIN", "mQI"), DEB_KEY * 2])
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(BattenError):
        packages.key_fingerprint(text.encode())


@pytest.mark.parametrize(
    ("release", "family", "repository"),
    [
        ('ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie', "debian", "debian"),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\nVERSION_CODENAME=noble', "debian", "ubuntu"),
        ('ID="rhel"\nID_LIKE="fedora"\nVERSION_ID="9.4"', "redhat", "rhel"),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="10.0"', "redhat", "centos"),
    ],
)
def test_supported_systems(release: str, family: str, repository: str) -> None:
    found = packages.system(packages.parse_os_release(release))
    assert (found.family, found.repository) == (family, repository)


@pytest.mark.parametrize(
    "release", ["ID=debian\nVERSION_ID=11", "ID=ubuntu\nVERSION_ID=22.04", "ID=alpine", "ID=fedora\nVERSION_ID=42", ""]
)
def test_unsupported_systems_are_refused(release: str) -> None:
    with pytest.raises(BattenError, match="preinstalled"):
        packages.system(packages.parse_os_release(release))


def test_upstream_on_a_bare_host() -> None:
    found = plan(TRIXIE)
    assert found.install == (*packages.UPSTREAM, "ca-certificates", "iptables", "openssl")
    assert found.key == (packages.APT_KEY, "https://download.docker.com/linux/debian/gpg", packages.DEB_KEY)
    ((path, text),) = found.files
    assert path == packages.APT_SOURCE
    assert "Suites: trixie\n" in text
    assert "Signed-By: /etc/apt/keyrings/docker.asc\n" in text


def test_upstream_on_rhel_has_a_checked_repository() -> None:
    ((path, text),) = plan(ROCKY).files
    assert path == "/etc/yum.repos.d/docker-ce.repo"
    assert "baseurl=https://download.docker.com/linux/centos/$releasever/$basearch/stable\n" in text
    assert "gpgcheck=1\n" in text


def test_nothing_to_do_when_all_is_there() -> None:
    (file, (_path, _url, key)) = packages.repository(TRIXIE, packages.UPSTREAM_URL, "amd64")
    installed = having(*packages.UPSTREAM, "ca-certificates", "iptables", "openssl")
    assert plan(TRIXIE, installed=installed, repositories=dict([file]), key=key) == PackagePlan()
    distro = having("docker.io", "docker-cli", "docker-compose", "ca-certificates", "iptables", "openssl")
    assert plan(TRIXIE, "distro", installed=distro) == PackagePlan()
    assert plan(NOBLE, "preinstalled") == PackagePlan()


@pytest.mark.parametrize("host", [BOOKWORM, ROCKY])
def test_a_distribution_with_no_engine_that_is_new_enough_is_refused(host: System) -> None:
    with pytest.raises(BattenError, match="docker_source: upstream"):
        plan(host, "distro")


def test_what_conflicts_goes_and_what_is_wanted_stays() -> None:
    old = having("docker.io", "containerd", "runc", "podman-docker", "podman", "vim")
    assert set(plan(TRIXIE, installed=old).remove) == {"docker.io", "containerd", "runc", "podman-docker"}
    new = having("docker-ce", "containerd.io", "docker-compose-plugin")
    assert set(plan(TRIXIE, "distro", installed=new).remove) == {"docker-ce", "containerd.io", "docker-compose-plugin"}


@pytest.mark.parametrize(
    ("installed", "wanted", "same"),
    [
        ("5:28.5.1-1~debian.13~trixie", "28.5", True),
        ("5:28.5.1-1~debian.13~trixie", "28.5.1", True),
        ("5:28.5.1-1~debian.13~trixie", "5:28.5.1-1~debian.13~trixie", True),
        ("5:28.5.1-1~debian.13~trixie", "28.4", False),
        ("5:28.5.1-1~debian.13~trixie", "2", False),
        ("26.1.5+dfsg1-9+b1", "26.1", True),
        ("26.1.5+dfsg1-9+b1", "", True),
    ],
)
def test_version_prefixes(installed: str, wanted: str, same: bool) -> None:
    assert packages.satisfies(installed, wanted) is same


def test_another_version_is_installed_and_only_where_it_counts() -> None:
    installed = having(*packages.UPSTREAM, "ca-certificates", "iptables", "openssl")
    assert plan(TRIXIE, installed=installed, version="28.5").install == ()
    assert plan(TRIXIE, installed=installed, version="29").install == ("docker-ce=29", "docker-ce-cli=29")


def test_holds() -> None:
    names = ("docker.io", "docker-cli", "docker-compose")
    both = having("ca-certificates", "iptables", "openssl")
    assert plan(TRIXIE, "distro", installed={**having(*names), **both}, hold=True).hold == names
    assert plan(TRIXIE, "distro", installed={**having(*names, held=True), **both}, hold=True).hold == ()
    assert plan(TRIXIE, "distro", installed={**having(*names, held=True), **both}).unhold == names


FOREIGN = "deb [arch=amd64 signed-by=/x.gpg] https://download.docker.com/linux/debian trixie stable\n"


@pytest.mark.parametrize(
    ("files", "deleted"),
    [
        ({"/etc/apt/sources.list.d/docker.list": FOREIGN}, ["/etc/apt/sources.list.d/docker.list"]),
        ({"/etc/apt/sources.list.d/old.list": "# " + FOREIGN}, []),
        ({"/etc/apt/sources.list.d/a.sources": "Types: deb\nURIs: https://deb.example.org/debian\n"}, []),
        ({packages.APT_SOURCE: FOREIGN}, []),
    ],
)
def test_foreign_repository_files(files: dict[str, str], deleted: list[str]) -> None:
    assert packages.foreign_files(files, packages.UPSTREAM_URL, [packages.APT_SOURCE]) == deleted


def test_a_file_with_other_repositories_is_not_deleted() -> None:
    text = "deb https://deb.example.org/debian trixie main\n" + FOREIGN
    with pytest.raises(BattenError, match="delete the line: deb "):
        packages.foreign_files({"/etc/apt/sources.list": text}, packages.UPSTREAM_URL, [])
