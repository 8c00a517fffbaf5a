"""Reboots, power cuts and missing secrets, on a real systemd with a real engine and PostgreSQL.

The tests are a story on one host, in order: each leaves the stack healthy. At every boot an address comes up late.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.host import standin
from tests.rig import hosts


@pytest.fixture(scope="module")
def host() -> Iterator[hosts.Host]:
    started = standin.start(f"batten-boot-{os.getpid()}")
    yield started
    started.remove()


def started_at(host: hosts.Host) -> dict[str, str]:
    form = '{{index .Config.Labels "com.docker.compose.service"}} {{.State.StartedAt}}'
    lines = host.run(f"docker inspect -f '{form}' $(docker ps -aq)").stdout.splitlines()
    return dict(line.split() for line in lines)


def logs_of_this_start(host: hosts.Host, service: str) -> str:
    since = started_at(host)[service]
    done = host.run(f"docker logs --since {since} demo-{service}-1 2>&1")
    return done.stdout


def query(host: hosts.Host, sql: str) -> str:
    return host.run(["docker", "exec", "demo-db-1", "psql", "-U", "postgres", "-Atqc", sql]).stdout.strip()


def test_a_container_reads_its_own_secrets_and_no_other_uid_does(host: hosts.Host) -> None:
    read = "docker exec {} demo-web-1 cat /run/secrets/env"
    assert host.run(read.format("")).stdout.startswith("KEY=")
    assert host.run(read.format("--user 1001"), check=False).returncode != 0
    assert host.run("docker exec demo-web-1 ls /run/secrets", check=False).returncode != 0
    modes = host.run("stat -c '%a %u %n' /opt/batten/demo/secrets/web /opt/batten/demo/secrets/web/env").stdout
    assert modes.splitlines() == ["711 0 /opt/batten/demo/secrets/web", "400 1000 /opt/batten/demo/secrets/web/env"]


def test_values_are_in_memory_and_nowhere_on_disk(host: hosts.Host) -> None:
    assert "noswap" in host.run("grep ' /opt/batten/demo/secrets ' /proc/mounts").stdout
    value = host.run("cat /opt/batten/demo/secrets/db/password").stdout
    found = host.run(
        f"grep -rlF --exclude-dir=secrets {value} /var/lib/batten /opt/batten /etc /root /var/log", check=False
    )
    assert found.stdout == ""
    assert value not in host.run("docker inspect $(docker ps -aq)").stdout


def test_a_running_container_sees_a_changed_secret(host: hosts.Host) -> None:
    before = started_at(host)
    change = "secrets['deliveries']['web']['files']['env']['template'] += 'MORE=1\\n'\n"
    standin.python(host, change + "credentials.deliver(StackPaths('demo'), secrets, check=False)")
    assert "MORE=1" in host.run("docker exec demo-web-1 cat /run/secrets/env").stdout
    standin.python(host, "credentials.deliver(StackPaths('demo'), secrets, check=False)")
    assert "MORE" not in host.run("docker exec demo-web-1 cat /run/secrets/env").stdout
    assert started_at(host) == before


def test_installing_again_changes_nothing_and_disturbs_nothing(host: hosts.Host) -> None:
    before = started_at(host), host.run("systemctl show -p ActiveEnterTimestamp docker").stdout
    assert standin.python(host, standin.INSTALL).strip() == '{"delivered": [], "units": []}'
    host.run("rm /etc/systemd/system/docker.service.d/batten-demo.conf")
    assert "docker.service.d/batten-demo.conf: written" in standin.python(host, standin.INSTALL)
    for verb in ("reload", "restart", "stop", "start"):
        host.run(f"systemctl {verb} batten-secrets@demo")
    assert (started_at(host), host.run("systemctl show -p ActiveEnterTimestamp docker").stdout) == before


def test_a_clean_reboot_stops_postgres_rightly_and_starts_in_health_order(host: hosts.Host) -> None:
    query(host, "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    host.reboot()
    standin.wait(host)
    assert "database system was shut down at" in logs_of_this_start(host, "db")
    told = host.run("journalctl -b -o cat -u batten-stack@demo").stdout.splitlines()
    assert told.index("db: started") < told.index("db: ready") < told.index("web: started")
    assert started_at(host)["db"] < started_at(host)["web"]
    assert query(host, "SELECT count(*) FROM kept") == "1000"
    assert host.run("systemctl is-active batten-stack@demo").stdout.strip() == "active"


def test_an_address_that_comes_up_late_is_waited_for(host: hosts.Host) -> None:
    told = standin.journal(host)
    assert "late: " in told.split("late: started")[0], "the first try had to fail"
    assert "cannot assign requested address" in told
    body = "import urllib.request as u; print(u.urlopen('http://10.77.77.77:8081/').status)"
    assert host.run(["python3", "-c", body]).stdout.strip() == "200"


def test_a_power_cut_heals_itself_within_120_seconds(host: hosts.Host) -> None:
    query(host, "INSERT INTO kept SELECT generate_series(1, 1000)")
    host.power_off()
    began = time.monotonic()
    host.power_on()
    standin.wait(host, 120 - (time.monotonic() - began))
    assert "was not properly shut down" in logs_of_this_start(host, "db")
    assert query(host, "SELECT count(*) FROM kept") == "2000"


def test_without_secrets_nothing_starts_and_when_they_come_all_does(host: hosts.Host) -> None:
    host.run("mv /var/lib/batten/demo/secrets.cred /root/")
    host.reboot()
    assert host.run("systemctl is-active docker", check=False).stdout.strip() == "inactive"
    refused = host.run("timeout 20 docker ps", check=False)
    assert "Cannot connect to the Docker daemon" in refused.stderr
    assert host.run("ls -A /opt/batten/demo/secrets").stdout == ""
    assert "no credentials of stack demo are on this host" in standin.journal(host)
    host.run("mv /root/secrets.cred /var/lib/batten/demo/")
    standin.wait(host)
    assert query(host, "SELECT count(*) FROM kept") == "2000"


def test_roles_and_databases_are_made_once_and_a_dump_restores(host: hosts.Host) -> None:
    spec = {
        "service": "db",
        "managed": None,
        "client_image": "postgres:17.6-trixie",
        "superuser": "postgres",
        "superuser_secret": "password",
        "roles": {"app": {"secret": "app", "member_of": ["pg_monitor"], "connection_limit": 9}},
        "databases": {"app": {"owner": "app"}},
    }
    ensure = f"spec = {spec!r}\nprint(postgres.ensure(Docker(), 'demo', spec, StackPaths('demo')))"
    made = ["role app: made", "role app: member of pg_monitor", "database app: made for app"]
    assert standin.python(host, ensure).strip() == str(made)
    assert standin.python(host, ensure).strip() == "[]"
    password = standin.python(host, "print(credentials.load(StackPaths('demo')).values['app'])").strip()
    # The container's own address: the image's pg_hba.conf trusts loopback.
    login = f"PGPASSWORD={password} psql -h $(hostname -i) -U app -d app -Atc 'SELECT current_user'"
    assert host.run(["docker", "exec", "demo-db-1", "sh", "-c", login]).stdout.strip() == "app"
    query(host, "ALTER ROLE app PASSWORD 'other'")
    assert standin.python(host, ensure).strip() == "['role app: password set']"
    assert password not in host.run("docker logs demo-db-1 2>&1").stdout

    dump = f"spec = {spec!r}\nprint(*postgres.dump(Docker(), 'demo', spec, StackPaths('demo'), 'postgres'), sep='\\n')"
    path, restore = standin.python(host, dump).splitlines()
    assert host.run(f"stat -c '%a %u' {path}").stdout.strip() == "600 0"
    query(host, "DROP TABLE kept")
    host.run(restore)
    assert query(host, "SELECT count(*) FROM kept") == "2000"
