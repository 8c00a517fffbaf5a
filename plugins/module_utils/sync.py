"""A stack's values between Infisical and its host: look, compare, store and take over; changed ones reach consumers.

Without an answer from Infisical the sealed copies are as good as before: a run goes on with them and says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from . import atomic, credentials, generators, infisical_access, infisical_provision, lock, reconcile, rotation
from .credentials import Bundle
from .docker_api import Docker
from .errors import BattenError
from .infisical import Client, Listing, Place, Refused, Stored, Unreachable
from .lock import now
from .paths import StackPaths

LOCAL = StackPaths("infisical")


class Vault:
    """One stack's place in Infisical. Logs in at the first request."""

    def __init__(self, known: infisical_access.Access) -> None:
        self.known = known
        self.place = Place(known.project_id, known.environment, known.path)
        self.client = Client(known.url, known.ca)
        self._logged_in = False

    def __str__(self) -> str:
        return f"Infisical at {self.known.url}, {self.place}"

    def listing(self, etag: str = "") -> Listing | None:
        """Return all values; None when nothing has changed since ``etag``. Raises Unreachable or Refused."""
        self._log_in()
        return self.client.secrets(self.place, etag)

    def offer(self, values: Mapping[str, str]) -> Mapping[str, Stored]:
        """Create those of ``values`` that are not there; return what is there then."""
        self._log_in()
        return self.client.create_missing(self.place, values).secrets

    def push(self, values: Mapping[str, str]) -> dict[str, int]:
        """Make Infisical hold ``values``; return the version of each."""
        there = self.offer(values)
        older = {name: value for name, value in values.items() if there[name].value != value}
        updated = self.client.update(self.place, older) if older else {}
        return {name: updated.get(name, there[name].version) for name in values}

    def _log_in(self) -> None:
        if not self._logged_in:
            self.client.login(self.known.client_id, self.known.client_secret)
            self._logged_in = True


@dataclass
class Result:
    """What a look at Infisical came to; names only. ``stale`` says why the values could not be refreshed.

    ``refused`` are the values of Infisical that did not work here, with their versions; the old ones are in use.
    """

    changes: list[str] = field(default_factory=list)
    stale: str = ""
    refused: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    rotations: list[dict[str, Any]] = field(default_factory=list)


def vault(paths: StackPaths) -> Vault:
    """Return where this stack's values are. Raises BattenError where it has no access yet."""
    known = infisical_access.load(paths)
    if known is None:
        fix = "run site.yml with its inventory; with infisical_mode: none the host keeps the values alone"
        raise BattenError(f"stack {paths.stack} has no access to Infisical yet", str(paths.access), fix)
    return Vault(known)


def enroll(paths: StackPaths, host: str, url: str, check: bool) -> list[str]:
    """Give this stack access to the Infisical of this very host; return what changed."""
    if paths.access.exists():
        return []
    if check:
        return [f"login of {host} to Infisical: made"]
    with lock.held(LOCAL.lock), Client(url) as client:
        return infisical_provision.ensure(
            LOCAL, client, paths.stack, host, None, lambda new: infisical_access.save(paths, new)
        )


@dataclass
class Sync:
    """One look, and what follows from it. ``rules`` are the release's ``secrets.generate``.

    ``vault`` is None for a stack whose values its host keeps alone: then certificates are renewed, and that is all.
    ``coming`` are the names that a person hands in with this run, which only check mode has to be told.
    """

    paths: StackPaths
    rules: reconcile.Rules
    docker: Docker
    vault: Vault | None
    check: bool = False
    coming: Collection[str] = ()
    say: Callable[[str], None] = lambda _: None
    result: Result = field(default_factory=Result)

    def run(self) -> Result:
        """Make Infisical and this host's copy equal; bring what a person changed there to its consumers.

        Raises BattenError for a value that only a person can give, one that is lost, and an Infisical that refuses us;
        not for one that does not answer while the copies are complete.
        """
        state = atomic.read_json(self.paths.refreshed, {})
        self.result.refused = dict(state.get("refused", {}))
        bundle = self._bundle()
        complete = set(reconcile.names(self.rules)) <= set(bundle.values)
        compared = complete and state.get("of") == _sum(bundle)  # else it says nothing of the values that we have now
        try:
            if self.vault:
                listing = self.vault.listing(str(state.get("etag", "")) if compared else "")
                if listing is not None:  # None: nothing has changed there, nor is anything missing here
                    self._reconcile(self.vault, bundle, listing)
                    bundle = self._bundle()
            self.result.changes += self._renew(bundle, self.vault)
            if self.vault and (listing is not None or self.result.changes or state.get("problem")):
                self._remember(self.vault)
        except (Unreachable, Refused) as error:
            if not complete:
                raise
            # Certificates end all the same. The next look stores them, for they are newer than what is there.
            self.result.changes += self._renew(self._bundle(), None)
            if isinstance(error, Refused):
                raise
            self.result.stale = error.what
            if not self.check:
                state = {**state, "refused": self.result.refused, "problem": error.what}
                atomic.write_json(self.paths.refreshed, state)
        versions = self._bundle().versions
        self.result.versions = {name: versions[name] for name in reconcile.names(self.rules) if name in versions}
        return self.result

    def _bundle(self) -> Bundle:
        """Return the host's copy; an empty one where it is lost, for Infisical may have all of it."""
        return credentials.load(self.paths) if self.paths.credentials.exists() else credentials.empty()

    def _reconcile(self, vault: Vault, bundle: Bundle, listing: Listing) -> None:
        outcome = reconcile.compare(self.rules, bundle, listing.secrets, self.result.refused, self.coming)
        self._refuse(outcome, vault)
        self.result.changes += outcome.words
        self.result.changes += [f"{name}: twice in Infisical, the newest counts" for name in listing.duplicates]
        if self.check:
            return
        bundle = self._keep(bundle, listing, outcome)
        made = [part for name in outcome.make for part in generators.parts(name, self.rules[name])]
        self._offer(vault, {name: bundle.values[name] for name in made})
        if newer := {name: bundle.values[name] for name in (*outcome.create, *outcome.update)}:
            vault.push(newer)
        self._adopt(self._fitting(bundle, outcome.change, listing), listing)

    def _refuse(self, outcome: reconcile.Outcome, vault: Vault) -> None:
        stack = f"stack {self.paths.stack}"
        if outcome.ask:
            names = ", ".join(outcome.ask)
            variables = ", ".join(str(self.rules[name].get("from") or name) for name in outcome.ask)
            fix = f"create it in {vault} (batten tunnel infisical opens it), or set {variables} under ansible-vault"
            raise BattenError(f"no value was given for {names}", stack, fix)
        if outcome.wrong:
            names = ", ".join(outcome.wrong)
            raise BattenError(f"not of the declared format: {names}", stack, f"correct it in {vault}")
        if self.paths.credentials.exists():
            return
        if lost := credentials.lost(self.paths, outcome.make):
            fix = "batten restore brings them back from a backup; to begin with new values: "
            fix += f"rm {self.paths.secrets_spec}, then run site.yml"
            what = f"neither Infisical nor this host has {', '.join(lost)} any more"
            raise BattenError(what, str(self.paths.credentials), fix)

    def _keep(self, bundle: Bundle, listing: Listing, outcome: reconcile.Outcome) -> Bundle:
        """Seal on this host what is new, before anything of it is stored elsewhere or used."""
        rules = {name: self.rules[name] for name in outcome.make}
        new = {**outcome.take, **generators.generate_all(rules, {**bundle.values, **outcome.take})}
        kept = _with_versions(bundle.having(new) if new else bundle, listing)
        if kept != bundle or not self.paths.credentials.exists():
            credentials.save(self.paths, kept)
        return kept

    def _offer(self, vault: Vault, made: Mapping[str, str]) -> None:
        """Store what was made here. Where another host of the stack was faster its values count: ours are unused."""
        there = vault.offer(made) if made else {}
        if theirs := {name: there[name].value for name in made if there[name].value != made[name]}:
            credentials.save(self.paths, credentials.load(self.paths).having(theirs))

    def _fitting(self, bundle: Bundle, change: Mapping[str, str], listing: Listing) -> dict[str, str]:
        """Return what of ``change`` to adopt: no certificate that is not its rule's, as any run would make another."""
        values, fitting = dict(bundle.values), dict[str, str]()
        for name in generators.in_order(self.rules):
            parts = [part for part in generators.parts(name, self.rules[name]) if part in listing.secrets]
            if not change.keys() & set(parts):
                continue
            # A half that was refused before comes too: it may fit now that the other has changed.
            theirs = {part: listing.secrets[part].value for part in parts if part in {*change, *self.result.refused}}
            new = {part: value for part, value in theirs.items() if value != bundle.values.get(part)}
            if _stands(name, self.rules[name], {**values, **new}):
                values |= new
                fitting |= new
                self.result.refused = {part: at for part, at in self.result.refused.items() if part not in new}
            else:
                why = "key, names and authority have to be as declared, and its time not nearly over"
                self._put_off(new, listing, f"{why}; delete both there to get batten's own back")
        return fitting

    def _put_off(self, names: Collection[str], listing: Listing, why: str) -> None:
        """Remember versions that do not work here: they are not tried again."""
        self.result.refused |= {name: listing.secrets[name].version for name in names}
        self.result.changes.append(f"{', '.join(sorted(names))}: does not work here as it is in Infisical. {why}")

    def _adopt(self, change: Mapping[str, str], listing: Listing) -> None:
        """Bring changed values to their consumers; those that do not work stay behind, and are remembered."""
        if not change:
            return
        if not rotation.runs(self.paths):  # nothing that could break
            credentials.save(self.paths, credentials.load(self.paths).having(change))
            return
        try:
            done = rotation.Rotation(self.docker, self.paths, say=self.say).adopt(change)
            self.result.rotations.append(done.to_json())
        except rotation.Returned as failure:
            of_secrets = [
                {part: change[part] for part in generators.parts(name, self.rules[name]) if part in change}
                for name in generators.in_order(self.rules)
            ]
            if len(apart := [one for one in of_secrets if one]) > 1:  # one does not work: the others still can
                for one in apart:
                    self._adopt(one, listing)
                return
            self._put_off(change, listing, failure.what)

    def _renew(self, bundle: Bundle, vault: Vault | None) -> list[str]:
        """Make certificates anew that are due: as a rotation, where the stack runs and knows them as declared now.

        They are stored in ``vault`` before they are used; without one, on this host alone.
        """
        there = {name: rule for name, rule in self.rules.items() if name in bundle.values}
        due = [name for name in generators.in_order(there) if generators.due(name, there[name], bundle.values)]
        if not due or self.check:
            return [f"{name}: due for renewal" for name in due]
        known: list[str] = []
        if rotation.runs(self.paths):
            push = vault.push if vault else None
            turn = rotation.Rotation(self.docker, self.paths, push, self.say)
            known = [name for name in due if turn.rules.get(name) == self.rules[name]]
            self.result.rotations += [turn.rotate(known).to_json()] if known else []
        if new := generators.generate_all({name: there[name] for name in due if name not in known}, bundle.values):
            credentials.save(self.paths, credentials.load(self.paths).having(new))
            if vault:
                vault.push(new)
        return [f"{name}: renewed" for name in due]

    def _remember(self, vault: Vault) -> None:
        """Keep what is there now, so that the next look is a question whether anything has changed.

        What came in the meantime, of a person who goes on typing, is for the next look.
        """
        listing = None if self.check else vault.listing()
        if listing is None:
            return
        bundle = credentials.load(self.paths)
        known = _with_versions(bundle, listing)
        if known != bundle:
            credentials.save(self.paths, known)
        there = {name: stored.version for name, stored in listing.secrets.items()}
        self.result.refused = {name: at for name, at in self.result.refused.items() if there.get(name) == at}
        left = reconcile.compare(self.rules, known, listing.secrets, self.result.refused)
        etag = listing.etag if left == reconcile.Outcome() else ""
        state = {"at": now(), "etag": etag, "of": _sum(known), "refused": self.result.refused, "problem": ""}
        atomic.write_json(self.paths.refreshed, state)


def _stands(name: str, rule: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    try:
        return not generators.due(name, rule, values)
    except BattenError:  # openssl cannot read it
        return False


def _sum(bundle: Bundle) -> str:
    """Return what tells of other values."""
    return bundle.mark(json.dumps(dict(bundle.values), sort_keys=True))


def _with_versions(bundle: Bundle, listing: Listing) -> Bundle:
    """Return the bundle knowing the version of every value that it has as Infisical does."""
    same = {name: one.version for name, one in listing.secrets.items() if bundle.values.get(name) == one.value}
    return replace(bundle, versions={**bundle.versions, **same})
