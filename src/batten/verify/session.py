"""What a pytest session judges: hosts, expectations and waivers, from its options and environment.

Nothing but an inventory is needed, as ``--ansible-inventory`` or, under molecule's testinfra verifier, in
``MOLECULE_INVENTORY_FILE``. ``BATTEN_VERIFY_PLANS`` and ``BATTEN_VERIFY_WAIVERS`` name files that ``batten verify``
passes on; without them plans are made anew from the inventory, and waivers are read beside it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import testinfra

from batten.errors import BattenError
from batten.verify import expectations, waivers
from batten.verify.catalogue import Case, cases, judge
from batten.verify.hosts import HostReport, describe
from batten.verify.live import endpoints, read

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from batten.verify.model import LiveHost, Verdict

PLANS, WAIVERS, RESULTS = "BATTEN_VERIFY_PLANS", "BATTEN_VERIFY_WAIVERS", "BATTEN_VERIFY_RESULTS"


@dataclass
class Target:
    """One host under test: read once, at the first control that asks."""

    name: str
    host: Any
    inventory: str | None
    stacks: expectations.Stacks
    _live: LiveHost | None = None
    _error: BattenError | None = None
    _described: bool = False

    def live(self) -> LiveHost:
        """The host as it was at the first call.

        :raises BattenError: it cannot be judged; the same error every time, without trying again.
        """
        if self._error:
            raise self._error
        if self._live is None:
            projects = {stack: plan.project for stack, plan in self.stacks.items()}
            backups = [plan.backup.directory for plan in self.stacks.values() if plan.backup]
            try:
                self._live = read(self.name, self.host.run, projects, self.inventory, backups, endpoints(self.stacks))
            except BattenError as error:
                self._error = error
                raise
        return self._live

    def described(self) -> HostReport | None:
        """What the report tells of this host, once; None if it was told already, or the host was not read."""
        if self._described or self._live is None:
            return None
        self._described = True
        return describe(self.name, self.stacks, self._live)


@dataclass
class Session:
    """Everything one run judges."""

    targets: list[Target]
    waivers: tuple[waivers.Waiver, ...]
    today: date = field(default_factory=date.today)

    def cases(self) -> Iterator[tuple[Target, Case]]:
        for target in self.targets:
            yield from ((target, case) for case in cases(target.name, target.stacks))

    def judge(self, target: Target, case: Case) -> Verdict:
        """Judge one case; waived failures come back as such.

        :raises BattenError: the host cannot be judged.
        """
        verdict = judge(case, target.stacks, target.live())
        return waivers.apply(verdict, case.entry.id, case.host, case.service, self.waivers, self.today)


def from_pytest(config: pytest.Config) -> Session:
    """Build the session that pytest's options and the environment ask for.

    :raises BattenError: there is no inventory, no plan, or a waiver that is wrong.
    """
    option = config.option
    inventory = option.ansible_inventory or os.environ.get("MOLECULE_INVENTORY_FILE")
    plans_file, waivers_file = os.environ.get(PLANS), os.environ.get(WAIVERS)
    if not inventory and not (plans_file and option.hosts):
        raise BattenError("no inventory", "verify", "pass --ansible-inventory=INVENTORY")
    plans = expectations.load(Path(plans_file)) if plans_file else expectations.from_inventory(str(inventory))
    where = Path(waivers_file) if waivers_file else waivers.beside(Path(str(inventory)))
    names = option.hosts.split(",") if option.hosts else [f"ansible://{name}" for name in plans]
    targets = []
    for host in testinfra.get_hosts(
        names,
        connection=option.connection,
        ssh_config=option.ssh_config,
        ssh_identity_file=option.ssh_identity_file,
        sudo=option.sudo,
        sudo_user=option.sudo_user,
        ansible_inventory=inventory,
        force_ansible=option.force_ansible,
    ):
        name = getattr(host.backend, "host", None) or host.backend.get_hostname()
        if name in plans:
            targets.append(Target(name, host, inventory, plans[name]))
    if not targets:
        raise BattenError(f"none of {', '.join(names)} is planned", str(plans_file or inventory), "check --hosts")
    return Session(targets, waivers.load(where))
