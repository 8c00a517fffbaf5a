"""daemon.json: the merge, what a change costs, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.batten.core.plugins.module_utils import engine_config as config
from ansible_collections.batten.core.plugins.module_utils.errors import BattenError

VALUES = st.one_of(st.booleans(), st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=2))
KEYS = st.sampled_from(["icc", "debug", "labels", "features", "default-ulimits", "log-opts", "x"])
DOCUMENTS = st.dictionaries(
    KEYS, st.one_of(VALUES, st.dictionaries(st.sampled_from("abc"), VALUES, max_size=3)), max_size=6
)
ENTRIES = st.lists(
    st.builds(
        lambda name, value, state: {"name": name, "value": value, "state": state},
        KEYS,
        st.one_of(VALUES, st.dictionaries(st.sampled_from("abc"), VALUES, min_size=1, max_size=3)),
        st.sampled_from(config.STATES),
    ),
    max_size=6,
)


def present(**values: Any) -> list[dict[str, Any]]:
    return [{"name": name.replace("_", "-"), "value": value} for name, value in values.items()]


@given(DOCUMENTS)
def test_flatten_and_nest_are_inverse(document: dict[str, Any]) -> None:
    assert config.nest(config.flatten(document)) == document


@given(DOCUMENTS, ENTRIES)
def test_a_second_merge_changes_nothing(document: dict[str, Any], entries: list[dict[str, Any]]) -> None:
    first = config.merge(document, entries, {}, {})
    second = config.merge(first.file, entries, first.ours, first.replaced)
    assert (second.file, second.ours, second.replaced) == (first.file, first.ours, first.replaced)


@given(DOCUMENTS, ENTRIES)
def test_what_no_entry_names_survives(document: dict[str, Any], entries: list[dict[str, Any]]) -> None:
    named = {entry["name"] for entry in entries}
    merged = config.merge(document, entries, {}, {}).file
    assert {key: value for key, value in merged.items() if key not in named} == {
        key: value for key, value in document.items() if key not in named
    }


@given(DOCUMENTS, st.dictionaries(KEYS, VALUES, max_size=6))
def test_withdrawing_gives_the_users_file_back(document: dict[str, Any], wanted: dict[str, Any]) -> None:
    flat = {key: value for key, value in document.items() if not isinstance(value, dict)}
    merged = config.merge(flat, [{"name": key, "value": value} for key, value in wanted.items()], {}, {})
    assert config.withdraw(merged.file, merged.ours, merged.replaced) == flat


@pytest.mark.parametrize(
    ("document", "entries", "merged"),
    [
        ({"mtu": 1400}, present(icc=False), {"mtu": 1400, "icc": False}),
        ({"icc": True}, present(icc=False), {"icc": False}),
        ({}, present(icc=False) + present(icc=True), {"icc": True}),
        ({"icc": True}, [*present(icc=False), {"name": "icc", "state": "ignore"}], {"icc": True}),
        ({"icc": True}, [*present(icc=False), {"name": "icc", "state": "absent"}], {}),
        (
            {"default-ulimits": {"core": 1}},
            present(default_ulimits={"nofile": 2}),
            {"default-ulimits": {"core": 1, "nofile": 2}},
        ),
        ({"log-opts": {"max-size": "1m"}}, present(log_opts={"tag": "x"}), {"log-opts": {"tag": "x"}}),
        ({"features": {}}, present(features={"cdi": True}), {"features": {"cdi": True}}),
    ],
)
def test_merge(document: dict[str, Any], entries: list[dict[str, Any]], merged: dict[str, Any]) -> None:
    assert config.merge(document, entries, {}, {}).file == merged


def test_an_entry_that_is_declared_no_more_goes_and_gives_the_users_value_back() -> None:
    first = config.merge({"icc": True}, present(icc=False, debug=True), {}, {})
    second = config.merge(first.file, [], first.ours, first.replaced)
    assert second.file == {"icc": True}


def test_a_value_of_the_user_that_equals_ours_stays_theirs() -> None:
    merged = config.merge({"icc": False}, present(icc=False), {}, {})
    assert config.withdraw(merged.file, merged.ours, merged.replaced) == {"icc": False}


def test_a_value_that_was_changed_since_is_not_taken_out() -> None:
    assert config.withdraw({"icc": True}, {("icc",): False}, {}) == {"icc": True}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"value": 1}, "no name"),
        ({"name": "icc", "state": "gone"}, "present, absent, ignore"),
        ({"name": "icc"}, "needs a value"),
        ({"name": "icc", "value": 1, "valeu": 2}, "unknown key valeu"),
    ],
)
def test_a_wrong_entry_is_refused(entry: dict[str, Any], said: str) -> None:
    with pytest.raises(BattenError, match=said):
        config.effective([entry])


@pytest.mark.parametrize(
    ("before", "after", "action"),
    [
        ({}, {}, None),
        ({"debug": False}, {"debug": True}, "reload"),
        ({}, {"live-restore": True}, "reload"),
        ({"live-restore": True}, {}, "restart"),  # SIGHUP keeps the old value of a key that has gone
        ({"max-concurrent-uploads": 3}, {}, "reload"),
        ({}, {"icc": False, "debug": True}, "restart"),
        ({}, {"features": {"cdi": True}}, "reload"),
        ({}, {"features": {"containerd-snapshotter": True}}, "restart"),
        ({"log-driver": "local"}, {"log-driver": "journald"}, "restart"),
    ],
)
def test_the_least_that_makes_the_engine_heed_it(
    before: dict[str, Any], after: dict[str, Any], action: str | None
) -> None:
    assert config.act_for(config.changes(before, after)) == action


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        (
            ["-H", "fd://", "--containerd=/run/containerd.sock"],
            {"hosts": "-H", "containerd": "--containerd=/run/containerd.sock"},
        ),
        (["-D", "--label", "a=b"], {"debug": "-D", "labels": "--label"}),
        (["--registry-mirror=http://m", "--add-runtime=x=y"], {"registry-mirrors": "--registry-mirror=http://m"}),
        (["-s=vfs"], {"storage-driver": "-s=vfs"}),
    ],
)
def test_flags_by_key(words: list[str], keys: dict[str, str]) -> None:
    assert config.flag_keys(words) == keys


def test_a_key_set_twice_is_found() -> None:
    assert config.conflicts({"labels": [], "icc": False}, ["--label=x", "--debug"]) == [("labels", "--label=x")]


INFO = {
    "DockerRootDir": "/var/lib/docker",
    "Driver": "overlay2",
    "DriverStatus": [["Backing Filesystem", "extfs"]],
    "LiveRestoreEnabled": True,
    "LoggingDriver": "journald",
    "SecurityOptions": ["name=seccomp,profile=builtin", "name=no-new-privileges"],
    "RegistryConfig": {"Mirrors": ["http://m:5000/"]},
    "DefaultAddressPools": [{"Base": "172.30.0.0/16", "Size": 24}],
    "Labels": [],
}


@pytest.mark.parametrize(
    ("document", "keys"),
    [
        ({"live-restore": True, "log-driver": "journald", "no-new-privileges": True}, []),
        ({"registry-mirrors": ["http://m:5000"], "labels": []}, []),
        ({"default-address-pools": [{"base": "172.30.0.0/16", "size": 24}]}, []),
        ({"live-restore": False, "log-driver": "local"}, ["live-restore", "log-driver"]),
        ({"default-address-pools": [{"base": "10.9.0.0/16", "size": 24}]}, ["default-address-pools"]),
    ],
)
def test_what_the_running_engine_has_not(document: dict[str, Any], keys: list[str]) -> None:
    assert [change.name for change in config.unheeded(document, INFO)] == keys


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ({}, {"data-root": "/var/lib/docker", "storage-driver": "overlay2"}, []),
        ({}, {"data-root": "/srv"}, ["data-root"]),
        ({"userns-remap": "default"}, {}, ["userns-remap"]),
        ({}, {"features": {"containerd-snapshotter": True}}, ["features.containerd-snapshotter"]),
        ({}, {"features": {"containerd-snapshotter": False}}, []),
        ({"storage-driver": "overlay2"}, {"storage-driver": "overlay2", "icc": False}, []),
    ],
)
def test_what_would_hide_containers(before: dict[str, Any], after: dict[str, Any], names: list[str]) -> None:
    assert [change.name for change in config.held(before, after, INFO)] == names


@given(st.integers(1, 10**7), st.integers(1, 10**7))
def test_open_files_are_lowered_and_never_raised(wanted: int, limit: int) -> None:
    entries = present(icc=False, default_ulimits={"nofile": {"Name": "nofile", "Soft": wanted, "Hard": wanted}})
    lowered = config.grantable(entries, limit)
    assert lowered[0] == entries[0]
    assert lowered[1]["value"]["nofile"] == {"Name": "nofile", "Soft": min(wanted, limit), "Hard": min(wanted, limit)}
