"""Which packages and repository files a host needs for its engine. Pure."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import BattenError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .engine import Options
    from .engine_host import Observed

# 25.0: start_interval of health checks and API 1.44. 2.24.4: `!reset`/`!override` in layers.
MINIMUM_ENGINE = (25, 0, 0)
MINIMUM_COMPOSE = (2, 24, 4)

UPSTREAM_URL = "https://download.docker.com"
# Fingerprints of Docker's release keys, as in docs.docker.com/engine/install (Debian, Ubuntu; RHEL, CentOS).
DEB_KEY = "9DC858229FC7DD38854AE2D88D81803C0EBFCD88"
RPM_KEY = "060A61C51B558A7F742B77AAC52FEB6B621E9F35"

APT = ("apt-get", "-y", "-q", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Options::=--force-confold")
APT_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l", "LC_ALL": "C"}

APT_KEY = "/etc/apt/keyrings/docker.asc"
APT_SOURCE = "/etc/apt/sources.list.d/docker.sources"
RPM_KEY_FILE = "/etc/pki/rpm-gpg/RPM-GPG-KEY-docker-ce"
YUM_REPO = "/etc/yum.repos.d/docker-ce.repo"

UPSTREAM = ("docker-ce", "docker-ce-cli", "containerd.io", "docker-buildx-plugin", "docker-compose-plugin")
DISTRO = {
    "debian": (
        "docker.io",
        "docker-cli",
        "docker-compose",
    ),  # docker-compose is the `docker compose` plugin since trixie
    "ubuntu": ("docker.io", "docker-compose-v2"),
}
# docker.io only recommends iptables, without which no network can be made; https sources need ca-certificates.
# Keys and certificates of stacks are made by the program openssl.
HELPERS = {
    "debian": ("ca-certificates", "iptables", "openssl"),
    "redhat": ("ca-certificates", "iptables-nft", "openssl"),
}

# What Docker's install pages say to remove first, and Microsoft's rebuild of the same programs.
FOREIGN = (
    "docker-engine",
    "podman-docker",
    "moby-engine",
    "moby-cli",
    "moby-buildx",
    "moby-compose",
    "moby-containerd",
    "moby-runc",
)
OF_DISTRO = {
    "debian": (
        "docker.io",
        "docker-cli",
        "docker-buildx",
        "docker-compose",
        "docker-compose-v2",
        "docker-doc",
        "containerd",
        "runc",
    ),
    "redhat": ("docker", "docker-client", "docker-common", "docker-latest", "docker-logrotate", "runc"),
}
OF_UPSTREAM = (*UPSTREAM, "docker-ce-rootless-extras", "docker-model-plugin")
ENGINES = frozenset({"docker-ce", "docker.io", "docker-engine", "moby-engine", "docker"})


@dataclass(frozen=True)
class System:
    """A Linux distribution: ``family`` is ``debian`` (apt) or ``redhat`` (dnf), ``repository`` Docker's name for it."""

    family: str
    id: str
    version: str
    codename: str
    repository: str


@dataclass(frozen=True)
class Package:
    """An installed package; ``held`` as ``apt-mark`` or versionlock say."""

    version: str
    held: bool = False


@dataclass(frozen=True)
class PackagePlan:
    """What to do to packages and repository files. ``install`` may pin with ``NAME=PREFIX*`` resolved by the actor."""

    remove: tuple[str, ...] = ()
    install: tuple[str, ...] = ()
    hold: tuple[str, ...] = ()
    unhold: tuple[str, ...] = ()
    delete: tuple[str, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    key: tuple[str, str, str] | None = None  # path, URL, fingerprint


def parse_os_release(text: str) -> dict[str, str]:
    """Parse ``/etc/os-release`` (``NAME=value`` lines with shell quotes)."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, value in pairs}


def system(release: Mapping[str, str]) -> System:
    """Return the system of an os-release. Raises BattenError for one that batten does not know."""
    name, version, like = release.get("ID", ""), release.get("VERSION_ID", ""), release.get("ID_LIKE", "").split()
    number = version_tuple(version)
    codename = release.get("VERSION_CODENAME", "")
    if name == "debian" and number >= (12,):
        return System("debian", name, version, codename, "debian")
    if name == "ubuntu" and number >= (24, 4):
        return System("debian", name, version, codename, "ubuntu")
    if (name == "rhel" or "rhel" in like or name == "centos") and name != "fedora" and number >= (9,):
        return System("redhat", name, version, "", "rhel" if name == "rhel" else "centos")
    raise BattenError(
        f"{release.get('PRETTY_NAME') or name or 'this system'} is not supported",
        "/etc/os-release",
        "use Debian 12 or 13, Ubuntu 24.04 or newer, or RHEL 9 or newer; "
        "or install Docker yourself and set docker_source: preinstalled",
    )


def version_tuple(text: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, without a Debian epoch: ``5:28.5.1-1~debian`` is ``(28, 5, 1)``."""
    match = re.match(r"[vV]?(\d+(?:\.\d+)*)", text.split(":", 1)[-1] if ":" in text else text)
    return tuple(int(part) for part in match.group(1).split(".")) if match else ()


def satisfies(installed: str, wanted: str) -> bool:
    """Whether version ``installed`` is the asked ``wanted``, which may be a prefix: ``28.5`` takes ``5:28.5.1-1``."""
    return not wanted or version_tuple(installed)[: len(version_tuple(wanted))] == version_tuple(wanted)


def engine_package(source: str) -> str:
    return "docker-ce" if source == "upstream" else "docker.io"


def wanted(source: str, host: System) -> tuple[str, ...]:
    """Return the packages of ``source``. Raises BattenError where the distribution has none that is new enough."""
    if source == "upstream":
        return UPSTREAM + HELPERS[host.family]
    if host.family != "debian" or (host.id == "debian" and version_tuple(host.version) < (13,)):
        has = "only Docker 20.10" if host.family == "debian" else "no Docker"
        raise BattenError(
            f"{host.id} {host.version} has {has} in its own packages; batten needs 25.0 or newer",
            "docker_source",
            "set docker_source: upstream",
        )
    return DISTRO[host.id] + HELPERS[host.family]


def repository(host: System, url: str, architecture: str) -> tuple[tuple[str, str], tuple[str, str, str]]:
    """Return ``(path, text)`` of the repository file and ``(path, URL, fingerprint)`` of its key."""
    base = f"{url.rstrip('/')}/linux/{host.repository}"
    if host.family == "debian":
        text = (
            "# Docker's own packages. Managed by batten (role docker).\n"
            f"Types: deb\nURIs: {base}\nSuites: {host.codename}\nComponents: stable\n"
            f"Architectures: {architecture}\nSigned-By: {APT_KEY}\n"
        )
        return (APT_SOURCE, text), (APT_KEY, f"{base}/gpg", DEB_KEY)
    text = (
        "# Docker's own packages. Managed by batten (role docker).\n"
        f"[docker-ce-stable]\nname=Docker CE Stable - $basearch\nbaseurl={base}/$releasever/$basearch/stable\n"
        f"enabled=1\ngpgcheck=1\ngpgkey=file://{RPM_KEY_FILE}\n"
    )
    return (YUM_REPO, text), (RPM_KEY_FILE, f"{base}/gpg", RPM_KEY)


def foreign_files(files: Mapping[str, str], url: str, own: Iterable[str]) -> list[str]:
    """Return the repository files, of ``{path: text}``, that speak of Docker's packages and are not in ``own``.

    Raises BattenError for a file that also holds other repositories: deleting it would take those too.
    """
    hosts = {UPSTREAM_URL.split("//")[1], url.rsplit("//", maxsplit=1)[-1].split("/", maxsplit=1)[0]}
    found = []
    for path, text in sorted(files.items()):
        if path in own or not any(host in text for host in hosts):
            continue
        active = [
            line
            for line in text.splitlines()
            if re.match(r"\s*(deb(-src)?\s|URIs\s*:|baseurl\s*=|mirrorlist\s*=|metalink\s*=)", line)
        ]
        docker = [line for line in active if any(host in line for host in hosts)]
        if not docker:
            continue
        if len(docker) < len(active):
            raise BattenError(
                "it names Docker's repository among others, and apt refuses one repository with two keys",
                path,
                f"delete the line: {docker[0].strip()}",
            )
        found.append(path)
    return found


def plan_packages(options: Options, host: System, seen: Observed) -> PackagePlan:
    """Compare the packages and repository files that were ``seen`` with what ``options.source`` needs on ``host``.

    Raises BattenError as :func:`wanted` and :func:`foreign_files` do.
    """
    source, installed, version = options.source, seen.installed, options.version
    if source == "preinstalled":
        return PackagePlan()
    packages = wanted(source, host)
    others = FOREIGN + (OF_DISTRO[host.family] if source == "upstream" else OF_UPSTREAM)
    pinned = engine_package(source)
    versioned = {pinned, "docker-ce-cli"} if source == "upstream" else {pinned}
    install = tuple(
        f"{name}={version}" if name in versioned and version else name
        for name in packages
        if name not in installed or (name in versioned and not satisfies(installed[name].version, version))
    )
    lockable = tuple(name for name in packages if name not in HELPERS[host.family])
    own: tuple[tuple[str, str], ...] = ()
    key = None
    if source == "upstream":
        (path, text), (key_path, key_url, docker_key) = repository(host, options.upstream_url, seen.architecture)
        own = ((path, text),)
        expected = (options.upstream_key or docker_key).replace(" ", "").upper()
        key = None if seen.key == expected else (key_path, key_url, expected)
    held = {name for name, package in installed.items() if package.held}
    return PackagePlan(
        remove=tuple(name for name in others if name in installed and name not in packages),
        install=install,
        hold=tuple(name for name in lockable if options.hold and name not in held),
        unhold=tuple(name for name in lockable if not options.hold and name in held),
        delete=tuple(foreign_files(seen.repositories, options.upstream_url, [path for path, _text in own])),
        files=tuple((path, text) for path, text in own if seen.repositories.get(path) != text),
        key=key,
    )


def key_fingerprint(armored: bytes) -> str:
    """Return the fingerprint of the one OpenPGP primary key in ``armored``: SHA-1 over 0x99, its length and its body
    (RFC 4880, 12.2). Raises BattenError if it is no key, or holds more than one primary key."""
    try:
        block = armored.decode("ascii").split("-----BEGIN PGP PUBLIC KEY BLOCK-----")
        if len(block) != 2:
            raise ValueError("not one key block")
        body = block[1].split("-----END PGP PUBLIC KEY BLOCK-----")[0].replace("\r", "")
        lines = body.split("\n\n", 1)[-1].split()
        found = list(_packets(base64.b64decode("".join(line for line in lines if not line.startswith("=")))))
    except (ValueError, IndexError) as error:
        raise BattenError(f"no OpenPGP public key: {error}") from error
    primary = [content for tag, content in found if tag == 6]
    if len(primary) != 1 or primary[0][:1] != b"\x04":
        raise BattenError(f"holds {len(primary)} primary keys of version 4, not one")
    framed = b"\x99" + len(primary[0]).to_bytes(2, "big") + primary[0]
    return hashlib.sha1(framed, usedforsecurity=False).hexdigest().upper()


def _packets(data: bytes) -> Iterable[tuple[int, bytes]]:
    """Yield ``(tag, body)`` of OpenPGP packets (RFC 4880, 4.2). Raises ValueError or IndexError for anything else."""
    at = 0
    while at < len(data):
        head = data[at]
        if not head & 0x80:
            raise ValueError("not a packet")
        at += 1
        if head & 0x40:
            tag, first = head & 0x3F, data[at]
            if first < 192:
                size, used = first, 1
            elif first < 224:
                size, used = ((first - 192) << 8) + data[at + 1] + 192, 2
            elif first == 255:
                size, used = int.from_bytes(data[at + 1 : at + 5], "big"), 5
            else:
                raise ValueError("a partial length")
        else:
            tag, kind = (head >> 2) & 0x0F, head & 3
            if kind == 3:
                raise ValueError("an indeterminate length")
            used = 1 << kind
            size = int.from_bytes(data[at : at + used], "big")
        at += used
        if at + size > len(data):
            raise ValueError("cut short")
        yield tag, data[at : at + size]
        at += size
