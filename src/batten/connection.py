"""Commands on hosts without Ansible: what an inventory says of a host, as the argv that runs a command there.

Ansible keeps, prints and relays what passes through it. What may go to nobody else (a backup, a password, a key) goes
through these pipes instead: standard input, output and error of one command, and nothing of it is stored.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from batten.errors import BattenError

Kind = Literal["ssh", "docker", "local"]

_KINDS: Mapping[str, Kind] = {
    "ssh": "ssh",
    "ansible.builtin.ssh": "ssh",
    "smart": "ssh",
    "docker": "docker",
    "community.docker.docker": "docker",
    "community.docker.docker_api": "docker",
    "local": "local",
    "ansible.builtin.local": "local",
}
_SSH_OPTIONS = ("-o", "BatchMode=yes")  # never ask: what is typed at a prompt would go to the command
# After the inventory's, for the first value counts (ssh_config(5)). A host that is gone is told of in a minute.
_SSH_DEFAULTS = ("-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15")
_SSH_FAILED = 255  # ssh(1), EXIT STATUS: "255 if an error occurred"


@dataclass(frozen=True)
class Connection:
    """How to run a command on ``host``. ``prefix`` comes before the command, ``become`` makes it root's.

    ``options`` are ssh's own, for what needs ssh and no command (a forwarded port); ``target`` is who ssh calls.
    """

    host: str
    kind: Kind
    prefix: tuple[str, ...] = ()
    become: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    target: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    def argv(self, words: Sequence[str], *, root: bool = True) -> list[str]:
        """Return the command line that runs ``words`` on the host, as root unless told otherwise."""
        command = [*(self.become if root else ()), *words]
        # ssh joins its words with spaces and hands them to a shell there (ssh(1)); the others take them as they are.
        return [*self.prefix, shlex.join(command)] if self.kind == "ssh" else [*self.prefix, *command]

    def open(
        self,
        words: Sequence[str],
        *,
        root: bool = True,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
    ) -> subprocess.Popen[bytes]:
        """Start ``words`` on the host, with pipes for its output and errors.

        Raises BattenError where the program that connects is not here.
        """
        argv = self.argv(words, root=root)
        try:
            return subprocess.Popen(
                argv,
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **self.environment},
            )
        except FileNotFoundError:
            raise BattenError(f"there is no `{argv[0]}` on this machine", self.host, f"install {argv[0]}") from None

    def run(self, words: Sequence[str], *, stdin: bytes = b"", root: bool = True) -> bytes:
        """Run ``words`` on the host, feed it ``stdin``, return its standard output.

        Raises BattenError with the last thing it said, and with ssh's own words where the host was not reached.
        """
        with self.open(words, root=root, stdin=subprocess.PIPE) as process:
            output, said = process.communicate(stdin)
        if process.returncode:
            raise self.failure(process.returncode, said)
        return output

    def failure(self, code: int, said: bytes) -> BattenError:
        """Return what a command's exit code and standard error mean, as our error."""
        text = said.decode(errors="replace").strip()
        last = (text.splitlines() or [f"exit status {code}"])[-1].strip()
        if self.kind == "ssh" and code == _SSH_FAILED:
            return BattenError(
                f"the host cannot be reached: {last}", self.host, f"try: {shlex.join(self.argv(['id']))}"
            )
        if last.startswith("sudo:"):
            fix = "allow sudo without a password there, or connect as root"
            return BattenError(f"this needs root, and sudo refused: {last}", self.host, fix)
        what, _, fix = last.partition(". fix: ")  # how batten-host writes an error in one line
        return BattenError(what.removeprefix("batten-host "), self.host, fix)

    def forward(self, local_port: int, address: str, port: int) -> list[str]:
        """Return the ssh command line that forwards a loopback port here to ``address:port`` as the host sees it."""
        bound = f"127.0.0.1:{local_port}:{address}:{port}"
        return ["ssh", "-N", "-o", "ExitOnForwardFailure=yes", *self.options, "-L", bound, self.target]


def connect(host: str, variables: Mapping[str, Any], where: str = "") -> Connection:
    """Return the connection that an inventory's ``ansible_*`` variables of ``host`` describe.

    Raises BattenError for a kind of connection, or a way to become root, that is not supported; ``where`` names the
    inventory. The names are those of Ansible's connection plugins ssh, local and community.docker.docker.
    """
    where = f"{where}: {host}" if where else host
    wanted = str(variables.get("ansible_connection") or "ssh")
    kind = _KINDS.get(wanted)
    if kind is None:
        known = "ssh, community.docker.docker and local"
        raise BattenError(f"connection {wanted!r} is not supported here; {known} are", where, "set ansible_connection")
    user = str(variables.get("ansible_user") or variables.get("ansible_ssh_user") or "")
    if kind == "local":
        return Connection(host, kind, become=_become(variables, _me(), where))
    address = str(variables.get("ansible_host") or variables.get("ansible_ssh_host") or host)
    if kind == "docker":
        as_user = ("--user", user) if user else ()
        become = _become(variables, user or "root", where)
        return Connection(host, kind, ("docker", "exec", "-i", *as_user, address), become)
    if variables.get("ansible_password") or variables.get("ansible_ssh_pass"):
        fix = "give the host a public key (ssh-copy-id), and take the password out of the inventory"
        raise BattenError("batten's own connections take keys, no passwords", where, fix)
    options = _ssh_options(variables)
    target = f"{user}@{address}" if user else address
    return Connection(host, kind, ("ssh", *options, target), _become(variables, user, where), options, target)


def _ssh_options(variables: Mapping[str, Any]) -> tuple[str, ...]:
    """Ansible's order: its arguments before those of the inventory (ansible.builtin.ssh, ``_build_command``)."""
    options = list(_SSH_OPTIONS)
    if variables.get("ansible_port") or variables.get("ansible_ssh_port"):
        options += ["-p", str(variables.get("ansible_port") or variables["ansible_ssh_port"])]
    key = variables.get("ansible_ssh_private_key_file") or variables.get("ansible_private_key_file")
    if key:
        options += ["-i", str(Path(str(key)).expanduser())]
    for name in ("ansible_ssh_common_args", "ansible_ssh_extra_args"):
        options += shlex.split(str(variables.get(name) or ""))
    return (*options, *_SSH_DEFAULTS)


def _become(variables: Mapping[str, Any], user: str, where: str) -> tuple[str, ...]:
    if user == "root":
        return ()
    method = str(variables.get("ansible_become_method") or "sudo")
    if method not in ("sudo", "ansible.builtin.sudo"):
        raise BattenError(f"become method {method!r} is not supported here; sudo is", where, "connect as root")
    return ("sudo", "-n")


def _me() -> str:
    return "root" if os.geteuid() == 0 else "user"


def one(connections: Mapping[str, Connection], inventory: str) -> Connection:
    """Return the only connection. Raises BattenError where there are several and the caller must choose."""
    if len(connections) == 1:
        return next(iter(connections.values()))
    names = ", ".join(sorted(connections))
    raise BattenError(f"this is done on one host, and there are {len(connections)}: {names}", inventory, "--limit HOST")


def of_inventory(inventory: str, limit: str | None = None, group: str = "") -> dict[str, Connection]:
    """Return the connection to each host that batten deploys to, or to those of ``group`` among them."""
    from batten import runner

    found = runner.connections(inventory, limit, group)
    return {host: connect(host, variables, inventory) for host, variables in found.items()}


def host_program(*words: str) -> list[str]:
    """Return the words that run batten-host where a run of site.yml has put it."""
    from ansible_collections.batten.core.plugins.module_utils.paths import PROGRAM

    return ["python3", str(PROGRAM), *words]


# Reads so many bytes of a program from standard input into memory and runs it; what follows is the program's own input.
_BOOTSTRAP = """\
import os, sys
left = int(sys.argv[1])
file = os.memfd_create("batten-host")
while left:
    block = os.read(0, left)
    if not block:
        sys.exit("batten-host: the program was cut short")
    left -= os.write(file, block)
place = "/proc/self/fd/%d" % file
sys.argv = [place] + sys.argv[2:]
sys.path.insert(0, place)
from batten_host.program import main
sys.exit(main())
"""


def carried_program(*words: str) -> tuple[list[str], bytes]:
    """Return the words that run this batten's own batten-host on a host that has none, and what comes first on their
    standard input: the program, which goes to memory and to no disk (memfd_create(2))."""
    from ansible_collections.batten.core.plugins.module_utils import program

    content = program.build()
    return ["python3", "-c", _BOOTSTRAP, str(len(content)), *words], content
