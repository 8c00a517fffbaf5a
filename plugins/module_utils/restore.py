"""A backup put back onto a new host: first all of it is read and judged, then it is kept, then a run loads it.

The private key comes on standard input before the backup itself, goes to age through a pipe, and is kept nowhere. What
is staged for the run are the credentials, sealed as always, and the dumps, encrypted to a key made here for this one
purpose and sealed beside them: they are loaded even after a reboot, and lie nowhere in plain. (PostgreSQL then keeps
the data in plain, as everywhere.)

A dump is loaded when its server is healthy and before whoever depends on it starts, in one transaction; only then its
file goes. Killed at any point, the next run loads it again with the same outcome.

A host that has the stack and its data, but whose credentials are lost or do not open any more, gets those alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from . import age, archive, atomic, audit, credentials, infisical_access, lock, postgres_dumps, systemd_creds
from .docker_api import Docker
from .engine_packages import version_tuple
from .errors import BattenError
from .paths import StackPaths
from .preflight import is_postgres, postgres_major
from .version import VERSION

IDENTITY_BYTES = 32 * 1024
_LINE_BYTES = 4 * IDENTITY_BYTES
ALL, CREDENTIALS, NOTHING = "all", "credentials", "nothing"
"""What a host needs of a backup."""
_POSTGRES_DUMP = re.compile(r"dumps/(?P<service>[^/]+)/(?P<database>[^/]+)\.dump\Z")


@dataclass(frozen=True)
class Asked:
    """What the operator hands in: the private key, and the images that the inventory would run, by service."""

    identity: str
    images: Mapping[str, str]


def asked(source: int) -> Asked:
    """Read the first line of standard input, which is JSON; the backup follows it. Takes not a byte more."""
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(source, 1)
        if not byte or len(line) > _LINE_BYTES:
            raise _not_asked()
        line += byte
    try:
        given = json.loads(line)
        identity, images = str(given["identity"]), dict(given["images"])
    except (ValueError, KeyError, TypeError):
        raise _not_asked() from None
    if len(identity) > IDENTITY_BYTES or "AGE-SECRET-KEY-" not in identity:
        raise BattenError("this is no age private key", "--identity", "name the file that age-keygen wrote")
    return Asked(identity, images)


def _not_asked() -> BattenError:
    return BattenError("standard input does not begin with a line of JSON", "restore", "use: batten restore")


def run(paths: StackPaths, docker: Docker, source: int, given: Asked) -> dict[str, Any]:
    """Judge the backup on ``source`` and keep what a run needs; return its header. Refused, nothing is changed.

    The header's ``already`` says that all of it is here, ``credentials_only`` that they were lost and are back.
    Raises BattenError for a wrong key, a backup that is cut short, changed, of another stack or of something newer
    than what would run, and where this host has credentials or data that would be lost.
    """
    with lock.held(paths.lock), ExitStack() as undo:
        record = atomic.read_json(_record(paths), None)
        there = {path: path.exists() for path in (paths.var, paths.state)}
        for path, existed in there.items():
            atomic.make_directory(path, 0o700)
            undo.callback(_unmake, path, existed)
        for left in paths.state.glob(".restore-*"):  # of a run that was killed; its key died with it
            shutil.rmtree(left, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(prefix=".restore-", dir=str(paths.state)))
        undo.callback(shutil.rmtree, staging, ignore_errors=True)
        with age.decrypting(given.identity, source) as stream:
            need, header, small = _stage(paths, docker, given, stream, staging, record)
        told = {**header, "already": need == NOTHING, "credentials_only": need == CREDENTIALS}
        if need == NOTHING:
            return told
        bundle = credentials.from_json(small["credentials.json"])
        if need == CREDENTIALS:
            _keep_small(paths, bundle, small, again=True)
        else:
            _commit(paths, header, small, bundle, staging, record)
    result = "staged" if need == ALL else "credentials"
    audit.append(paths.audit, [{"stack": paths.stack, "action": "restore", "result": result, "why": header["created"]}])
    return told


def _commit(
    paths: StackPaths,
    header: Mapping[str, Any],
    small: Mapping[str, Any],
    bundle: credentials.Bundle,
    staging: Path,
    record: Mapping[str, Any] | None,
) -> None:
    """Keep what was judged. The record says first that this has begun and last that it is whole."""
    staged = record is not None and record["id"] == _identity(header) and record["complete"]
    ours = staged and credentials.opens(paths)  # a run has gone on with them since, and may have made more
    if not ours:
        _keeps_credentials(paths, bundle)
    loaded = _loaded(record, header)
    if not ours:  # else it stays whole: what is staged is all that is replaced, and without its index no run goes on
        _note(paths, header, complete=False, loaded=False, done=loaded)
    shutil.rmtree(_directory(paths), ignore_errors=True)
    staging.rename(_directory(paths))
    atomic.sync_directory(paths.state)
    if not ours:
        _keep_small(paths, bundle, small)
    _note(paths, header, complete=True, loaded=not atomic.read_json(_index(paths), []), done=loaded)


def _keep_small(paths: StackPaths, bundle: credentials.Bundle, small: Mapping[str, Any], again: bool = False) -> None:
    """Seal credentials and access on this host; ``again``, where it had them, an access that opens stays.

    Credentials that do not open are set aside, not lost.
    """
    if paths.credentials.exists() and not credentials.opens(paths):
        aside = paths.credentials.with_name(f"{paths.credentials.name}.unopened")
        aside.unlink(missing_ok=True)
        os.link(paths.credentials, aside)
    credentials.save(paths, bundle)
    try:
        known = infisical_access.load(paths)
    except BattenError:
        paths.access.unlink()
        known = None
    if "access.json" in small and not (again and known):
        infisical_access.save(paths, infisical_access.from_json(small["access.json"]))


def _stage(
    paths: StackPaths,
    docker: Docker,
    given: Asked,
    stream: IO[bytes],
    staging: Path,
    record: Mapping[str, Any] | None,
) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """Read the whole backup; return what this host needs of it, the header and small parts.

    Dumps that are needed go into ``staging``, encrypted anew.
    """
    header: dict[str, Any] = {}
    small: dict[str, Any] = {}
    private, public = age.new_identity()
    need, fresh = ALL, True
    with _Dumps(staging, public) as dumps:
        for member in archive.read(stream):
            if member.part == archive.HEADER:
                header = json.loads(member.content)
                judge(header, paths.stack, given.images)
                need = needed(paths, docker, header, record)
                fresh = need == ALL and not (record and record["id"] == _identity(header))
                dumps.skipped = _loaded(record, header)
            elif member.number is None:
                small[member.part] = json.loads(member.content)
                if member.part == "release.json" and fresh:
                    _refuse_directories(small[member.part])
            elif need == ALL:
                dumps.add(member)
    if "credentials.json" not in small or "release.json" not in small:
        raise BattenError("it holds no credentials or no release", "backup", "take another one")
    atomic.write_json(staging / "index.json", dumps.index)
    atomic.write_json(staging / "roles.json", small.get("roles.json", {}))
    systemd_creds.write(staging / "key.cred", _sealed_name(paths), {"identity": private})
    atomic.sync_directory(staging)
    return need, {**header, "left": dumps.left}, small


def needed(paths: StackPaths, docker: Docker, header: Mapping[str, Any], record: Mapping[str, Any] | None) -> str:
    """Return what this host needs of the backup with this header: ALL, CREDENTIALS or NOTHING.

    Raises BattenError where its credentials are whole, and there are data that would be lost.
    """
    if record and record["id"] == _identity(header):
        if not record["loaded"]:
            return ALL  # also what is staged already: it may be what a loss of power has left
        return NOTHING if credentials.opens(paths) else CREDENTIALS
    try:
        _refuse_data(paths, docker, header)
    except BattenError:
        known = paths.current.is_symlink() or paths.secrets_spec.exists() or paths.credentials.exists()
        if not known or credentials.opens(paths):
            raise
        return CREDENTIALS
    return ALL


class _Dumps:
    """The dumps of a backup as they come, each encrypted anew to ``public`` in a file of its own below ``directory``.

    ``index`` says which file is which database; ``left`` are the parts of software that batten cannot load. Parts that
    are ``skipped`` were loaded already: data have come to them since.
    """

    def __init__(self, directory: Path, public: str) -> None:
        self.index: list[dict[str, str]] = []
        self.left: list[str] = []
        self.skipped: Collection[str] = ()
        self._directory, self._public = directory, public
        self._part = ""
        self._target: IO[bytes] | None = None
        self._open = ExitStack()

    def __enter__(self) -> _Dumps:
        return self

    def __exit__(self, *raised: Any) -> None:
        self._open.__exit__(*raised)

    def add(self, member: archive.Member) -> None:
        """Take the next piece; pieces of one part follow each other."""
        if member.part != self._part:
            self._open.close()
            self._part, self._target = member.part, self._begin(member.part)
        if self._target is not None:
            self._target.write(member.content)

    def _begin(self, part: str) -> IO[bytes] | None:
        if part in self.skipped:
            return None
        match = _POSTGRES_DUMP.match(part)
        if match is None:
            self.left.append(part)
            return None
        name = f"{len(self.index)}.age"
        self.index.append({"service": match["service"], "database": match["database"], "file": name})
        file = self._open.enter_context((self._directory / name).open("wb"))
        self._open.callback(lambda: os.fsync(file.fileno()))
        return self._open.enter_context(age.encrypting(self._public, file))


def judge(header: Mapping[str, Any], stack: str, images: Mapping[str, str]) -> None:
    """Raise BattenError unless a backup with this header can be put back as ``stack`` with these images. Pure."""
    where = f"backup of {header.get('created')}"
    if header.get("format") != archive.FORMAT or version_tuple(str(header["batten"])) > version_tuple(VERSION):
        what = f"it was made by batten {header.get('batten')}, and this is {VERSION}"
        raise BattenError(what, where, "use that version of batten, or a newer one")
    if header["stack"] != stack:
        raise BattenError(f"it is of stack {header['stack']}, not {stack}", where, "name the file of this stack")
    for service, major in sorted(header.get("postgres", {}).items()):
        image = images.get(service, "")
        if not is_postgres(image):
            raise BattenError(f"nothing in the inventory runs its PostgreSQL {service}", where, "add that service")
        now = postgres_major(image, {})
        if now and int(now) < int(major):  # a tag without a number: pg_restore itself refuses what is newer
            what = f"its data are of PostgreSQL {major}, and {image} cannot read them"
            raise BattenError(what, where, f"run PostgreSQL {major} or newer")
    for service in header.get("migrates", ()):
        before, now = header["images"][service], images.get(service, "")
        if _version(before) and _version(now) and _version(before) > _version(now):
            what = f"its data were last used by {before}, and {now} is older"
            raise BattenError(what, f"{where}: service {service}", f"run {before}, or something newer")


def pending(paths: StackPaths) -> list[str]:
    """Return the services whose dumps are still to be loaded. Raises BattenError after a restore that was cut off."""
    record = atomic.read_json(_record(paths), None)
    if record is None or record["loaded"]:
        return []
    index = atomic.read_json(_index(paths), None)
    if not record["complete"] or index is None:
        fix = "run the same batten restore again"
        raise BattenError("a restore of this stack was cut off", f"stack {paths.stack}", fix)
    return sorted({one["service"] for one in index})


def load(paths: StackPaths, docker: Docker, payload: Mapping[str, Any], service: str) -> list[str]:
    """Load what is pending for ``service``, whose server is healthy; return what was done, in words."""
    index = atomic.read_json(_index(paths), [])
    server = postgres_dumps.server(docker, payload, service)
    private = systemd_creds.read(_directory(paths) / "key.cred", _sealed_name(paths))["identity"]
    roles = atomic.read_json(_directory(paths) / "roles.json", {}).get(service, ())  # an older backup has none
    done = [f"role {name}: made, without a password" for name in server.create_roles(docker, roles)]
    for one in [each for each in index if each["service"] == service]:
        server.create(docker, one["database"])
        _load(server, one["database"], private, _directory(paths) / one["file"])
        record = atomic.read_json(_record(paths), {})
        atomic.write_json(_record(paths), {**record, "done": [*record.get("done", []), _part(one)]})
        index.remove(one)
        atomic.write_json(_index(paths), index)
        (_directory(paths) / one["file"]).unlink()
        done.append(f"database {one['database']}: loaded from the backup")
    if not index:
        record = atomic.read_json(_record(paths), {})
        atomic.write_json(_record(paths), {**record, "loaded": True})
        shutil.rmtree(_directory(paths))
    return done


def _load(server: postgres_dumps.Server, database: str, private: str, path: Path) -> None:
    words = server.words("pg_restore", postgres_dumps.load_words(database))
    with age.decrypting(private, subprocess.DEVNULL, str(path)) as stream, tempfile.TemporaryFile() as said:
        done = subprocess.run(words, stdin=stream, stdout=subprocess.DEVNULL, stderr=said, check=False)
        if done.returncode:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()
            told = next((line for line in lines if "error" in line), "it gave no reason")
            fix = "nothing of it was loaded; correct that and run site.yml again"
            raise BattenError(f"pg_restore says: {told}", f"database {database} of service {server.service}", fix)


def _refuse_data(paths: StackPaths, docker: Docker, header: Mapping[str, Any]) -> None:
    """Raise BattenError where the stack has run on this host: its data would be lost, or mixed with the backup's."""
    fix = "restore onto a new host; or take the stack off this one (playbooks/uninstall.yml) and its data away yourself"
    if paths.current.is_symlink():
        go_on = f"with the credentials that it has: run site.yml. For the data of the backup: {fix}"
        raise BattenError(f"stack {paths.stack} is deployed on this host already", str(paths.current), go_on)
    if not docker.answers():
        return
    if docker.list(header["project"]):
        raise BattenError(f"project {header['project']} has containers on this host", "docker", fix)
    prefix = f"{header['project']}_"
    for volume in docker.volumes():
        place = Path(volume.get("Mountpoint") or "/nonexistent")
        if volume["Name"].startswith(prefix) and place.is_dir() and any(place.iterdir()):
            raise BattenError(f"volume {volume['Name']} holds data", str(place), fix)


def _refuse_directories(payload: Mapping[str, Any]) -> None:
    """Raise BattenError where a directory behind a volume of the stack holds something (a volume that moved)."""
    for volume in (payload["plan"].get("volumes") or {}).values():
        place = Path(volume.get("device") or "/nonexistent")
        if place.is_dir() and any(place.iterdir()):
            fix = "data that are there need no backup of them: run site.yml; or move them away"
            raise BattenError(f"the directory of volume {volume['name']} holds data", str(place), fix)


def _keeps_credentials(paths: StackPaths, bundle: credentials.Bundle) -> None:
    if credentials.opens(paths) and credentials.load(paths) != bundle:
        fix = "restore onto a new host; or, if nobody needs them any more: rm " + str(paths.credentials)
        raise BattenError("other credentials of this stack are on this host", str(paths.credentials), fix)


def _note(
    paths: StackPaths, header: Mapping[str, Any], complete: bool, loaded: bool, done: Collection[str] = ()
) -> None:
    """Write the record. ``done`` are the parts that were loaded already."""
    record = {"id": _identity(header), "at": lock.now(), "complete": complete, "loaded": loaded, "done": list(done)}
    atomic.write_json(_record(paths), record)


def _loaded(record: Mapping[str, Any] | None, header: Mapping[str, Any]) -> list[str]:
    """Return the parts of this backup that a run has loaded here."""
    return list(record.get("done", ())) if record and record["id"] == _identity(header) else []


def _part(one: Mapping[str, str]) -> str:
    return f"dumps/{one['service']}/{one['database']}.dump"


def _identity(header: Mapping[str, Any]) -> str:
    return f"{header['host']} {header['created']} {header['release']}"


def _version(image: str) -> tuple[int, ...]:
    return version_tuple(image.partition("@")[0].rpartition("/")[2].partition(":")[2])


def _unmake(path: Path, existed: bool) -> None:
    """Take away a directory that we made and that is still empty."""
    if not existed and not any(path.iterdir()):
        path.rmdir()


def _directory(paths: StackPaths) -> Path:
    return paths.state / "restore"


def _index(paths: StackPaths) -> Path:
    return _directory(paths) / "index.json"


def _record(paths: StackPaths) -> Path:
    return paths.state / "restored.json"


def _sealed_name(paths: StackPaths) -> str:
    return f"batten-{paths.stack}-restore"
