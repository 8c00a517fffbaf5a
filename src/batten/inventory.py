"""Inventories as text and names: which variables exist, and what `batten init` writes."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from batten.errors import BattenError
from batten.plan.schema import not_yaml

PREFIXES = ("stack_", "secrets_", "docker_", "digitalocean_", "infisical_", "backup_", "batten_")
"""Who uses a name that begins so means a variable of ours."""
PLAYBOOKS = frozenset({"batten_backup_to", "batten_restore_from", "batten_restore_identity", "batten_verify_plans"})
"""What our playbooks take by ``-e``; no role documents it."""
COMMON = "host_"
"""A prefix that inventories have names of their own with: ours are only those that some role documents."""


def known_names(roles: Path) -> frozenset[str]:
    """Return the variables that some role's ``argument_specs`` document, over all entry points, and the playbooks'."""
    names = set(PLAYBOOKS)
    for file in sorted(roles.glob("*/meta/argument_specs.yml")):
        specs: dict[str, Any] = yaml.load(file.read_bytes(), Loader=_SpecsLoader)["argument_specs"]  # noqa: S506
        for entry in specs.values():
            names.update(entry.get("options", {}))
    return frozenset(names)


def option_specs(roles: Path, role: str) -> dict[str, Any]:
    """Return the options of a role's ``main`` entry point, as its ``argument_specs`` have them."""
    specs = yaml.load((roles / role / "meta" / "argument_specs.yml").read_bytes(), Loader=_SpecsLoader)  # noqa: S506
    return dict(specs["argument_specs"]["main"]["options"])


def check_syntax(inventory: Path) -> None:
    """Raise :class:`BattenError` for the first file of an inventory that is not YAML, naming the line.

    Ansible tries each of its inventory plugins on such a file and tells what each of them made of it.
    """
    root = inventory if inventory.is_dir() else inventory.parent
    files = [inventory] if inventory.is_file() else sorted(inventory.glob("*.y*ml"))
    files += [file for kind in ("group_vars", "host_vars") for file in sorted(root.glob(f"{kind}/**/*.y*ml"))]
    for file in files:
        text = file.read_bytes()
        if file.suffix not in (".yml", ".yaml") or text.startswith(b"$ANSIBLE_VAULT"):
            continue
        try:
            yaml.compose(text, Loader=yaml.CSafeLoader)
        except yaml.YAMLError as error:
            raise not_yaml(error, str(file)) from error


def is_ours(name: str, known: Collection[str]) -> bool:
    """Say whether a variable is meant for batten; ``known`` are the names that roles document."""
    return name in known if name.startswith(COMMON) else name.startswith(PREFIXES)


_NEAR = 0.8  # names share their prefix, so that difflib's 0.6 finds stack_name for every stack_x


class _SpecsLoader(yaml.CSafeLoader):
    """A safe loader to which a value under one of Ansible's tags, such as ``!unsafe``, is nothing: names are read."""


_SpecsLoader.add_multi_constructor("!", lambda *_: None)


def check_names(names: Iterable[str], known: Collection[str], where: str) -> None:
    """Raise :class:`BattenError` for the first variable that has one of our prefixes and that no role documents; for
    one that begins with ``host_``, only if it is nearly one that a role does."""
    for name in names:
        if name.startswith((*PREFIXES, COMMON)) and name not in known:
            near = difflib.get_close_matches(name, known, 1, _NEAR)
            if name.startswith(COMMON) and not near:
                continue
            hint = f"; did you mean {near[0]!r}?" if near else ""
            fix = (
                f"write {near[0]}" if near else "remove it, or name it otherwise; roles/*/README.md list what there is"
            )
            raise BattenError(f"unknown variable {name!r}{hint}", where, fix)


@dataclass(frozen=True)
class NewInventory:
    """The answers that a new inventory is made of."""

    target: str
    host: str
    user: str
    domain: str
    name: str = "app"
    base: str | None = None
    acme_email: str | None = None
    postgres_host: str | None = None
    postgres_ca: str | None = None
    vpc_address: str | None = None
    volume: str | None = None


def inventory_files(new: NewInventory, directory: Path) -> dict[str, str]:
    """Return the files of a new inventory, by path below ``directory``: its host, and its variables with what each is.

    Files that it names are written as seen from the inventory, so that it works from every working directory.
    """

    def beside(file: str | None) -> str | None:
        return file and "{{ inventory_dir }}/" + os.path.relpath(Path(file).expanduser(), directory)

    connection = {"ansible_host": new.host, "ansible_user": new.user}
    hosts = {"stack": {"hosts": {new.name: connection}}}
    variables: list[tuple[str, Any, str]] = [
        ("stack_name", new.name, "The Compose project, and the name below /opt/batten on the host."),
        ("stack_target", new.target, "selfhosted or digitalocean: which of the target layers is laid over the base."),
        ("stack_base", beside(new.base), "Your compose.yaml; batten never edits it. Its batten.yaml lies beside it."),
        ("stack_build", "host", "Services with `build:` are built on the host; or name their images in stack_images."),
        ("stack_domain", new.domain, "Where people reach it."),
        (
            "stack_tls",
            "acme" if new.acme_email else "internal",
            "acme: certificates from Let's Encrypt, needs stack_acme_email. internal: Caddy's own authority.",
        ),
        ("stack_acme_email", new.acme_email, "The certificate authority writes to this address."),
    ]
    if new.target == "digitalocean":
        variables += [
            (
                "digitalocean_managed_postgres",
                bool(new.postgres_host),
                "true: the managed cluster; false: a container.",
            ),
            ("digitalocean_postgres_host", new.postgres_host, "The cluster's private host name."),
            ("digitalocean_postgres_ca", beside(new.postgres_ca), "The cluster's CA certificate."),
            ("digitalocean_vpc_address", new.vpc_address, "The droplet's address on its VPC."),
            (
                "digitalocean_volume",
                new.volume,
                "The block volume that holds the data; it must be mounted at /mnt/NAME.",
            ),
        ]
    text = "\n".join(f"# {why}\n{_yaml({name: value})}" for name, value, why in variables if value is not None)
    return {
        "hosts.yml": f"---\n{_yaml(hosts)}",
        "group_vars/stack.yml": f"---\n{text}",
    }


def write_inventory(directory: Path, files: Mapping[str, str]) -> None:
    """Write a new inventory; raise :class:`BattenError`, and write nothing, where something is already."""
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise BattenError("there is something already", str(directory), "give another directory with --out")
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, sort_keys=False, default_flow_style=False, allow_unicode=True)
