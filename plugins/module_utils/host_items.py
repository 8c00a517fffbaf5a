"""What a host should be, as a list of items: each is read, compared and written by its kind. Pure.

The list of the last run is the record that drift is judged by, so a run and a look at drift compare in one way.

========  ==========================  =======================================================================
kind      name                        value
========  ==========================  =======================================================================
apt       an option of apt            its value, as ``apt-config`` has it after all files
audit     ``audit rules``             what the kernel watches under our key, sorted
file      a path                      its text
group     a group                     its members, sorted
keeper    ``clock``                   ``kept`` where some service keeps it
mode      a path                      its mode as octal text; less is right too, and so is no file
mount     a path                      ``mounted`` where it lies on a disk of its own
owner     a path                      ``USER:GROUP``; no file is right too
package   a package                   ``installed``
swap      ``swap``                    what the kernel swaps to, sorted
sysctl    a kernel setting            its value; one that this kernel has not is right
table     ``nftables``                the digest of the rules, and how nft lists them
unit      a unit                      ``enabled, active``, or ``masked``
========  ==========================  =======================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .compare import Difference

# A live value above ours is stricter, and is left alone.
STRICTER_ABOVE = frozenset({"kernel.yama.ptrace_scope", "kernel.kptr_restrict", "kernel.unprivileged_bpf_disabled"})


@dataclass(frozen=True)
class Item:
    """One thing that the host should be; ``facet`` and ``name`` are what ``batten drift`` calls it."""

    kind: str
    facet: str
    name: str
    value: Any
    action: str = "rewrite"

    @property
    def key(self) -> tuple[str, str]:
        """What it is about."""
        return self.kind, self.name

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


Live = Mapping["tuple[str, str]", Any]


def from_json(rows: Iterable[Mapping[str, Any]]) -> list[Item]:
    """Return the items of a record."""
    return [Item(**row) for row in rows]


def compare(items: Iterable[Item], live: Live) -> list[Difference]:
    """Return a difference for each item that is not so; ``live`` has a value for every item's key."""
    found = []
    for item in items:
        actual = live[item.key]
        if not holds(item, actual):
            wanted, shown = _shown(item, actual)
            found.append(Difference(None, "host", item.name, item.facet, wanted, shown, item.action))
    return found


def holds(item: Item, actual: Any) -> bool:
    """Return whether a live value is what an item asks for."""
    if item.kind in ("mode", "owner", "sysctl", "group") and actual is None:
        return True
    if item.kind == "mode":
        return int(actual, 8) & ~int(item.value, 8) == 0
    if item.kind == "sysctl":
        if item.name in STRICTER_ABOVE:
            return int(actual) >= int(item.value)
        return str(actual).split() == str(item.value).split()
    if item.kind == "table":
        return _same_table(item.value, actual)
    return bool(actual == item.value)


def _same_table(wanted: Mapping[str, Any], actual: Mapping[str, Any] | None) -> bool:
    """Rules are the same if they are from the same text and nobody edited them since.

    A listing is compared only with one of the same nft: another version may write the same rules otherwise.
    """
    if actual is None or actual["digest"] != wanted["digest"]:
        return False
    listed = wanted.get("listing")
    return not listed or wanted.get("version") != actual["version"] or bool(listed == actual["listing"])


def _shown(item: Item, actual: Any) -> tuple[Any, Any]:
    """Return what a person is told of a difference: of long values only what differs."""
    if item.kind == "file":
        return _lines(item.value, actual)
    if item.kind == "audit":
        there = actual or []
        return [one for one in item.value if one not in there], [one for one in there if one not in item.value]
    if item.kind != "table":
        return item.value, actual
    if actual is None:
        return "loaded", "absent"
    if actual["digest"] != item.value["digest"]:
        return f"rules {item.value['digest']}", f"rules {actual['digest'] or 'of somebody else'}"
    return _lines("\n".join(item.value["listing"]), "\n".join(actual["listing"]))


def _lines(wanted: str, actual: str | None) -> tuple[Any, Any]:
    if actual is None:
        return "present", "absent"
    ours, theirs = wanted.splitlines(), actual.splitlines()
    missing, more = [one.strip() for one in ours if one not in theirs], [o.strip() for o in theirs if o not in ours]
    return (missing, more) if missing or more else ("this order of lines", "another order")
