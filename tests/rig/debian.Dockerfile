# Debian 13, and how this machine reaches Debian's mirror (its proxy settings and its added authorities).
ARG PARENT
FROM ${PARENT}
COPY apt.conf /etc/apt/apt.conf.d/99machine
COPY certificates/ /usr/local/share/ca-certificates/
RUN update-ca-certificates >/dev/null 2>&1 && rm -rf /var/log/*.log /var/cache/debconf/*-old
