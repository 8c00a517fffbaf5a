"""One batch of live reads of a host: the script, and what its text means."""

from __future__ import annotations

import base64
import json
import re
import secrets
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from batten.errors import BattenError
from batten.verify.model import (
    FileStat,
    Listener,
    LiveBackup,
    LiveCertificate,
    LiveHost,
    LiveProcess,
    LiveTls,
    ProcessStatus,
)

if TYPE_CHECKING:
    from batten.plan.model import StackPlan, Tls

SCRIPTS = [Path(__file__).with_name(name) for name in ("reads.sh", "reads_host.sh")]
PROBE = Path(__file__).with_name("probe.py")


class CommandResult(Protocol):
    rc: int
    stdout: str
    stderr: str


Run = Callable[[str], CommandResult]

# runc while it enters a container to run a health check: it is there before its own limits are (runc, nsexec.c).
RUNTIME = "runc:["


def read(
    name: str,
    run: Run,
    projects: Mapping[str, str],
    inventory: str | None = None,
    backups: Iterable[str] = (),
    more: Iterable[str] = (),
) -> LiveHost:
    """Read one host in one round trip.

    :param run: runs a shell command on the host and returns rc, stdout and stderr (testinfra's ``host.run``).
    :param projects: stack name to Compose project name.
    :param backups: the directories, absolute, in which backups should lie.
    :param more: what else is asked, see :func:`endpoints` and :func:`sysctl_names`.
    :raises BattenError: the host does not answer, sudo asks for a password, or its Docker engine is down.
    """
    boundary = f"batten-{secrets.token_hex(8)}"
    try:
        result = run(command(boundary, projects, backups, more))
    except Exception as error:  # each testinfra backend raises its own kind
        raise unreachable(name, last_line(str(error)), inventory) from error
    if f"{boundary} host" not in result.stdout or f"{boundary} end" not in result.stdout:
        if "sudo:" in result.stderr:
            raise BattenError(
                f"verify needs root, and sudo refused: {last_line(result.stderr)}",
                name,
                "allow sudo without a password there, or connect as root",
            )
        raise unreachable(name, last_line(result.stderr) or f"exit status {result.rc}", inventory)
    return parse(name, result.stdout, boundary)


def endpoints(stacks: Mapping[str, StackPlan]) -> list[str]:
    """Return the words by which the script knows what serves TLS."""
    return [
        "tls=" + ",".join(map(str, (stack, plan.project, name, *_fields(service.tls))))
        for stack, plan in stacks.items()
        for name, service in plan.services.items()
        if service.tls
    ]


def sysctl_names(variables: Mapping[str, Any]) -> list[str]:
    """Return the kernel settings that role ``host`` is to set, in the script's words."""
    return [f"sysctl={name}" for name in wanted_sysctls(variables)]


def wanted_sysctls(variables: Mapping[str, Any]) -> dict[str, str]:
    """Return the kernel settings that role ``host`` is told of, by name; null leaves one alone."""
    told = {**(variables.get("host_sysctls_default") or {}), **(variables.get("host_sysctls") or {})}
    return {name: str(value) for name, value in sorted(told.items()) if value is not None}


def _fields(tls: Tls) -> tuple[object, ...]:
    return tls.port, tls.protocol, tls.certificate, tls.name or ""


def command(boundary: str, projects: Mapping[str, str], backups: Iterable[str] = (), more: Iterable[str] = ()) -> str:
    """The shell command: the script as root, through sudo where the connection is not root's."""
    arguments = [
        boundary,
        PROBE.read_text(),
        *sorted(set(backups)),
        *sorted(more),
        *(word for pair in sorted(projects.items()) for word in pair),
    ]
    script = f"sh -c {shlex.quote(''.join(script.read_text() for script in SCRIPTS))} sh {shlex.join(arguments)}"
    return f'set --; [ "$(id -u)" = 0 ] || set -- sudo -n; "$@" {script}'


def unreachable(name: str, why: str, inventory: str | None) -> BattenError:
    where = f" -i {inventory}" if inventory else ""
    return BattenError(f"the host cannot be reached: {why}", name, f"ansible {name}{where} -m ping")


def last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def parse(name: str, text: str, boundary: str) -> LiveHost:
    """Turn the batch's text into values.

    :raises BattenError: Docker did not answer on that host.
    """
    sections = {tuple(words): body for words, body in split(text, boundary)}

    def one(*words: str) -> str:
        return sections.get(words, "")

    info = _json(one("info"))
    if not isinstance(info, dict) or not info.get("ServerVersion"):
        why = (info or {}).get("ServerErrors") if isinstance(info, dict) else last_line(one("info"))
        raise BattenError(
            f"the Docker engine does not answer: {why}",
            name,
            "systemctl status docker on that host; install or repair it with ansible-playbook site.yml",
        )
    daemon = _json(one("daemon.json")) if one("daemon.json").strip() else {}
    tried = _json(one("probe")) or {}
    return LiveHost(
        name=name,
        facts=dict(_pairs(one("host"), " ")),
        info=info,
        daemon=daemon if isinstance(daemon, dict) else None,
        inspects=tuple(_json(one("containers")) or ()),
        tried=tried.get("containers", {}),
        tried_on_host=tried.get("host", {}),
        processes={words[1]: _process(body) for words, body in sections.items() if words[0] == "process"},
        networks=tuple(_json(one("networks")) or ()),
        volumes=tuple(_json(one("volumes")) or ()),
        published=tuple(_json(line) or {} for line in one("published").splitlines() if line.strip()),
        listeners=tuple(_listeners(one("listeners"))),
        journal=dict(_pairs(one("journal"), "=")),
        logged=frozenset(one("logged").split()),
        units=_units(one("units")),
        asserted=frozenset(one("asserted").split()),
        files={stat.path: stat for stat in _stats(one("files"))},
        trees={(words[1], words[2]): tuple(_found(body)) for words, body in sections.items() if words[0] == "tree"},
        secret_mounts={words[1]: body.strip() for words, body in sections.items() if words[0] == "mount"},
        certificates={
            (words[1], path): found
            for words, body in sections.items()
            if words[0] == "certificates"
            for path, found in map(_certificate, body.splitlines())
            if path
        },
        tls={(words[1], words[2]): _tls(body) for words, body in sections.items() if words[0] == "tls"},
        sealed={words[1]: _key_kind(body) for words, body in sections.items() if words[0] == "sealed"},
        refreshed={words[1]: _json(body) or {} for words, body in sections.items() if words[0] == "refreshed"},
        made={words[1]: _json(body) or {} for words, body in sections.items() if words[0] == "made"},
        images=tuple({image["Id"]: image for image in _json(one("images")) or ()}.values()),
        machine=dict(_pairs(one("machine"), " ")),
        sysctls=dict(_pairs(one("sysctls"), " ")),
        audit=tuple(one("audit").splitlines()),
        present=frozenset(one("present").split()),
        table=tuple((_json(one("nft")) or {}).get("nftables", ())),
        chains=frozenset(one("chains").splitlines()),
        apt=dict(re.findall(r'^(\S+) "(.*)";$', one("apt"), re.MULTILINE)),
        held_back=tuple(re.findall(r'^Unattended-Upgrade::Package-Blacklist:: "(.*)";$', one("apt"), re.MULTILINE)),
        addresses=tuple(_addresses(one("addresses"))),
        drift=tuple(map(_object, one("drift").splitlines())),
        backups={words[1]: tuple(_backups(body)) for words, body in sections.items() if words[0] == "backups"},
    )


def split(text: str, boundary: str) -> Iterator[tuple[list[str], str]]:
    """Yield each section's words and body."""
    for chunk in text.split(f"\n{boundary} ")[1:]:
        head, _, body = chunk.partition("\n")
        yield head.split(), body


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _object(line: str) -> dict[str, Any]:
    """The JSON object of a line; an empty one for anything else."""
    found = _json(line)
    return found if isinstance(found, dict) else {}


def _pairs(text: str, separator: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, found, value = line.partition(separator)
        if found:
            yield key.strip(), value.strip()


def _process(body: str) -> LiveProcess:
    values: dict[str, str] = {}
    members: list[ProcessStatus] = []
    for key, value in _pairs(body, " "):
        if key != "process":
            values[key] = value
        elif (status := _status(value)) and not status.name.startswith(RUNTIME):
            members.append(status)
    soft, hard = ([*values.pop("nofile", "").split(), "", ""])[:2]
    return LiveProcess(
        apparmor=values.pop("apparmor", ""),
        oom_score_adj=int(values.pop("oom_score_adj", "0") or 0),
        nofile=(soft, hard),
        core=tuple(values.pop("core", "").split()[:2]),
        cgroup=values,
        processes=tuple(members),
    )


def _status(text: str) -> ProcessStatus | None:
    """One process; None for one that ended while it was read."""
    fields = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    if "CapEff" not in fields:
        return None
    return ProcessStatus(
        name=fields["Name"].strip(),
        pid=int(fields.get("Pid", "0")),
        parent=int(fields.get("PPid", "0")),
        uid=int(fields["Uid"].split()[1]),  # real, effective, saved, filesystem: proc_pid_status(5)
        cap_bounding=int(fields["CapBnd"], 16),
        cap_effective=int(fields["CapEff"], 16),
        no_new_privileges=fields.get("NoNewPrivs", "0").strip() == "1",
        seccomp=int(fields.get("Seccomp", "0")),
    )


def _listeners(text: str) -> Iterator[Listener]:
    for line in text.splitlines():
        columns = line.split()
        if len(columns) < 5:
            continue
        address, _, port = columns[4].rpartition(":")
        if not port.isdigit():
            continue
        programs = tuple(sorted(set(re.findall(r'\("([^"]+)"', line))))
        yield Listener(columns[0], address.strip("[]").partition("%")[0], int(port), programs)


def _addresses(text: str) -> Iterator[str]:
    """The host's own addresses, without those of Docker's bridges; ``ip -o addr``."""
    for line in text.splitlines():
        words = line.split()
        if len(words) > 3 and not words[1].startswith(("docker", "br-", "veth")):
            yield words[3].partition("/")[0]


def _units(text: str) -> dict[str, dict[str, str]]:
    blocks = (dict(_pairs(block, "=")) for block in text.strip().split("\n\n"))
    return {block["Id"]: block for block in blocks if "Id" in block}


def _stats(text: str) -> Iterator[FileStat]:
    for line in text.splitlines():
        kind, mode, uid, gid, user, group, path = line.split("|", 6)
        yield FileStat(path, kind, int(mode, 8), int(uid), int(gid), user, group)


def _certificate(line: str) -> tuple[str, LiveCertificate | None]:
    """The path at the end of a line, and the certificate before it."""
    values = dict(part.split("=", 1) for part in line.split("|") if "=" in part)
    path = line.rpartition("|")[2].strip()
    try:
        start, end = (datetime.fromisoformat(values[name]).timestamp() for name in ("notBefore", "notAfter"))
        fingerprint = next(value for name, value in values.items() if name.lower() == "sha256 fingerprint")
        bits = int(values.get("bits", "0"))
    except (KeyError, ValueError, StopIteration):
        return path, None
    return path, LiveCertificate(start, end, fingerprint, values.get("key", ""), bits, values.get("signature", ""))


def _tls(body: str) -> LiveTls:
    values = dict(_pairs(body, " "))
    shown = _certificate(values.get("certificate", ""))[1]
    return LiveTls(shown, values.get("verify", ""), values.get("protocol", ""), values.get("old", ""))


def _key_kind(text: str) -> str:
    try:
        return base64.b64decode(text.strip()[:24], validate=True)[:16].hex()
    except ValueError:
        return ""


def _backups(text: str) -> Iterator[LiveBackup]:
    for line in text.splitlines():
        size, _, told = line.partition(" ")
        described = _json(told)
        if size.isdigit() and isinstance(described, dict):
            yield LiveBackup(int(size), described)


def _found(text: str) -> Iterator[FileStat]:
    for line in text.splitlines():
        if line.count("|") >= 4:
            kind, mode, uid, gid, path = line.split("|", 4)
            yield FileStat(path, kind, int(mode, 8), int(uid), int(gid))
