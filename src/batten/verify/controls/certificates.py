"""Certificates: they hold for some time yet, and what is served is what was delivered."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from batten.verify.catalogue import control
from batten.verify.model import LiveContainer, LiveTls, Verdict, fails, holds, not_applicable

if TYPE_CHECKING:
    from batten.plan.model import ServicePlan

_DAY = 86400
_NOTICE = 14 * _DAY
# A certificate is renewed when a third of its lifetime is left: of one of less than this, that is less than the notice.
_SHORT = 60 * _DAY


# NIST SP 800-57 part 1: what 112 bits of security take.
WEAKEST = {"rsaEncryption": 2048, "id-ecPublicKey": 224, "dsaEncryption": 2048}
WEAK_DIGESTS = {"md5", "sha1", "md5withrsaencryption", "sha1withrsaencryption"}


@control("certificates.expiry", "Each certificate holds for another 14 days")
def expiry(expected: ServicePlan, live: LiveContainer) -> Verdict:
    files = [name for name in expected.secrets if name.endswith(".crt")]
    if not files:
        return not_applicable("takes no certificate")
    stack, now = _stack(live), int(live.host.facts["now"])
    problems, said = [], []
    for name in files:
        found = live.host.certificates.get((stack, f"{expected.name}/{name}"))
        if found is None:
            problems.append(f"{name} could not be read as a certificate")
            continue
        lifetime = found.end - found.start
        until = f"{name} holds until {_written(found.end)}"
        said.append(until)
        if found.start > now:
            problems.append(f"{name} holds from {_written(found.start)} only")
        elif found.end - now < (_NOTICE if lifetime >= _SHORT else lifetime / 6):
            problems.append(until)
    return fails("; ".join(problems)) if problems else holds("; ".join(said))


@control("certificates.served", "The certificate that is served is the delivered one, with its key and chain")
def served(expected: ServicePlan, live: LiveContainer) -> Verdict:
    if expected.tls is None:
        return not_applicable("serves no TLS with a certificate of its secrets")
    stack = _stack(live)
    shown = live.host.tls.get((stack, expected.name))
    delivered = live.host.certificates.get((stack, f"{expected.name}/{expected.tls.certificate}"))
    port = f"port {expected.tls.port}"
    if shown is None or shown.certificate is None:
        return fails(f"no TLS handshake on {port}")
    if delivered is None:
        return fails(f"{expected.tls.certificate} could not be read as a certificate")
    if shown.certificate.fingerprint != delivered.fingerprint:
        return fails(f"{port} shows another certificate than {expected.tls.certificate}: it was not reloaded")
    if expected.tls.name is None:
        return holds(f"{port} shows {expected.tls.certificate}; whose authority is not batten's")
    if not shown.verify.startswith("0 "):
        return fails(f"{port} is not to be trusted as {expected.tls.name}: {shown.verify or 'no answer'}")
    return holds(f"{port} shows {expected.tls.certificate}, trusted as {expected.tls.name}")


@control("certificates.strength", "Keys and signatures of certificates are strong")
def strength(expected: ServicePlan, live: LiveContainer) -> Verdict:
    names = [name for name in expected.secrets if name.endswith(".crt")]
    found = {name: live.host.certificates.get((_stack(live), f"{expected.name}/{name}")) for name in names}
    judged = {name: one for name, one in found.items() if one}
    if not judged:
        return not_applicable("takes no certificate" if not names else "certificates.expiry says what cannot be read")
    weak = [
        f"{name}: {one.key} {one.bits} bits, {one.signature}"
        for name, one in judged.items()
        if one.bits < WEAKEST.get(one.key, 0) or WEAK_DIGESTS & set(re.split(r"[^a-z0-9]+", one.signature.lower()))
    ]
    said = [f"{name} {one.key} {one.bits}" for name, one in judged.items()]
    return fails("; ".join(weak)) if weak else holds("; ".join(said))


@control("certificates.protocol", "TLS 1.2 or newer is spoken")
def protocol(expected: ServicePlan, live: LiveContainer) -> Verdict:
    shown = _shown(expected, live)
    if shown is None:
        return not_applicable("serves no TLS with a certificate of its secrets")
    modern = shown.protocol in ("TLSv1.2", "TLSv1.3")
    return holds(shown.protocol) if modern else fails(f"both agreed on {shown.protocol or 'nothing'}")


@control("certificates.old-protocols", "TLS 1.1 and older are refused")
def old_protocols(expected: ServicePlan, live: LiveContainer) -> Verdict:
    shown = _shown(expected, live)
    if shown is None:
        return not_applicable("serves no TLS with a certificate of its secrets")
    return (
        fails(f"port {expected.tls.port} accepts TLS 1.1")
        if shown.old and expected.tls
        else holds("TLS 1.1 is refused")
    )


def _shown(expected: ServicePlan, live: LiveContainer) -> LiveTls | None:
    return live.host.tls.get((_stack(live), expected.name)) if expected.tls else None


def _stack(live: LiveContainer) -> str:
    """The stack whose secrets this container has mounted."""
    sources = (str(one.get("Source", "")).split("/") for one in live.inspect.get("Mounts") or ())
    return next((parts[3] for parts in sources if parts[1:3] == ["opt", "batten"] and "secrets" in parts[4:5]), "")


def _written(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
