"""Life cycle: the planned containers, from the planned images, running, and back after a reboot."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from batten.verify.catalogue import control, is_oneoff
from batten.verify.controls.health import moment
from batten.verify.model import HostPlan, LiveContainer, LiveHost, Verdict, all_of, equal, fails, holds, not_applicable

if TYPE_CHECKING:
    from batten.plan.model import ServicePlan, StackPlan

SETTLED_SECONDS = 600  # a restart that is older says nothing of the present


@control("lifecycle.present", "The stack has a container for every planned service and no other", scope="stack")
def present(expected: StackPlan, live: LiveHost) -> Verdict:
    found: dict[str, int] = {}
    for container in live.containers:
        if container.project == expected.project:
            found[container.service] = found.get(container.service, 0) + 1
            if is_oneoff(container):
                found[container.service] -= 1
                found[f"a one-off of {container.service} ({container.name})"] = 1
    problems = [f"{name} has no container" for name in expected.services if not found.get(name)]
    problems += [f"{name} is not planned" for name, count in found.items() if count and name not in expected.services]
    problems += [f"{name} has {count} containers" for name, count in found.items() if count > 1]
    return fails("; ".join(problems)) if problems else holds(f"{len(found)} services, one container each")


@control("lifecycle.running", "The service runs")
def running(expected: ServicePlan, live: LiveContainer) -> Verdict:
    state = live.state
    status = state.get("Status")
    if expected.one_shot and status == "exited":
        return equal("exit status", 0, state.get("ExitCode"))
    if state.get("OOMKilled"):
        return fails(f"{status}; the kernel killed a process of it for memory")
    return (
        holds(f"since {state.get('StartedAt')}")
        if status == "running"
        else fails(f"it is {status}, exit status {state.get('ExitCode')} {state.get('Error', '')}".rstrip())
    )


@control("lifecycle.restart-policy", "The restart policy is the planned one", cis="5.15")
def restart_policy(expected: ServicePlan, live: LiveContainer) -> Verdict:
    policy = live.host_config["RestartPolicy"]
    name, _, count = expected.restart.partition(":")
    return all_of(
        equal("RestartPolicy", name, policy.get("Name") or "no"),
        equal("MaximumRetryCount", int(count or 0), policy.get("MaximumRetryCount", 0)),
    )


@control("lifecycle.stable", "The service does not restart over and over")
def stable(expected: ServicePlan, live: LiveContainer) -> Verdict:
    count = int(live.inspect.get("RestartCount", 0))
    if live.state.get("Restarting"):
        return fails(f"the engine is restarting it now, {count} times so far")
    age = _age(live)
    if count and age < SETTLED_SECONDS:
        return fails(f"restarted {count} times, the last {age:.0f} s ago")
    return holds(f"restarted {count} times, up for {age:.0f} s")


@control("lifecycle.image", "The image is the planned one", cis="4.2")
def image(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return equal("Config.Image", expected.image, live.config["Image"])


@control("lifecycle.image-tag", "The image has a fixed tag or digest", cis="5.28")
def image_tag(expected: ServicePlan, live: LiveContainer) -> Verdict:
    reference = str(live.config["Image"])
    name, _, digest = reference.partition("@")
    tag = name.rpartition("/")[2].partition(":")[2]
    return (
        holds(reference) if digest or tag not in ("", "latest") else fails(f"{reference} means another image tomorrow")
    )


@control("lifecycle.init", "An init process reaps and forwards signals as planned", kept="init")
def init(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return equal("HostConfig.Init", expected.init, bool(live.host_config.get("Init")))


@control("lifecycle.stop-grace", "The service gets the planned time to stop", kept="stop_grace")
def stop_grace(expected: ServicePlan, live: LiveContainer) -> Verdict:
    return equal("Config.StopTimeout", expected.stop_grace_seconds, live.config.get("StopTimeout"))


@control("lifecycle.boot", "The stack comes up at boot, after its secrets and the engine", scope="stack")
def boot(expected: StackPlan, live: LiveHost) -> Verdict:
    secrets, stack = f"batten-secrets@{expected.name}.service", f"batten-stack@{expected.name}.service"
    units = {name: live.units.get(name, {}) for name in (secrets, stack)}
    problems = [
        f"{name} is {unit.get('UnitFileState') or unit.get('LoadState') or 'missing'}"
        for name, unit in units.items()
        if unit.get("UnitFileState") != "enabled"
    ]
    problems += [
        f"{n} is {u.get('ActiveState', 'missing')}" for n, u in units.items() if u.get("ActiveState") != "active"
    ]
    if "docker.service" not in units[secrets].get("Before", "").split():
        problems.append(f"{secrets} is not ordered before docker.service")
    if "docker.service" not in units[stack].get("After", "").split():
        problems.append(f"{stack} is not ordered after docker.service")
    # In order is not enough: secrets that failed would leave the engine to make empty directories in their place.
    if (mount := f"/opt/batten/{expected.name}/secrets") not in live.asserted:
        problems.append(f"docker.service starts without {mount}: no AssertPathIsMountPoint= of it")
    if problems:
        return fails("; ".join(problems))
    return holds("both units are enabled, active and in order, and the engine waits for the secrets")


@control("lifecycle.data-mounted", "Docker waits for the disk that holds the data", scope="stack")
def data_mounted(expected: StackPlan, live: LiveHost) -> Verdict:
    if not expected.requires_mounts_for:
        return not_applicable("the plan needs no disk but the root")
    required = set()
    for name in ("docker.service", f"batten-stack@{expected.name}.service"):
        required.update(live.units.get(name, {}).get("RequiresMountsFor", "").split())
    missing = [path for path in expected.requires_mounts_for if path not in required]
    return fails(f"no RequiresMountsFor= for {', '.join(missing)}") if missing else holds(" ".join(sorted(required)))


@control("lifecycle.engine-boot", "The engine comes up at boot by itself", scope="host")
def engine_boot(expected: HostPlan, live: LiveHost) -> Verdict:
    units = {name: live.units.get(name, {}) for name in ("docker.service", "containerd.service")}
    problems = [
        f"{name} is {unit.get('UnitFileState') or 'missing'} and {unit.get('ActiveState', 'missing')}"
        for name, unit in units.items()
        if (unit.get("UnitFileState"), unit.get("ActiveState")) != ("enabled", "active")
    ]
    return fails("; ".join(problems)) if problems else holds(f"{', '.join(units)} are enabled and active")


@control("lifecycle.units-loaded", "The units that systemd runs are those on the disk", scope="host")
def units_loaded(expected: HostPlan, live: LiveHost) -> Verdict:
    stale = [name for name, unit in live.units.items() if unit.get("NeedDaemonReload") == "yes"]
    return fails(f"changed since they were read: {', '.join(sorted(stale))}") if stale else holds("all of them")


@control("lifecycle.after-boot", "What was up before the last boot is up again", scope="stack")
def after_boot(expected: StackPlan, live: LiveHost) -> Verdict:
    booted = float(live.facts.get("booted") or 0)
    before = [
        one
        for one in live.containers
        if one.project == expected.project
        and (plan := expected.services.get(one.service))
        and not plan.one_shot
        and moment(str(one.inspect["Created"])) < booted
    ]
    if not before:
        return not_applicable("the host has not booted since the containers were made")
    down = [one.service for one in before if one.state.get("Status") != "running"]
    unit = live.units.get(f"batten-stack@{expected.name}.service", {})
    problems = [f"{', '.join(sorted(down))} did not come back"] if down else []
    if unit.get("Result", "success") != "success":
        problems.append(f"batten-stack@{expected.name} ended with {unit['Result']}")
    return fails("; ".join(problems)) if problems else holds(f"{len(before)} services came back")


@control("lifecycle.command", "The command is the planned one")
def command(expected: ServicePlan, live: LiveContainer) -> Verdict:
    """Also one that fits an accepted limit: it waits for the next recreation. The evidence says where, never what."""
    if expected.command is None:
        return not_applicable("the plan leaves the image's own")
    found = tuple(live.config.get("Cmd") or ())
    if found in (expected.command, *(one.command for one in expected.accepted)):
        return holds(f"as planned, {len(found)} words")
    if len(found) != len(expected.command):
        return fails(f"Config.Cmd has {len(found)} words, planned {len(expected.command)}")
    places = [
        str(place) for place, (one, other) in enumerate(zip(found, expected.command, strict=True), 1) if one != other
    ]
    return fails(f"Config.Cmd has another word than planned at place {', '.join(places)} of {len(found)}")


@control("lifecycle.variables", "The planned variables are there and the removed ones are not")
def variables(expected: ServicePlan, live: LiveContainer) -> Verdict:
    """By name: values do not leave the host. Those of the comparison are drift's."""
    found = {entry.partition("=")[0] for entry in live.config.get("Env") or ()}
    missing = sorted(name for name, value in expected.environment.items() if value is not None and name not in found)
    left = sorted(name for name, value in expected.environment.items() if value is None and name in found)
    problems = [f"{name} is missing" for name in missing] + [f"{name} is there, planned none" for name in left]
    return fails("; ".join(problems)) if problems else holds(f"{len(expected.environment)} planned")


@control("lifecycle.stop-signal", "The service is stopped by the planned signal")
def stop_signal(expected: ServicePlan, live: LiveContainer) -> Verdict:
    if expected.stop_signal is None:
        return not_applicable("the plan leaves the image's own")
    return equal("Config.StopSignal", expected.stop_signal, live.config.get("StopSignal"))


def timer(live: LiveHost, name: str) -> Verdict:
    """Hold if a timer that the plan asks for will fire, also after a reboot."""
    unit = live.units.get(name, {})
    state = (unit.get("UnitFileState") or "missing", unit.get("ActiveState", "missing"))
    return holds(f"{name} is active") if state == ("enabled", "active") else fails(f"{name} is {' and '.join(state)}")


def _age(live: LiveContainer) -> float:
    started = datetime.fromisoformat(str(live.state["StartedAt"])[:19] + "+00:00")
    return max(0.0, float(live.host.facts["now"]) - started.timestamp())
