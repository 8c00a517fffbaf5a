# Debian's registry, speaking plain HTTP.
ARG PARENT
FROM ${PARENT}
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends docker-registry >/dev/null \
 && apt-get clean && rm -rf /var/lib/apt/lists/*
COPY registry.yml /etc/batten-rig/registry.yml
USER docker-registry
VOLUME /var/lib/docker-registry
CMD ["docker-registry", "serve", "/etc/batten-rig/registry.yml"]
