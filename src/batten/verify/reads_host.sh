# The second half of the batch: what the host is beside its stacks. reads.sh defines the functions, $info and $sysctls.
section machine
echo "container $(quietly systemd-detect-virt --container)"
echo "clock $(quietly timedatectl show -p NTPSynchronized --value)"
echo "keeper $(quietly systemctl list-units --plain --no-legend --state=active systemd-timesyncd.service chrony.service \
    chronyd.service ntpsec.service ntpd.service openntpd.service | cut -d ' ' -f 1 | tr '\n' ' ')"
echo "swap $(sed 1d /proc/swaps | cut -d ' ' -f 1 | tr '\n' ' ')"
echo "core_pattern $(quietly cat /proc/sys/kernel/core_pattern)"
echo "coredump $(quietly systemd-analyze cat-config systemd/coredump.conf | sed -n 's/^Storage=//p' | tail -n 1)"
echo "core_limits $(quietly sed -nE '/^[^#]*hard +core +0/p' /etc/security/limits.d/*.conf /etc/security/limits.conf |
    tr '\n' ',')"
echo "reboot $(quietly cat /run/reboot-required /var/run/reboot-required | head -n 1)"
echo "root_users $(quietly sed -nE 's/^([^:]*):[^:]*:0:.*/\1/p' /etc/passwd | tr '\n' ' ')"
echo "no_password $(quietly sed -nE 's/^([^:]*)::.*/\1/p' /etc/shadow | tr '\n' ' ')"
echo "upgrader $(quietly dpkg-query -W -f '${db:Status-Status}' unattended-upgrades)"
echo "held $(quietly apt-mark showhold | tr '\n' ' ')"
root=$(printf '%s' "$info" | sed -n 's/.*"DockerRootDir":"\([^"]*\)".*/\1/p')
echo "root_dir $root"
echo "root_disk $(quietly df -P -k "$root" | sed -n '2s/  */ /gp')"
echo "root_inodes $(quietly df -P -i "$root" | sed -n '2s/  */ /gp')"
echo "journal_disk $(quietly df -P -k /var/log | sed -n '2s/  */ /gp')"
section sysctls
for name in $sysctls; do
    # Dots separate, and slashes stand for dots of an interface's name (sysctl.d(5)).
    path=/proc/sys/$(echo "$name" | tr './' '/.')
    [ -r "$path" ] && echo "$name $(quietly cat "$path" | tr '\t' ' ')"
done
section audit
quietly auditctl -s | sed -n 's/^enabled /enabled /p'
quietly auditctl -l
section present # which of the audited paths are there
for path in /usr/bin/dockerd /usr/sbin/dockerd /run/containerd /var/lib/docker /etc/docker \
    /usr/lib/systemd/system/docker.service /usr/lib/systemd/system/docker.socket /run/containerd/containerd.sock \
    /etc/default/docker /etc/docker/daemon.json /etc/containerd/config.toml /etc/sysconfig/docker /usr/bin/containerd \
    /usr/bin/containerd-shim /usr/bin/containerd-shim-runc-v1 /usr/bin/containerd-shim-runc-v2 /usr/bin/runc \
    /usr/sbin/runc /etc/batten /opt/batten /var/lib/batten; do
    [ -e "$path" ] && echo "$path"
done
section nft
quietly nft -j list table inet batten
section chains
quietly iptables -S | grep -E '^-N (DOCKER|DOCKER-USER)$'
quietly nft list tables | grep -E 'docker-bridges'
section apt
quietly apt-config dump | grep -E '^(APT::Periodic|Unattended-Upgrade)::'
section addresses
quietly ip -o addr show scope global
section end
