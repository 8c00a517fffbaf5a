"""Reading a host, waivers, the report: everything of verify that needs no host."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batten import runner, verify
from batten.errors import BattenError
from batten.verify import __main__ as verify_program
from batten.verify import expectations, report, waivers
from batten.verify.catalogue import FAMILIES, Case, catalogue, judge
from batten.verify.controls.privileges import secret_variables
from batten.verify.live import SCRIPTS, command, read
from batten.verify.model import Control, Report, Status, Verdict
from batten.verify.waivers import Waiver
from tests.verify.record import SNAPSHOT, recorded
from tests.verify.stack import PLAN

DAY = date(2026, 11, 23)


@dataclasses.dataclass
class Result:
    rc: int
    stdout: str
    stderr: str


def answering(rc: int, stdout: str, stderr: str) -> Callable[[str], Result]:
    return lambda _: Result(rc, stdout, stderr)


# Reading


def mask(text: str) -> str:
    """The script's own filter over lines such as ``docker inspect`` prints."""
    function = re.search(r"^mask_environment\(\) \{.*?^\}$", SCRIPTS[0].read_text(), re.DOTALL | re.MULTILINE)
    assert function
    done = subprocess.run(
        ["sh", "-c", f"{function[0]}\nmask_environment"], input=text, capture_output=True, text=True, check=True
    )
    return done.stdout


def inspected(*entries: str) -> str:
    lines = ",\n".join(f'                "{entry}"' for entry in entries)
    return (
        f'            "Env": [\n{lines}\n            ],\n            "Cmd": [\n                "A=b"\n            ],\n'
    )


@pytest.mark.parametrize(
    ("entry", "masked"),
    [
        ("PASSWORD=hunter2", "PASSWORD=value"),
        ("EMPTY=", "EMPTY="),
        ("PASSWORD_FILE=/run/secrets/password", "PASSWORD_FILE=path"),
        ("URL=postgres://user:hunter2@db/app", "URL=url-with-password"),
        ("URL=https://example.com/a@b", "URL=value"),
        ("ODD=a]b=c,", "ODD=value"),
        (r"QUOTED=a\"b", "QUOTED=value"),
        ("NAME", "NAME"),
        ("TOKENS=True", "TOKENS=word"),
        ("TTL=3600s", "TTL=number"),
        ("PASSWORD=no1", "PASSWORD=value"),
        ("PASSWORD=1234567890", "PASSWORD=value"),
    ],
)
def test_values_of_variables_do_not_leave_the_host(entry: str, masked: str) -> None:
    assert mask(inspected("FIRST=hunter2", entry, "LAST=hunter2")) == inspected("FIRST=value", masked, "LAST=value")


@settings(max_examples=20, deadline=None)
@given(st.text(st.characters(codec="ascii", exclude_categories=["C"], exclude_characters='"\\'), max_size=30))
def test_no_value_leaves_the_host(value: str) -> None:
    assert "s3cret" not in mask(inspected(f"A=s3cret{value}", f"B={value}s3cret", "C=s3cret"))


def test_the_script_is_posix_shell_and_of_secrets_reads_certificates_only() -> None:
    for script in SCRIPTS:
        assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
    lines = [line for each in SCRIPTS for line in each.read_text().splitlines()]
    script = [line.strip() for line in lines if not line.startswith("#")]
    listing = ("for part in", "quietly findmnt", "units=", "quietly head -c 24")
    certificates = ("for file in", "if [ -f", "name=$(quietly openssl x509")
    assert all(line.startswith((*listing, *certificates)) for line in script if "secrets" in line)
    assert [line for line in script if ".key" in line] == [
        'if [ -f "$file" ] && [ ! -e "${file%.crt}.key" ]; then cat "$file"; fi'
    ]


def test_the_recorded_batch_is_understood() -> None:
    live = recorded()
    assert {container.service for container in live.containers} == {"store", "web", "ui", "migrate"}
    web = next(container for container in live.containers if container.service == "web")
    assert web.process is not None
    assert web.process.nofile == ("4096", "4096")
    assert {one.uid for one in web.process.processes} == {1000}
    assert live.secret_mounts["small"].startswith("tmpfs")
    assert live.units["docker.service"]["ActiveState"] == "active"


def test_a_file_on_the_host_cannot_forge_a_section() -> None:
    """The boundary is made up for each read, so daemon.json cannot contain it."""
    forged = SNAPSHOT.read_text().replace('{"live-restore"', '\nbatten-guess host\nuid 7\n{"live-restore"')
    assert recorded(forged).facts["uid"] == "0"
    assert command("batten-1", {}) != command("batten-2", {})


def test_the_command_goes_through_sudo_only_where_it_must() -> None:
    text = command("b", {"web shop": "it's"})
    assert text.startswith('set --; [ "$(id -u)" = 0 ] || set -- sudo -n; "$@" sh -c ')
    assert text.endswith(""" 'web shop' 'it'"'"'s'""")
    assert len(text) < 100_000, "an argument may have 128 KiB (execve(2), MAX_ARG_STRLEN)"


@pytest.mark.parametrize(
    ("result", "what", "fix"),
    [
        ((255, "", "ssh: connect to host web1 port 22: Connection refused"), "Connection refused", "-m ping"),
        ((1, "", "sudo: a password is required"), "sudo refused", "without a password"),
        (
            (0, "\nB host\nuid 0\n\nB info\nCannot connect to the Docker daemon\n\nB end\n", ""),
            "does not answer",
            "docker",
        ),
    ],
)
def test_a_host_that_cannot_be_judged_says_what_to_type(
    result: tuple[int, str, str], what: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda _: "x")
    rc, stdout, stderr = result
    with pytest.raises(BattenError) as caught:
        read("web1", answering(rc, stdout.replace("B ", "batten-x "), stderr), {}, "inventories/mine")
    assert (caught.value.where, what in caught.value.what, fix in caught.value.fix) == ("web1", True, True)


def test_an_unreachable_host_is_an_error_of_the_report(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text("stack: {hosts: {no-such-host: {ansible_connection: community.docker.docker}}}\n")
    found = verify.run(inventory, plans={"no-such-host": {"small": PLAN}})
    assert (found.exit_code, found.controls, len(found.errors)) == (1, (), 1)
    assert found.errors[0]["fix"] == f"ansible no-such-host -i {inventory} -m ping"


# Controls


def test_controls_have_readable_ids_and_titles() -> None:
    for name, entry in catalogue().items():
        assert re.fullmatch(rf"({'|'.join(FAMILIES)})\.[a-z0-9-]+", name)
        assert entry.title[0].isupper()
        assert entry.cis is None or re.fullmatch(r"\d+(\.\d+)+", entry.cis)


def test_limits_are_read_from_cgroup_version_2_too() -> None:
    live = recorded()
    version2 = {"memory.max": "33554432", "memory.swap.max": "0", "cpu.max": "50000 100000", "pids.max": "20"}
    processes = {key: dataclasses.replace(found, cgroup=version2) for key, found in live.processes.items()}
    live = dataclasses.replace(live, processes=processes)
    for name in ("memory-cgroup", "swap-cgroup", "cpus-cgroup", "pids-cgroup"):
        case = Case(catalogue()[f"limits.{name}"], "recorded", "small", "web")
        assert judge(case, {"small": PLAN}, live).status == "pass"


@pytest.mark.parametrize(
    ("quota", "status"),
    [("12500 100000", "pass"), ("13000 100000", "pass"), ("12000 100000", "fail"), ("14000 100000", "fail")],
)
def test_systemd_keeps_a_quota_in_whole_percents(quota: str, status: str) -> None:
    """Seen on a virtual machine: 0.125 processors are 12500 of 100000, and 13000 after `systemctl daemon-reload`."""
    web = dataclasses.replace(PLAN.services["web"], cpus=0.125)
    live = recorded()
    processes = {key: dataclasses.replace(found, cgroup={"cpu.max": quota}) for key, found in live.processes.items()}
    case = Case(catalogue()["limits.cpus-cgroup"], "recorded", "small", "web")
    plans = {"small": dataclasses.replace(PLAN, services={"web": web})}
    assert judge(case, plans, dataclasses.replace(live, processes=processes)).status == status


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("kernel.unprivileged_bpf_disabled", "2", "pass"),  # as Debian 13 boots
        ("kernel.unprivileged_bpf_disabled", "0", "fail"),
        ("kernel.dmesg_restrict", "2", "fail"),
    ],
)
def test_a_stricter_kernel_setting_holds(name: str, value: str, status: str) -> None:
    live = recorded()
    live = dataclasses.replace(live, machine={**live.machine, "container": "none"}, sysctls={name: value})
    case = Case(catalogue()["host.sysctl-kernel"], "recorded")
    assert judge(case, {"small": PLAN}, live, {"host_sysctls": {name: 1}}).status == status


@pytest.mark.parametrize(
    ("entry", "secret"),
    [
        *((f"{name}=value", True) for name in ("DB_PASS", "SMTP_PASS", "PGPASSWORD", "MYSQL_PWD", "SENTRY_DSN")),
        *((f"{name}=value", True) for name in ("POSTGRES_PASSWORD", "api.key", "AWS_SECRET_ACCESS_KEY")),
        *((f"{name}=value", False) for name in ("PASSWORD_MIN_LENGTH", "ACCESS_TOKEN_TTL", "TOKEN_URL", "GPG_KEY")),
        *((f"{name}=value", False) for name in ("AWS_ACCESS_KEY_ID", "KEYBOARD", "PATH", "POSTGRES_PASSWORD_FILE")),
        ("GF_SECURITY_ADMIN_PASSWORD__FILE=value", False),
        ("NEXT_PUBLIC_STACK_PUBLISHABLE_CLIENT_KEY=value", False),
        ("DB_PASS=path", False),
        ("DB_PASS=", False),
        ("DB_PASS=word", False),
        ("JWT_AGE=number", False),
        ("DB_PASS=number", True),
        ("DATABASE_URL=url-with-password", True),
        ("DATABASE_URL=value", False),
    ],
)
def test_variables_that_look_like_credentials(entry: str, secret: bool) -> None:
    assert secret_variables([entry]) == [entry.partition("=")[0]] * secret


def test_plans_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    path.write_text(expectations.dump({"web1": {"small": PLAN}}))
    assert expectations.load(path) == {"web1": {"small": PLAN}}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"hosts": {"web1": {}}}', '{"hosts": {"a": {"stacks": {"s": {}}}}}'])
def test_a_file_that_is_no_plan_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "plans.json"
    path.write_text(text)
    with pytest.raises(BattenError, match="plan"):
        expectations.load(path)


@pytest.mark.parametrize(
    ("group", "said"),
    [("docker:x:42:bob", "docker_group docker:x:42:bob\ndocker_users ann jo"), ("", "docker_group \ndocker_users")],
)
def test_who_has_docker_as_his_own_group_is_read(group: str, said: str) -> None:
    found = re.search(r"^docker_group=.*?^done\)\"$", SCRIPTS[0].read_text(), re.DOTALL | re.MULTILINE)
    assert found
    script = """quietly() { "$@"; }
getent() {
    [ "$1" = passwd ] || { echo "$group"; return; }
    printf '%s\\n' root:x:0:0::/:/bin/sh 'ann:x:1000:42:Ann B:/home/ann:/bin/sh' eve:x:42:1::/: jo:x:1001:42::/home/jo:
}
"""
    done = subprocess.run(
        ["sh", "-c", script + found[0]], env={**os.environ, "group": group}, capture_output=True, text=True, check=True
    )
    assert [line.rstrip() for line in done.stdout.splitlines()] == [line.rstrip() for line in said.splitlines()]


def test_a_limit_holds_for_plans_from_a_file_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of other hosts no variables would be known, and half of their controls would not apply."""
    path = tmp_path / "plans.json"
    path.write_text(expectations.dump({name: {"small": PLAN} for name in ("web1", "web2")}))
    asked: list[tuple[set[str], set[str]]] = []

    def run(_: str, *, plans: Any, variables: Any, **__: Any) -> Report:
        asked.append((set(plans), set(variables)))
        return Report(())

    def load_hosts(_: str, limit: str | None) -> dict[str, dict[str, Any]]:
        return {name: {"host_audit": True} for name in ([limit] if limit else ["web1", "web2"])}

    monkeypatch.setattr(verify_program, "run", run)
    monkeypatch.setattr(runner, "load_hosts", load_hosts)
    words = ["-i", "inventory", "--plans", str(path), "--json"]
    assert verify_program.main([*words, "--limit", "web1"]) == 0
    assert verify_program.main(words) == 0
    assert asked == [({"web1"}, {"web1"}), ({"web1", "web2"}, {"web1", "web2"})]
    assert verify_program.main([*words, "--limit", "web3"]) == 1
    assert "it has no plan of web3, only of web1, web2" in capsys.readouterr().err


# Waivers

WAIVER = Waiver("limits.memory", "being sized", DAY, host="web1", service="api")


@pytest.mark.parametrize(
    ("control", "host", "service", "today", "status"),
    [
        ("limits.memory", "web1", "api", DAY, "waived"),
        ("limits.memory", "web1", "api", date(2026, 11, 24), "fail"),
        ("limits.memory", "web2", "api", DAY, "fail"),
        ("limits.memory", "web1", "db", DAY, "fail"),
        ("limits.memory", "web1", None, DAY, "fail"),
        ("limits.pids", "web1", "api", DAY, "fail"),
    ],
)
def test_a_waiver_covers_what_it_names_until_it_expires(
    control: str, host: str, service: str | None, today: date, status: Status
) -> None:
    assert waivers.apply(Verdict("fail", "why"), control, host, service, [WAIVER], today).status == status


def test_a_waiver_changes_nothing_that_holds() -> None:
    assert waivers.apply(Verdict("pass", "x"), "limits.memory", "web1", "api", [WAIVER], DAY) == Verdict("pass", "x")


def judged(host: str, status: Status, service: str | None = "api") -> Control:
    return Control("limits.memory", "The limit", host, "shop", service, status, "", None)


def test_expired_and_idle_waivers_are_told() -> None:
    expired = dataclasses.replace(WAIVER, expires=date(2026, 1, 1))
    said = waivers.notes([WAIVER, expired], [judged("web1", "pass")], DAY)
    assert said == (
        "the waiver of limits.memory on web1 api covers nothing that fails: remove it",
        "the waiver of limits.memory on web1 api expired on 2026-01-01 and does not count",
    )


@pytest.mark.parametrize(
    ("controls", "state", "told"),
    [
        ([], "unjudged", ""),
        ([judged("web2", "pass")], "unjudged", ""),  # --limit web2, or web1 does not answer
        ([judged("web1", "not_applicable")], "unjudged", "covers nothing that was judged now"),
        ([judged("web1", "pass", "db")], "unjudged", "covers nothing that was judged now"),
        ([judged("web1", "pass")], "unused", "covers nothing that fails: remove it"),
        ([judged("web1", "waived"), judged("web2", "pass")], "counts", ""),
    ],
)
def test_a_waiver_of_what_was_not_judged_is_not_to_be_removed(controls: list[Control], state: str, told: str) -> None:
    (found,) = waivers.told([WAIVER], controls, DAY)
    assert found["state"] == state
    said = waivers.notes([WAIVER], controls, DAY)
    assert said == ((f"the waiver of limits.memory on web1 api {told}",) if told else ())


def test_waivers_survive_their_file(tmp_path: Path) -> None:
    path = tmp_path / "waivers.yaml"
    path.write_text(waivers.dump([WAIVER]))
    assert waivers.load(path) == (WAIVER,)
    assert waivers.beside(tmp_path) == waivers.beside(tmp_path / "hosts.yml") == path


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- {control: limits.memry, reason: x, expires: 2027-01-01}", "did you mean limits.memory"),
        ("- {control: limits.memory, expires: 2027-01-01}", "reason is missing"),
        ("- {control: limits.memory, reason: x}", "expires is missing"),
        ("- {control: limits.memory, reason: x, expires: soon}", "YYYY-MM-DD"),
        ("- {control: limits.memory, reason: x, expires: 2027-01-01, hots: web1}", "unknown key 'hots'"),
        ("control: limits.memory", "expected a list"),
        ("- limits.memory", "expected a mapping"),
        ("- {", "not YAML"),
    ],
)
def test_a_wrong_waiver_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "waivers.yaml"
    path.write_text(text)
    with pytest.raises(BattenError) as caught:
        waivers.load(path)
    assert said in str(caught.value)


# Report


def control(status: Status, name: str = "limits.memory", service: str | None = "api") -> Control:
    return Control(name, "A title", "web1", "shop" if service else None, service, status, f"why {status}", "5.11")


@pytest.mark.parametrize(
    ("statuses", "errors", "code"),
    [
        (["pass", "not_applicable"], [], 0),
        (["pass", "waived"], [], 0),
        (["pass", "fail"], [], 2),
        (["fail"], [{"host": "web2", "what": "gone", "fix": "ping"}], 1),
    ],
)
def test_exit_codes(statuses: list[Status], errors: list[dict[str, str]], code: int) -> None:
    assert Report(tuple(map(control, statuses)), tuple(errors)).exit_code == code


def test_the_document_has_the_shape_that_tools_rely_on() -> None:
    document = Report((control("pass"), control("fail"))).to_json()
    assert set(document) == {"at", "controls", "hosts", "summary", "waivers"}
    keys = {"id", "title", "host", "stack", "service", "status", "evidence", "cis"}
    assert all(set(one) == keys for one in document["controls"])
    assert (document["summary"]["pass"], document["summary"]["fail"]) == (1, 1)


def test_the_text_has_failures_first_with_evidence_and_names_stand_ins() -> None:
    text = report.text(
        Report(
            (control("pass"), control("waived", "limits.pids"), control("fail", "daemon.icc", None)),
            notes=("a note",),
            stand_ins=(
                {"host": "web1", "stack": "shop", "service": "loki", "image": "grafana/loki:3", "software": "server"},
            ),
            seconds=1.25,
        )
    )
    assert text.splitlines() == [
        "1 of 3 controls fail, in 1.2 s",
        "web1: 1 fail, 1 waived, 1 hold",
        "  FAIL   daemon.icc   host      CIS 5.11: why fail",
        "  waived limits.pids  shop/api  CIS 5.11: why waived",
        "note: a note",
        "stand-ins, a server with its documented endpoints only: grafana/loki:3 (loki)",
    ]


def test_several_hosts_are_summed_up_before_their_details() -> None:
    controls = (
        *(dataclasses.replace(control("pass"), host=f"web{number}") for number in range(1, 4)),
        dataclasses.replace(control("fail"), host="web2"),
    )
    text = report.text(Report(controls, ({"host": "web9", "what": "gone", "fix": "ping it"},)))
    assert text.splitlines() == [
        "1 host could not be judged, 1 control failed, in 0.0 s",
        "  web1  1 hold",
        "  web2  1 fail, 1 hold",
        "  web3  1 hold",
        "  web9  not judged",
        "ERROR web9: gone",
        "  fix: ping it",
        "web2: 1 fail, 1 hold",
        "  FAIL   limits.memory  shop/api  CIS 5.11: why fail",
    ]


def test_evidence_does_not_steer_the_terminal() -> None:
    forged = dataclasses.replace(control("fail"), evidence="\x1b[2Jall hold\r\n")
    assert "CIS 5.11: \ufffd[2Jall hold\ufffd\ufffd" in report.text(Report((forged,)))


def test_a_narrow_terminal_gets_the_evidence_below_and_no_word_is_broken() -> None:
    long = dataclasses.replace(control("fail"), evidence="memory is 2147483648 " * 4 + "x" * 60)
    lines = report.text(Report((long,)), width=40).splitlines()
    assert lines[2:4] == ["  FAIL   limits.memory  shop/api", "         CIS 5.11: memory is 2147483648"]
    assert lines[-1].strip() == "x" * 60
    assert all(len(line) <= 40 for line in lines[:-1])


def test_every_control_can_be_listed() -> None:
    assert "limits.memory" in report.text(Report((control("pass"),)), every=True)
    assert "limits.memory" not in report.text(Report((control("pass"),)))
