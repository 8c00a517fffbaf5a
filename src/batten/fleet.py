"""From an inventory to the plans of its hosts: variables, where each host's capacity comes from, plans."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from batten import reach, runner
from batten.errors import BattenError
from batten.plan.infisical import host_stacks
from batten.plan.model import Capacity, Plan, StackPlan, capacity_from_json, stack_from_json
from batten.plan.settings import StackSettings
from batten.plan.stack import plan


@dataclass(frozen=True)
class Observed:
    """What is known of a host: its capacity, and the plans of the stacks that it runs, by name."""

    capacity: Capacity
    plans: Mapping[str, StackPlan] = field(default_factory=dict)


Ask = Callable[[list[str]], Mapping[str, Observed]]
Stacks = Mapping[str, Sequence[StackSettings]]
"""The stacks of each host, batten's own Infisical first."""


@dataclass(frozen=True)
class Given:
    """Capacity from the command line: bytes and processors; None where nothing is given."""

    memory_bytes: int | None = None
    cpus: float | None = None


def settings_of(inventory: str, limit: str | None = None) -> dict[str, tuple[StackSettings, ...]]:
    """Return the stacks of each host of the inventory. Relative paths are below the inventory's directory."""
    return stacks_of(inventory, runner.load_hosts(inventory, limit))


def stacks_of(inventory: str, hosts: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[StackSettings, ...]]:
    """Return the stacks of each host whose variables are known already (``runner.load_hosts``)."""
    root = root_of(inventory)
    return {host: host_stacks(variables, source=f"{inventory}: {host}", root=root) for host, variables in hosts.items()}


def root_of(inventory: str) -> Path:
    """Return the directory of an inventory, as Ansible's ``inventory_dir`` has it."""
    return (Path(inventory) if Path(inventory).is_dir() else Path(inventory).parent).resolve()


def plan_inventory(inventory: str, limit: str | None = None, given: Given | None = None) -> Plan:
    """Return the plan of every host of an inventory; hosts are asked only where nothing else tells their capacity.

    Raises :class:`~batten.errors.BattenError` for what cannot be deployed, or a host that cannot be asked.
    """
    return plan_fleet(inventory, settings_of(inventory, limit), given or Given())


def plan_fleet(inventory: str, settings: Stacks, given: Given) -> Plan:
    """Return the plan of hosts whose settings are known already; as :func:`plan_inventory`."""
    root = root_of(inventory)
    observed = observe(settings, given, lambda host: read_record(root, host), lambda hosts: ask_hosts(inventory, hosts))
    return plan(
        {host: (settings[host], observed[host].capacity) for host in settings},
        {host: observed[host].plans for host in settings},
    )


def observe(
    settings: Stacks, given: Given, recorded: Callable[[str], Observed | None], ask: Ask
) -> dict[str, Observed]:
    """Return what is known of each host: from the command line, else the inventory, else the last run, else by asking.

    Before the first run, a droplet's size stands for asking it: there may be no droplet yet.
    A value of the command line stands whatever the others say of the rest.
    """
    known: dict[str, Observed] = {}
    for host, stacks in settings.items():  # stack_capacity is the host's, the same in each of its stacks
        memory = given.memory_bytes or stacks[0].capacity_memory_bytes
        cpus = given.cpus or stacks[0].capacity_cpus
        if memory and cpus:
            # A question with figures of its own is about a new host; what the inventory says is about the one there is.
            by_hand = given.memory_bytes or given.cpus
            record = None if by_hand else recorded(host)
            source = "the command line" if by_hand else "the inventory"
            known[host] = Observed(Capacity(memory, cpus, source=source), record.plans if record else {})
        elif record := recorded(host):
            date = record.capacity.observed_at or "an unknown date"
            known[host] = replace(record, capacity=replace(record.capacity, source=f"the run of {date}"))
        elif size := stacks[0].size:
            known[host] = Observed(Capacity(size.memory_bytes, size.cpus, source=f"the size {size.slug}"))
    if unknown := [host for host in settings if host not in known]:
        known |= ask(unknown)
    return {host: _with(known[host], given) for host in settings}


def _with(observed: Observed, given: Given) -> Observed:
    capacity = observed.capacity
    return replace(
        observed,
        capacity=replace(
            capacity,
            memory_bytes=given.memory_bytes or capacity.memory_bytes,
            cpus=given.cpus or capacity.cpus,
        ),
    )


def record_path(root: Path, host: str) -> Path:
    """Return where the last run kept a host's capacity (XDG Base Directory Specification: ``$XDG_STATE_HOME``).

    ``root`` is the inventory's directory: another inventory's host of the same name is another host.
    """
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    inventory = hashlib.sha256(str(root.resolve()).encode()).hexdigest()[:12]
    return Path(state) / "batten" / "capacity" / f"{host}.{inventory}.json"


def read_record(root: Path, host: str) -> Observed | None:
    """Return what the last run kept of a host; None if there is nothing, or nothing that can be read."""
    try:
        return observed_from(json.loads(record_path(root, host).read_text()))
    except (OSError, ValueError, TypeError, KeyError, BattenError):
        return None


def observed_from(data: Mapping[str, Any]) -> Observed:
    """Return an Observed from what ``batten.core.capacity`` returns, passing over keys of another version."""
    plans = {name: stack_from_json(stack) for name, stack in data.get("plans", {}).items()}
    return Observed(capacity_from_json(data["capacity"]), plans)


def ask_hosts(inventory: str, hosts: list[str]) -> dict[str, Observed]:
    """Ask hosts for their capacity, through the module ``batten.core.capacity``; they are not changed."""
    found, problems = try_hosts(inventory, hosts)
    if problems:
        raise BattenError(
            "nothing tells the memory of these hosts, and they did not answer: "
            + "; ".join(f"{host}: {error.what}" for host, error in problems.items()),
            inventory,
            f"bring them up (ansible all -m ping -i {inventory} shows who answers); without them, set stack_capacity: "
            "{memory: 8G, cpus: 4}, or give plan and render --memory and --cpus",
        )
    return found


def try_hosts(inventory: str, hosts: list[str]) -> tuple[dict[str, Observed], dict[str, BattenError]]:
    """Return what is known of the hosts that answered, and why the others did not."""
    found: dict[str, Observed] = {}
    problems: dict[str, BattenError] = {}

    def on_event(event: Mapping[str, Any]) -> None:
        data = event.get("event_data", {})
        result = data.get("res") or {}
        if event.get("event") == "runner_on_ok" and "capacity" in result:
            found[data["host"]] = observed_from(result)
        elif event.get("event") in ("runner_on_failed", "runner_on_unreachable"):
            name = data["host"]
            ping = f"ansible {name} -m ping -i {inventory}"
            problems[name] = reach.why(result, name) or BattenError(str(result.get("msg", "")).strip(), name, ping)

    runner.run_module("batten.core.capacity", inventory, pattern=",".join(hosts), on_event=on_event)
    for host in hosts:
        if host not in found and host not in problems:
            problems[host] = BattenError("it did not answer", host, f"ansible {host} -m ping -i {inventory}")
    return found, problems
