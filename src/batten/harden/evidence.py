"""What a service of somebody's Compose file tells of itself: the merged model, and the Dockerfile it is built from."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from batten import dotenv
from batten.plan.model import COMES_BACK, Port

_STAGE = re.compile(r"^FROM\s+(?:--\S+\s+)*(?P<image>\S+)(?:\s+AS\s+(?P<name>\S+))?\s*$", re.IGNORECASE)
_LINE = re.compile(r"^(?P<word>USER|ENTRYPOINT|CMD|EXPOSE)\s+(?P<rest>.+)$", re.IGNORECASE)
_SUPERVISED = re.compile(r"s6-overlay|/lib/systemd|/sbin/init\b")
_SETUID = re.compile(r"\bsudo\b|chmod\s+(?:-\S+\s+)*(?:u\+s|[+]s|[4-7]\d{3})\b|\bpostfix\b|\bsendmail\b|\bexim\b")
# Images whose first process must be PID 1 (s6-overlay and systemd refuse to run otherwise), by publisher or name.
_OWN_INIT = re.compile(
    r"^(lscr\.io/|ghcr\.io/)?(linuxserver|hotio|home-assistant|homeassistant|jlesage|crazymax|jc21)/"
    r"|^(plexinc/pms-docker|pihole/pihole|paperlessngx/|ghcr\.io/paperless-ngx/|gitlab/gitlab|adguard/)"
)
# Images that are known to use sudo, or a mail system whose queue is filled through a setgid program (postdrop).
_NEEDS_SETUID = re.compile(
    r"^(?:[a-z0-9.-]+/)?(jupyter/|codercom/code-server|coder/|gitpod/|mailserver/|docker-mailserver|postfix|mailu/|mailcow/)"
)
_ONE_SHOT = re.compile(r"(^|[-_.])(migrat\w*|init|setup|seed\w*|bootstrap|job|createbuckets?|provision\w*)([-_.]|$)")


@dataclass(frozen=True)
class Dockerfile:
    """The stage that is built: its last FROM that is an image, and what its own lines say. None: they say nothing."""

    base: str
    user: str | None = None
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    ports: tuple[int, ...] = ()
    supervised: bool = False
    setuid: bool = False

    @property
    def root(self) -> bool | None:
        """Whether it starts as root; None where only the image below knows."""
        return None if self.user is None else _is_root(self.user)


@dataclass(frozen=True)
class Mount:
    """One mount of the merged model. ``source`` is empty for what the engine makes."""

    kind: str
    source: str
    target: str
    read_only: bool


@dataclass(frozen=True)
class Evidence:
    """One service, as far as its own files tell. ``raw`` is Compose's merged model of it."""

    name: str
    raw: Mapping[str, Any]
    dockerfile: Dockerfile | None = None
    waited_for: bool = False

    @property
    def image(self) -> str:
        """The image, or the one that it is built from; empty where neither is said."""
        if self.raw.get("build"):
            return self.dockerfile.base if self.dockerfile else ""
        return str(self.raw.get("image") or "")

    @property
    def built(self) -> bool:
        return bool(self.raw.get("build"))

    @property
    def command(self) -> tuple[str, ...] | None:
        """What is known to run: the service's own entrypoint and command, else the Dockerfile's."""
        own = self.dockerfile
        entrypoint = _words(self.raw.get("entrypoint")) or (own.entrypoint if own else None)
        command = _words(self.raw.get("command")) or (own.command if own else None)
        return (*(entrypoint or ()), *(command or ())) or None

    @property
    def exposed(self) -> tuple[int, ...]:
        """The container's ports that the files name, published or not."""
        said = [str(item).split("/")[0] for item in self.raw.get("expose") or ()]
        numbers = [int(item) for item in said if item.isdigit()]
        published = [int(item["target"]) for item in self.raw.get("ports") or ()]
        return tuple(sorted({*numbers, *published, *(self.dockerfile.ports if self.dockerfile else ())}))

    @property
    def mounts(self) -> tuple[Mount, ...]:
        found = [
            Mount(item.get("type", "volume"), item.get("source", ""), item["target"], bool(item.get("read_only")))
            for item in self.raw.get("volumes") or ()
        ]
        return (*found, *(Mount("tmpfs", "", str(item).split(":")[0], False) for item in _list(self.raw.get("tmpfs"))))

    def covered(self, path: str) -> bool:
        """Whether something that can be written is mounted at ``path`` or above it."""
        return any(f"{path}/".startswith(f"{each.target.rstrip('/')}/") for each in self.mounts if not each.read_only)

    @property
    def root(self) -> bool | None:
        """Whether it starts as root; None where only its image knows."""
        user = self.raw.get("user")
        if user is not None:
            return _is_root(str(user))
        return self.dockerfile.root if self.dockerfile else None

    @property
    def one_shot(self) -> bool:
        """Whether it runs once and ends: others wait for its end, or its name tells and nothing says that it stays."""
        stays = self.raw.get("ports") or self.raw.get("healthcheck") or self.restart in COMES_BACK
        return self.waited_for or bool(_ONE_SHOT.search(self.name.lower()) and not stays)

    @property
    def restart(self) -> str | None:
        """The files' restart policy, as ``NAME`` or ``NAME:COUNT``; ``deploy.restart_policy`` wins, as in Compose."""
        policy = (self.raw.get("deploy") or {}).get("restart_policy")
        if not policy:
            return self.raw.get("restart")
        condition = policy.get("condition") or "any"
        name = {"none": "no", "any": "always"}.get(condition, condition)
        count = policy.get("max_attempts")
        return f"{name}:{count}" if name == "on-failure" and count else name

    @property
    def own_init(self) -> bool:
        """Whether its first process must be PID 1, which an init of the engine's would be in its place."""
        supervised = self.dockerfile is not None and self.dockerfile.supervised
        return supervised or bool(_OWN_INIT.search(self.image)) or (self.command or ("",))[0] in ("/init", "/sbin/init")

    @property
    def setuid(self) -> bool:
        """Whether it is known to use a program with the setuid bit."""
        return (self.dockerfile is not None and self.dockerfile.setuid) or bool(_NEEDS_SETUID.search(self.image))

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Mounted files of this machine that only their owner may read: another user in the container could not."""
        return tuple(each.source for each in self.mounts if each.kind == "bind" and _private(Path(each.source)))

    @property
    def elsewhere(self) -> tuple[str, ...]:
        """Where credentials stand that are in no variable: flags of its command, build arguments, labels. No values."""
        raw = self.raw
        words = [str(word) for key in ("entrypoint", "command", "healthcheck") for word in _said(raw, key)]
        pairs = [("its command's", *word.partition("=")[::2]) for word in words if word.startswith("-") and "=" in word]
        pairs += [("its command's", flag, value) for flag, value in pairwise(words) if flag.startswith("--")]
        pairs += [("its build's", key, value) for key, value in ((raw.get("build") or {}).get("args") or {}).items()]
        pairs += [("its label's", key, value) for key, value in (raw.get("labels") or {}).items()]
        return tuple(
            dict.fromkeys(f"{where} {name}" for where, name, value in pairs if _suspect(name, str(value or "")))
        )

    @property
    def replicas(self) -> int:
        """How many containers of it run at once."""
        said = self.raw.get("scale") or (self.raw.get("deploy") or {}).get("replicas") or 1
        return max(1, int(said))

    @property
    def limits(self) -> Mapping[str, Any]:
        """``deploy.resources.limits``: Compose refuses limits that are said here and elsewhere."""
        return dict(((self.raw.get("deploy") or {}).get("resources") or {}).get("limits") or {})

    @property
    def reaches(self) -> tuple[str, ...]:
        """What of the host it reaches, in words; no overlay can make that safe."""
        found = []
        if self.raw.get("privileged"):
            found.append("privileged: it is root on the host")
        for each in self.mounts:
            if each.source.endswith(("docker.sock", "containerd.sock", "podman.sock")):
                found.append(f"{each.source} is mounted: who controls the engine is root on the host")
            elif each.kind == "bind" and each.source in ("/", "/etc", "/proc", "/sys", "/dev", "/usr", "/lib", "/boot"):
                found.append(f"the host's {each.source} is mounted" + (" read-only" if each.read_only else ""))
        found += [f"{key}: host" for key in _NAMESPACES if self.raw.get(key) == "host"]
        found += [f"the device {_device(item)}" for item in self.raw.get("devices") or ()]
        found += [f"the capability {item}" for item in self.raw.get("cap_add") or ()]
        found += [f"security_opt {item}" for item in self.raw.get("security_opt") or () if _weakens(str(item))]
        return tuple(found)


_NAMESPACES = ("network_mode", "pid", "ipc", "uts", "userns_mode")


def ports(raw: Mapping[str, Any]) -> tuple[Port, ...] | None:
    """Return the published ports of a merged service; None if one is of a kind that no plan can say (a range).

    A port whose number on the host the engine chooses has 0 there.
    """
    found = []
    for item in raw.get("ports") or ():
        published = str(item.get("published") or "0")
        if not published.isdigit() or item.get("mode", "ingress") != "ingress" or set(item) - _PLAIN:
            return None
        found.append(Port(int(item["target"]), int(published), item.get("host_ip"), item.get("protocol", "tcp")))
    return tuple(found)


_PLAIN = {"mode", "target", "published", "host_ip", "protocol"}


def gather(name: str, services: Mapping[str, Mapping[str, Any]]) -> Evidence:
    """Return what the files tell of one service, its Dockerfile read where it is built from one here."""
    waited = any(
        (other.get("depends_on") or {}).get(name, {}).get("condition") == "service_completed_successfully"
        for other in services.values()
    )
    raw = services[name]
    return Evidence(name, raw, _dockerfile(raw.get("build")), waited)


_LARGEST = 1024 * 1024


def _private(path: Path) -> bool:
    """Whether a file is here that only its owner may read; a path that the system refuses is none."""
    try:
        return path.is_file() and not path.stat().st_mode & 0o004
    except (OSError, ValueError):
        return False


def _dockerfile(build: Any) -> Dockerfile | None:
    if not isinstance(build, Mapping):
        return None
    text = build.get("dockerfile_inline")
    if text is None:
        path = Path(os.path.normpath(Path(str(build.get("context", "."))) / str(build.get("dockerfile", "Dockerfile"))))
        try:
            if not path.is_file():  # a pipe or a device would be read for ever
                return None
            with path.open(encoding="utf-8", errors="replace") as file:
                text = file.read(_LARGEST)
        except (OSError, ValueError):  # a context on the network, or one that is not here: nothing is known of it
            return None
    return parse_dockerfile(text, build.get("target"), build.get("args") or {})


def parse_dockerfile(
    text: str, target: str | None = None, arguments: Mapping[str, Any] | None = None
) -> Dockerfile | None:
    """Return what a Dockerfile says of the stage ``target``, by default the last one; None if it has no stage.

    A stage that is built on another one inherits what that says (Dockerfile reference, "FROM").
    """
    values = {key: str(value) for key, value in (arguments or {}).items()}
    stages: dict[str, dict[str, Any]] = {}
    current: dict[str, Any] | None = None
    for line in map(str.strip, re.sub(r"\\[ \t]*\r?\n", " ", text).splitlines()):
        if match := re.match(r"ARG\s+(\w+)=(\S+)", line, re.IGNORECASE):
            values.setdefault(match[1], match[2].strip("\"'"))
        if match := _STAGE.match(line):
            image = re.sub(
                r"\$\{?(\w+)(?::-([^}]*))?\}?", lambda found: values.get(found[1], found[2] or ""), match["image"]
            )
            below = stages.get(image.lower())
            current = {**below} if below else {"base": image}
            stages[(match["name"] or f"#{len(stages)}").lower()] = current
            if target is not None and (match["name"] or "").lower() == str(target).lower():
                target = (match["name"] or "").lower()
        elif current is not None and not line.startswith("#"):
            _read_line(line, current)
    chosen = stages.get(str(target).lower()) if target else current
    return Dockerfile(**chosen) if chosen else None


def _read_line(line: str, stage: dict[str, Any]) -> None:
    stage["supervised"] = stage.get("supervised", False) or bool(_SUPERVISED.search(line))
    stage["setuid"] = stage.get("setuid", False) or bool(_SETUID.search(line))
    match = _LINE.match(line)
    if not match:
        return
    word, rest = match["word"].upper(), match["rest"].strip()
    if word == "USER":
        stage["user"] = rest.split()[0]
    elif word == "EXPOSE":
        numbers = [item.split("/")[0] for item in rest.split()]
        stage["ports"] = (*stage.get("ports", ()), *(int(item) for item in numbers if item.isdigit()))
    else:
        said = re.findall(r'"((?:[^"\\]|\\.)*)"', rest) if rest.startswith("[") else ["/bin/sh", "-c", rest]
        stage["entrypoint" if word == "ENTRYPOINT" else "command"] = tuple(said)
        if word == "ENTRYPOINT":
            stage.pop("command", None)


def _said(raw: Mapping[str, Any], key: str) -> list[Any]:
    value = raw.get(key) or ()
    return _list(value.get("test") if isinstance(value, Mapping) else list(value))


def _suspect(name: str, value: str) -> bool:
    if value.startswith(("-", "$")) or not value:
        return False
    plain = re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_")
    # Redis spells its flag in one word; labels are full of texts that look random.
    return "requirepass" in plain.lower() or (
        dotenv.suspicion(dotenv.Entry(plain, value, 0, 0)) not in (None, "it looks random")
    )


def _is_root(user: str) -> bool:
    return user.partition(":")[0] in ("0", "root")


def _words(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    return tuple(value.split()) if isinstance(value, str) else tuple(map(str, value))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value] if value else []


def _device(item: Any) -> str:
    return str(item.get("source", item)) if isinstance(item, Mapping) else str(item)


def _weakens(option: str) -> bool:
    return option.endswith(("unconfined", ":disable", "=disable", "no-new-privileges:false"))
