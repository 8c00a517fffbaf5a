"""What a profile may not say at once. The schema checks each key for itself; here keys are held against each other."""

from __future__ import annotations

import re
import signal
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from batten.plan import schema, tunables

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from batten.plan.schema import At

# capabilities(7), Linux 6.x.
CAPABILITIES = frozenset(
    re.findall(
        r"\w+",
        """AUDIT_CONTROL AUDIT_READ AUDIT_WRITE BLOCK_SUSPEND BPF CHECKPOINT_RESTORE CHOWN DAC_OVERRIDE DAC_READ_SEARCH
        FOWNER FSETID IPC_LOCK IPC_OWNER KILL LEASE LINUX_IMMUTABLE MAC_ADMIN MAC_OVERRIDE MKNOD NET_ADMIN
        NET_BIND_SERVICE NET_BROADCAST NET_RAW PERFMON SETFCAP SETGID SETPCAP SETUID SYSLOG SYS_ADMIN SYS_BOOT
        SYS_CHROOT SYS_MODULE SYS_NICE SYS_PACCT SYS_PTRACE SYS_RAWIO SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG
        WAKE_ALARM""",
    )
)
_SIGNALS = frozenset(name.removeprefix("SIG") for name in signal.Signals.__members__)
_SHELLS = ("sh", "bash", "ash", "dash")
# Words that a POSIX shell knows by itself, and what stands before a command.
_BUILTINS = frozenset(
    re.findall(
        r"\S+",
        """exec test [ [[ printf echo exit cd set export eval read true false if then else elif fi for do done while
        until case esac in ! { } : . trap wait unset local return shift kill command type ulimit umask""",
    )
)
_SEPARATOR = re.compile(r"\|\||&&|[|;\n]|\$\(|&(?![0-9>&])")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*")
_PROGRAM = re.compile(r"[A-Za-z_./][A-Za-z0-9_./+-]*")
_QUOTED = re.compile(r"'[^']*'|\"[^\"]*\"")


def review(record: Mapping[str, Any], at: At) -> None:
    """Refuse a profile that contradicts itself, or says not where its facts come from.

    ``record`` is what :data:`batten.plan.profile.PROFILE` accepted. Raises BattenError.
    """
    for key in ("confidence", "sources"):
        if not record.get(key):
            raise at.error(
                f"{key!r} is missing: nobody could tell how sure these facts are",
                "add confidence: tried, documented or observed"
                if key == "confidence"
                else "add sources: [URL or file]",
            )
    variants = record.get("variants", ())
    _review(record, at)
    for index, variant in enumerate(variants):
        here = at.key("variants").item(index)
        if not {"tag", "image"} & set(variant):
            raise here.error("it says neither for which tag nor for which image it is", "add tag: or image:")
        _review({**record, **variant}, here)


def _review(values: Mapping[str, Any], at: At) -> None:
    _memory(values, at)
    _writable(values, at)
    _lists(values, at)
    _probes(values, at)
    if signal_name := _signal(values.get("reload", ())):
        schema.choice(*sorted(_SIGNALS))(signal_name, at.key("reload").item(1))
    for name, formula in values.get("tunables", {}).items():
        tunables.check(formula, at.key("tunables").key(name))
    for key in ("dump", "data_version"):
        if key in values and not values.get("stateful"):
            raise at.key(key).error(f"{key} is for data that must stay, and stateful is not true", "add stateful: true")


def _memory(values: Mapping[str, Any], at: At) -> None:
    memory = values["memory"]
    if memory.get("cap", memory["floor"]) < memory["floor"]:
        raise at.key("memory").error("the cap is below the floor", "raise cap, or lower floor")
    held = sum(item.get("tmpfs", 0) for item in values.get("writable", ()))
    if held > memory["floor"]:
        raise at.key("writable").error(
            f"its tmpfs may hold {held // 1024**2} MiB, more than the memory floor of {memory['floor'] // 1024**2} MiB",
            "lower tmpfs, or raise memory.floor",
        )


def _writable(values: Mapping[str, Any], at: At) -> None:
    seen: set[str] = set()
    items = values.get("writable", ())
    for index, item in enumerate(items):
        here = at.key("writable").item(index)
        path = item["path"]
        if item.get("volume") and "tmpfs" in item:
            raise here.error(f"{path} is both a volume and in memory", "leave out volume, or tmpfs")
        if not item.get("volume") and "tmpfs" not in item:
            raise here.error(f"{path} is neither a volume nor in memory", "add volume: true, or tmpfs: SIZE")
        if item.get("volume") and {"mode", "owner"} & set(item):
            raise here.error(f"mode and owner of {path} are those of the volume", "leave out mode and owner")
        if path in seen:
            raise here.error(f"{path} is written twice", "leave one out")
        seen.add(path)
    if values.get("stateful") and not any(item.get("volume") for item in items):
        raise at.key("stateful").error(
            "its data must stay, and no writable path is a volume", "add writable: [{path: PATH, volume: true}]"
        )


def _lists(values: Mapping[str, Any], at: At) -> None:
    for index, name in enumerate(values.get("cap_add", ())):
        if name not in CAPABILITIES:
            raise schema.unknown_key(name, CAPABILITIES, at.key("cap_add").item(index))
    if values["class"] == "batch" and ("healthcheck" in values or "health" in values):
        raise at.key("class").error("what runs once and ends has no health to check", "leave out healthcheck")


def _probes(values: Mapping[str, Any], at: At) -> None:
    probes = {
        "healthcheck": values.get("healthcheck"),
        **{f"health.{k}": v for k, v in values.get("health", {}).items()},
    }
    commands = {f"{key}.test": probe["test"] for key, probe in probes.items() if probe}
    for key, test in commands.items():
        where = at.key(key)
        if (
            not test
            or test[0] not in ("CMD", "CMD-SHELL")
            or len(test) < 2
            or (test[0] == "CMD-SHELL" and len(test) > 2)
        ):
            raise where.error("a probe is [CMD, program, argument, ...] or [CMD-SHELL, line]", "write one of these")
        if any(re.search(r"\blocalhost\b", word) for word in test):
            raise where.error("the probe asks localhost, which may be ::1 alone", "ask 127.0.0.1")
    if "programs" not in values and values["confidence"] == "observed":
        return
    known = set(values.get("programs", ()))
    if not _signal(values.get("reload", ())) and values.get("reload"):
        commands["reload"] = ("CMD", *values["reload"])
    if "dump" in values:
        commands["dump"] = ("CMD", *values["dump"])
    for key, test in commands.items():
        for program in programs(test):
            if program not in known:
                has = f"it has {', '.join(sorted(known))}" if known else "programs names none"
                raise at.key(key).error(
                    f"the image is not known to have {program!r}: {has}", f"add {program} to programs, or use another"
                )


def programs(test: Sequence[str]) -> list[str]:
    """Return the programs that a command runs, without paths; ``test`` starts with ``CMD`` or ``CMD-SHELL``."""
    if test[0] == "CMD-SHELL":
        return ["sh", *_of_script(test[1])]
    program = PurePosixPath(test[1]).name
    flag = next((place for place, word in enumerate(test) if re.fullmatch(r"-[a-z]*c", word)), None)
    if program in _SHELLS and flag is not None and flag + 1 < len(test):
        return [program, *_of_script(test[flag + 1])]
    return [program]


def _of_script(script: str) -> Iterator[str]:
    """The programs of a shell script, well enough for one line: the first word of every command that is no builtin."""
    for part in _SEPARATOR.split(_QUOTED.sub("''", script)):
        words = [word for word in part.split() if not _ASSIGNMENT.fullmatch(word)]
        while words and words[0] in ("exec", "if", "then", "else", "elif", "while", "until", "do", "!", "{", "command"):
            words = words[1:]
        if words and words[0] not in _BUILTINS and _PROGRAM.fullmatch(words[0]):
            yield PurePosixPath(words[0]).name


def _signal(reload: Sequence[str]) -> str | None:
    return reload[1].removeprefix("SIG") if len(reload) == 2 and reload[0] == "SIGNAL" else None
