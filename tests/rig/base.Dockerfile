# A host that boots: what a fresh Debian 13 server has (its cloud image brings nftables and unattended-upgrades), and
# nothing of Docker.
ARG PARENT
FROM ${PARENT}
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
      systemd systemd-sysv libpam-systemd dbus python3 python3-apt iproute2 sudo openssl procps nftables unattended-upgrades >/dev/null \
 && apt-get clean && rm -rf /var/lib/apt/lists/* \
 # A container has no modules of its own to load, and no consoles to log in at.
 && systemctl mask systemd-modules-load.service systemd-udevd.service getty.target console-getty.service \
 # Each host makes its own identity at its first boot.
 && : >/etc/machine-id && rm -f /var/lib/dbus/machine-id
STOPSIGNAL SIGRTMIN+3
CMD ["/sbin/init"]
