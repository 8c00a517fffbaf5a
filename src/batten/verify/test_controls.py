"""The verify suite as plain pytest-testinfra: one test for each control on each thing it judges.

``pytest --ansible-inventory=INVENTORY --pyargs batten.verify`` runs it. ``batten verify`` and
``playbooks/verify.yml`` run the same file and collect what it records.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from batten.errors import BattenError
from batten.verify import session
from batten.verify.catalogue import Case, container_of, result

if TYPE_CHECKING:
    from collections.abc import Callable


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    try:
        judged = session.from_pytest(metafunc.config)
    except BattenError as error:
        raise pytest.UsageError(str(error)) from error
    parameters = [(judged, target, case) for target, case in judged.cases()]
    metafunc.parametrize(
        ("judged", "target", "case"), parameters, ids=[f"{case.host}-{case}" for _, _, case in parameters]
    )


def test_control(
    judged: session.Session, target: session.Target, case: Case, record_property: Callable[[str, Any], None]
) -> None:
    try:
        verdict = judged.judge(target, case)
    except BattenError as error:
        record_property("batten_error", {"host": case.host, "what": error.what, "fix": error.fix})
        pytest.fail(str(error), pytrace=False)
    record_property("batten_control", asdict(result(case, verdict)))
    if host := target.described():
        record_property("batten_host", asdict(host))
    if case.service and (container := container_of(target.stacks[str(case.stack)], case.service, target.live())):
        record_property("batten_stand_in", container.labels.get("batten.standin.software", ""))
    if verdict.status == "fail":
        pytest.fail(f"{case.entry.title}: {verdict.evidence}", pytrace=False)
    if verdict.status == "waived":
        pytest.xfail(verdict.evidence)
    if verdict.status == "not_applicable":
        pytest.skip(verdict.evidence)
