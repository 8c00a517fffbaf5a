"""Progress out of ansible-runner's events: lines, what changed, failures whole and last."""

from __future__ import annotations

import io
from typing import Any

import pytest

from batten import runner
from batten.cli import main
from batten.cli.progress import Progress, Step, change_lines, failure_text, step_of


def event(kind: str, task: str = "Deploy", host: str = "web1", **data: Any) -> dict[str, Any]:
    return {"event": kind, "stdout": data.pop("stdout", ""), "event_data": {"task": task, "host": host, **data}}


@pytest.mark.parametrize(
    ("given", "status"),
    [
        (event("runner_on_ok", res={"changed": False}, duration=0.5), "ok"),
        (event("runner_on_ok", res={"changed": True}), "changed"),
        (event("runner_on_failed", res={"msg": "no"}), "failed"),
        (event("runner_on_failed", res={"msg": "no"}, ignore_errors=True), None),
        (event("runner_on_unreachable", res={"msg": "no"}), "unreachable"),
        (event("runner_on_skipped"), None),
        ({"event": "playbook_on_stats"}, None),
    ],
)
def test_which_events_end_a_step(given: dict[str, Any], status: str | None) -> None:
    step = step_of(given)
    assert (step.status if step else None) == status


def test_a_run_is_one_line_a_step_then_what_changed_then_failures() -> None:
    out = io.StringIO()
    progress = Progress(out, now=iter(range(100)).__next__)
    progress(event("runner_on_start", "Install"))
    progress(event("runner_on_ok", "Install", res={"changed": True}, duration=12.34))
    progress(event("runner_on_ok", "Look", res={"changed": False}, duration=0.1))
    progress(event("runner_on_failed", "Deploy", res={"msg": "api is not healthy\n  fix: read its log"}, duration=61))
    progress.close(2)
    lines = out.getvalue().splitlines()
    assert lines[0] == "changed       12.3 s  web1  Install"
    assert lines[1] == "ok             0.1 s  web1  Look"
    assert "changed:" in lines
    assert lines.index("  web1: Install") > lines.index("changed:")
    assert lines[-3:] == ["web1: Deploy: failed", "  api is not healthy", "    fix: read its log"]


def test_a_run_that_changes_nothing_says_so() -> None:
    out = io.StringIO()
    progress = Progress(out)
    progress(event("runner_on_ok", res={}))
    progress.close(0)
    assert "nothing to change" in out.getvalue()


def test_what_ansible_says_before_any_task_is_not_lost() -> None:
    out = io.StringIO()
    progress = Progress(out)
    progress({"event": "verbose", "stdout": "[ERROR]: the playbook could not be found"})
    progress.close(1)
    assert out.getvalue().splitlines()[-1] == "[ERROR]: the playbook could not be found"


def test_verbose_passes_on_ansibles_own_output() -> None:
    out = io.StringIO()
    progress = Progress(out, verbosity=1)
    progress(event("runner_on_ok", res={}, stdout="ok: [web1]"))
    assert out.getvalue() == "ok: [web1]\n"


def test_a_commands_own_output_belongs_to_its_failure() -> None:
    step = Step("web1", "Run", "failed", 1, {"msg": "non-zero return code", "stderr": "no such file"})
    assert failure_text(step).splitlines() == [
        "web1: Run: failed",
        "  non-zero return code",
        "  stderr:",
        "    no such file",
    ]


@pytest.mark.parametrize("key", ["actions", "pending"])
def test_a_modules_own_actions_are_told_one_by_one(key: str) -> None:
    actions = [{"action": "recreate", "service": "api", "why": "image differs"}, "wrote /etc/x"]
    step = Step("web1", "Deploy", "changed", 1, {key: actions})
    assert change_lines(step) == ["web1: recreate api: image differs", "web1: wrote /etc/x"]


def test_what_waits_is_told_with_its_cost_also_when_nothing_changed() -> None:
    out = io.StringIO()
    progress = Progress(out)
    waits = [{"service": "db", "action": "recreate", "why": "shared_buffers=512MB (now 256MB)", "seconds": 7.5}]
    progress(event("runner_on_ok", res={"deferred": waits}))
    progress.close(0)
    assert "  web1: recreate db (7.5 s): shared_buffers=512MB (now 256MB)" in out.getvalue().splitlines()
    assert "nothing to change" in out.getvalue()


def test_what_up_is_asked_reaches_the_playbook(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[Any] = []

    def play(*_: Any, **options: Any) -> int:
        given.append(options["extra"])
        return 0

    monkeypatch.setattr(runner, "load_hosts", lambda *_: {})
    monkeypatch.setattr(runner, "run_playbook", play)
    assert main(["up", "-i", "inv", "--defer-stateful", "--rebalance"]) == 0
    assert main(["up", "-i", "inv"]) == 0
    assert given == [{"stack_defer_stateful": True, "stack_rebalance": True}, None]
    assert """-e '{"stack_defer_stateful": true, "stack_rebalance": true}'""" in capsys.readouterr().err


def test_json_of_a_run_has_steps_by_host_without_bookkeeping() -> None:
    progress = Progress(io.StringIO())
    progress(event("runner_on_ok", res={"changed": True, "invocation": {}, "_ansible_no_log": False, "release": "r1"}))
    hosts = progress.summary.to_json()["hosts"]
    assert hosts["web1"]["changed"] is True
    assert hosts["web1"]["failed"] is False
    assert hosts["web1"]["steps"] == [
        {"task": "Deploy", "status": "changed", "seconds": 0.0, "result": {"release": "r1"}}
    ]
