"""`python -m tests.rig VERB`: the rig by hand. README.md says what each verb does."""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor

from . import base, engine, hosts, images, machine, networks, registry
from .docker import RigError, docker, labelled
from .locks import alone
from .progress import step


def main(arguments: list[str] | None = None) -> int:
    """Run one verb; 0, or 1 with one line that says what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.rig", description="engine, registry, images and hosts")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("up", help="engine, base images, registry and stand-ins; does only what is missing")
    host = verbs.add_parser("host", help="boot a new host")
    host.add_argument("name")
    host.add_argument("--image", default="engine", help="base, engine, or any image (default: engine)")
    host.add_argument("--memory", help="like 8g")
    host.add_argument("--publish", action="append", default=[], metavar="[ADDRESS:]PORT:PORT")
    host.add_argument("--vpc", action="store_true", help="put it on the private network as well")
    for verb, text in (
        ("reboot", "shut down cleanly and boot"),
        ("powercut", "pull the plug and boot"),
        ("rm", "remove"),
    ):
        verbs.add_parser(verb, help=text).add_argument("name")
    down = verbs.add_parser("down", help="remove every container, network and volume of the rig")
    down.add_argument("--images", action="store_true", help="and its images")
    verbs.add_parser("env", help="what a host needs to know, as JSON")
    options = parser.parse_args(arguments)
    try:
        _act(options)
    except RigError as error:
        print(f"rig: {error}", file=sys.stderr)
        return 1
    return 0


def _act(options: argparse.Namespace) -> None:
    match options.verb:
        case "up":
            up()
        case "host":
            vpc = [hosts.VPC] if options.vpc else []
            started = hosts.start(options.name, options.image, options.memory, vpc, options.publish)
            print(started.address)
        case "reboot":
            hosts.get(options.name).reboot()
        case "powercut":
            hosts.get(options.name).power_cut()
        case "rm":
            hosts.get(options.name).remove()
        case "down":
            down(images_too=options.images)
        case "env":
            print(json.dumps(environment(), indent=2))


def up() -> None:
    """Everything that hosts need, made once: a second call finds it all there."""
    with alone("up"), step("up"):
        engine.ensure_engine()
        base.debian()
        with ThreadPoolExecutor(1) as pool:  # hosts' images beside the others: both wait for packages most of the time
            host_images = pool.submit(base.engine)
            registry.ensure_registry()
            images.ensure_images()
            host_images.result()


def down(*, images_too: bool = False) -> None:
    """Remove what carries the rig's label, and nothing else."""
    kinds = {"container": ("rm", "--force", "--volumes"), "network": ("network", "rm"), "volume": ("volume", "rm")}
    if images_too:
        kinds["image"] = ("image", "rm", "--force")
    for kind, words in kinds.items():
        if found := labelled(kind):
            docker(*words, *found, check=kind != "image")


def environment() -> dict[str, object]:
    """What an inventory or a test needs to know of the rig."""
    return {
        "registry_mirror": registry.mirror_url(),
        "nofile_hard_limit": machine.nofile_hard_limit(),
        "networks": {network.name: [network.v4, network.v6] for network in (networks.PUBLIC, networks.VPC)},
        "stand_ins": {kind: images.stand_ins(kind) for kind in ("real", "server")},
    }


if __name__ == "__main__":
    sys.exit(main())
