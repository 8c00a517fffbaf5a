#!/usr/bin/python3
"""Stands in for `node -e "fetch('URL')…"`, the one use of Node that a health probe makes: 0 if the URL answers 2xx."""

from __future__ import annotations

import re
import sys
import urllib.request


def main(arguments: list[str]) -> int:
    url = re.search(r"""fetch\(['"](http[^'"]+)""", " ".join(arguments[1:]))
    if arguments[:1] != ["-e"] or not url:
        print("this stand-in of node understands only -e \"fetch('URL')…\"", file=sys.stderr)
        return 1
    try:
        with urllib.request.urlopen(url.group(1), timeout=10):
            return 0
    except OSError:
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
