"""What the rig copies from the machine it runs on: the Debian mirror, apt's proxy, extra CA certificates, limits.

Nothing here names a host: a machine behind a proxy or a private mirror has that in its own apt configuration, and
images that are built on it need the same to reach Debian. What is copied stays in local images and is never committed.
"""

from __future__ import annotations

import re
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

CERTIFICATES = Path("/usr/local/share/ca-certificates")
"""Where Debian's update-ca-certificates(8) takes locally added authorities from."""

_COPIED_APT_KEYS = re.compile(r"^Acquire::(?:(?:https?)::Proxy\b|Check-(?:Valid-Until|Date)\b|Retries\b)")


@dataclass(frozen=True)
class Machine:
    """What an image built here must know to reach Debian."""

    mirror: str
    apt_conf: str
    certificates: dict[str, str]


def read() -> Machine:
    """Read this machine's apt configuration and added certificate authorities."""
    sources = [*sorted(Path("/etc/apt/sources.list.d").glob("*")), Path("/etc/apt/sources.list")]
    texts = {path.name: path.read_text() for path in sources if path.suffix in (".list", ".sources") and path.is_file()}
    dump = ""
    if shutil.which("apt-config"):
        dump = subprocess.run(["apt-config", "dump", "Acquire"], text=True, capture_output=True, check=True).stdout
    certificates = sorted(CERTIFICATES.glob("**/*.crt")) if CERTIFICATES.is_dir() else []
    return Machine(
        mirror=debian_mirror(texts),
        apt_conf=copied_apt_conf(dump),
        certificates={path.name: path.read_text() for path in certificates},
    )


def debian_mirror(sources: dict[str, str]) -> str:
    """The mirror of Debian's main archive among apt source files, `{file name: text}`.

    Reads one-line (`.list`) and deb822 (`.sources`) files, sources.list(5). Only archives whose path ends in
    `/debian` count: security and third-party archives hold no `trixie` to install from. Without one (on Ubuntu, say)
    it is empty: debootstrap then takes its own default.
    """
    for name, text in sources.items():
        uris = _deb822_uris(text) if name.endswith(".sources") else _one_line_uris(text)
        for uri in uris:
            if re.search(r"/debian/?$", uri):
                return uri.rstrip("/")
    return ""


def copied_apt_conf(dump: str) -> str:
    """The lines of `apt-config dump` that decide how the mirror is reached: proxies, dates, retries."""
    return "".join(f"{line}\n" for line in dump.splitlines() if _COPIED_APT_KEYS.match(line))


def nofile_hard_limit() -> int:
    """The most open files that anything started by this process may be granted, RLIMIT_NOFILE."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def has_cgroup_v1() -> bool:
    """Whether the machine has no unified (version 2) hierarchy mounted as its main one, cgroups(7)."""
    return not Path("/sys/fs/cgroup/cgroup.controllers").exists()


def _deb822_uris(text: str) -> list[str]:
    return [uri for line in text.splitlines() if line.lower().startswith("uris:") for uri in line.split()[1:]]


def _one_line_uris(text: str) -> list[str]:
    lines = (re.sub(r"\[[^]]*]", "", line).split() for line in text.splitlines())
    return [words[1] for words in lines if len(words) > 2 and words[0] == "deb"]
