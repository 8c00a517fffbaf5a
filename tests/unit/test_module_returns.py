"""What a module returns is what its RETURN says: its ``main`` runs to the end, and the host below it is made up."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace as Made
from typing import Any

import pytest
import yaml

from ansible_collections.batten.core.plugins.module_utils import apply, credentials, drift, engine, host, rotation, sync
from ansible_collections.batten.core.plugins.module_utils.compare import Difference
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths
from batten.plan.drift import host_rules
from batten.plan.schema import At

MODULES = {path.stem for path in (Path(__file__).parents[2] / "plugins/modules").glob("*.py")} - {"__init__"}
OF_ANSIBLE = {"changed", "diff", "warnings"}  # what any module may return, and none documents
NO_ENGINE = Made(answers=lambda: False)
PLAIN = Difference(None, "host", "a", "mode", "0600", "0644", "rewrite")
FULL = Difference("shop", "service", "a", "memory", 1, 2, "update", 1.5, ("a",), "a load test", "2027-01-31")
ENGINE = engine.Difference("daemon.json", "live-restore", True, None, "reload")
SEEN = Made(engine_version="26.1.5", compose_version="2.26.1", nofile_limit=1048576)

# By module: its parameters, and what stands for the names that it uses of the host.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "capacity": ({}, {"Docker": lambda: NO_ENGINE}),
    "docker_engine": (
        {},
        {
            "engine_host.observe": lambda: SEEN,
            "engine.compare": lambda *_: Made(differences=[ENGINE], changed=True, engine="reload", warnings=[]),
            "engine.diff": lambda *_: [],
            "engine.act": lambda *_: SEEN,
            "engine.remember": lambda *_: [],
        },
    ),
    "drift": (
        {},
        {
            "Docker": lambda: NO_ENGINE,
            "look": lambda *_, **__: drift.Report("2026-11-23T06:00:00Z", drift=[FULL.to_json()]),
        },
    ),
    "host": ({}, {"host.run": lambda *_: host.Outcome((PLAIN,), (), (), ("tcp 80",))}),
    "infisical": (
        {"stack": "infisical", "enroll": [{"stack": "shop", "host": "web1", "public_key": "PEM"}]},
        {
            "Client": lambda *_, **__: nullcontext(Made(remarks=[])),
            "held": lambda _: nullcontext(),
            "cms.seal": lambda *_: "CMS",
            "infisical_provision.initialized": lambda _: True,
            "infisical_provision.level": lambda _: "v4",
            "infisical_provision.bootstrap": lambda *_: [],
            "infisical_provision.issue": lambda *_: Made(access=Made(url="https://a.example"), secret_id="one"),
        },
    ),
    "infisical_login": (
        {"stack": "shop"},
        {
            "StackPaths": lambda _: Made(sealing_key=Made(exists=lambda: True)),
            "cms.public_key": lambda _: "PEM",
            "infisical_access.load": lambda _: None,
        },
    ),
    "rotate": (
        {"stack": "shop", "host": "web1"},
        {"host_rotation.rotate": lambda *_: {"shop": rotation.Result().to_json()}},
    ),
    "secrets": (
        {"stack": "shop", "host": "web1", "secrets": {"generate": {}}, "reloads": ["api"]},
        {
            "lock.held": lambda _: nullcontext(),
            "program.install": lambda **_: False,
            "sync.vault": lambda _: None,
            "sync.Sync": lambda *_: Made(run=sync.Result),
            "credentials.deliver": lambda *_: credentials.Delivery(True, ["api/password"], {"api": "new"}),
        },
    ),
    "stack": (
        {"release": {"stack": "shop"}},
        {"apply": lambda *_: apply.Result("new", "old", differences=[FULL.to_json()])},
    ),
    "uninstall": ({"stack": "shop"}, {"remove": lambda *_: ["container shop-api-1"]}),
}


def texts(module: str, name: str) -> Any:
    loaded = import_module(f"ansible_collections.batten.core.plugins.modules.{module}")
    return yaml.safe_load(getattr(loaded, name))


class _EndedError(Exception):
    """Carries what a module would print."""


def returned(module: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Run ``main`` of a module whose host is made up, and return what it returns."""
    loaded = import_module(f"ansible_collections.batten.core.plugins.modules.{module}")

    def end(**result: Any) -> None:
        raise _EndedError(result)

    def made(argument_spec: Mapping[str, Mapping[str, Any]], **_: Any) -> Made:
        defaults = {name: option.get("default") for name, option in argument_spec.items()}
        return Made(params={**defaults, **given}, check_mode=False, exit_json=end, fail_json=pytest.fail, warn=print)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loaded, "AnsibleModule", made)
        with pytest.raises(_EndedError) as caught:
            loaded.main()
    return dict(caught.value.args[0])


def test_every_module_has_a_case_but_the_one_that_runs_on_the_controller() -> None:
    assert set(CASES) == MODULES - {"check_inventory"}
    assert texts("check_inventory", "RETURN") == {}


@pytest.mark.parametrize("module", CASES)
def test_a_module_returns_what_it_documents(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, host_below = CASES[module]
    loaded = import_module(f"ansible_collections.batten.core.plugins.modules.{module}")
    if hasattr(loaded, "StackPaths"):
        monkeypatch.setattr(loaded, "StackPaths", lambda stack: StackPaths(stack, str(tmp_path)))
    for name, stand_in in host_below.items():
        path, _, attribute = name.rpartition(".")
        monkeypatch.setattr(getattr(loaded, path) if path else loaded, attribute, stand_in)
    result, documented = returned(module, given), texts(module, "RETURN")
    assert set(result) - OF_ANSIBLE == set(documented)
    for name, one in documented.items():
        rows = result[name] if "contains" in one else []
        assert all(set(row) == set(one["contains"]) for row in rows), (name, rows)


def test_a_drift_rule_is_written_in_a_task_as_the_example_of_module_host_shows() -> None:
    (rules,) = [task["batten.core.host"]["drift"] for task in texts("host", "EXAMPLES") if "drift" in str(task)]
    (rule,) = host_rules(rules, At("EXAMPLES", "drift"))
    assert (rule.facet, rule.service, rule.until) == ("sysctl", "net.ipv4.tcp_syncookies", "2027-01-31")
