# The host with Debian's engine and Compose on it, for tests that do not test the installation.
ARG PARENT
FROM ${PARENT}
RUN apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
      docker.io docker-cli docker-compose iptables >/dev/null \
 && apt-get clean && rm -rf /var/lib/apt/lists/*
