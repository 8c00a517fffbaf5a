"""PgBouncer takes no more connections than PostgreSQL and its role grant, however large the host."""

from __future__ import annotations

import configparser

import pytest

from batten.plan.model import Capacity
from batten.plan.settings import StackSettings
from batten.plan.stack import load_inputs, plan_stack
from batten.render import files

RESERVED = 3  # superuser_reserved_connections
OTHERS = 20  # Stack Auth, the exporter, backups and people


@pytest.mark.parametrize("gibibytes", [3, 4, 8, 64])
def test_both_login_roles_together_fit_into_what_the_server_grants(gibibytes: int) -> None:
    settings = StackSettings.from_variables({"stack_name": "shop", "stack_profiles": ["auth"], "stack_build": "host"})
    capacity = Capacity(memory_bytes=gibibytes * 1024**3, cpus=4, default_addresses=("203.0.113.1",))
    plan, _ = plan_stack(settings, capacity)
    definition = load_inputs(settings).definition
    text = files(plan, settings, settings.base.parent / "files")["pgbouncer"].entries["pgbouncer.ini"]
    parser = configparser.ConfigParser(comment_prefixes=(";",), interpolation=None)
    parser.read_string(text)
    pool = parser["pgbouncer"]
    most = int(pool["max_db_connections"])
    assert definition.postgres is not None
    assert int(pool["default_pool_size"]) == most <= definition.postgres["roles"]["app"]["connection_limit"]
    assert most + RESERVED + OTHERS <= int(plan.services["postgres"].tunables["max_connections"])
