"""What a pytest session judges: hosts, expectations and waivers, from its options and environment.

Nothing but an inventory is needed, as ``--ansible-inventory`` or, under molecule's testinfra verifier, in
``MOLECULE_INVENTORY_FILE``. ``BATTEN_VERIFY_PLANS`` and ``BATTEN_VERIFY_WAIVERS`` name files that ``batten verify``
passes on; without them plans are made anew from the inventory, and waivers are read beside it.
"""

from __future__ import annotations

import os
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import testinfra

from batten.errors import BattenError
from batten.verify import expectations, scan, waivers
from batten.verify.catalogue import Case, cases, judge
from batten.verify.hosts import HostReport, describe
from batten.verify.live import endpoints, read, sysctl_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pytest

    from batten.verify.model import LiveHost, Verdict

SIDE_BY_SIDE = 32  # hosts that are read at once; each costs this machine one ssh
MOST_VANTAGES = 2
PLANS, WAIVERS, RESULTS = "BATTEN_VERIFY_PLANS", "BATTEN_VERIFY_WAIVERS", "BATTEN_VERIFY_RESULTS"


@dataclass
class Target:
    """One host under test: read once, at the first control that asks."""

    name: str
    host: Any
    inventory: str | None
    stacks: expectations.Stacks
    variables: Mapping[str, Any]
    _reading: Future[LiveHost] | None = None
    _described: bool = False

    def start(self, pool: Executor, others: Sequence[Target]) -> None:
        """Begin to read the host; ``others`` look at its ports where this machine shares no route with it."""
        self._reading = pool.submit(self._read, others)

    def live(self) -> LiveHost:
        """The host as it was when the session began; waits until it is read.

        :raises BattenError: it cannot be judged; the same error every time, without trying again.
        """
        assert self._reading
        return self._reading.result()

    def _read(self, others: Sequence[Target]) -> LiveHost:
        projects = {stack: plan.project for stack, plan in self.stacks.items()}
        backups = [plan.backup.directory for plan in self.stacks.values() if plan.backup]
        more = [*endpoints(self.stacks), *sysctl_names(self.variables)]
        live = read(self.name, self.host.run, projects, self.inventory, backups, more)
        vantages = [scan.from_here, *(scan.from_host(other.host.run) for other in others[:MOST_VANTAGES])]
        return replace(live, outside=scan.outside(live, self.stacks.values(), vantages))

    def described(self) -> HostReport | None:
        """What the report tells of this host, once; None if it was told already, or the host was not read."""
        if self._described or not self._reading or not self._reading.done() or self._reading.exception():
            return None
        self._described = True
        return describe(self.name, self.stacks, self._reading.result())


@dataclass
class Session:
    """Everything one run judges."""

    targets: list[Target]
    waivers: tuple[waivers.Waiver, ...]
    today: date = field(default_factory=date.today)
    _pool: Executor | None = None

    def cases(self) -> Iterator[tuple[Target, Case]]:
        for target in self.targets:
            yield from ((target, case) for case in cases(target.name, target.stacks))

    def judge(self, target: Target, case: Case) -> Verdict:
        """Judge one case; waived failures come back as such.

        The first call begins to read all hosts, side by side: one that hangs does not hold up the others.

        :raises BattenError: the host cannot be judged.
        """
        if self._pool is None:
            self._pool = ThreadPoolExecutor(min(len(self.targets), SIDE_BY_SIDE))
            for each in self.targets:
                each.start(self._pool, [other for other in self.targets if other is not each])
        verdict = judge(case, target.stacks, target.live(), target.variables)
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
    if plans_file:
        plans, variables = expectations.load(Path(plans_file)), expectations.load_variables(Path(plans_file))
    else:
        asked = expectations.from_inventory(str(inventory))
        if asked.errors:
            raise next(iter(asked.errors.values()))
        plans, variables = asked.plans, asked.variables
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
            targets.append(Target(name, host, inventory, plans[name], variables.get(name, {})))
    if not targets:
        raise BattenError(f"none of {', '.join(names)} is planned", str(plans_file or inventory), "check --hosts")
    return Session(targets, waivers.load(where))
