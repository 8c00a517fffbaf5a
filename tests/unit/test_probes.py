"""The program of a health check is looked for in the image, and only what is certainly missing is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.batten.core.plugins.module_utils import probes
from ansible_collections.batten.core.plugins.module_utils.desired import Desired
from ansible_collections.batten.core.plugins.module_utils.docker_api import Docker, DockerError
from ansible_collections.batten.core.plugins.module_utils.paths import StackPaths


def service(test: list[str] | None, **more: Any) -> Desired:
    keys = {"image": "web:1", **({"healthcheck": {"test": test}} if test else {}), **more}
    image = {"Id": "sha256:0123456789abcdef", "Config": {"Env": ["PATH=/opt/bin:/bin"]}}
    return Desired("s", "web", keys, {"services": {"web": keys}}, image)


class Engine(Docker):
    """An image with some files; records what was asked of it."""

    def __init__(self, *files: str) -> None:
        super().__init__("/nowhere")
        self.files, self.asked = set(files), list[str]()

    def call(self, method: str, path: str, query: Any = None, body: Any = None, version: str = "") -> Any:
        self.asked.append(method)
        if method == "HEAD" and query["path"] not in self.files:
            raise DockerError(404, "no such file")


@pytest.mark.parametrize(
    ("test", "wanted"),
    [
        (["CMD", "curl", "-f", "http://127.0.0.1/"], ["curl"]),
        (["CMD-SHELL", "redis-cli ping | grep PONG"], ["/bin/sh", "redis-cli"]),
        (["CMD-SHELL", "test -e /ready"], ["/bin/sh"]),
        (["CMD-SHELL", "A=1 curl x"], ["/bin/sh"]),
        (["NONE"], []),
        (None, []),
    ],
)
def test_what_a_check_runs(test: list[str] | None, wanted: list[str]) -> None:
    assert probes.programs(service(test)) == wanted


def test_places_follow_the_path_and_a_mount_hides_what_is_below() -> None:
    assert probes.candidates("curl", service(None)) == ["/opt/bin/curl", "/bin/curl"]
    assert probes.candidates("curl", service(None, environment={"PATH": "/x"})) == ["/x/curl"]
    assert probes.candidates("./run", service(None)) == []
    mounted = [{"type": "bind", "source": "/srv/tools", "target": "/opt/bin"}]
    assert probes.candidates("curl", service(None, volumes=mounted)) == []


def test_a_missing_program_is_refused_once_looked_up_and_then_known(tmp_path: Path) -> None:
    paths, wanted = StackPaths("s", str(tmp_path)), {"web": service(["CMD", "curl", "x"])}
    paths.var.mkdir(parents=True)
    bare, full = Engine("/bin/sh"), Engine("/bin/curl")
    assert probes.missing(bare, paths, wanted, ["web"], look=False) == []
    assert bare.asked == []
    [problem] = probes.missing(bare, paths, wanted, ["web"], look=True)
    assert (problem.where, "runs curl, and web:1 has no such program" in problem.what) == ("service web", True)
    assert bare.asked == ["DELETE", "POST", "HEAD", "HEAD", "DELETE"]
    assert len(probes.missing(full, paths, wanted, ["web"], look=True)) == 1
    assert full.asked == []
    paths.probes.unlink()
    assert probes.missing(full, paths, wanted, ["web"], look=True) == []
    assert probes.missing(full, paths, wanted, [], look=True) == []
