# Images for bench/samples.py alone: Debian's builds, with the users and entrypoints of the official images.
# docker build --build-arg PARENT=$(batten-rig's debian image) --target alertmanager -f bench/images.Dockerfile .
ARG PARENT
ARG PROMETHEUS=127.0.0.1:5000/prom/prometheus:v3.5.0
FROM ${PARENT} AS packages
RUN printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d \
 && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
      prometheus-alertmanager prometheus-node-exporter prometheus-pushgateway >/dev/null && apt-get clean

# prometheus/alertmanager, Dockerfile
FROM packages AS alertmanager
RUN ln -sf /usr/bin/prometheus-alertmanager /bin/alertmanager && mkdir -p /alertmanager /etc/alertmanager \
 && chown -R 65534:65534 /etc/alertmanager /alertmanager
USER nobody
WORKDIR /alertmanager
EXPOSE 9093
ENTRYPOINT ["/bin/alertmanager"]
CMD ["--config.file=/etc/alertmanager/alertmanager.yml", "--storage.path=/alertmanager"]

# prometheus/node_exporter, Dockerfile
FROM packages AS node-exporter
RUN ln -sf /usr/bin/prometheus-node-exporter /bin/node_exporter
USER nobody
EXPOSE 9100
ENTRYPOINT ["/bin/node_exporter"]

# prometheus/pushgateway, Dockerfile
FROM packages AS pushgateway
RUN ln -sf /usr/bin/prometheus-pushgateway /bin/pushgateway && mkdir -p /pushgateway && chown 65534:65534 /pushgateway
USER 65534
WORKDIR /pushgateway
EXPOSE 9091
ENTRYPOINT ["/bin/pushgateway"]

# The rig's Prometheus where a sample's command names no storage path: Debian compiles another one in than upstream.
FROM ${PROMETHEUS} AS prometheus
USER root
RUN mkdir -p /var/lib/prometheus && chown 65534:65534 /var/lib/prometheus
USER nobody
