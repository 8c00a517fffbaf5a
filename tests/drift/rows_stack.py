"""What a hand does to what belongs to a stack beside its containers: files, secrets, networks, volumes."""

from __future__ import annotations

from tests.drift.row import CURRENT, STACK, STATE, TOP, Row, container, row, services

API, DB, PROXY, WORKER = map(container, ("api", "db", "proxy", "worker"))
LAYER, BASE, BANNER = f"{CURRENT}/compose.prod.yaml", f"{TOP}/base/Caddyfile", f"{TOP}/files/api/*/banner.txt"
SECRET = f"{TOP}/secrets/api/database_password"
REFRESHED = f"{STATE}/refreshed.json"
VOLUME = "yard_proxy-data"
PLACE = f"/var/lib/docker/volumes/{VOLUME}/_data"
RELEASE = f"{TOP}/releases/*/"
MOUNTED = [("file", BANNER, "content"), *services("api", "files")]


def secret(facet: str, name: str = "api/database_password") -> list[tuple[str, str, str]]:
    return [("secret", name, facet)]


FILES = (
    row(
        "a layer edited",
        f"echo '# more' >>{LAYER}",
        [("file", f"{RELEASE}compose.prod.yaml", "content")],
    ),
    row("a layer deleted", f"rm {CURRENT}/compose.yaml", [("file", f"{RELEASE}compose.yaml", "content")]),
    row("variables of Compose edited", f"echo X=1 >>{CURRENT}/stack.env", [("file", f"{RELEASE}stack.env", "content")]),
    row(
        "a file beside the layers",
        f"touch {CURRENT}/compose.override.yaml",
        [("file", f"{RELEASE}compose.override.yaml", "content")],
    ),
    row(
        "the release's own description edited",
        f"echo '{{}}' >{CURRENT}/release.json",
        [("file", f"{RELEASE}release.json", "content")],
    ),
    row(
        "what is known of the running release deleted",
        f"rm {STATE}/release.json",
        [("file", f"{STATE}/release.json", "content")],
    ),
    row("a mounted configuration edited in place", f"for f in {BANNER}; do echo x >>$f; done", MOUNTED, ["api"]),
    row("a mounted configuration deleted", f"rm {BANNER}", MOUNTED, ["api"]),
    row(
        "the directory of a mounted configuration made anew",
        f"cd {TOP}/files/api; d=$(ls); cp -a $d /tmp/d; rm -r $d; mv /tmp/d $d",
        services("api", "files"),
        ["api"],
    ),
    row(
        "a file changed and changed back with a new inode",
        f"cd {TOP}/base; cp Caddyfile /tmp/c; sed -i s/8000/9000/ Caddyfile; cp /tmp/c c; mv c Caddyfile",
        services("proxy", "files"),
        ["proxy"],
    ),
    row(
        "the user's own file edited in place",
        f"echo '# x' >>{BASE}",
        [("file", BASE, "content"), *services("proxy", "files")],
        ["proxy"],
    ),
    row(
        "a file that cannot be written",
        f"echo '# x' >>{BASE}; hand immutable {BASE} yes",
        [("file", BASE, "content"), *services("proxy", "files")],
        ["proxy"],
        refused=f"chattr -i {BASE}",
        undo=f"hand immutable {BASE} no",
    ),
    row("the plan deleted", f"rm {STATE}/plan.json", [("file", f"{STATE}/plan.json", "content")]),
    row("current deleted", f"rm {CURRENT}", [("host", CURRENT, "current")]),
    row(
        "current led elsewhere",
        f"cp -a $(readlink -f {CURRENT}) {TOP}/releases/0123456789ab; ln -sfn {TOP}/releases/0123456789ab {CURRENT}",
        [("host", CURRENT, "current")],
        undo=f"rm -r {TOP}/releases/0123456789ab",
    ),
    row(
        "releases that nobody keeps",
        f"cd {TOP}/releases; for n in 1 2 3; do mkdir -p 00000000000$n; touch -d '2020-01-0'$n 00000000000$n; done",
        [("host", f"{TOP}/releases/000000000001", "leftover")],
        undo=f"rm -rf {TOP}/releases/00000000000[123]",
    ),
    row("files of no release", f"mkdir {TOP}/files/api/0123", [("host", f"{TOP}/files/api/0123", "leftover")]),
)

SECRETS = (
    row("a secret deleted", f"rm {SECRET}", secret("presence"), controls=("secrets.files",)),
    row("a secret for all to read", f"chmod 0444 {SECRET}", secret("mode"), controls=("secrets.files",)),
    row("a secret of root", f"chown 0:0 {SECRET}", secret("owner"), controls=("secrets.files",)),
    row("a secret overwritten", f"echo x >{SECRET}", secret("content")),
    row(
        "a secret replaced by a symlink",
        f"mv {SECRET} /tmp/s; ln -s /tmp/s {SECRET}",
        secret("presence"),
        controls=("secrets.files",),
        undo="rm -f /tmp/s",
    ),
    row(
        "a secret that nobody planned",
        f"echo x >{TOP}/secrets/api/more",
        secret("presence", "api/more"),
        controls=("secrets.files",),
    ),
    row("a service's secrets for all to list", f"chmod 0755 {TOP}/secrets/api", secret("mode", "api")),
    row(
        "not loaded since it changed",
        f"""sed -i 's/"api": "[^"]*"/"api": "0"/' {STATE}/loaded.json""",
        secret("loaded", "api"),
    ),
    row(
        "the sealed values gone",
        f"mv {STATE}/secrets.cred /tmp/sealed",
        secret("presence", "secrets.cred"),
        controls=("secrets.at-rest",),
        refused="restore it from a backup",
        undo=f"mv /tmp/sealed {STATE}/secrets.cred",
    ),
    row(
        "a value older than it may be",
        f"hand made {STACK} app_password 2020-01-01T00:00:00Z",
        secret("expiry", "app_password"),
        controls=("secrets.age",),
        refused="batten rotate -i INV app_password",
        undo=f"hand made {STACK} app_password",
    ),
    row(
        "older than what Infisical has, which did not work",
        f"""umask 077; echo '{{"at": "2026-01-01T00:00:00Z", "refused": {{"app_password": 7}}}}' >{REFRESHED}""",
        secret("stale", "app_password"),
        controls=("secrets.refreshed",),
        refused="correct app_password in Infisical",
        undo=f"rm {REFRESHED}",
    ),
    row(
        "the secrets' memory unmounted",
        f"umount -l {TOP}/secrets",
        [
            *secret("presence", "memory mount"),
            *(
                one
                for name in ("api", "api/database_password", "db", "db/password")
                for one in secret("presence", name)
            ),
            *services("api", "files"),
            *services("db", "files"),
        ],
        ["api", "db"],
        controls=("secrets.memory-only",),
    ),
    row(
        "secrets for all stacks' disks to read",
        f"chmod 0644 {STATE}/secrets.cred",
        [("host", f"{STATE}/secrets.cred", "mode")],
    ),
)

NETWORKS = (
    row(
        "taken off a network",
        f"docker network disconnect yard_data {API}",
        services("api", "networks"),
        ["api"],
        controls=("networks.attached",),
    ),
    row(
        "put on the engine's bridge",
        f"docker network connect bridge {WORKER}",
        services("worker", "networks"),
        controls=("networks.default-bridge",),
    ),
    row(
        "back without its name",
        f"docker network disconnect yard_data {API}; docker network connect yard_data {API}",
        services("api", "networks"),
        ["api"],
    ),
    row(
        "a stranger on our network",
        "docker run -d --name stranger --network yard_data python:3.13-slim sleep 1000",
        [("network", "yard_data", "members")],
        controls=("networks.members",),
        undo="docker rm -f stranger",
    ),
    row(
        "a stranger in a service's own network namespace",
        f"docker run -d --name guest --network container:{API} python:3.13-slim sleep 1000",
        services("api", "members"),
        refused="docker stop guest",
        undo="docker rm -f guest",
    ),
    row(
        "a port published through a second container",
        "docker run -d --name front --network yard_edge -p 8080:80 caddy:2.11.4-alpine",
        [("network", "yard_edge", "members")],
        controls=("networks.members",),
        undo="docker rm -f front",
    ),
    row(
        "a network with a way out",
        "hand network yard_data Internal=false",
        [("network", "yard_data", "internal")],
        ["api", "db"],
        controls=("networks.internal",),
    ),
    row(
        "a network with IPv6",
        """hand network yard_data EnableIPv6=true 'IPAM/Config=[{"Subnet": "fd00:7::/64"}]'""",
        [("network", "yard_data", "ipv6")],
        ["api", "db"],
    ),
    row(
        "a network in another range",
        """hand network yard_edge 'IPAM/Config=[{"Subnet": "fd00:7::/64"}]'""",
        [("network", "yard_edge", "subnets")],
        ["proxy"],
    ),
    row(
        "a network taken away",
        f"docker network disconnect yard_edge {PROXY}; docker network rm yard_edge",
        services("proxy", "networks"),
        ["proxy"],
    ),
)

VOLUMES = (
    row(
        "a volume taken away with its container",
        f"docker rm -f {PROXY}; docker volume rm yard_proxy-data",
        services("proxy", "presence"),
        ["proxy"],
    ),
    row(
        "a volume made again in memory",
        f"""hand volume {VOLUME} 'DriverOpts={{"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}}'""",
        [("volume", VOLUME, "options")],
        ["proxy"],
        refused=f"docker volume rm {VOLUME}",
        undo=f"docker rm -f {PROXY}; docker volume rm {VOLUME}",
    ),
    row(
        "the directory of a volume moved away",
        f"mv {PLACE} {PLACE}.old",
        [("volume", VOLUME, "presence")],
        refused=f"{PLACE}",
        undo=f"mv {PLACE}.old {PLACE}",
    ),
)

ROWS: tuple[Row, ...] = (*FILES, *SECRETS, *NETWORKS, *VOLUMES)
