# Chromium without windows, for the pages that batten writes. It is driven through file descriptors 3 and 4, so it needs
# no network and no port. Roboto is what Android phones show `system-ui` in.
ARG PARENT
FROM ${PARENT}
RUN printf 'path-exclude /usr/share/%s/*\n' doc man locale info lintian i18n >/etc/dpkg/dpkg.cfg.d/slim \
 && apt-get update -qq \
 && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
      chromium-headless-shell fonts-roboto-unhinted >/dev/null \
 && printf '<fontconfig>%s%s</fontconfig>\n' \
      '<alias binding="same"><family>sans-serif</family><prefer><family>Roboto</family></prefer></alias>' \
      '<alias binding="same"><family>system-ui</family><prefer><family>Roboto</family></prefer></alias>' \
      >/etc/fonts/local.conf \
 # Nothing is drawn by a graphics card, nor by Mesa.
 && rm -rf /usr/lib/*/libLLVM* /usr/lib/*/libz3.so* /usr/lib/*/libgallium* /usr/lib/chromium/libVkLayer* \
      /usr/lib/chromium/libvk_swiftshader.so /usr/lib/chromium/locales \
 && useradd --create-home browser \
 && apt-get clean && rm -rf /var/lib/apt/lists/* /var/cache/debconf /var/log/*
USER browser
