"""The one door to Ansible: reading inventories in process, and running playbooks through ansible-runner.

Nothing else below ``src/batten`` imports Ansible, so that what plans and renders stays pure and starts fast.
"""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from batten import resources
from batten.errors import BattenError
from batten.inventory import check_names, check_syntax, is_ours, known_names, option_specs

Event = Mapping[str, Any]
GROUPS = ("stack", "infisical")
"""The host groups that batten deploys to."""


def load_hosts(
    inventory: str, limit: str | None = None, extra: Mapping[str, Any] | None = None
) -> dict[str, dict[str, Any]]:
    """Return, for each host that batten deploys to, its role variables as Ansible would template them, over the roles'
    defaults; and Ansible's own ``inventory_hostname`` and ``groups``, of :data:`GROUPS` only.

    Only names that :func:`~batten.inventory.is_ours` picks are read, so a template elsewhere that needs
    facts or a vault costs nothing. Nothing is decrypted: values under a vault, and those that need one, are left out.
    Raises :class:`BattenError` for an inventory that cannot be read, a group without hosts, or a variable that no role
    knows. No host is contacted.
    """
    _use_own_settings()
    from ansible.errors import AnsibleError
    from ansible.inventory.manager import InventoryManager
    from ansible.vars.manager import VariableManager

    inventory = inventory_source(inventory)
    if "," not in inventory:
        check_syntax(Path(inventory))
    try:
        use_ansibles_loader()
        loader = _loader_without_vault()
        manager = InventoryManager(loader=loader, sources=[inventory])
        if limit:
            manager.subset(limit)
        groups = {name: hosts for name, hosts in manager.get_groups_dict().items() if name in GROUPS}
        hosts = manager.get_hosts([name for name in GROUPS if name in groups] or GROUPS[0])
        if not hosts:
            raise BattenError(
                "no host of group 'stack' in the inventory" + (f" within --limit {limit}" if limit else ""),
                inventory,
                f"ansible-inventory -i {inventory} --graph shows its groups; put the hosts to deploy to in 'stack'",
            )
        variables = VariableManager(loader=loader, inventory=manager)
        defaults = _role_defaults(loader)
        known = known_names(resources.collection() / "roles")
        result = {}
        for host in hosts:
            values = variables.get_vars(host=host) | dict(extra or {})
            check_names(values, known, f"{inventory}: {host.name}")
            where = f"{inventory}: {host.name}"
            result[host.name] = _templated(defaults | values, loader, where, lambda name: is_ours(name, known))
            for role in ("docker", "host"):
                check_options(role, result[host.name], where)
            result[host.name] |= {"inventory_hostname": host.name, "groups": groups}
        return result
    except AnsibleError as error:
        raise BattenError(_first_line(error), inventory, f"ansible-inventory -i {inventory} --list") from error


def connections(inventory: str, limit: str | None = None, group: str = "") -> dict[str, dict[str, Any]]:
    """Return, for each host that batten deploys to (or of ``group``), the ``ansible_*`` variables that say how to reach
    it, templated. Values under a vault are left out. Raises as :func:`load_hosts`. No host is contacted.
    """
    hosts = load_hosts(inventory, limit)  # says what is wrong with an inventory in our words
    from ansible.inventory.manager import InventoryManager
    from ansible.vars.manager import VariableManager

    loader = _loader_without_vault()
    manager = InventoryManager(loader=loader, sources=[inventory_source(inventory)])
    variables = VariableManager(loader=loader, inventory=manager)
    wanted = [manager.get_host(name) for name in hosts if not group or name in hosts[name]["groups"].get(group, ())]
    return {
        host.name: _templated(variables.get_vars(host=host), loader, f"{inventory}: {host.name}", _of_ansible)
        for host in wanted
    }


def check_options(role: str, values: Mapping[str, Any], where: str) -> None:
    """Raise :class:`BattenError` for a value that a role's ``argument_specs`` do not allow."""
    from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

    options = option_specs(resources.collection() / "roles", role)
    given = {name: values[name] for name in options if name in values}
    wrong: list[str] = ArgumentSpecValidator(options).validate(given).error_messages
    if wrong:
        raise BattenError(wrong[0], where, f"roles/{role}/README.md says what each variable may be")


def inventory_source(inventory: str) -> str:
    """Return an inventory's absolute path, or a list such as ``host,`` as it is; refuse one that does not exist."""
    if "," in inventory:
        return inventory
    path = Path(inventory)
    if not path.exists():
        raise BattenError(
            "this inventory does not exist", inventory, "batten init writes one; -i names a directory or a file"
        )
    return str(path.resolve())


def use_ansibles_loader() -> None:
    """Install Ansible's loader of collections, which finds those of the person too, in place of Python's.

    It knows no package that it has not made itself (ansible.utils.collection_loader): it makes them all anew, and what
    batten has imported of them, such as the class of its errors, stays the same.
    """
    from ansible.plugins.loader import init_plugin_loader
    from ansible.utils.collection_loader import AnsibleCollectionConfig

    if AnsibleCollectionConfig.collection_finder is not None:
        return
    names = [name for name in sys.modules if name.partition(".")[0] == "ansible_collections"]
    imported = {name: sys.modules.pop(name) for name in names}
    init_plugin_loader()
    for name, module in imported.items():
        if not hasattr(module, "__path__"):
            parent, _, own = name.rpartition(".")
            setattr(importlib.import_module(parent), own, module)
            sys.modules[name] = module


def _use_own_settings() -> None:
    """Give Ansible batten's own ansible.cfg where the person has none; needed before Ansible is imported."""
    from ansible.config.manager import find_ini_config_file

    if not find_ini_config_file():
        os.environ["ANSIBLE_CONFIG"] = str(resources.collection() / "ansible.cfg")


def _first_line(error: BaseException) -> str:
    """Return an error of Ansible's without the source lines that it quotes."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _loader_without_vault() -> Any:
    """Return Ansible's DataLoader, which reads a file that is encrypted as a whole as an empty one."""
    from ansible.parsing.dataloader import DataLoader
    from ansible.parsing.vault import VaultSecretsContext, is_encrypted

    if VaultSecretsContext.current(optional=True) is None:
        VaultSecretsContext.initialize(VaultSecretsContext([]))

    class Loader(DataLoader):  # type: ignore[misc]
        left_out = False

        def load_from_file(self, file_name: str, *args: Any, **kwargs: Any) -> Any:
            with Path(self.path_dwim(file_name)).open("rb") as file:
                if not is_encrypted(file.read(64)):
                    return super().load_from_file(file_name, *args, **kwargs)
            self.left_out = True
            return {}

    return Loader()


def _role_defaults(loader: Any) -> dict[str, Any]:
    """Return the defaults of all roles in one mapping: their names are prefixed, so none hides another."""
    defaults: dict[str, Any] = {}
    for file in sorted((resources.collection() / "roles").glob("*/defaults/main.yml")):
        defaults |= loader.load_from_file(str(file), trusted_as_template=True) or {}
    return defaults


def _of_ansible(name: str) -> bool:
    return name.startswith("ansible_")


_LEFT_OUT = object()


def _templated(values: Mapping[str, Any], loader: Any, where: str, wanted: Callable[[str], bool]) -> dict[str, Any]:
    """Return the variables of one host whose names are ``wanted``, templated, as plain Python values."""
    from ansible.errors import AnsibleError
    from ansible.parsing.vault import EncryptedString
    from ansible.template import Templar

    templar = Templar(loader=loader, variables=dict(values))

    def plain(value: Any, name: str) -> Any:
        if isinstance(value, EncryptedString):
            return _LEFT_OUT
        if isinstance(value, Mapping):
            pairs = ((str(key), plain(item, f"{name}.{key}")) for key, item in value.items())
            return {key: item for key, item in pairs if item is not _LEFT_OUT}
        if isinstance(value, list | tuple):
            return [item for item in (plain(item, name) for item in value) if item is not _LEFT_OUT]
        if not isinstance(value, str):
            return value
        try:
            result = templar.template(value)
        except AnsibleError as error:
            if _needs_vault(error, loader):
                return _LEFT_OUT
            raise BattenError(
                f"cannot template {name}: {_first_line(error)}", where, "define what it refers to"
            ) from error
        if isinstance(result, str):
            return str.__str__(result)
        return plain(result, name)

    chosen = {name: plain(value, name) for name, value in values.items() if wanted(name)}
    return {name: value for name, value in chosen.items() if value is not _LEFT_OUT}


def _needs_vault(error: BaseException | None, loader: Any) -> bool:
    """Tell whether templating failed for want of a vault: an encrypted value, or a name from a file left out."""
    from ansible.errors import AnsibleUndefinedVariable

    while error is not None:
        # An undecryptable value raises an internal class of ansible-core 2.19 whose public mark is this attribute.
        if getattr(error, "context", None) == "vault":
            return True
        if isinstance(error, AnsibleUndefinedVariable) and loader.left_out:
            return True
        error = error.__cause__
    return False


def playbook(name: str) -> Path:
    """Return the path of one of batten's playbooks: ``site``, or the name of a file in ``playbooks/``."""
    root = resources.collection()
    return root / "site.yml" if name == "site" else root / "playbooks" / f"{name}.yml"


def run_playbook(
    name: str,
    inventory: str,
    *,
    check: bool = False,
    diff: bool = False,
    limit: str | None = None,
    extra: Mapping[str, Any] | None = None,
    verbosity: int = 0,
    forks: int = 0,
    skip_tags: str = "",
    on_event: Callable[[Event], None],
) -> int:
    """Run one of batten's playbooks and pass every event of ansible-runner to ``on_event`` as it happens.

    ``forks`` hosts are worked on side by side; with 0, as many as Ansible is configured for. Tasks with one of
    ``skip_tags``, a list with commas, are left out.
    Returns the exit code of ``ansible-playbook``. Raises KeyboardInterrupt after Ctrl-C, when Ansible has ended.
    """
    options = [*(["--check"] if check else []), *(["--diff"] if diff else []), *([f"--forks {forks}"] if forks else [])]
    options += [f"--skip-tags {skip_tags}"] if skip_tags else []
    return _run(
        {"playbook": str(playbook(name)), "cmdline": " ".join(options) or None, "verbosity": verbosity or None},
        inventory,
        limit,
        extra,
        on_event,
    )


def run_module(name: str, inventory: str, *, pattern: str = "all", on_event: Callable[[Event], None]) -> int:
    """Run one module without arguments, as root, on the hosts of ``pattern``; otherwise as :func:`run_playbook`."""
    return _run({"module": name, "host_pattern": pattern, "cmdline": "--become"}, inventory, None, None, on_event)


def _run(
    what: Mapping[str, Any],
    inventory: str,
    limit: str | None,
    extra: Mapping[str, Any] | None,
    on_event: Callable[[Event], None],
) -> int:
    import ansible_runner

    source = inventory_source(inventory)
    with _Interrupts() as interrupts, tempfile.TemporaryDirectory(prefix="batten-") as directory:

        def handle(event: Event) -> bool:
            interrupts.ansible = event.get("pid") or interrupts.ansible
            on_event(event)
            return False  # keep no copy of the event on disk

        run = ansible_runner.run(
            private_data_dir=directory,
            project_dir=str(Path.cwd()),
            inventory=source,
            limit=limit,
            extravars=dict(extra or {}),
            envvars=_environment(),
            settings={"pexpect_timeout": 1},
            event_handler=handle,
            cancel_callback=interrupts.must_end,
            quiet=True,
            **what,
        )
    if interrupts.count:
        raise KeyboardInterrupt
    return int(run.rc)


def _environment() -> dict[str, str]:
    """Return what ansible-playbook needs: this very installation first, and the settings a person would get.

    ansible-runner turns host key checking off unless it is told (ansible_runner/config/_base.py, ``prepare_env``), so
    it is told what Ansible's own configuration says.
    """
    _use_own_settings()
    from ansible import constants

    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "ANSIBLE_HOST_KEY_CHECKING": str(constants.config.get_config_value("HOST_KEY_CHECKING")),
    }
    if not sys.stderr.isatty():
        environment["ANSIBLE_NOCOLOR"] = "1"
    return environment


class _Interrupts:
    """Ctrl-C while Ansible runs: the first asks it to stop, as a terminal would; the second ends it at once.

    ansible-runner gives Ansible a terminal of its own, so a Ctrl-C does not reach it by itself. Ansible can miss one
    that comes just as it forks, so it is asked again, and ended if it has not stopped after ten seconds. A worker that
    it had just forked then is in no process group that Ansible knows (executor/process/worker.py, ``_detach``), and
    would go on alone.
    """

    ASK_AGAIN_SECONDS = 3
    END_SECONDS = 10

    def __init__(self) -> None:
        self.count = 0
        self.ansible: int | None = None
        self._first: float | None = None
        self._asked = 0
        self._workers: set[int] = set()
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> _Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._stop)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        for worker in self._workers:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(worker, signal.SIGTERM)

    def must_end(self) -> bool:
        """Tell ansible-runner, which asks about every second, whether Ansible is to be killed."""
        if self._first is None:
            return False
        waited = time.monotonic() - self._first
        if waited > self.ASK_AGAIN_SECONDS and self._asked == 1:
            self._ask()
        return self.count > 1 or not self.ansible or waited > self.END_SECONDS

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
        if self._first is None:
            self._first = time.monotonic()
            self._ask()

    def _ask(self) -> None:
        if self.ansible:
            self._asked += 1
            self._workers |= _children(self.ansible)
            with suppress(ProcessLookupError):
                os.killpg(self.ansible, signal.SIGINT)


def _children(parent: int) -> set[int]:
    """Return the processes that ``parent`` started (ps(1) as POSIX has it)."""
    done = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False)
    pairs = (line.split() for line in done.stdout.splitlines())
    return {int(pid) for pid, above in pairs if int(above) == parent}
