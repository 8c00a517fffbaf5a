"""A profile that contradicts itself is refused, with where and what to write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from batten.errors import BattenError
from batten.plan.consistency import programs
from batten.plan.profile import load_profiles

if TYPE_CHECKING:
    from pathlib import Path

GOOD: dict[str, Any] = {
    "images": ["example/db"],
    "confidence": "documented",
    "sources": ["https://example.org/Dockerfile"],
    "class": "database",
    "memory": {"floor": "64M", "cap": "1G"},
    "programs": ["sh", "ask"],
    "healthcheck": {"test": ["CMD", "ask", "127.0.0.1"]},
    "writable": [{"path": "/data", "volume": True}, {"path": "/tmp", "tmpfs": "4M"}],
    "stateful": True,
}


def load(directory: Path, **changed: Any) -> None:
    record = {key: value for key, value in {**GOOD, **changed}.items() if value is not None}
    (directory / "db.yaml").write_text(yaml.safe_dump(record))
    load_profiles(directory)


def test_the_profile_that_the_cases_change_is_good(tmp_path: Path) -> None:
    load(tmp_path)


@pytest.mark.parametrize(
    ("changed", "where", "says"),
    [
        ({"sources": None}, "", "'sources' is missing"),
        ({"sources": []}, "", "'sources' is missing"),
        ({"confidence": None}, "", "'confidence' is missing"),
        ({"confidence": "certain"}, "confidence", "one of tried, documented, observed"),
        ({"memory": {"floor": "2G", "cap": "1G"}}, "memory", "the cap is below the floor"),
        ({"writable": [{"path": "/data", "volume": True}, {"path": "/x"}]}, "writable[1]", "neither a volume nor"),
        ({"writable": [{"path": "/data", "volume": True, "tmpfs": "1M"}]}, "writable[0]", "both a volume and in"),
        ({"writable": [{"path": "/data", "volume": True}] * 2}, "writable[1]", "written twice"),
        ({"writable": [{"path": "/data", "volume": True, "mode": "0700"}]}, "writable[0]", "those of the volume"),
        ({"writable": [{"path": "/tmp", "tmpfs": "4M"}]}, "stateful", "no writable path is a volume"),
        ({"writable": [{"path": "/tmp", "tmpfs": "65M"}], "stateful": None}, "writable", "more than the memory floor"),
        ({"reload": ["SIGNAL", "HPU"]}, "reload[1]", "one of"),
        ({"reload": ["ask-again"]}, "reload", "not known to have 'ask-again'"),
        ({"healthcheck": {"test": ["CMD", "curl", "127.0.0.1"]}}, "healthcheck.test", "not known to have 'curl'"),
        ({"healthcheck": {"test": ["CMD-SHELL", "ask | grep -q yes"]}}, "healthcheck.test", "have 'grep'"),
        ({"healthcheck": {"test": ["CMD", "sh", "-ec", "wget x"]}}, "healthcheck.test", "have 'wget'"),
        ({"health": {"deep": {"test": ["CMD", "curl"]}}}, "health.deep.test", "have 'curl'"),
        ({"programs": None}, "healthcheck.test", "programs names none"),
        ({"healthcheck": {"test": ["ask"]}}, "healthcheck.test", "a probe is"),
        ({"healthcheck": {"test": ["CMD", "ask", "http://localhost:1"]}}, "healthcheck.test", "asks localhost"),
        ({"tunables": {"a": "gomemlimt 0.8"}}, "tunables.a", "did you mean 'gomemlimit'"),
        ({"cap_add": ["NET_BIND_SERVCE"]}, "cap_add[0]", "did you mean 'NET_BIND_SERVICE'"),
        ({"stateful": None, "dump": ["ask"]}, "dump", "stateful is not true"),
        ({"stateful": None, "class": "batch"}, "class", "no health to check"),
        ({"variants": [{"user": "1:1"}]}, "variants[0]", "neither for which tag nor"),
        ({"variants": [{"tag": "*slim*", "programs": ["sh"]}]}, "variants[0].healthcheck.test", "have 'ask'"),
        ({"matc": {}}, "", "did you mean 'match'"),
    ],
)
def test_a_contradiction_is_refused(tmp_path: Path, changed: dict[str, Any], where: str, says: str) -> None:
    with pytest.raises(BattenError, match=says.replace("[", r"\[")) as caught:
        load(tmp_path, **changed)
    assert caught.value.where.removeprefix(str(tmp_path / "db.yaml")).removeprefix(": ") == where
    assert caught.value.fix


def test_a_fork_belongs_to_one_profile(tmp_path: Path) -> None:
    load(tmp_path)
    other = {**GOOD, "images": ["example/other"], "match": {"repositories": ["example/db"]}}
    (tmp_path / "other.yaml").write_text(yaml.safe_dump(other))
    with pytest.raises(BattenError, match="already in profile 'db'"):
        load_profiles(tmp_path)


@pytest.mark.parametrize(
    ("command", "runs"),
    [
        (["CMD", "/usr/bin/loki", "-health"], ["loki"]),
        (["CMD", "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/1; printf 'a|b' >&3; grep -q x <&3"], ["bash", "grep"]),
        (["CMD-SHELL", "A=1 redis-cli ping 2>&1 | grep -q -e PONG -e NO"], ["sh", "redis-cli", "grep"]),
        (["CMD-SHELL", "if [ -f /x ]; then ask; else exec /bin/other; fi || exit 1"], ["sh", "ask", "other"]),
        (["CMD-SHELL", 'test "$(ask it)" = "yes | no"'], ["sh"]),
        (["CMD", "python", "-c", "import os; os.wait"], ["python"]),
    ],
)
def test_the_programs_of_a_command(command: list[str], runs: list[str]) -> None:
    assert programs(command) == runs
