"""`python -m api.probe URL`: exit 0 if the URL answers 2xx within 3 seconds, else 1. A health check without curl."""

from __future__ import annotations

import sys
import urllib.request


def probe(url: str) -> bool:
    """Whether the URL answers 2xx in time."""
    try:
        with urllib.request.urlopen(url, timeout=3):
            return True
    except (OSError, ValueError):
        return False


if __name__ == "__main__":
    sys.exit(0 if probe(sys.argv[1]) else 1)
