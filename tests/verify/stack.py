"""A small stack that holds every control, as a plan and as what deploys it on a rig host without batten.

The controls must not depend on how batten deploys, so this is written out by hand: Compose file, units and files.
"""

from __future__ import annotations

from typing import Any

from batten.plan.model import BackupPlan, FilesMount, Healthcheck, Port, ServicePlan, StackPlan, Tls, Tmpfs, VolumePlan
from tests.rig.hosts import Host

MIB = 1024 * 1024
IMAGE = "shell:1"
CHECK = Healthcheck(("CMD", "/bin/sh", "-c", "test -e /tmp/up"), 1, 10, 3, 5, 1)
ADDRESS = "127.0.0.1"


def _service(name: str, **changes: object) -> ServicePlan:
    values = {
        "name": name,
        "profile": "shell",
        "service_class": "application",
        "image": IMAGE,
        "memory_bytes": 32 * MIB,
        "cpus": 0.5,
        "cpu_shares": 0,
        "pids": 20,
        "memory_reservation_bytes": 16 * MIB,
        "nofile": 4096,
        "oom_score_adj": 100,
        "shm_bytes": 16 * MIB,
        "user": "1000:1000",
        "tmpfs": (Tmpfs("/tmp", 8 * MIB),),
        "healthcheck": CHECK,
        "stop_grace_seconds": 3,
        "networks": ("inner",),
        "secrets": ("password",),
    }
    return ServicePlan(**(values | changes))  # type: ignore[arg-type]


PLAN = StackPlan(
    name="small",
    project="small",
    target="selfhosted",
    compose_profiles=(),
    services={
        "store": _service(
            "store",
            service_class="database",
            volumes={"data": "/data"},
            user="999:999",
            secrets=("password", "server.crt", "server.key"),
            tls=Tls(8443, "server.crt", name="store"),
        ),
        "web": _service(
            "web",
            service_class="proxy",
            cap_add=("NET_BIND_SERVICE",),
            networks=("edge", "inner"),
            depends_on={"store": "service_healthy"},
            log_format="json",
            command=("/bin/sh", "-c", "echo starting; echo '{\"up\": true}'; touch /tmp/up; exec sleep 100000"),
            stop_signal="SIGTERM",
            environment={"GREETING": "hello", "LEGACY": None},
            ports=(Port(80, 80, ADDRESS),),
            files=FilesMount("/etc/web", "0123abcd"),
            group_add=("4",),
            secrets=("ca.crt", "password"),
        ),
        "ui": _service("ui", networks=("edge",), secrets=()),
        "migrate": _service(
            "migrate", service_class="batch", restart="no", one_shot=True, healthcheck=None, secrets=()
        ),
    },
    networks={"edge": False, "inner": True},
    volumes={"data": VolumePlan("small_data", None, 999, 999)},
    requires_mounts_for=("/var/lib/docker",),
    expires={"password": 90},
    sync_seconds=300,
    backup=BackupPlan(f"age1{'q' * 58}", "/var/backups/batten", "daily", 3, 86400),
)

# What an inventory tells role host of such a host.
VARIABLES: dict[str, Any] = {
    "host_firewall": True,
    "host_firewall_metadata": True,
    "host_firewall_input": False,
    "host_firewall_allow": [
        {"port": 22, "protocol": "tcp"},
        {"port": 9100, "protocol": "tcp", "from": ["10.0.0.0/8", "fd00::/8"]},
    ],
    "host_audit": True,
    "host_sysctls": {
        "net.ipv4.conf.all.accept_redirects": 0,
        "net.ipv4.conf.all.rp_filter": 2,
        "kernel.dmesg_restrict": 1,
        "fs.protected_hardlinks": 1,
    },
    "host_core_dumps": False,
    "host_time": True,
    "host_unattended_upgrades": True,
    "host_docker_group": True,
    "host_docker_group_members": [],
    "host_swap": "keep",
}
FIREWALL_UNIT = """[Unit]
Before=docker.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f /etc/batten/firewall.nft
[Install]
WantedBy=multi-user.target
"""
UPGRADES = """APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";
Unattended-Upgrade::Package-Blacklist { "^docker.io$"; "^docker-ce$"; "^containerd$"; "^containerd.io$"; "^runc$"; };
"""

_COMMON = """
    image: shell:1
    mem_limit: 32m
    memswap_limit: 32m
    mem_reservation: 16m
    cpus: 0.5
    pids_limit: 20
    ulimits: {nofile: 4096}
    oom_score_adj: 100
    shm_size: 16m
    user: "1000:1000"
    read_only: true
    tmpfs: ["/tmp:size=8388608,mode=1777"]
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    init: true
    restart: unless-stopped
    stop_grace_period: 3s
    logging: {driver: journald}
    networks: [inner]
    command:
      - /bin/sh
      - -c
      - >-
        echo starting; echo '{"up": true}'; touch /tmp/up; exec sleep 100000
    healthcheck:
      test: [CMD, /bin/sh, -c, test -e /tmp/up]
      interval: 1s
      timeout: 10s
      retries: 3
      start_period: 5s
      start_interval: 1s
"""

COMPOSE = f"""
x-common: &common
{_COMMON}
services:
  store:
    <<: *common
    user: "999:999"
    command:
      - /bin/sh
      - -c
      - >-
        echo up; touch /tmp/up;
        exec openssl s_server -www -quiet -accept 8443 -cert /run/secrets/server.crt -key /run/secrets/server.key
    volumes: ["data:/data", "/opt/batten/small/secrets/store:/run/secrets:ro"]
  web:
    <<: *common
    cap_add: [NET_BIND_SERVICE]
    group_add: ["4"]
    stop_signal: SIGTERM
    environment: {{GREETING: hello}}
    networks: [edge, inner]
    ports: ["{ADDRESS}:80:80"]
    volumes:
      - /opt/batten/small/files/web/0123abcd:/etc/web:ro
      - /opt/batten/small/secrets/web:/run/secrets:ro
  ui:
    <<: *common
    networks: [edge]
  migrate:
    <<: *common
    restart: "no"
    healthcheck: {{disable: true}}
    command: ["/bin/sh", "-c", "echo migrated"]
networks:
  edge: {{}}
  inner: {{internal: true}}
volumes:
  data: {{}}
"""

DAEMON = """{"live-restore": true, "userland-proxy": false, "icc": false, "no-new-privileges": true,
"log-driver": "journald", "default-ulimits": {"core": {"Name": "core", "Soft": 0, "Hard": 0}},
"default-address-pools": [{"base": "172.30.0.0/16", "size": 24}]}"""

_UNIT = """[Unit]
{ordering}
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
[Install]
WantedBy=multi-user.target
"""

WAIT = """[Unit]
AssertPathIsMountPoint=/opt/batten/small/secrets
"""

_TIMER = """[Timer]
OnCalendar=daily
[Install]
WantedBy=timers.target
"""

# A shell, the few programs the stack runs, and the libraries they need: the host's own, so nothing is downloaded.
_IMAGE = """
programs="/bin/sh /bin/sleep /bin/touch /bin/rm /usr/bin/openssl"
libraries=$(for program in $programs; do ldd "$program"; done | grep -o '/[^ ]*' | sort -u)
mkdir -p /tmp/image/data && chown 999:999 /tmp/image/data
tar -chf /tmp/image.tar $programs $libraries && tar -C /tmp/image -rf /tmp/image.tar data
docker import /tmp/image.tar shell:1 >/dev/null
"""

# A new leaf for the service `store`, with a key of its own, signed by the authority in /tmp.
LEAF = """
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 90 -subj /CN=store \\
    -CA /tmp/ca.crt -CAkey /tmp/ca.key -addext subjectAltName=DNS:store -addext basicConstraints=critical,CA:FALSE \\
    -keyout secrets/store/server.key -out secrets/store/server.crt 2>/dev/null
chmod 0400 secrets/store/server.*; chown 999 secrets/store/server.*
"""

# For each service, its own directory with its files, as batten delivers them.
SECRETS = f"""
mkdir -p secrets/store secrets/web
[ -e /tmp/ca.key ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 3650 -subj /CN=ca \\
    -keyout /tmp/ca.key -out /tmp/ca.crt 2>/dev/null
{LEAF}
install -m 0400 -o 1000 /tmp/ca.crt secrets/web/ca.crt
"""
SECRETS += """
for consumer in store:999 web:1000; do
    mkdir -p "secrets/${consumer%:*}"
    echo not-a-real-secret >"secrets/${consumer%:*}/password"
    chmod 0400 "secrets/${consumer%:*}/password"
    chown "${consumer#*:}" "secrets/${consumer%:*}/password"
done
"""

_TREE = f"""
set -e
cd /opt/batten/small
mkdir -p base releases/1 files/web/0123abcd secrets
ln -sfn releases/1 current
cp /tmp/compose.yaml releases/1/
echo 'greeting: hello' >files/web/0123abcd/web.conf
mount -t tmpfs -o noswap,size=1m,mode=0711 batten-secrets secrets || mount -t ramfs batten-secrets secrets
{SECRETS}mkdir -p -m 0700 /var/lib/batten /var/log/batten
install -m 0600 /dev/null /var/log/batten/audit.jsonl
mkdir -p -m 0700 /var/lib/batten/small
echo sealed | systemd-creds encrypt --with-key=host - /var/lib/batten/small/secrets.cred
printf '{{"password": "%s"}}' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >/var/lib/batten/small/made.json
printf '{{"at": "%s", "problem": "", "refused": {{}}}}' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" \\
    >/var/lib/batten/small/refreshed.json
mkdir -p -m 0700 /var/backups/batten
echo encrypted >/var/backups/batten/small-1.age
printf '{{"stack": "small", "file": "small-1.age", "bytes": 10, "recipient": "%s",\n"verified": "%s"}}' \\
    {PLAN.backup.recipient if PLAN.backup else ""} "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >/var/backups/batten/small-1.json
"""


def deploy(host: Host) -> None:
    """Deploy the stack on a rig host with an engine, and wait until it is healthy."""
    host.put("/etc/docker/daemon.json", DAEMON)
    host.put("/etc/docker/certs.d/registry.test/ca.crt", "a certificate\n", "0444")
    host.put("/etc/sysconfig/docker", "", "0644")
    host.put("/etc/systemd/journald.conf.d/batten.conf", "[Journal]\nStorage=persistent\nSystemMaxUse=100M\n")
    host.put(
        "/etc/systemd/system/docker.service.d/batten.conf",
        "[Service]\nLogRateLimitIntervalSec=1s\nLogRateLimitBurst=1000000\n",
    )
    before, after = "Before=docker.service", "After=docker.service\nRequiresMountsFor=/var/lib/docker"
    host.put("/etc/systemd/system/batten-secrets@.service", _UNIT.format(ordering=before))
    host.put("/etc/systemd/system/batten-stack@.service", _UNIT.format(ordering=after))
    for kind in ("backup", "sync"):
        host.put(f"/etc/systemd/system/batten-{kind}@.service", _UNIT.format(ordering=""))
        host.put(f"/etc/systemd/system/batten-{kind}@.timer", _TIMER)
    host.run("mkdir -p /var/log/journal && systemctl daemon-reload && systemctl restart systemd-journald docker")
    host.run("systemctl enable --now batten-secrets@small batten-stack@small")
    host.run("systemctl enable --now batten-backup@small.timer batten-sync@small.timer")
    host.put("/tmp/compose.yaml", COMPOSE)
    host.run("mkdir -p /opt/batten/small")
    host.run(_TREE)
    host.put("/etc/systemd/system/docker.service.d/batten-small.conf", WAIT)
    host.run("systemctl daemon-reload")
    host.run(_IMAGE)
    up(host)


def up(host: Host, compose: str = COMPOSE) -> None:
    """Bring the containers to what a Compose file says, and wait until they are healthy."""
    host.put("/tmp/compose.yaml", compose)
    host.run("docker compose -p small -f /tmp/compose.yaml up -d --remove-orphans")
    host.run('until [ "$(docker ps -q --filter health=healthy | wc -l)" -ge 3 ]; do sleep 0.2; done', timeout=180)
