"""The networks that hosts live on, and fixed addresses on them.

A host keeps its address over a reboot as a server does. Docker would hand a stopped container's address to the next
one that starts, so every container of the rig is given its own, the lowest that no other one holds, running or not.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .docker import LABEL, RigError, docker, exists, inspect, labelled
from .locks import alone


@dataclass(frozen=True)
class Network:
    """A Docker network of the rig: its name and its subnets of both families."""

    name: str
    v4: str
    v6: str


PUBLIC = Network("batten-rig", "198.18.0.0/24", "fd00:198:18::/64")
"""What stands for the internet. 198.18.0.0/15 is kept for test networks by RFC 2544, so nothing else is there."""

VPC = Network("batten-rig-vpc", "198.19.0.0/24", "fd00:198:19::/64")
"""What stands for a provider's private network."""

REGISTRY_ADDRESS = "198.18.0.2"
"""The registry's fixed place on PUBLIC, so that a host's registry mirror URL never changes."""


def ensure(network: Network) -> None:
    """Make the network if it is not there."""
    if exists("network", network.name):
        return
    words = ["network", "create", "--label", LABEL, "--ipv6", "--subnet", network.v4, "--subnet", network.v6]
    done = docker(*words, network.name, check=False)
    if done.returncode and not exists("network", network.name):
        raise RigError(f"the network {network.name} was not made: {done.stderr.strip()}")


@contextmanager
def addresses_held(network: Network) -> Iterator[tuple[str, str]]:
    """A free IPv4 and IPv6 address of the network, nobody else's while the block gives them to a container."""
    with alone("addresses"):
        yield _pick(network)


def _pick(network: Network) -> tuple[str, str]:
    taken = set()
    for container in labelled("container"):
        shown = inspect("container", container) or {}
        asked = shown.get("NetworkSettings", {}).get("Networks", {}).get(network.name, {}).get("IPAMConfig") or {}
        taken.add(asked.get("IPv4Address"))
    v4, v6 = ipaddress.IPv4Network(network.v4), ipaddress.IPv6Network(network.v6)
    for ending in range(10, 200):  # the rest is for fixed addresses, such as molecule's
        address = str(v4[ending])
        if address not in taken:
            return address, str(v6[ending])
    raise RigError(f"no address is free on {network.name}; remove hosts with: python -m tests.rig down")
