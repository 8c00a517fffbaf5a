"""What people get wrong in files and on the command line: `batten plan` says what, where and what to type, once.

What takes a host is in tests/host/test_bad_input.py.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from batten import reach, resources
from batten.cli import main
from batten.errors import BattenError
from batten.inventory import known_names
from batten.plan import Capacity, Inputs, StackSettings, plan_stack
from batten.plan.base import parse_base
from batten.plan.definition import parse_definition
from batten.plan.profile import load_profiles

BASE: dict[str, Any] = {
    "services": {
        "web": {
            "image": "caddy:2",
            "command": ["run"],
            "environment": {"A": "1"},
            "ports": ["8080:80"],
            "volumes": ["data:/data", "./site:/srv:ro"],
            "networks": ["edge"],
            "depends_on": {"db": {"condition": "service_started"}},
            "healthcheck": {"test": ["CMD", "true"]},
        },
        "db": {"image": "postgres:17.6-trixie", "profiles": ["x"]},
    },
    "volumes": {"data": {}},
}
DEFINITION: dict[str, Any] = {
    "networks": {"edge": {"internal": False}},
    "secrets": {"key": {"generator": "alnum", "length": 20}},
    "services": {
        "web": {
            "ports": [{"target": 80, "published": 8080}],
            "networks": ["edge"],
            "secrets": {"key": {"secret": "key"}},
            "limits": {"memory": "64M"},
        }
    },
}
VARIABLES = {"stack_name": "app", "stack_base": "compose.yaml"}


def write(directory: Path, base: Any = None, definition: Any = None, **variables: Any) -> list[str]:
    """Write an inventory with its base; return the words that plan it."""
    for name, content in (("compose.yaml", base or BASE), ("batten.yaml", definition or DEFINITION)):
        (directory / name).write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    hosts = {"stack": {"hosts": {"web1": None}, "vars": {**VARIABLES, **variables}}}
    (directory / "hosts.yml").write_text(yaml.safe_dump(hosts))
    return ["plan", "-i", str(directory / "hosts.yml"), "--memory", "8G", "--cpus", "2"]


def refused(words: list[str], capsys: pytest.CaptureFixture[str], *says: str) -> str:
    """Run batten: exit code 1, and nothing but one error with its fix, which holds each of ``says``."""
    assert main(words) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("batten: ")
    assert captured.err.count("batten: ") == 1
    assert captured.err.count("fix: ") == 1
    for text in says:
        assert text in captured.err
    return captured.err


def test_the_inventory_of_these_tests_is_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(write(tmp_path)) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({"stack_domian": "x"}, ("unknown variable 'stack_domian'", "did you mean 'stack_domain'?", ": web1")),
        ({"docker_sorce": "x"}, ("unknown variable 'docker_sorce'", "write docker_source")),
        ({"stack_frobnicate": 1}, ("unknown variable 'stack_frobnicate'", "roles/*/README.md")),
        ({"stack_profiles": "x"}, ("expected a list, found text 'x'", "write stack_profiles: [x]")),
        (
            {"stack_target": "aws"},
            ("one of selfhosted, digitalocean", "write stack_target: selfhosted or digitalocean"),
        ),
        ({"stack_adopt_chown": "yes"}, ("expected true or false, found text 'yes'",)),
        ({"docker_source": "snap"}, ("must be one of: upstream, distro, preinstalled, got: snap",)),
        ({"docker_daemon": [{"value": 1}]}, ("missing required arguments: name",)),
        ({"stack_name": None}, ("stack_name is missing", "stack_name: app")),
        ({"stack_tls": "acme"}, ("stack_tls: acme needs", "stack_acme_email")),
        ({"stack_base": "nowhere.yaml"}, ("No such file", "nowhere.yaml")),
        ({"stack_definition": "nowhere.yaml"}, ("does not exist", "stack_definition")),
        ({"stack_domain": "{{ nobody }}"}, ("cannot template stack_domain: 'nobody' is undefined", ": web1")),
        ({"stack_services": {"wbe": {}}}, ("did you mean 'web'?", "stack_services")),
        ({"stack_services": {"web": {"limts": {}}}}, ("did you mean 'limits'?",)),
        ({"stack_profiles": ["y"]}, ("unknown key 'y'", "stack_profiles")),
        ({"stack_images": {"web": 1}}, ("stack_images.web", "expected text, found a number 1")),
        ({"stack_capacity": {"memory": "lots"}}, ("a size such as 512M",)),
        ({"digitalocean_managed_postgres": True}, ("the target is selfhosted",)),
    ],
    ids=str,
)
def test_variables(
    variables: dict[str, Any], says: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(write(tmp_path, **variables), capsys, *says)


def changed(tree: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy of nested mappings with the value at ``a/b/c`` replaced."""
    copied = copy.deepcopy(tree)
    *keys, last = path.split("/")
    part = copied
    for key in keys:
        part = part[key]
    part[last] = value
    return copied


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("services/web/ports", 12, ("expected a list, found a number 12", "services.web.ports: ", "config -q")),
        ("services/web/ports", ["80:x"], ("'80:x' is not a port", "published:target")),
        ("services/web/ports", ["99999:80"], ("numbers 1 to 65535",)),
        ("services/web/environment", "A=1", ("expected a list or a mapping",)),
        ("services/web/command", "run 'it", ("is no command: No closing quotation",)),
        ("services/web/networks", [["edge"]], ("services.web.networks[0]",)),
        ("services/web/image", "${IMAGE:?name one}", ("IMAGE is not set: name one", "stack_environment")),
        ("services/web/image", None, ("neither an image nor a build", "add image:")),
        ("services/web/extends", {"service": "db"}, ("`extends` is not followed", "docker compose config")),
        ("services/web", ["image"], ("expected a mapping, found a list",)),
        ("services", None, ("it has no services", "stack_base")),
        ("volumes", ["data"], ("expected a mapping, found a list",)),
    ],
    ids=str,
)
def test_the_base(
    path: str, value: Any, says: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(write(tmp_path, changed(BASE, path, value)), capsys, str(tmp_path / "compose.yaml"), *says)


def test_services_that_wait_for_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = changed(BASE, "services/db", {"image": "postgres:17.6-trixie", "depends_on": ["web"]})
    refused(write(tmp_path, base), capsys, "services wait for each other: db -> web -> db")


def test_a_build_without_an_image_names_both_ways_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = changed(BASE, "services/web", {"build": "."})
    refused(write(tmp_path, base), capsys, "web is built from source", "stack_images.web", "stack_build: host")


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("sevices", {}, ("did you mean 'services'?",)),
        ("services/web/netwroks", ["edge"], ("did you mean 'networks'?", "services.web: ")),
        ("services/web/networks", ["egde"], ("did you mean 'edge'?",)),
        ("services/web/limits", {"memory": "much"}, ("a size such as 512M", "services.web.limits.memory")),
        ("services/web/ports", [{"published": 1}], ("'target' is missing",)),
        ("services/web/secrets", {"key": {"secret": "kye"}}, ("there is no secret 'kye'", "generator: alnum")),
        ("services/wbe", {}, ("did you mean 'web'?",)),
        ("services/web/profile", "cady", ("there is no profile 'cady'", "one of: caddy")),
        ("secrets/key", {"length": 8}, ("either made on the host or handed in",)),
    ],
    ids=str,
)
def test_the_definition(
    path: str, value: Any, says: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = write(tmp_path, definition=changed(DEFINITION, path, value))
    refused(words, capsys, str(tmp_path / "batten.yaml"), *says)


@pytest.mark.parametrize("name", ["compose.yaml", "batten.yaml", "hosts.yml"])
def test_a_file_that_is_not_yaml_is_named_with_its_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = write(tmp_path)
    lines = len((tmp_path / name).read_text().splitlines())
    with (tmp_path / name).open("a") as file:
        file.write("  - [\n")
    said = refused(words, capsys, "this is not valid YAML")
    assert f"{tmp_path / name}:{lines + 1}" in said or f"{tmp_path / name}:{lines + 2}" in said


def test_a_key_written_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = yaml.safe_dump(DEFINITION) + "secrets: {}\n"
    refused(write(tmp_path, definition=text), capsys, "the key 'secrets' is written twice")


def test_a_file_of_variables_that_is_not_yaml(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = write(tmp_path)
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "group_vars" / "stack.yml").write_text("a: [\n")
    refused(words, capsys, "group_vars/stack.yml:")


def test_an_inventory_that_is_empty_or_absent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(["plan", "-i", str(tmp_path / "none")], capsys, "this inventory does not exist", "batten init writes one")
    refused(["plan", "-i", str(tmp_path)], capsys, "ansible-inventory -i")


def test_a_host_that_is_too_small_is_refused_with_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    definition = changed(DEFINITION, "services/web/limits", {"memory": "2G"})
    words = write(tmp_path, definition=definition, infisical_mode="none")
    words[words.index("8G")] = "1G"
    said = refused(words, capsys, "app on ", "does not fit the host", "take a larger host")
    rows = {line.split()[0]: line.split()[-2:] for line in said.splitlines() if line.endswith("MiB")}
    assert set(rows) == {"app/web", "sum", "budget", "missing"}
    assert rows["sum"] == ["2048", "MiB"]


PROFILES = load_profiles(resources.compose() / "profiles")
HOST = Capacity(memory_bytes=8 << 30, cpus=2)
SCALARS = st.sampled_from([None, True, 0, -1, 1.5, "", "x", "a:b:c", "${", "$", "/", "70000:1", "1-9:2", "'"])
JUNK = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(SCALARS, inner, max_size=2))


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path of every value in nested mappings and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [path, *(found for key, value in items for found in places(value, (*path, key)))]


def with_junk(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copied = copy.copy(tree)
    copied[path[0]] = with_junk(tree[path[0]], path[1:], value)
    return copied


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_is_written_is_planned_or_refused(data: st.DataObject) -> None:
    """Anything at any place of the base and the definition: a plan, or an error of ours; never another exception."""
    wrong = data.draw(st.sampled_from(["base", "definition"]))
    trees = {"base": BASE, "definition": DEFINITION}
    path = data.draw(st.sampled_from(places(trees[wrong])))
    trees[wrong] = with_junk(trees[wrong], path, data.draw(JUNK))
    stack = StackSettings.from_variables({"stack_name": "app"})
    try:
        base = parse_base(trees["base"], "compose.yaml", {}, ("x",))
        definition = parse_definition(trees["definition"], "batten.yaml")
        plan_stack(stack, HOST, inputs=Inputs(base, definition, PROFILES, {}))
    except BattenError as refusal:
        told = (refusal.what, refusal.where, refusal.fix)
    else:
        return
    assert all(told), told


NAMES = sorted(name for name in known_names(resources.collection() / "roles") if not name.startswith("docker_"))


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(NAMES), value=JUNK)
def test_whatever_a_variable_holds_is_taken_or_refused(name: str, value: Any) -> None:
    try:
        StackSettings.from_variables({"stack_name": "app", name: value}, source="web1")
    except BattenError as refusal:
        told = (refusal.what, refusal.where, refusal.fix)
    else:
        return
    assert all(told), told


LOST = "Module result deserialization failed: No start of json char found"


@pytest.mark.parametrize(
    ("result", "what", "fix"),
    [
        (
            {"msg": LOST, "module_stderr": "sudo: a password is required"},
            "bob cannot become root",
            "usermod -aG sudo bob",
        ),
        ({"msg": "Missing sudo password"}, "bob cannot become root", "ansible-playbook -K"),
        ({"module_stderr": "bob is not in the sudoers file."}, "bob cannot become root", "usermod -aG sudo bob"),
        ({"module_stderr": "/bin/sh: 1: sudo: not found"}, "bob cannot become root", "usermod"),
        (
            {"module_stderr": "Error response from daemon: No such container: web1"},
            "no container named web1",
            "docker ps",
        ),
        (
            {"module_stderr": "Error response from daemon: container 1f is not running"},
            "does not run",
            "docker start web1",
        ),
        ({"module_stderr": "/bin/sh: 1: /usr/bin/python3: not found"}, "no Python", "apt-get install python3"),
        ({"msg": LOST, "module_stderr": ""}, "the connection ended", "run the same command again"),
    ],
)
def test_why_a_host_gave_no_answer(result: dict[str, Any], what: str, fix: str) -> None:
    error = reach.why(result, "web1", "bob")
    assert error
    assert what in error.what
    assert fix in error.fix
    assert error.where == "web1"
    assert reach.told({"failed": True, **result}, "web1", "bob")["msg"] == str(error)


def test_what_a_module_says_itself_stays() -> None:
    answer = {"failed": True, "msg": "port 80/tcp is in use by nginx"}
    assert reach.told(answer, "web1") == answer
    assert reach.told({"changed": True, "stdout": "sudo: not found"}, "web1")["changed"]
