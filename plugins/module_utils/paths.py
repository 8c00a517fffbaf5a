"""Where everything of ours lies on a host. See docs/architecture.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PROGRAM = Path("/usr/local/lib/batten/batten-host.pyz")


class SharedPaths:
    """What all stacks of a host share. ``root`` is ``/`` on a host and a temporary directory in a test."""

    root: str

    def _at(self, path: str) -> Path:
        return Path(self.root) / path

    @property
    def stacks(self) -> Path:
        """``/opt/batten``, which holds the directory of each stack."""
        return self._at("opt/batten")

    @property
    def var(self) -> Path:
        """``/var/lib/batten``, mode 0700: what must survive a reboot."""
        return self._at("var/lib/batten")

    @property
    def run(self) -> Path:
        return self._at("run/batten")

    @property
    def audit(self) -> Path:
        """A line of JSON for each thing that a run did here."""
        return self._at("var/log/batten/audit.jsonl")

    @property
    def probes(self) -> Path:
        """``{IMAGE: {PATH: BOOL}}``: which programs of health checks the images of this host have."""
        return self.var / "probes.json"

    @property
    def sealing_key(self) -> Path:
        """The private key that texts for this host are sealed to; see cms.py."""
        return self.var / "sealing.key"

    @property
    def program(self) -> Path:
        return self._at(str(PROGRAM.relative_to("/")))

    @property
    def program_record(self) -> Path:
        """``{"sha256": HEX, "version": TEXT}`` of the program that was installed last."""
        return self.program.with_suffix(".json")

    @property
    def units(self) -> Path:
        return self._at("etc/systemd/system")


@dataclass(frozen=True)
class HostPaths(SharedPaths):
    """What belongs to a host and to none of its stacks, beside what they share."""

    root: str = "/"

    @property
    def plans(self) -> list[Path]:
        """The recorded plan of each stack, :attr:`StackPaths.plan`."""
        return sorted(self.var.glob("*/plan.json"))

    @property
    def host(self) -> Path:
        """What role host made of this host; see host.py."""
        return self.var / "host.json"

    @property
    def docker(self) -> Path:
        """What role docker changed of daemon.json, to take it back; see engine.py."""
        return self.var / "docker.json"

    @property
    def engine(self) -> Path:
        """What the engine should be, for a look at drift; see host_state.py."""
        return self.var / "engine.json"

    @property
    def lock(self) -> Path:
        """Held by a run of role host."""
        return self._at("run/lock/batten-host.lock")

    @property
    def drift(self) -> Path:
        """The last report of the host's own look for drift."""
        return self.run / "drift.json"

    @property
    def metrics(self) -> Path:
        """For node_exporter's textfile collector, beside those of the stacks."""
        return self.run / "metrics" / "host.prom"

    @property
    def history(self) -> Path:
        """A line of JSON for each look that found something else than the one before."""
        return self._at("var/log/batten/drift.jsonl")


@dataclass(frozen=True)
class StackPaths(SharedPaths):
    """What belongs to ``stack``, beside what it shares."""

    stack: str
    root: str = "/"

    @property
    def top(self) -> Path:
        """``/opt/batten/STACK``: what Compose and the containers read."""
        return self.stacks / self.stack

    @property
    def releases(self) -> Path:
        return self.top / "releases"

    @property
    def current(self) -> Path:
        """Symlink to the release that runs."""
        return self.top / "current"

    @property
    def base(self) -> Path:
        """The fixed Compose project directory, with the user's own files."""
        return self.top / "base"

    @property
    def files(self) -> Path:
        """``files/SERVICE/DIGEST/``: rendered configs, mounted read-only as directories."""
        return self.top / "files"

    @property
    def secrets(self) -> Path:
        """Memory-only; ``secrets/SERVICE/NAME``."""
        return self.top / "secrets"

    @property
    def state(self) -> Path:
        """``/var/lib/batten/STACK``, root only: what must survive a reboot."""
        return self.var / self.stack

    @property
    def plan(self) -> Path:
        """The plan of the release that runs; other stacks on the host count its memory."""
        return self.state / "plan.json"

    @property
    def release(self) -> Path:
        """The payload of the release that runs, a second time: the host repairs the first from it."""
        return self.state / "release.json"

    @property
    def good(self) -> Path:
        """Which release was last healthy: ``{"release": ID, "at": TIME}``."""
        return self.state / "good.json"

    @property
    def costs(self) -> Path:
        """``{SERVICE: SECONDS}``: how long each took to be made and healthy when that was done last."""
        return self.state / "costs.json"

    @property
    def model(self) -> Path:
        """Compose's merge of the release that runs; see model_cache.py."""
        return self.state / "model.json"

    @property
    def image_files(self) -> Path:
        """``{CONTAINER: [PATH]}``: what each had written over its image when it was healthy first."""
        return self.state / "image-files.json"

    @property
    def certificates(self) -> Path:
        """What is known of each certificate of the bundle, so that openssl is asked once; see secret_facets.py."""
        return self.state / "certificates.json"

    @property
    def put_off(self) -> Path:
        """Names of the services with data that the last run was told not to make anew."""
        return self.state / "put-off.json"

    @property
    def filling(self) -> Path:
        """Names of new volumes that the engine fills from an image just now; a killed run leaves it behind."""
        return self.state / "filling.json"

    @property
    def loaded(self) -> Path:
        """``{SERVICE: DIGEST}``: the secrets that each running container last loaded."""
        return self.state / "loaded.json"

    @property
    def credentials(self) -> Path:
        """The stack's secret values and digest key, encrypted."""
        return self.state / "secrets.cred"

    @property
    def access(self) -> Path:
        """How this stack reaches Infisical, encrypted."""
        return self.state / "infisical.cred"

    @property
    def refreshed(self) -> Path:
        """What the last look at Infisical found, without values."""
        return self.state / "refreshed.json"

    @property
    def metrics(self) -> Path:
        """For node_exporter's textfile collector (``--collector.textfile.directory``)."""
        return self.run / "metrics" / f"{self.stack}.prom"

    @property
    def made(self) -> Path:
        """``{SECRET: TIME}``: since when each has its value."""
        return self.state / "made.json"

    @property
    def secrets_spec(self) -> Path:
        """What is delivered to whom, without values; read at boot."""
        return self.state / "secrets.json"

    @property
    def dumps(self) -> Path:
        """Database dumps made before a migration; the newest of each database stay."""
        return self.state / "dumps"

    @property
    def lock(self) -> Path:
        return self._at(f"run/lock/batten-{self.stack}.lock")

    @property
    def backup_lock(self) -> Path:
        """Held while a backup reads the stack's databases, which goes on when it has let go of :attr:`lock`."""
        return self._at(f"run/lock/batten-backup@{self.stack}.lock")
