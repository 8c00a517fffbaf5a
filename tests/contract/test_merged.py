"""Our own rules on the merged stacks: what no linter looks at, such as a missing health check."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.contract.conftest import Variant

# https://github.com/compose-spec/compose-spec/blob/main/deploy.md: read by Swarm alone, or a second spelling of limits.
SWARM_KEYS = ("deploy",)
SWARM_TOP_LEVEL = ("configs", "secrets")
DEVELOPMENT_PASSWORD = re.compile(r"dev-(postgres|app|stackauth|clickhouse|cron|grafana)|ZGV2LWRldi")
CREDENTIAL = re.compile(r"(PASSWORD|SECRET|TOKEN|API_KEY|PRIVATE_KEY)(?!.*_FILE$)")
INTERNAL = {"app", "data", "metrics", "monitoring"}
# Who may open connections to the outside, and why.
EGRESS = {"stack-auth"}
EGRESS_MANAGED = EGRESS | {"pgbouncer", "postgres-exporter"}


def _services(variants: dict[str, Variant]) -> Iterator[tuple[str, str, dict[str, Any], Variant]]:
    for variant in variants.values():
        for name, service in variant.merged["services"].items():
            yield f"{variant.name}/{name}", name, service, variant


def test_every_service_of_the_plan_is_there_and_no_other(every_variant: dict[str, Variant]) -> None:
    for variant in every_variant.values():
        assert set(variant.merged["services"]) == set(variant.plan.services), variant.name


def test_limits(every_variant: dict[str, Variant]) -> None:
    for where, _, service, _ in _services(every_variant):
        memory = int(service["mem_limit"])
        assert memory >= 32 * 1024**2, where
        assert int(service["memswap_limit"]) == memory, f"{where}: no swap"
        assert 0 < int(service["mem_reservation"]) < memory, where
        assert float(service["cpus"]) > 0, where
        assert 8 <= service["pids_limit"] <= 4096, where
        assert service["ulimits"]["nofile"]["hard"] >= 256, where
        assert -999 <= service.get("oom_score_adj", 0) <= 1000, where


def test_limits_never_sum_over_the_host(every_variant: dict[str, Variant]) -> None:
    for variant in every_variant.values():
        total = sum(int(service["mem_limit"]) for service in variant.merged["services"].values())
        assert total <= 8 * 1024**3 * 0.9, variant.name


def test_health_start_and_stop(every_variant: dict[str, Variant]) -> None:
    for where, _, service, variant in _services(every_variant):
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL"), where
        assert "localhost" not in " ".join(service["healthcheck"]["test"]), f"{where}: BusyBox takes it for ::1"
        assert service["healthcheck"]["interval"], where
        assert service["restart"] == "unless-stopped", where
        assert service["init"] is True, where
        assert service["stop_grace_period"], where
        for other, rule in service.get("depends_on", {}).items():
            assert rule["condition"] == "service_healthy", where
            assert other in variant.plan.services, where


def test_privileges(every_variant: dict[str, Variant]) -> None:
    for where, name, service, _ in _services(every_variant):
        assert service["cap_drop"] == ["ALL"], where
        assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "caddy" else []), where
        assert service["security_opt"] == ["no-new-privileges:true"], where
        assert service["read_only"] is True, where
        assert re.fullmatch(r"\d+:\d+", service["user"]), where
        assert not service["user"].startswith("0:"), where
        for mount in service.get("tmpfs", []):
            assert {"noexec", "nosuid", "nodev"} <= set(mount.split(":")[1].split(",")), f"{where}: {mount}"
            assert "size=" in mount, f"{where}: {mount}"


def test_logs_go_to_the_journal(every_variant: dict[str, Variant]) -> None:
    for where, _, service, _ in _services(every_variant):
        assert service["logging"]["driver"] == "journald", where
        assert set(service["logging"]["options"]) == {"tag", "labels"}, f"{where}: journald takes no max-size"


def test_only_the_proxy_publishes_and_never_on_all_addresses(variants: dict[str, Variant]) -> None:
    for where, name, service, variant in _services(variants):
        ports = [(port.get("host_ip"), port["published"], port["protocol"]) for port in service.get("ports", [])]
        assert bool(ports) == (name == "caddy"), where
        assert len(set(ports)) == len(ports), where
        for address, _, _ in ports:
            assert address in variant.settings.public_addresses, f"{where}: {address}"


def test_networks_by_need(variants: dict[str, Variant]) -> None:
    for variant in variants.values():
        networks = variant.merged["networks"]
        assert {name for name, network in networks.items() if network.get("internal")} == INTERNAL & set(networks)
        assert "default" not in networks, variant.name
        members = {
            network: {name for name, service in variant.merged["services"].items() if network in service["networks"]}
            for network in networks
        }
        assert members["edge"] == {"caddy"}, variant.name
        allowed = EGRESS_MANAGED if variant.settings.managed_postgres else EGRESS
        assert members.get("egress", set()) <= allowed, variant.name
        assert "caddy" not in members["data"], variant.name
        assert not members["data"] & {"grafana", "loki", "alloy", "prometheus"}, variant.name
        # Who is asked for metrics reaches no admin page.
        assert members.get("monitoring", set()) <= {"grafana", "loki", "alloy", "prometheus"}, variant.name


def test_no_key_that_only_swarm_reads(every_variant: dict[str, Variant]) -> None:
    for where, _, service, variant in _services(every_variant):
        assert not set(SWARM_KEYS) & set(service), where
        assert not set(SWARM_TOP_LEVEL) & set(variant.merged), where


def test_no_secret_in_what_the_plan_runs(every_variant: dict[str, Variant]) -> None:
    for variant in every_variant.values():
        assert not DEVELOPMENT_PASSWORD.search(variant.merged_file.read_text()), variant.name
        for layer in variant.release["layers"][1:]:
            assert not DEVELOPMENT_PASSWORD.search(layer["text"]), f"{variant.name}: {layer['name']}"
    for where, _, service, _ in _services(every_variant):
        for key in service.get("environment") or {}:
            assert not CREDENTIAL.search(key), f"{where}: {key}"


def test_mounts_are_ours_and_read_only(every_variant: dict[str, Variant]) -> None:
    for where, name, service, variant in _services(every_variant):
        for mount in service.get("volumes", []):
            if mount["type"] == "volume":
                assert mount["source"] in variant.plan.volumes, where
                continue
            assert mount["read_only"] is True, f"{where}: {mount['target']}"
            ours = mount["source"].startswith(f"/opt/batten/{variant.plan.name}/")
            of_host = {("alloy", "/var/log/journal"), ("node-exporter", "/run/batten/metrics")}
            assert ours or (name, mount["source"]) in of_host, f"{where}: {mount['source']}"
            if ours:
                assert mount["bind"]["create_host_path"] is False, f"{where}: {mount['target']}"


def test_every_delivery_reaches_a_service_that_mounts_it(every_variant: dict[str, Variant]) -> None:
    for variant in every_variant.values():
        for name, delivery in variant.release["secrets"]["deliveries"].items():
            service = variant.merged["services"][name]
            assert "/run/secrets" in [mount["target"] for mount in service["volumes"]], f"{variant.name}/{name}"
            assert f"{delivery['uid']}:{delivery['gid']}" == service["user"], f"{variant.name}/{name}"


def test_a_digest_label_only_where_nothing_but_recreation_helps(every_variant: dict[str, Variant]) -> None:
    for where, name, service, variant in _services(every_variant):
        planned = variant.plan.services[name]
        wanted = bool(planned.secrets) and planned.reload is None
        assert ("io.batten.digest" in service.get("labels", {})) == wanted, where


def test_managed_postgres_is_reached_over_checked_tls_only(variants: dict[str, Variant]) -> None:
    managed = [variant for variant in variants.values() if variant.settings.managed_postgres]
    assert len(managed) == 4
    for variant in managed:
        spec = variant.release["postgres"]
        assert spec["service"] is None
        assert spec["client_image"].startswith("postgres:")
        assert spec["managed"]["ca_file"].endswith(
            f"/files/pgbouncer/{variant.release['files']['pgbouncer']['digest']}/ca.crt"
        )
        assert variant.release["secrets"]["generate"][spec["managed"]["password_secret"]]["generator"] == "provided"
        assert "postgres" not in variant.merged["services"]
        files = variant.release["files"]["pgbouncer"]["entries"]
        assert "server_tls_sslmode = verify-full" in files["pgbouncer.ini"]
        assert "port=25060" in files["pgbouncer.ini"]
        assert files["ca.crt"].startswith("-----BEGIN CERTIFICATE-----")
        if "postgres-exporter" in variant.merged["services"]:
            uri = variant.merged["services"]["postgres-exporter"]["environment"]["DATA_SOURCE_URI"]
            assert ":25060/" in uri
            assert "sslmode=verify-full" in uri
        if "stack-auth" in variant.merged["services"]:
            address = variant.merged["services"]["stack-auth"]["environment"]["STACK_DATABASE"]
            assert ":25060/stackauth?sslmode=verify-full" in address
    for variant in variants.values():
        if not variant.settings.managed_postgres:
            assert "postgres" in variant.merged["services"]
            assert "ca.crt" not in variant.release["files"]["pgbouncer"]["entries"]


def test_data_lies_under_the_chosen_directory_or_on_the_block_volume(variants: dict[str, Variant]) -> None:
    for variant in variants.values():
        place = "/srv/app/" if variant.plan.target == "selfhosted" else "/mnt/app_data/app/"
        for name, volume in variant.merged["volumes"].items():
            if name in variant.plan.volumes:
                assert volume["driver_opts"]["device"].startswith(place), f"{variant.name}: {name}"


def test_infisical_is_reached_from_its_host_or_through_its_proxy_alone(infisicals: dict[str, Variant]) -> None:
    for variant in infisicals.values():
        services, https = variant.merged["services"], variant.name.endswith("https")
        ports = {
            name: [(port["host_ip"], port["published"], port["target"]) for port in service["ports"]]
            for name, service in services.items()
            if service.get("ports")
        }
        proxy = {"caddy": [("10.116.0.2", "8443", 443)]} if https else {}
        assert ports == {"infisical": [("127.0.0.1", "8222", 8080)], **proxy}, variant.name
        outward = {name for name, network in variant.merged["networks"].items() if not network.get("internal")}
        reaching = {name for name, service in services.items() if outward & set(service["networks"])}
        assert reaching == {"infisical", *proxy}, variant.name
        options = variant.merged["networks"]["host"]["driver_opts"]
        assert options == {"com.docker.network.bridge.enable_ip_masquerade": "false"}, f"{variant.name}: no way out"
        assert set(services["db"]["networks"]) == {"data"}, variant.name
        assert set(services["redis"]["networks"]) == {"queue"}, variant.name


def test_infisicals_heap_fits_its_limit_and_it_calls_nobody(infisicals: dict[str, Variant]) -> None:
    for variant in infisicals.values():
        service = variant.merged["services"]["infisical"]
        environment = service["environment"]
        heap = int(environment["NODE_OPTIONS"].partition("=")[2]) * 1024**2
        assert heap <= 0.75 * int(service["mem_limit"]), variant.name
        assert environment["TELEMETRY_ENABLED"] == environment["ANNOUNCEMENTS_ENABLED"] == "false", variant.name
        assert environment["DISABLE_UPDATE_CHECK"] == "true", variant.name
        assert environment["PINO_LOG_LEVEL"] == "warn", f"{variant.name}: each probe logs two lines at info"
        assert environment["SITE_URL"] == "http://localhost:8222", variant.name


def test_infisical_takes_the_same_memory_whatever_else_the_host_has(infisicals: dict[str, Variant]) -> None:
    for variant in infisicals.values():
        sizes = {name: int(service["mem_limit"]) // 1024**2 for name, service in variant.merged["services"].items()}
        assert sizes.items() >= {"infisical": 1024, "db": 384, "redis": 96}.items(), variant.name
        assert sizes.get("caddy", 64) == 64, variant.name
