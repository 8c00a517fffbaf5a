# One batch of reads for `batten verify`: everything the controls need to know of a host, in one round trip.
#
# Arguments: BOUNDARY (a word the caller made up for this read), the text of probe.py, the directories of backups, words
# tls=... and sysctl=NAME, then pairs STACK PROJECT. reads_host.sh goes on from its end.
# Output: sections, each opened by a line "BOUNDARY NAME [ARGUMENT]"; the last is "BOUNDARY end".
# Only Docker's client, coreutils, findutils, iproute2, openssl, Python and systemd are used, not batten's program: what
# is judged must not be the witness. Values of environment variables are replaced here, before they leave the host; the
# contents of secrets are never read, but for certificates, which are public.
boundary=$1
probe=$2
shift 2
export LC_ALL=C SYSTEMD_PAGER='' SYSTEMD_COLORS=0

section() { printf '\n%s %s\n' "$boundary" "$*"; }
quietly() { "$@" 2>/dev/null; }

# `docker inspect` prints one variable a line. The name stays, the value becomes its kind.
mask_environment() {
    sed -E '/^ *"Env": \[$/,/^ *\],?$/{
s|^( *"[^="]*=)"(,?)$|\1"\2|
t
s|^( *"[^="]*=)/.*"(,?)$|\1path"\2|
t
s|^( *"[^="]*=).*://[^/"]*:[^/"]*@.*"(,?)$|\1url-with-password"\2|
t
s/^( *"[^="]*=)(true|false|yes|no|on|off|none|null)"(,?)$/\1word"\3/I
t
s|^( *"[^="]*=)[0-9]{1,9}[A-Za-z]{0,2}"(,?)$|\1number"\2|
t
s|^( *"[^="]*=).*"(,?)$|\1value"\2|
}'
}

files_of() { for path in "$@"; do [ -e "$path" ] && quietly stat -L -c '%F|%a|%u|%g|%U|%G|%n' "$path"; done; }

certificate() { # on standard input: from when, until when, fingerprint, key and signature
    quietly openssl x509 -noout -startdate -enddate -fingerprint -sha256 -dateopt iso_8601 -text | sed -nE '
/^(notBefore|notAfter|[Ss][Hh][Aa]256 Fingerprint)=/p
s/^ *Public Key Algorithm: */key=/p
s/^ *(RSA )?Public-Key: \(([0-9]+) bit.*/bits=\2/p
s/^ {4}Signature Algorithm: */signature=/p' | tr '\n' '|'
}

authorities() { # of the stack $1: the certificates that nobody has the key of
    for file in "/opt/batten/$1"/secrets/*/*.crt; do
        if [ -f "$file" ] && [ ! -e "${file%.crt}.key" ]; then cat "$file"; fi
    done
}

served() { # STACK,PROJECT,SERVICE,PORT,PROTOCOL,FILE,NAME: what this service shows a client that comes for NAME
    IFS=, read -r of project service port protocol file name <<END
$1
END
    section tls "$of" "$service"
    id=$(quietly docker ps -q --filter "label=com.docker.compose.project=$project" \
        --filter "label=com.docker.compose.service=$service" | head -n 1)
    [ -n "$id" ] || return 0
    address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}' "$id")
    set -- -connect "${address%% *}:$port" -no-CApath -no-CAstore
    [ "$protocol" = postgres ] && set -- "$@" -starttls postgres
    case $name in
        *:* | *[0-9].[0-9]*.[0-9]*.[0-9]*) set -- "$@" -verify_ip "$name" ;;
        ?*) set -- "$@" -verify_hostname "$name" -servername "$name" ;;
        '')
            name=$(quietly openssl x509 -noout -ext subjectAltName -in "/opt/batten/$of/secrets/$service/$file" |
                grep -o 'DNS:[^,]*' | sed 's/^DNS:\**\.*//; q')
            set -- "$@" -servername "${name:-localhost}"
            ;;
    esac
    trusted=$(authorities "$of")
    if [ -n "$trusted" ]; then set -- "$@" -CAfile /dev/stdin; else set -- "$@" -no-CAfile; fi
    shown=$(echo "$trusted" | quietly timeout 5 openssl s_client "$@")
    echo "verify $(echo "$shown" | sed -n 's/^ *Verify return code: //p' | head -n 1)"
    echo "protocol $(echo "$shown" | sed -nE 's/^ *Protocol *: *//p; s/^New, (TLS[^,]*),.*/\1/p' | head -n 1)"
    echo "certificate $(echo "$shown" | certificate)"
    # Level 0 has this client offer what it would not by itself (openssl-ciphers(1)).
    old=$(echo "$trusted" | quietly timeout 5 openssl s_client "$@" -tls1_1 -cipher DEFAULT@SECLEVEL=0 | certificate)
    echo "old ${old:+accepted}"
}

cgroup_values() { # of the process $1: lines "FILE VALUE", from cgroup v1 and v2 alike
    while IFS=: read -r _ controllers path; do
        case $controllers in
            name=*) continue ;;
            '') directory=/sys/fs/cgroup$path ;;
            *) directory=/sys/fs/cgroup/$controllers$path ;;
        esac
        for file in memory.limit_in_bytes memory.memsw.limit_in_bytes cpu.cfs_quota_us cpu.cfs_period_us \
            memory.max memory.swap.max cpu.max pids.max memory.usage_in_bytes memory.max_usage_in_bytes memory.current \
            memory.peak; do
            [ -r "$directory/$file" ] && quietly read -r value <"$directory/$file" && echo "$file $value"
        done
        # Pages of files that the kernel would drop at once; version 1 gives the sum with its children last.
        [ -r "$directory/memory.stat" ] &&
            quietly sed -nE 's/^(total_)?inactive_file /memory.inactive_file /p' "$directory/memory.stat" | tail -n 1
        quietly sed -nE 's/^(total_rss|anon) /anon /p' "$directory/memory.stat"
        quietly sed -n '/^oom_kill /p' "$directory/memory.oom_control" "$directory/memory.events"
        [ -r "$directory/cgroup.procs" ] && quietly sed 's/^/process /' "$directory/cgroup.procs"
    done <"/proc/$1/cgroup"
}

section host
echo "uid $(id -u)"
echo "now $(date +%s)"
echo "apparmor $(quietly cat /sys/module/apparmor/parameters/enabled)"
echo "page $(getconf PAGESIZE)"
echo "compose $(quietly docker compose version --short)"
docker_group=$(quietly getent group docker)
echo "docker_group $docker_group"
docker_gid=$(echo "$docker_group" | cut -d : -f 3)
# A user whose own group it is stands in no list of members.
echo "docker_users $([ -z "$docker_gid" ] || quietly getent passwd | while IFS=: read -r name _ _ gid _; do
    [ "$gid" = "$docker_gid" ] && printf '%s ' "$name"
done)"
echo "booted $(quietly systemctl show -p UserspaceTimestamp --value --timestamp=unix | tr -d @)"
echo "dockerd $(quietly pidof dockerd | tr ' ' '\n' | while read -r pid; do tr '\0' ' ' <"/proc/$pid/cmdline"; done)"

section info
info=$(docker info --format '{{json .}}' 2>&1)
printf '%s\n' "$info" # dash's echo would read its backslashes
section daemon.json
quietly cat /etc/docker/daemon.json

containers='' networks=bridge volumes='' sysctls='' \
    units='docker.service docker.socket containerd.service batten-firewall.service auditd.service apt-daily.timer
        apt-daily-upgrade.timer batten-upgrades.timer'
for argument in "$@"; do
    case $argument in
        /*) # each backup: the size of its encrypted file, then what its JSON file says of it, on one line
            section backups "$argument"
            for told in "$argument"/*.json; do
                [ -f "${told%.json}.age" ] && echo "$(stat -c %s "${told%.json}.age") $(tr -d '\n' <"$told")"
            done
            continue
            ;;
        tls=*)
            served "${argument#tls=}"
            continue
            ;;
        sysctl=*)
            sysctls="$sysctls ${argument#sysctl=}"
            continue
            ;;
    esac
    if [ -z "$stack" ]; then stack=$argument && continue; fi
    label=label=com.docker.compose.project=$argument
    containers="$containers $(quietly docker ps -aq --no-trunc --filter "$label" | tr '\n' ' ')"
    networks="$networks $(quietly docker network ls -q --no-trunc --filter "$label" | tr '\n' ' ')"
    volumes="$volumes $(quietly docker volume ls -q --filter "$label" | tr '\n' ' ')"
    units="$units batten-secrets@$stack.service batten-stack@$stack.service batten-sync@$stack.timer \
        batten-backup@$stack.timer"
    for part in releases files secrets; do
        section tree "$stack" "$part"
        [ -d "/opt/batten/$stack/$part" ] &&
            quietly find "/opt/batten/$stack/$part/" -maxdepth 5 -printf '%y|%m|%U|%G|%p\n'
    done
    section tree "$stack" top # what lies in base/ is the user's: data too, with owners of their own
    quietly find "/opt/batten/$stack" "/opt/batten/$stack/base" -maxdepth 0 -printf '%y|%m|%U|%G|%p\n'
    section mount "$stack"
    quietly findmnt -n -o FSTYPE,OPTIONS --mountpoint "/opt/batten/$stack/secrets"
    section certificates "$stack"
    for file in "/opt/batten/$stack"/secrets/*/*.crt; do
        if [ -f "$file" ]; then echo "$(certificate <"$file")${file#"/opt/batten/$stack/secrets/"}"; fi
    done
    section sealed "$stack" # the first 16 bytes, in base64, name the kind of key (systemd, src/shared/creds-util.h)
    quietly head -c 24 "/var/lib/batten/$stack/secrets.cred"
    section refreshed "$stack"
    quietly cat "/var/lib/batten/$stack/refreshed.json"
    section made "$stack"
    quietly cat "/var/lib/batten/$stack/made.json"
    stack=''
done

section containers
# shellcheck disable=SC2086 # identifiers, split on purpose
[ -n "${containers# }" ] && quietly docker inspect $containers | mask_environment
section images
# shellcheck disable=SC2046,SC2086
[ -n "${containers# }" ] && quietly docker image inspect \
    $(quietly docker inspect --format '{{.Image}} {{.Config.Image}}' $containers | tr ' ' '\n' | sort -u) |
    mask_environment
section networks
# shellcheck disable=SC2086
quietly docker network inspect $networks
section volumes
# shellcheck disable=SC2086
[ -n "${volumes# }" ] && quietly docker volume inspect $volumes
section published
running=$(quietly docker ps -q --no-trunc | tr '\n' ' ')
# shellcheck disable=SC2086
[ -n "$running" ] && quietly docker inspect --format '{{json .NetworkSettings.Ports}}' $running

section drift # what the looks of batten-drift.timer came to, the last one first
quietly tr -d '\n' </run/batten/drift.json
echo
quietly tail -n 50 /var/log/batten/drift.jsonl

# shellcheck disable=SC2086
[ -n "${containers# }" ] && quietly docker inspect --format '{{.Id}} {{.State.Pid}}' $containers |
    while read -r id pid; do
        [ "$pid" -gt 0 ] || continue
        [ -r "/proc/$pid/cgroup" ] || continue
        section process "$id"
        echo "apparmor $(quietly tr '\0' ' ' <"/proc/$pid/attr/current")"
        echo "oom_score_adj $(quietly cat "/proc/$pid/oom_score_adj")"
        quietly sed -n 's/^Max open files */nofile /p; s/^Max core file size */core /p' "/proc/$pid/limits"
        values=$(cgroup_values "$pid")
        echo "$values" | grep -v '^process '
        for member in $(echo "$values" | sed -n 's/^process //p' | sort -un); do
            echo "process $(quietly sed -nE 's/^(Name|Pid|PPid|Uid|CapBnd|CapEff|NoNewPrivs|Seccomp):[[:space:]]*(.*)/\1=\2/p' \
                "/proc/$member/status" | tr '\t\n' ' ;')"
        done
    done

section probe
# shellcheck disable=SC2086
[ -n "${containers# }" ] && quietly docker inspect --format \
    '{{.Id}} {{.State.Pid}} {{.State.StartedAt}}{{range .NetworkSettings.Networks}} {{.IPAddress}}{{end}}' $containers |
    quietly python3 -I -c "$probe"

section listeners
quietly ss -H -lntup
section journal
quietly systemd-analyze cat-config systemd/journald.conf | grep -v '^ *#'
[ -d /var/log/journal ] && echo 'directory=/var/log/journal'
section logged
quietly journalctl -q -F CONTAINER_ID_FULL
section units
# shellcheck disable=SC2086
quietly systemctl show $units -p Id -p LoadState -p ActiveState -p SubState -p UnitFileState -p FragmentPath -p Before \
    -p After -p Requires -p Wants -p RequiresMountsFor -p LogRateLimitIntervalUSec -p LogRateLimitBurst \
    -p DropInPaths -p NeedDaemonReload -p Result
section asserted # `systemctl show` prints no Asserts=; what it reads them from is judged by lifecycle.units-loaded
quietly systemctl cat docker.service | sed -n 's/^AssertPathIsMountPoint=//p'
section files
# shellcheck disable=SC2046
files_of /etc/docker /etc/docker/daemon.json /etc/default/docker /etc/sysconfig/docker /run/docker.sock \
    /run/containerd/containerd.sock /etc/containerd/config.toml /var/lib/docker \
    /opt/batten /etc/batten /var/lib/batten /var/log/batten/audit.jsonl /usr/local/lib/batten/batten-host.pyz \
    $(quietly systemctl show docker.service docker.socket containerd.service -p FragmentPath -p DropInPaths --value) \
    $(quietly find /etc/docker/certs.d/ -type f) /etc/systemd/system/batten-*.service /etc/systemd/system/batten-*.timer \
    $(quietly grep -Eo '"tls(cacert|cert|key)": *"[^"]*"' /etc/docker/daemon.json | sed 's/.*: *"//; s/"$//') \
    $([ -n "${volumes# }" ] && quietly docker volume inspect --format '{{.Mountpoint}}' $volumes)

